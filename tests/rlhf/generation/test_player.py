"""A policy that answers prompts: one alone by the compiled step, several by torch's."""

import pytest
import torch
from playout.rlhf.data.synthetic import reviews
from playout.rlhf.generation import decoder
from playout.rlhf.generation.player import LanguagePlayer
from playout.rlhf.generation.responses import sample_responses
from playout.rlhf.generation.sampling import SamplingConfig
from playout.rlhf.generation.tokenizer import Tokenizer
from small_language import small_model

PROMPTS = ["the film", "i", "this story was not", "its acting"]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(reviews(200), vocab_size=300)


@pytest.fixture
def player(tokenizer):
    return LanguagePlayer(small_model(tokenizer, length=64), tokenizer, max_new_tokens=20)


@pytest.fixture
def compiled_steps(monkeypatch):
    """How many rows each step of the compiled decoder had."""
    rows = []

    class Counting(decoder.SmallDecoder):
        def step(self, ids, places, logits):
            rows.append(len(ids))
            super().step(ids, places, logits)

    monkeypatch.setattr(decoder, "SmallDecoder", Counting)
    return rows


def plain(player, prompts, **options):
    return sample_responses(
        player.model, player.tokenizer, prompts, max_new_tokens=20, dtype=player.dtype, **options
    ).responses


@pytest.mark.parametrize("deterministic", [True, False])
def test_one_prompt_takes_the_compiled_step_and_gets_the_answer_of_the_plain_one(
    player, compiled_steps, deterministic
):
    player.reset(3)
    sampling = SamplingConfig(0.0 if deterministic else 1.0)
    for prompt in PROMPTS:
        (answer,) = player.act([prompt], deterministic=deterministic)
        assert [answer] == plain(player, [prompt], seed=3, sampling=sampling)
        assert [answer] == player.act([prompt], deterministic=deterministic)
    assert set(compiled_steps) == {1} and len(compiled_steps) > 20


def test_several_prompts_take_the_plain_step_alone(player, compiled_steps):
    assert player.act(PROMPTS) == plain(player, PROMPTS, seed=0)
    assert compiled_steps == []


def test_another_number_type_prepares_the_weights_anew(player):
    first = player.act(["the film"], deterministic=True)
    player.dtype = torch.bfloat16
    player.act(["the film"])
    assert player._decoder.dtype == torch.bfloat16
    player.dtype = torch.float32
    assert player.act(["the film"], deterministic=True) == first
