"""Episodes whose answers are held to a list: what is sampled is what is learned from."""

import random
import time
from pathlib import Path

import playout
import pytest
import torch
from playout.agents.networks.policy import Minibatch
from playout.errors import ConfigError, EnvironmentFault
from playout.rlhf.data import synthetic
from playout.rlhf.environments.environment import EnvironmentFactory
from playout.rlhf.environments.load import own_environment
from playout.rlhf.generation.conversation import conversation_format
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.transformer import Transformer
from playout.rlhf.online.config import EpisodeLimits, GRPOConfig, RLHFConfig
from playout.rlhf.online.engine import EpisodeEngine, EpisodeRequest
from playout.rlhf.online.episode_evaluator import EpisodeEvaluator
from playout.rlhf.online.grpo import GRPOTrainer
from playout.rlhf.online.policy import LanguagePolicy
from playout.rlhf.online.ppo import RLHFTrainer
from playout.rlhf.online.rows import lay_out
from small_language import chat_tokenizer, small_model


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(synthetic.reviews(200), vocab_size=300)


class Menu:
    """Two turns of one of three dishes, and a third in which anything may be said."""

    dishes = ("fish", "fowl", "a pie")

    def reset(self, task, seed):
        self.left = 3
        return "what will it be"

    def answers(self):
        return list(self.dishes) if self.left > 1 else None

    def step(self, answer):
        self.left -= 1
        return " and then", float(answer.strip() == "fish"), self.left == 0


class OneDish(Menu):
    dishes = ("ab", "cd")

    def step(self, answer):
        return None, float(answer.strip() == "ab"), True


def play(model, tokenizer, maker, count, max_new_tokens=8):
    engine = EpisodeEngine(
        model,
        tokenizer,
        limits=EpisodeLimits(max_new_tokens=max_new_tokens),
        seed=3,
        dtype=torch.float32,
        constrained=True,
    )
    factory = own_environment(maker)
    return engine.run([EpisodeRequest(factory, None, 7, n) for n in range(count)])


def masked_logprobs(model, episode):
    """Of its own tokens, 0 elsewhere, [L - 1]: by the whole pass and a mask over the vocabulary."""
    ids = torch.tensor([episode.tokens])
    logits = model.logits(model(ids[:, :-1]))[0]
    barred = torch.zeros_like(logits, dtype=torch.bool)
    for place, allowed in enumerate(episode.allowed[1:]):
        if allowed:
            barred[place] = True
            barred[place, list(allowed)] = False
    log_p = logits.masked_fill(barred, -torch.inf).log_softmax(-1)
    return torch.where(torch.tensor(episode.mask[1:]), log_p.gather(1, ids[0, 1:, None])[:, 0], 0)


def evaluated(policy, episodes):
    rows = lay_out(episodes, 0)
    unused = torch.zeros(rows.valid.shape)
    batch = Minibatch(
        *(rows.obs, rows.actions, unused, unused, unused, unused),
        valid=rows.valid,
        allowed=rows.allowed,
    )
    return policy.evaluate(batch)[0]


def test_what_is_learned_from_is_the_distribution_that_was_sampled(tokenizer):
    model = small_model(tokenizer)
    episodes = play(model, tokenizer, Menu, 12)
    trained = evaluated(LanguagePolicy(model, values=False), episodes)
    for row, episode in enumerate(episodes):
        assert [answer.strip() in Menu.dishes for answer in episode.answers[:2]] == [True, True]
        assert len(episode.allowed) == len(episode.tokens)
        sampled, exact = torch.tensor(episode.logprobs[1:]), masked_logprobs(model, episode)
        torch.testing.assert_close(sampled, exact, atol=2e-4, rtol=1e-4)
        torch.testing.assert_close(trained[row, : len(exact)], exact, atol=2e-4, rtol=1e-4)


def test_constrained_answers_follow_the_gradient_of_the_expected_reward(tokenizer):
    """Over all that can be written: the score's mean is 0, and what it follows is known."""
    model = small_model(tokenizer)
    policy = LanguagePolicy(model, values=False)
    ways = {tuple(e.tokens): e for e in play(model, tokenizer, OneDish, 256)}.values()
    chances = [torch.tensor(way.logprobs).sum().exp() for way in ways]
    assert sum(chances) == pytest.approx(1.0, abs=1e-4) and len(ways) == 4
    logprobs = evaluated(policy, list(ways)).sum(1)

    def gradient(loss):
        return torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)

    nothing = gradient((torch.stack(chances) * logprobs).sum())
    assert max(float(part.abs().max()) for part in nothing) < 1e-4
    rewards = torch.tensor([way.total for way in ways])
    ours = gradient((torch.stack(chances) * rewards * logprobs).sum())
    expected = sum(masked_logprobs(model, way).sum().exp() * way.total for way in ways)
    scale = max(float(part.abs().max()) for part in ours)
    for mine, right in zip(ours, gradient(expected), strict=True):
        torch.testing.assert_close(mine, right, atol=1e-4 * scale, rtol=1e-3)


@pytest.mark.parametrize(("kind", "config"), [(GRPOTrainer, GRPOConfig), (RLHFTrainer, RLHFConfig)])
def test_training_with_constraints_sees_no_gap_and_no_divergence_at_first(tokenizer, kind, config):
    settings = config(
        updates=2, batch=16, max_new_tokens=8, constrained=True, dtype="float32", minibatch=16,
        epochs=1,
    )  # fmt: skip
    trainer = kind(
        *(small_model(tokenizer), tokenizer, [], None, settings),
        seed=0,
        environment=own_environment(Menu),
    )
    found = trainer.update()
    assert found["val/sampling_gap_max"] < 1e-3 and abs(found["objective/kl"]) < 1e-3
    assert abs(found["policy/approxkl_avg"]) < 1e-4


@pytest.mark.parametrize("setting", [{"variant": "best_of_n"}, {"whole_only": True}])
def test_a_round_with_constraints_may_have_nothing_to_learn_from(tokenizer, setting):
    class Alike(OneDish):  # no answer is the best one, and the last of them is cut
        dishes = ("a long name of a dish",)

        def step(self, answer):
            return None, 0.0, True

    settings = GRPOConfig(
        updates=1, batch=4, group=2, max_tokens=16, constrained=True, dtype="float32", minibatch=2,
        **setting,
    )  # fmt: skip
    model = small_model(tokenizer)
    before = [weight.clone() for weight in model.parameters()]
    trainer = GRPOTrainer(
        *(model, tokenizer, [], None, settings), seed=0, environment=own_environment(Alike)
    )
    assert trainer.update()["objective/scores"] == 0
    assert all(map(torch.equal, before, model.parameters()))


def test_a_constrained_turn_ends_as_the_template_ends_it():
    """Llama's end of a turn is not its end of a text; after a dish either may come."""
    tokenizer = chat_tokenizer("headers")
    talk = conversation_format(tokenizer)
    assert len(talk.stop_ids) > len(tokenizer.stop_ids)
    model: Transformer = small_model(tokenizer)
    ends = set()
    for episode in play(model, tokenizer, OneDish, 64):
        assert set(episode.allowed[-1]) >= set(talk.stop_ids)
        ends.add(episode.tokens[-1])
    assert ends == set(talk.stop_ids)


class LongMenu(OneDish):
    dishes = ("a long name of a dish", "fish")


def test_a_listed_answer_is_written_whole_however_short_answers_may_be(tokenizer):
    """Elsewhere, and where nothing is listed, the limit is what it is."""

    class Both(LongMenu):
        def reset(self, task, seed):
            self.first = True
            return "what will it be"

        def answers(self):
            return list(self.dishes) if self.first else None

        def step(self, answer):
            done, self.first = not self.first, False
            return " and then", 0.0, done

    found = play(small_model(tokenizer), tokenizer, Both, 24, max_new_tokens=2)
    assert {episode.answers[0].strip() for episode in found} == set(LongMenu.dishes)
    for episode in found:
        written = [t for t, own in zip(episode.turns, episode.mask, strict=True) if own]
        assert episode.answer_ended[0] and written.count(1) <= 2


def test_what_lists_no_answers_is_refused_where_answers_are_held_to_a_list(tokenizer):
    closed = []

    class Free:
        def reset(self, task, seed):
            return "x"

        def step(self, answer):
            return None, 0.0, True

        def close(self):
            closed.append(self)

    limits = EpisodeLimits()
    with pytest.raises(ConfigError, match=r"lists answers, and .*Free has no method answers"):
        EpisodeEvaluator(
            tokenizer, own_environment(Free), 1, limits, constrained=True
        ).check_constrained()
    assert len(closed) == 1
    EpisodeEvaluator(tokenizer, own_environment(Free), 1, limits).check_constrained()
    EpisodeEvaluator(
        tokenizer, own_environment(Menu), 1, limits, constrained=True
    ).check_constrained()


def test_what_is_made_to_ask_whether_it_lists_answers_is_held_to_the_limits(tokenizer):
    made = []

    class Slow(Menu):
        def __init__(self):
            made.append(random.random())
            end = time.monotonic() + 5
            while time.monotonic() < end:
                pass

    class Broken(Menu):
        def __init__(self):
            made.append(self)
            if len(made) < 4:
                raise OSError("no port is free")

    def check(kind, **options):
        limits = EpisodeLimits(call_seconds=0.05)
        given = {"constrained": True, **options}
        factory = EnvironmentFactory(kind.__name__, kind)
        EpisodeEvaluator(tokenizer, factory, 8, limits, **given).check_constrained()

    before = random.getstate()
    with pytest.raises(EnvironmentFault, match=r"making it took longer than 0.05 s"):
        check(Slow)
    assert random.getstate() == before and len(made) == 1
    made.clear()
    with pytest.raises(EnvironmentFault, match="making it raised OSError: no port is free"):
        check(Broken)
    assert len(made) == 1
    check(Broken, on_failure="skip")
    assert len(made) == 4


@pytest.mark.slow
def test_a_stage_that_could_constrain_nothing_does_not_begin(tmp_path):
    base = Path(__file__).parents[2] / "fixtures" / "runs" / "pretrain"
    few = {"constrained": True, "run": tmp_path / "run", "size": "tiny", "quiet": True}

    class Free(OneDish):
        answers = None

    for given in ({"env": Free}, {"prompts": ["a film"], "reward_fn": lambda texts: [0.0]}):
        with pytest.raises(ConfigError, match="--constrained needs an environment that lists answ"):
            playout.grpo(base, **given, **few)
    assert not (tmp_path / "run").exists()
