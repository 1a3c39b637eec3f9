"""A step taken in parts has the gradients of the whole, in every stage."""

import numpy as np
import pytest
import torch
from playout.rlhf.data.batches import by_length
from playout.rlhf.data.records import Demonstration
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.adapters.lora import LoRAConfig, add_adapters
from playout.rlhf.model.heads import MaskedTokenHead
from playout.rlhf.supervised.pretrain import MaskedTrainer, PretrainConfig
from playout.rlhf.supervised.reward import RewardModel
from playout.rlhf.supervised.sft import SFTConfig, SFTTrainer
from playout.rlhf.supervised.trainer import LearnConfig, portions
from small_stages import STAGES, TEXTS, gradient_of, make, model_of


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TEXTS, vocab_size=300)


@pytest.mark.parametrize("stage", STAGES)
def test_the_gradient_of_parts_is_that_of_the_whole(stage, tokenizer):
    whole, shown = gradient_of(make(stage, tokenizer, 0))
    parts, also = gradient_of(make(stage, tokenizer, 5))
    assert whole.norm() > 1e-3
    torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-5 * float(whole.norm()))
    assert also["train/loss"] == pytest.approx(shown["train/loss"], rel=1e-4)


def test_a_reward_model_learns_by_adapters_and_is_written_with_them_merged(tokenizer, tmp_path):
    model = model_of(tokenizer)
    add_adapters(model, LoRAConfig(rank=2), seed=1)
    trainer = make("voted", tokenizer, 0, model=model)
    for _ in range(2):
        trainer.update()
    learned = trainer.state_dict()
    assert all("lora_" in name for name in learned["model"]) and learned["head"]
    trainer.reward.normalise(TEXTS)
    trainer.reward.save(tmp_path / "model")
    again = RewardModel.load(tmp_path / "model", dtype="float32")
    assert again(TEXTS[:5]) == pytest.approx(trainer.reward(TEXTS[:5]), abs=1e-3)


@pytest.mark.parametrize("stage", ["sft", "dpo", "rated"])
def test_a_part_drops_what_the_whole_drops_elsewhere_but_a_step_repeats(stage, tokenizer):
    """With dropout: the same numbers again, others in the next step."""

    def fresh():
        model = model_of(tokenizer)
        for parameter in add_adapters(model, LoRAConfig(rank=2, dropout=0.4), seed=1):
            parameter.data.add_(0.02)
        return make(stage, tokenizer, 5, model=model)

    first, _ = gradient_of(fresh())
    again, _ = gradient_of(fresh())
    later = fresh()
    later.learner.steps = 4
    other, _ = gradient_of(later)
    assert torch.equal(first, again) and not torch.allclose(first, other)


def test_a_batch_is_cut_into_equal_parts_and_a_rest():
    assert portions(list(range(7)), 3) == [[0, 1, 2], [3, 4, 5], [6]]
    assert portions([1, 2], 0) == [[1, 2]] == portions([1, 2], 2)
    assert [len(part) for part in portions(torch.zeros(5, 2), 2)] == [2, 2, 1]
    assert np.isfinite(LearnConfig().microbatch)


def test_rows_of_several_lengths_have_the_gradient_of_rows_of_one(tokenizer):
    """Many short texts and a few long ones: packs of their own cost less and teach the same."""
    items = [Demonstration(text[:8], text[8 : 90 if i % 6 == 0 else 14])
             for i, text in enumerate(TEXTS)]  # fmt: skip
    found = []
    for stretch in (False, True):
        config = SFTConfig(
            batch=24, length=120, stretch=stretch, learn=LearnConfig(dtype="float32")
        )
        trainer = SFTTrainer(model_of(tokenizer), tokenizer, (items, items), config, seed=0)
        lengths = {packed.ids.shape[1] for packed in trainer._packs(trainer.texts[:24])}
        assert len(lengths) == 1 if not stretch else len(lengths) > 1
        found.append(gradient_of(trainer))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_texts_are_divided_by_length_only_where_it_pays():
    assert by_length([30, 31, 29], length=90, other=10000) == [([0, 1, 2], 90)]
    (short, row), (long, whole) = by_length([10] * 40 + [100], length=100, other=16)
    assert short == list(range(40)) and long == [40] and row < 40 and whole == 100
    cut = by_length([5, 90, 200], length=100, other=9)
    assert sorted(i for part, _ in cut for i in part) == [0, 1, 2]


@pytest.mark.parametrize("pairs", [True, False])
def test_a_part_without_masked_tokens_still_counts_its_pairs(pairs, tokenizer):
    """Of rows of eight tokens many have none that is masked."""
    found = []
    for microbatch in (0, 1, 3):
        model = model_of(tokenizer, causal=False)
        learn = LearnConfig(1e-3, dtype="float32", microbatch=microbatch)
        config = PretrainConfig(steps=5, rows=8, length=8, learn=learn)
        head, texts = MaskedTokenHead(model.config), (TEXTS, TEXTS)
        trainer = MaskedTrainer(model, head, tokenizer, texts, config, pairs=pairs, seed=0)
        found.append(gradient_of(trainer))
    parts = trainer.batches.batch(0, rows=8, seed=0).portions(1)
    assert not all(part.num_targets for part in parts), "the case says nothing; take another seed"
    (whole, shown), *others = found
    assert shown["train/masked_loss"] > 1 and ("train/pair_loss" in shown) == pairs
    for gradient, metrics in others:
        torch.testing.assert_close(gradient, whole, rtol=1e-3, atol=1e-5 * float(whole.norm()))
        same = {name: pytest.approx(value, rel=1e-4, abs=1e-6) for name, value in shown.items()}
        assert metrics == same
