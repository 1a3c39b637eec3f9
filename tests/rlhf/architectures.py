"""Small models of every architecture, with weights that any program can make from a formula.

fixtures/architectures.json holds the configuration that transformers 5.24 writes for each and a few
of the logits that it computes.
"""

import json
from pathlib import Path

import torch
from playout.rlhf.model.checkpoints.configs import config_from_json
from playout.rlhf.model.huggingface import names_of
from playout.rlhf.model.transformer import Transformer

EXPECTED = json.loads((Path(__file__).parents[1] / "fixtures" / "architectures.json").read_text())

SHAPE = {
    "vocab_size": 131,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
    "rms_norm_eps": 1e-6,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": [2, 5],
}
YARN = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0}
YARN["original_max_position_embeddings"] = 24
LLAMA3 = {"rope_type": "llama3", "rope_theta": 5000.0, "factor": 8.0, "low_freq_factor": 1.0}
LLAMA3 |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 32}
OTHER_YARN = YARN | {"mscale": 0.7, "mscale_all_dim": 0.5, "beta_fast": 20.0, "truncate": False}
WINDOW = {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 2}
QWEN_EXPERTS = {"num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 32}
QWEN_EXPERTS |= {"head_dim": 16, "norm_topk_prob": True, "attention_bias": True}
ROPES = {
    "llama3": LLAMA3,
    "linear": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 3.0},
    "dynamic": {"rope_type": "dynamic", "rope_theta": 5000.0, "factor": 3.0},
}
# name -> model_type, and what its config.json says beyond the shape
CASES = {
    "llama": ("llama", {}),
    "llama tied, with biases": (
        "llama",
        {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    ),
    **{f"llama, {name}": ("llama", {"rope_parameters": rope}) for name, rope in ROPES.items()},
    "mistral": ("mistral", {"sliding_window": 7, "head_dim": 10}),
    "mistral, no window": ("mistral", {"sliding_window": None}),
    "qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2, window": ("qwen2", WINDOW),
    "qwen2, yarn": ("qwen2", {"rope_parameters": YARN}),
    "qwen3": ("qwen3", {"head_dim": 16, "tie_word_embeddings": True}),
    "qwen3, biases": (
        "qwen3",
        {"head_dim": 16, "attention_bias": True, "rope_parameters": OTHER_YARN, **WINDOW},
    ),
    "smollm3": ("smollm3", {}),
    "smollm3, all": (
        "smollm3",
        {
            "attention_bias": True,
            "mlp_bias": True,
            "use_sliding_window": True,
            "sliding_window": 11,
            "no_rope_layers": [1, 0, 0, 1],
        },
    ),
    "mixtral": ("mixtral", {"num_local_experts": 5, "num_experts_per_tok": 2}),
    "mixtral, window": (
        "mixtral",
        {
            "num_local_experts": 3,
            "num_experts_per_tok": 1,
            "sliding_window": 9,
            "tie_word_embeddings": True,
        },
    ),
    "qwen3_moe": ("qwen3_moe", QWEN_EXPERTS),
    "qwen3_moe, weights as they are": ("qwen3_moe", QWEN_EXPERTS | {"norm_topk_prob": False}),
}
IDS = (torch.arange(160).view(2, 80) * 7 + torch.arange(80) ** 2) % 131


def weight(name, shape):
    """Numbers that look random and are the same everywhere, by the tensor's name."""
    count = torch.Size(shape).numel()
    key = sum((place + 1) * byte for place, byte in enumerate(name.encode())) % 9973
    waves = torch.sin(torch.arange(count, dtype=torch.float64) * 12.9898 + key) * 43758.5453
    values = (waves - waves.floor()) * 2 - 1
    if name.endswith("norm.weight"):
        return (1.0 + 0.3 * values).view(shape).float()
    return (0.35 * values).view(shape).float()


def made(name):
    """The model of a case, from the configuration that transformers wrote."""
    config = config_from_json(EXPECTED[name]["config"], "config.json")
    model = Transformer(config, seed=None)
    state = dict(model.named_parameters())
    with torch.no_grad():
        for ours, parts in names_of(config):
            state[ours].copy_(torch.cat([weight(name, shape) for name, shape in parts]))
    return model
