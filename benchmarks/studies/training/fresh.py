"""A small Transformer that has learned nothing, as studies begin with."""

from __future__ import annotations

from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.transformer import Transformer, TransformerConfig


def fresh_model(
    tokenizer: Tokenizer, *, width: int, layers: int, context: int, seed: int, causal: bool = True
) -> Transformer:
    """Heads of 32 and feed-forward networks of 8/3 of the width.

    Args:
        tokenizer: Gives vocabulary and special tokens.
        width: Of the hidden states.
        layers: How many.
        context: Tokens that it can read.
        seed: Of the weights.
        causal: A decoder; else an encoder.
    """
    heads = max(2, width // 32)
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=width,
        intermediate_size=-(-8 * width // 24) * 8,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=context,
        causal=causal,
        pad_token_id=tokenizer.pad_id,
        bos_token_id=tokenizer.end_id,
        eos_token_id=tokenizer.end_id,
    )
    return Transformer(config, seed=seed)
