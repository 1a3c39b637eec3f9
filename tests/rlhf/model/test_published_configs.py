"""What published models say of themselves in config.json, in the words of several years."""

import pytest
from playout.rlhf.model.checkpoints.configs import config_from_json, config_to_json

# What published models say of themselves, in the words of several years; and what is to be read.
LLAMA3_2 = {"factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3_2 |= {"original_max_position_embeddings": 8192, "rope_type": "llama3"}
PUBLISHED = {
    "Llama-3.2-1B-Instruct": (
        "llama 128256 2048 8192 16 32 8",
        {
            "attention_bias": False,
            "eos_token_id": [128001, 128008, 128009],
            "head_dim": 64,
            "max_position_embeddings": 131072,
            "pretraining_tp": 1,
            "rope_scaling": LLAMA3_2,
            "rope_theta": 500000.0,
            "tie_word_embeddings": True,
        },
        {"rope_theta": 500000.0, "eos_token_ids": (128001, 128008, 128009), "head_dim": 64},
    ),
    "TinyLlama-1.1B-Chat": (
        "llama 32000 2048 5632 22 32 4",
        {"max_position_embeddings": 2048, "rms_norm_eps": 1e-05, "rope_scaling": None},
        {"tie_word_embeddings": False, "rms_norm_eps": 1e-5, "eos_token_ids": ()},
    ),
    "Mistral-7B-v0.1": (
        "mistral 32000 4096 14336 32 32 8",
        {"max_position_embeddings": 32768, "sliding_window": 4096, "rope_theta": 10000.0},
        {"sliding_window": 4096, "sliding_layers": tuple(range(32)), "attention_bias": False},
    ),
    "Mistral-7B-v0.3": (
        "mistral 32768 4096 14336 32 32 8",
        {"max_position_embeddings": 32768, "sliding_window": None, "rope_theta": 1000000.0},
        {"sliding_window": 0, "sliding_layers": (), "rope_theta": 1e6},
    ),
    "Qwen2.5-0.5B-Instruct, stretched": (
        "qwen2 151936 896 4864 24 14 2",
        {
            "max_position_embeddings": 32768,
            "max_window_layers": 21,
            "rope_scaling": {
                "factor": 4.0,
                "original_max_position_embeddings": 32768,
                "type": "yarn",
            },
            "rope_theta": 1000000.0,
            "sliding_window": 32768,
            "tie_word_embeddings": True,
            "use_mrope": False,
            "use_sliding_window": False,
        },
        {"attention_bias": True, "output_bias": False, "sliding_window": 0, "head_dim": 64},
    ),
    "Qwen3-0.6B": (
        "qwen3 151936 1024 3072 28 16 8",
        {
            "attention_bias": False,
            "head_dim": 128,
            "max_position_embeddings": 40960,
            "max_window_layers": 28,
            "rope_scaling": None,
            "rope_theta": 1000000,
            "tie_word_embeddings": True,
        },
        {"qk_norm": True, "head_dim": 128, "attention_bias": False, "rope_scaling": None},
    ),
    "Mixtral-8x7B-v0.1": (
        "mixtral 32000 4096 14336 32 32 8",
        {
            "max_position_embeddings": 32768,
            "num_experts_per_tok": 2,
            "num_local_experts": 8,
            "output_router_logits": False,
            "rms_norm_eps": 1e-05,
            "rope_theta": 1000000.0,
            "router_aux_loss_coef": 0.02,
            "sliding_window": None,
            "tie_word_embeddings": False,
        },
        {"num_experts": 8, "num_experts_per_tok": 2, "router_aux_loss_coef": 0.02},
    ),
    "Qwen3-30B-A3B": (
        "qwen3_moe 151936 2048 6144 48 32 4",
        {
            "attention_bias": False,
            "decoder_sparse_step": 1,
            "head_dim": 128,
            "max_position_embeddings": 40960,
            "max_window_layers": 48,
            "mlp_only_layers": [],
            "moe_intermediate_size": 768,
            "norm_topk_prob": True,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "rope_theta": 1000000.0,
            "router_aux_loss_coef": 0.001,
            "sliding_window": None,
            "tie_word_embeddings": False,
            "use_sliding_window": False,
        },
        {"num_experts": 128, "intermediate_size": 768, "qk_norm": True, "norm_topk_prob": True},
    ),
    "SmolLM3-3B": (
        "smollm3 128256 2048 11008 36 16 4",
        {
            "layer_types": ["full_attention"] * 36,
            "max_position_embeddings": 65536,
            "no_rope_layer_interval": 4,
            "no_rope_layers": [1, 1, 1, 0] * 9,
            "pretraining_tp": 2,
            "rope_theta": 5000000.0,
            "sliding_window": None,
            "use_sliding_window": False,
        },
        {"nope_layers": tuple(range(3, 36, 4)), "tie_word_embeddings": True},
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations_are_read(name):
    numbers, words, expected = PUBLISHED[name]
    kind, *sizes = numbers.split()
    fields = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
    fields += ("num_attention_heads", "num_key_value_heads")
    values = {"model_type": kind, "hidden_act": "silu", "attention_dropout": 0.0, **words}
    values |= dict(zip(fields, map(int, sizes), strict=True))
    config = config_from_json(values, "config.json")
    found = {key: getattr(config, key) for key in expected}
    assert found == expected
    assert config_from_json(config_to_json(config), "config.json") == config
