"""PPO on language: rewards per token, a toy task with a known optimum, controllers, resumption."""

import json
import math
import os
import sys

import forked
import numpy as np
import pytest
import torch
from playout.agents.runs.directory import RunDir
from playout.agents.runs.loop import train
from playout.errors import ConfigError, DataError
from playout.rlhf.data import synthetic
from playout.rlhf.evaluation.evaluator import PolicyEvaluator
from playout.rlhf.evaluation.samples import read_samples
from playout.rlhf.generation.responses import sample_responses
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.heads import ScalarHead
from playout.rlhf.model.reference import Reference
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.online.config import GRPOConfig, RLHFConfig
from playout.rlhf.online.episodes import kl_estimate, score_episodes
from playout.rlhf.online.policy import LanguagePolicy
from playout.rlhf.online.ppo import RLHFTrainer, adapt_kl_coef, make_critic
from playout.rlhf.online.rewards import WeightedRewards
from playout.rlhf.supervised.reward import RewardModel


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(synthetic.reviews(200), vocab_size=300)


def small(tokenizer, **changes):
    fields = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    fields |= {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 48}
    fields |= {"pad_token_id": tokenizer.pad_id, "eos_token_id": tokenizer.end_id}
    return Transformer(TransformerConfig(tokenizer.vocab_size, **{**fields, **changes}), seed=0)


def test_rewards_are_kl_at_every_token_and_the_score_at_the_last(tokenizer):
    model = small(tokenizer)
    reference = Reference(model)
    with torch.no_grad():
        model.embed_tokens.mul_(1.5)
    policy = LanguagePolicy(model)
    responses = sample_responses(
        model,
        tokenizer,
        ["the film", "a"],
        max_new_tokens=5,
        seed=0,
        dtype=torch.float32,
    )
    found = score_episodes(
        policy,
        reference,
        responses,
        lambda texts: [float(len(text)) for text in texts],
        kl_coef=0.3,
        missing_end=2.0,
    )
    rollout = found.rollout
    theirs = reference.logprobs(responses.obs, responses.actions, responses.valid)
    for row in range(2):
        places = rollout.valid[row].nonzero()[:, 0].tolist()
        assert len(places) == int(responses.generation.lengths[row])
        expected = -0.3 * (rollout.logprobs[row] - theirs[row])[places]
        expected[-1] += len(found.episodes[row].text)
        expected[-1] -= 0.0 if responses.generation.finished[row] else 2.0
        torch.testing.assert_close(rollout.rewards[row][places], expected)
        assert rollout.terminations[row].nonzero()[:, 0].tolist() == places[-1:]
    assert (rollout.rewards[~rollout.valid] == 0).all()


def test_both_kl_estimators_have_the_true_mean():
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    logs = torch.from_numpy(np.log(p)), torch.from_numpy(np.log(q))
    true = float((p * np.log(p / q)).sum())
    for name in ("k1", "k3"):
        each = kl_estimate(*logs, name).numpy()
        assert (p * each).sum() == pytest.approx(true)
    assert (kl_estimate(*logs, "k3") >= 0).all() and (kl_estimate(*logs, "k1") < 0).any()
    with pytest.raises(ConfigError, match="k1 or k3"):
        kl_estimate(*logs, "k2")


def test_the_critic_is_a_copy_of_the_reward_model_where_that_reads_the_policys_tokens(tokenizer):
    model, judge = small(tokenizer), small(tokenizer, num_hidden_layers=2)
    reward = RewardModel(judge.requires_grad_(False), ScalarHead(judge.config), tokenizer)
    other = Tokenizer.train(synthetic.reviews(200), vocab_size=310)
    for kind in ("auto", "reward"):
        critic = make_critic(kind, model, tokenizer, reward)
        assert critic is not judge and len(critic.blocks) == 2
        assert all(p.requires_grad for p in critic.parameters())
        assert not any(p.requires_grad for p in judge.parameters())
    several = WeightedRewards([len, reward], ["len", "model"])
    assert len(make_critic("reward", model, tokenizer, several).blocks) == 2
    assert make_critic("auto", model, tokenizer, several) is None
    config = RLHFConfig(updates=1, dtype="float32", value_warmup=0)
    for given in (reward, several):  # what the memory that is said at the start is a sum over
        trainer = RLHFTrainer(small(tokenizer), tokenizer, ["a"], given, config, seed=0)
        assert judge in trainer.networks
    assert make_critic("shared", model, tokenizer, reward) is None
    assert len(make_critic("own", model, tokenizer, reward).blocks) == 1
    assert make_critic("auto", model, tokenizer, lambda texts: [0.0] * len(texts)) is None
    assert make_critic("auto", model, other, reward) is None
    with pytest.raises(ConfigError, match="tokenizer of the policy"):
        make_critic("reward", model, other, reward)
    with pytest.raises(ConfigError, match="critic must be one of"):
        RLHFConfig(critic="none")


@pytest.mark.parametrize("kind", [RLHFConfig, GRPOConfig])
def test_a_negative_microbatch_is_refused(kind):
    with pytest.raises(ConfigError, match="microbatch must be a number and not negative, not -3"):
        kind(microbatch=-3)


def test_the_coefficient_follows_the_target_within_its_bounds():
    config = RLHFConfig(kl_target=6.0, kl_horizon=10000.0)
    assert adapt_kl_coef(0.1, 6.0, 64, config) == pytest.approx(0.1)
    assert adapt_kl_coef(0.1, 600.0, 64, config) == pytest.approx(0.1 * (1 + 0.2 * 64 / 10000))
    assert adapt_kl_coef(0.5, -5.0, 64, config) == pytest.approx(0.5 * (1 - 0.2 * 64 / 10000))
    assert adapt_kl_coef(0.1, -5.0, 64, config) == 0.1
    assert adapt_kl_coef(0.1, 6.6, 64, config) == pytest.approx(0.1 * (1 + 0.1 * 64 / 10000))
    assert adapt_kl_coef(0.1, 600.0, 64, RLHFConfig(kl_target=0.0)) == 0.1
    steered = RLHFConfig(kl_target=6.0, updates=10, batch=64)  # a twentieth of 640 is 32
    assert adapt_kl_coef(0.1, 600.0, 64, steered) == pytest.approx(0.1 * (1 + 0.2 * 64 / 32))


LETTERS = {"a": 0.0, "b": 0.5, "c": 1.0, "d": 1.5}


@pytest.mark.slow
def test_a_toy_language_is_solved_to_its_known_optimum(tokenizer):
    """One token a response: the best policy is the reference times exp(reward / coefficient)."""
    model = small(tokenizer)
    letters = [tokenizer.encode(letter)[0] for letter in LETTERS]
    # The reference says a to d with equal chances, and hardly anything else.
    model.lm_head = torch.nn.Parameter(torch.zeros_like(model.embed_tokens))
    prompt = "the film"
    ids = torch.tensor([[tokenizer.end_id, *tokenizer.encode(prompt)]])
    with torch.no_grad():
        state = model(ids)[0, -1]
        model.lm_head[letters] = 9.0 * state / state.square().sum()
    config = RLHFConfig(
        updates=30,
        batch=64,
        max_new_tokens=1,
        kl_coef=1.0,
        kl_target=0.0,
        missing_end_penalty=0.0,
        dtype="float32",
        learning_rate=2e-3,
        minibatch=64,
        norm_adv=False,
        vf_coef=0.5,
    )

    def reward(texts):
        return [LETTERS.get(text.removeprefix(prompt), 0.0) for text in texts]

    trainer = RLHFTrainer(model, tokenizer, [prompt], reward, config, seed=0)

    def chances():
        with torch.no_grad():
            return torch.softmax(model.logits(model(ids)[:, -1]), -1)[0, letters]

    before = chances()
    wanted = before * torch.tensor(list(LETTERS.values())).exp()
    wanted = wanted / (1 - before.sum() + wanted.sum())
    while not trainer.finished:
        metrics = trainer.update()
    assert float((before - 0.25).abs().max()) < 0.01
    torch.testing.assert_close(chances(), wanted, atol=0.05, rtol=0)
    names = {"objective/kl", "objective/entropy", "objective/scores", "objective/rlhf_reward"}
    names |= {"policy/approxkl_avg", "policy/clipfrac_avg", "val/num_eos_tokens", "lr"}
    assert names <= set(metrics)
    assert metrics["val/sampling_gap"] < 1e-4


def test_evaluations_compare_with_the_reference_and_keep_a_table(tokenizer, tmp_path):
    model = small(tokenizer)
    evaluator = PolicyEvaluator(
        tokenizer,
        ["the film", "i loved"],
        lambda texts: [float(len(t)) for t in texts],
        synthetic.judge(),
        max_new_tokens=6,
    )
    config = RLHFConfig(updates=2, batch=4, max_new_tokens=6, value_warmup=1, dtype="float32")
    trainer = RLHFTrainer(
        model,
        tokenizer,
        ["the", "its"],
        evaluator.reward,
        config,
        seed=0,
        evaluator=evaluator,
        folder=tmp_path,
    )
    found = trainer.evaluate()
    assert found["eval/kl"] == pytest.approx(0, abs=1e-5) and found["eval/length"] <= 6
    assert {"eval/reward", "eval/judge", "eval/entropy", "eval/objective"} <= set(found)
    trainer.update()
    assert trainer.evaluate()["eval/kl"] != 0
    tables = read_samples(tmp_path)
    assert sorted(tables) == [0, 1] and tables[0][0]["prompt"] == "the film"
    assert {"response", "reward", "judge", "kl"} <= set(tables[0][0])


def test_bad_settings_and_rewards_are_one_line(tokenizer):
    for bad in ({"updates": 0}, {"kl_estimator": "k2"}, {"kl_coef": -1.0}):
        with pytest.raises(ConfigError):
            RLHFConfig(**bad)
    config = RLHFConfig(updates=1, batch=2, max_new_tokens=2, dtype="float32")
    with pytest.raises(DataError, match="no prompts"):
        RLHFTrainer(small(tokenizer), tokenizer, [], len, config, seed=0)
    trainer = RLHFTrainer(
        small(tokenizer), tokenizer, ["a"], lambda t: [math.inf] * len(t), config, seed=0
    )
    with pytest.raises(DataError, match="inf for text 0"):
        trainer.update()
    with pytest.raises(ConfigError, match=r"prompt 1 has .* does not fit"):  # before it learns
        RLHFTrainer(small(tokenizer), tokenizer, ["a", "film " * 60], len, config, seed=0)


SCRIPT = """
import os, sys
from test_rlhf_ppo import killable
killable(sys.argv[1], int(sys.argv[2]))
"""


def killable(path, calls):
    """Train in `path`; the process kills itself at the given call of the reward function."""
    texts = synthetic.reviews(200)
    tokenizer = Tokenizer.train(texts, vocab_size=300)
    count = 0

    def reward(texts):
        nonlocal count
        count += 1
        if count == calls:
            os.kill(os.getpid(), 9)
        return [float(text.count("e")) for text in texts]

    config = RLHFConfig(
        updates=6,
        batch=8,
        max_new_tokens=6,
        kl_target=1e-4,
        value_warmup=1,
        dtype="float32",
        minibatch=4,
        learning_rate=1e-3,
    )
    trainer = RLHFTrainer(small(tokenizer), tokenizer, ["the", "a", "its"], reward, config, seed=3)
    run = RunDir.open_or_create(path, kind="rlhf.rlhf", config={}, seed=3)
    train(trainer, run, save_every=2, console=False)
    return trainer


@pytest.mark.slow
def test_a_run_killed_at_any_update_ends_as_the_one_that_was_not(memory_path):
    whole = killable(memory_path / "whole", 0)
    path = str(memory_path / "killed")
    places = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    variables = {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"}
    code, _, err = forked.run("-c", SCRIPT, path, "5", variables=variables)
    assert code == -9, err
    assert RunDir.open(path).find().step == 2
    resumed = killable(path, 0)
    for name, tensor in whole.policy.state_dict().items():
        assert torch.equal(tensor, resumed.policy.state_dict()[name]), name
    assert whole.kl_coef == resumed.kl_coef > 0.1

    def metrics(folder):
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]

    assert metrics(memory_path / "whole") == metrics(memory_path / "killed")
