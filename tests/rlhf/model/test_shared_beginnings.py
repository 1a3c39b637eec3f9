"""Answers to one prompt go through the model as a tree, and give what row by row gives."""

import pytest
import torch
from playout.rlhf.model.adapters.lora import LoRAConfig, add_adapters
from playout.rlhf.model.reference import hidden_states, sequence_logprobs
from playout.rlhf.model.transformer import Transformer, TransformerConfig

SHAPE = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip


def answers(prompts, group, longest, *, seed=0, choices=3):
    """Rows of prompts with answers of few kinds of tokens, so that some are alike; [R, T] each."""
    draw = torch.Generator().manual_seed(seed)
    rows, width = [], max(prompts) + longest
    for length in prompts:
        prompt = torch.randint(1, 40, (length,), generator=draw)
        for _ in range(group):
            size = int(torch.randint(1, longest + 1, (1,), generator=draw))
            answer = torch.randint(1, choices + 1, (size,), generator=draw)
            rows.append((length, torch.cat([prompt, answer])))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    valid = torch.zeros(len(rows), width - 1, dtype=torch.bool)
    for row, (length, tokens) in enumerate(rows):
        ids[row, : len(tokens)] = tokens
        valid[row, length - 1 : len(tokens) - 1] = True
    return ids[:, :-1], ids[:, 1:], valid


def row_by_row(model, obs, valid):
    return torch.cat([model(obs[i : i + 1])[valid[i : i + 1]] for i in range(len(obs))])


@pytest.fixture
def counted(monkeypatch):
    """How many tokens each pass over a model took."""
    sizes = []
    forward = Transformer.forward

    def counting(self, ids, **given):
        sizes.append(ids.numel())
        return forward(self, ids, **given)

    monkeypatch.setattr(Transformer, "forward", counting)
    return sizes


@pytest.mark.parametrize(
    "special",
    [{}, {"qk_norm": True, "model_type": "qwen3"}, {"num_experts": 4, "num_experts_per_tok": 2}],
    ids=["plain", "qk-norm", "experts"],
)
def test_a_tree_gives_what_rows_give(special, counted):
    model = Transformer(TransformerConfig(**SHAPE, **special), seed=3)
    obs, _, valid = answers([20, 17, 5], 8, 6)
    shuffled = torch.randperm(len(obs), generator=torch.Generator().manual_seed(1))
    obs, valid = obs[shuffled], valid[shuffled]
    found = hidden_states(model, obs, valid)
    assert sum(counted) < obs.numel() / 2
    torch.testing.assert_close(found, row_by_row(model, obs, valid), rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_rows():
    model = Transformer(TransformerConfig(**SHAPE), seed=3)
    add_adapters(model, LoRAConfig(rank=4, alpha=8.0))
    obs, actions, valid = answers([20, 11], 6, 5)
    weights = torch.randn(valid.shape, generator=torch.Generator().manual_seed(2))
    grads = []
    for one_by_one in (False, True):
        model.zero_grad()
        parts = [slice(i, i + 1) for i in range(len(obs))] if one_by_one else [slice(None)]
        for part in parts:
            logprobs, _, _ = sequence_logprobs(model, obs[part], actions[part], valid[part])
            (logprobs * weights[part]).sum().backward()
        grads.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(grads[0]) == len(grads[1]) > 4
    for shared, alone in zip(*grads, strict=True):
        torch.testing.assert_close(shared, alone, rtol=1e-4, atol=1e-5)


def test_several_turns_share_what_they_have_in_common(counted):
    model = Transformer(TransformerConfig(**SHAPE), seed=0)
    draw = torch.Generator().manual_seed(5)
    obs = torch.randint(1, 40, (1, 30), generator=draw).repeat(6, 1)
    obs[3:, 22:] = torch.randint(1, 40, (3, 8), generator=draw)
    valid = torch.zeros(6, 30, dtype=torch.bool)
    valid[:, 10:13] = valid[:, 24:28] = True  # two answers, the environment's tokens between them
    found = hidden_states(model, obs, valid)
    assert counted == [28 + 3 * 6]  # the first three are one text, and share 22 tokens
    torch.testing.assert_close(found, row_by_row(model, obs, valid), rtol=1e-5, atol=1e-5)


def test_a_tree_is_no_longer_than_the_context_and_large_ones_are_split(counted):
    model = Transformer(TransformerConfig(**SHAPE), seed=0)
    obs, _, valid = answers([56], 40, 7, choices=30)
    found = hidden_states(model, obs, valid)
    rows, length = counted[0] // 64, 64
    assert 1 < rows < 40 and counted[0] <= rows * length
    torch.testing.assert_close(found, row_by_row(model, obs, valid), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("why", ["unlike", "short", "window", "nothing"])
def test_rows_stay_rows_where_nothing_is_spared_or_places_count(why, counted):
    windows = {"sliding_window": 8, "sliding_layers": (1,)} if why == "window" else {}
    shape = SHAPE | windows
    model = Transformer(TransformerConfig(**shape), seed=0)
    obs, _, valid = answers([9] * 12 if why == "unlike" else [20], 1 if why == "unlike" else 8, 3)
    if why == "short":  # two tokens of fourteen are common
        obs = torch.randint(1, 40, (4, 14), generator=torch.Generator().manual_seed(6))
        obs[:, :2] = obs[0, :2]
        valid = (torch.arange(14) > 0).expand(4, -1)
    if why == "nothing":
        valid[:] = False
    found = hidden_states(model, obs, valid)
    width = int(valid.any(0).nonzero()[-1]) + 1 if valid.any() else 1
    assert counted == [len(obs) * width]
    torch.testing.assert_close(found, row_by_row(model, obs, valid), rtol=1e-5, atol=1e-5)


def test_rows_that_count_nowhere_are_left_out(counted):
    model = Transformer(TransformerConfig(**SHAPE), seed=0)
    obs, _, valid = answers([20], 8, 3)
    valid[2] = False
    found = hidden_states(model, obs, valid)
    assert counted[0] < obs.numel() / 2 and len(found) == int(valid.sum())
    torch.testing.assert_close(found, row_by_row(model, obs, valid), rtol=1e-5, atol=1e-5)
