"""A policy that answers prompts: a few by the compiled step, more by torch's."""

from contextlib import nullcontext

import pytest
import torch
from playout.rlhf.data.synthetic import reviews
from playout.rlhf.generation import decoder
from playout.rlhf.generation import player as player_module
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
        def step(self, ids, places, logits, threads):
            rows.append(len(ids))
            super().step(ids, places, logits, threads)

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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_up_to_sixteen_prompts_take_the_compiled_step_and_do_not_depend_on_each_other(
    player, compiled_steps, dtype
):
    player.dtype = dtype
    prompts = (PROMPTS * 16)[:16]
    answers = player.answer(prompts)
    assert max(compiled_steps) == 16
    for count in (2, 3, 9):
        few = player.answer(prompts[:count])
        assert [one.tokens for one in few] == [one.tokens for one in answers[:count]]
        assert [one.logprobs for one in few] == [one.logprobs for one in answers[:count]]


def test_more_prompts_take_the_plain_step_alone(player, compiled_steps):
    prompts = (PROMPTS * 17)[:17]
    assert player.act(prompts) == plain(player, prompts, seed=0)
    assert compiled_steps == []


@pytest.mark.parametrize(("counts", "wanted"), [((2, 9, 16), 16), ((17, 40, 255), 256)])
def test_how_many_prompts_there_are_does_not_choose_the_threads(
    player, monkeypatch, counts, wanted
):
    rows = []

    def noted(model, count, threads):
        rows.append(count)
        return nullcontext()

    monkeypatch.setattr(player_module, "decoding_threads", noted)
    monkeypatch.setattr(player_module, "MAX_BATCH_ROWS", 256)
    monkeypatch.setattr(player_module, "CACHE_BYTES", 1 << 17)  # several batches, a short one last
    player.max_new_tokens = 1
    for count in counts:
        player.answer((PROMPTS * 64)[:count])
    assert len(rows) > len(counts) or wanted == 16
    assert set(rows) == {wanted}


def test_another_number_type_prepares_the_weights_anew(player):
    first = player.act(["the film"], deterministic=True)
    player.dtype = torch.bfloat16
    player.act(["the film"])
    assert player._decoder.dtype == torch.bfloat16
    player.dtype = torch.float32
    assert player.act(["the film"], deterministic=True) == first


def test_the_likeliest_tokens_are_those_under_the_repetition_penalty(player):
    player.repetition_penalty = 5.0
    (found,) = player.answer(["the film"], deterministic=True)
    player.temperature = 0.0
    (expected,) = player.answer(["the film"])
    assert found == expected
    player.repetition_penalty = 1.0
    assert player.answer(["the film"], deterministic=True) != [expected]


def test_a_policy_is_shown_in_one_line(player):
    shown = repr(player)
    assert shown.startswith("LanguagePlayer(name='policy', max_new_tokens=20, ")
    assert "\n" not in shown and "Transformer" not in shown
