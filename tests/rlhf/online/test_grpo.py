"""Group-relative policy optimisation: advantages, learning, settings."""

import pytest
import torch
from playout.errors import ConfigError
from playout.rlhf.data import synthetic
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.online import trainer as grpo_trainer
from playout.rlhf.online.config import EpisodeLimits, GRPOConfig, RLHFConfig
from playout.rlhf.online.episodes import score_episodes
from playout.rlhf.online.grpo import GRPOTrainer, _spread, group_advantages
from torch.overrides import TorchFunctionMode


def test_advantages_are_relative_to_the_group():
    scores = torch.tensor([1.0, 2.0, 3.0, 5.0, 5.0, 5.0])
    found = group_advantages(scores, 3)
    torch.testing.assert_close(found, torch.tensor([-1.0, 0, 1, 0, 0, 0]), atol=1e-3, rtol=0)
    plain = group_advantages(scores * 10, 3, scale=False)
    assert plain.tolist() == [-10, 0, 10, 0, 0, 0]


def test_a_policy_learns_to_please_and_a_resumed_run_is_the_same():
    tokenizer = Tokenizer.train(synthetic.reviews(200), vocab_size=300)
    shape = TransformerConfig(tokenizer.vocab_size, 32, 64, 1, 2, 2, max_position_embeddings=32)
    config = GRPOConfig(
        updates=12,
        batch=32,
        group=8,
        max_new_tokens=4,
        kl_coef=0.0,
        missing_end_penalty=0.0,
        dtype="float32",
        minibatch=32,
        learning_rate=1e-2,
    )

    def fresh():
        return GRPOTrainer(
            Transformer(shape, seed=0),
            tokenizer,
            ["the", "a", "its"],
            lambda texts: [float(len(text)) for text in texts],
            config,
            seed=0,
        )

    whole = fresh()
    found = [whole.update() for _ in range(12)]
    assert whole.finished and whole.evaluate() == {}
    assert found[-1]["objective/scores"] > 1.1 * found[0]["objective/scores"]
    assert {"reward", "reward_std", "frac_reward_zero_std", "objective/kl"} <= set(found[0])
    half, rest = fresh(), fresh()
    for _ in range(5):
        half.update()
    rest.load_state_dict(half.state_dict())
    assert [rest.update() for _ in range(7)] == found[5:]


def test_groups_that_teach_nothing_are_sampled_anew_and_the_others_stay():
    tokenizer = Tokenizer.train(synthetic.reviews(200), vocab_size=300)
    shape = TransformerConfig(tokenizer.vocab_size, 32, 64, 1, 2, 2, max_position_embeddings=32)

    def reward(texts):
        return [0.0 if text.startswith("a") else float(len(text)) for text in texts]

    rounds = []
    for resample in (0, 6):
        config = GRPOConfig(
            updates=3, batch=16, group=4, max_new_tokens=4, dtype="float32", resample=resample
        )
        prompts = ["the", "a film", "its", "one", "two", "acting"]
        model = Transformer(shape, seed=0)
        trainer = GRPOTrainer(model, tokenizer, prompts, reward, config, seed=0)
        rounds.append([trainer.collect(number) for number in range(3)])
        again = trainer.collect(1)
        assert [e.tokens for e in again.episodes] == [e.tokens for e in rounds[-1][1].episodes]
    replaced, streams = 0, set()
    for plain, other in zip(*rounds, strict=True):
        for at in range(0, 16, 4):
            before, after = plain.episodes[at : at + 4], other.episodes[at : at + 4]
            if str(before[0].prompt).startswith("a"):
                assert not str(after[0].prompt).startswith("a")
                assert len({str(e.prompt) for e in after}) == 1
                replaced += 1
                streams.add(str([e.tokens for e in after]))
            else:
                assert [e.tokens for e in before] == [e.tokens for e in after]
    assert replaced == len(streams) >= 3  # each drawn for itself


@pytest.mark.parametrize(("penalty", "alike"), [(1.0, [1]), (0.0, [0, 1])])
def test_a_group_whose_answers_differ_in_their_end_alone_teaches(penalty, alike):
    """What an answer loses because it was cut is part of its reward."""
    tokenizer = Tokenizer.train(synthetic.reviews(50), vocab_size=300)
    shape = TransformerConfig(tokenizer.vocab_size, 32, 64, 1, 2, 2, max_position_embeddings=32)
    config = GRPOConfig(
        updates=1, batch=8, group=4, max_new_tokens=4, dtype="float32", resample=1,
        missing_end_penalty=penalty,
    )  # fmt: skip
    model = Transformer(shape, seed=0)
    trainer = GRPOTrainer(model, tokenizer, ["x"], lambda texts: [1.0] * len(texts), config, seed=0)
    played = trainer.collect(0).episodes
    ends = [True, False, True, True, False, False, False, False]
    for one, ended in zip(played, ends, strict=True):
        one.answer_ended = [ended]
    assert trainer._alike(played) == alike
    found = score_episodes(
        trainer.policy, trainer.reference, played, trainer.reward, kl_coef=0.0, missing_end=penalty
    )
    found.groups = torch.arange(8) // 4
    trainer.collect = lambda number: found
    assert trainer.update()["frac_reward_zero_std"] == len(alike) / 2


def test_a_group_of_equal_scores_of_any_size_has_no_spread():
    scores = torch.rand(200, generator=torch.Generator().manual_seed(0)).repeat_interleave(7)
    found = _spread(scores, torch.arange(200).repeat_interleave(7))
    assert found["frac_reward_zero_std"] == 1 and found["reward_std"] < 1e-6


class Operations(TorchFunctionMode):
    """Counts what is asked of torch."""

    count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_the_spread_of_many_groups_takes_no_more_operations_than_that_of_two():
    counts = []
    for groups in (2, 300):
        sizes = torch.arange(groups) % 5 + 1
        places = torch.arange(groups).repeat_interleave(sizes)
        scores = torch.rand(len(places), generator=torch.Generator().manual_seed(1))
        with Operations() as operations:
            found = _spread(scores, places)
        counts.append(operations.count)
        parts = scores.split(sizes.tolist())
        each = torch.stack([part.std() if len(part) > 1 else torch.zeros(()) for part in parts])
        torch.testing.assert_close(found["reward_std"], each.mean())
        assert found["frac_reward_zero_std"] == sum(len(part) == 1 for part in parts) / groups
    assert counts[0] == counts[1]
    none = _spread(torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert none == {"reward_std": 0, "frac_reward_zero_std": 1}


def test_groups_must_divide_the_batch():
    for bad in (
        {"group": 1},
        {"group": 7},
        {"updates": 0},
        {"kl_estimator": "k2"},
        {"resample": -1},
    ):
        with pytest.raises(ConfigError):
            GRPOConfig(**bad)


def one_group(config, seed=0):
    """A trainer with a round of one group of four, longer answers better."""
    tokenizer = Tokenizer.train(synthetic.reviews(50), vocab_size=300)
    shape = TransformerConfig(tokenizer.vocab_size, 32, 64, 1, 2, 2, max_position_embeddings=32)
    model = Transformer(shape, seed=0)
    trainer = GRPOTrainer(
        model, tokenizer, ["x"], lambda texts: [0.0] * len(texts), config, seed=seed
    )
    return trainer, trainer.collect(0)


def test_of_whole_answers_alone_the_best_is_the_best_whole_one():
    config = GRPOConfig(
        updates=1, batch=4, group=4, max_new_tokens=4, dtype="float32", variant="best_of_n",
        whole_only=True,
    )  # fmt: skip
    trainer, found = one_group(config)
    scores = torch.tensor([1.0, 3.0, 2.0, 0.0])
    for cut, best in (([1], 2), ([1, 2], 0), ([], 1), ([0, 1, 2], None), ([0, 1, 2, 3], None)):
        found.rollout.valid = found.rows.valid.clone()
        found.rows.cuts[:] = False
        for row in cut:
            found.rows.cuts[row] = found.rows.valid[row]
        learned = trainer._advantages(scores, found)
        assert learned.nonzero()[:, 0].tolist() == ([] if best is None else [best])
        assert (
            found.rollout.valid.any(1).nonzero()[:, 0].tolist() == learned.nonzero()[:, 0].tolist()
        )


def test_seeds_of_any_size_order_a_round():
    config = GRPOConfig(updates=1, batch=4, group=4, max_new_tokens=2, dtype="float32", minibatch=2)
    made = []
    for seed in (2**32, 2**63 - 1, 7):
        trainer, found = one_group(config, seed)
        found.rollout.advantages, found.rollout.returns = (
            found.rollout.rewards,
            found.rollout.values,
        )
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(grpo_trainer, "ppo_update", lambda *a, generator, **o: made.append(
                generator.initial_seed()) or {})  # fmt: skip
            trainer.learn(found)
    assert made[2] == 7 << 32 and len(set(made)) == 3 and max(made) < 2**64


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        (RLHFConfig, {"value_warmup": -1}),
        (RLHFConfig, {"kl_target": float("nan")}),
        (RLHFConfig, {"kl_horizon": float("inf")}),
        (GRPOConfig, {"kl_coef": float("nan")}),
        (GRPOConfig, {"missing_end_penalty": float("nan")}),
        (GRPOConfig, {"clip_high": -0.5}),
        (GRPOConfig, {"clip_high": float("nan")}),
        (GRPOConfig, {"clip": 0.0}),
        (RLHFConfig, {"clip": float("nan")}),
        (EpisodeLimits, {"max_seconds": float("nan")}),
    ],
)
def test_a_number_that_means_nothing_is_refused_by_its_name(kind, setting):
    (name,) = setting
    with pytest.raises(ConfigError, match=f"^{name} must be a"):
        kind(**setting)
