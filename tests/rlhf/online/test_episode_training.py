"""Training on episodes to the end: toy tasks, failing environments, a kill inside an episode."""

import itertools
import json
import os
import sys
from dataclasses import replace

import forked
import pytest
import torch
from playout.agents.runs.directory import RunDir
from playout.agents.runs.loop import train
from playout.errors import DataError, EnvironmentFault, SharedFault
from playout.rlhf.data import synthetic
from playout.rlhf.environments.load import own_environment
from playout.rlhf.evaluation.evaluator import PolicyEvaluator
from playout.rlhf.evaluation.samples import read_samples
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.reference import Reference
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.online.config import EpisodeLimits, GRPOConfig, RLHFConfig
from playout.rlhf.online.engine import EpisodeEngine
from playout.rlhf.online.episode import Episode
from playout.rlhf.online.episode_evaluator import EpisodeEvaluator
from playout.rlhf.online.grpo import GRPOTrainer
from playout.rlhf.online.ppo import RLHFTrainer
from playout.rlhf.online.ranking import _pair, rank_episodes

# Toy tasks: one token an answer, four letters, nothing else likely.


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(synthetic.reviews(200), vocab_size=300)


def letters_only(tokenizer):
    """A policy that says a, b, c or d with equal chances, whatever it reads."""
    fields = {"pad_token_id": tokenizer.pad_id, "eos_token_id": tokenizer.end_id}
    model = Transformer(
        TransformerConfig(tokenizer.vocab_size, 32, 64, 1, 2, 2, 48, **fields), seed=0
    )
    letters = [tokenizer.encode(letter)[0] for letter in "abcd"]
    model.lm_head = torch.nn.Parameter(torch.zeros_like(model.embed_tokens))
    ids = torch.tensor([tokenizer.encode("start a then b then c") * 2])
    with torch.no_grad():
        mean = model(ids)[0].mean(0)
        model.lm_head[letters] = 12.0 * mean / mean.square().sum()
    return model


class Word:
    """Spell a word a letter a turn; one reward at the very end, by how it began and went on."""

    word = "ca"

    def reset(self, task, seed):
        self.said = ""
        return "start"

    def step(self, answer):
        self.said += answer
        done = len(self.said) >= len(self.word) or not answer
        right = sum(a == b for a, b in zip(self.said, self.word, strict=False))
        return " then", right / len(self.word) if done else 0.0, done


class LongWord(Word):
    word = "bad"


SHORT = {"max_new_tokens": 1, "dtype": "float32", "batch": 32, "minibatch": 32}
SHORT |= {"updates": 25, "learning_rate": 4e-3, "kl_coef": 0.0}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "config", "maker"),
    [
        (RLHFTrainer, RLHFConfig, Word),
        (RLHFTrainer, RLHFConfig, LongWord),
        (GRPOTrainer, GRPOConfig, LongWord),
    ],
)
def test_toy_tasks_whose_only_reward_comes_after_the_last_turn_are_solved(
    tokenizer, kind, config, maker
):
    options = dict(SHORT)
    options |= {"kl_target": 0.0, "value_warmup": 1} if config is RLHFConfig else {"epochs": 4}
    trainer = kind(
        letters_only(tokenizer),
        tokenizer,
        [],
        None,
        config(**options),
        seed=0,
        environment=own_environment(maker),
    )
    first = trainer.update()
    assert first["env/reward"] < 0.45 and first["env/turns"] == len(maker.word)
    while not trainer.finished:
        last = trainer.update()
    assert last["env/reward"] > 0.85
    assert last["val/sampling_gap_max"] < 1e-3


@pytest.mark.slow
def test_best_of_n_raises_the_likelihood_of_the_best_answer_alone(tokenizer):
    config = GRPOConfig(variant="best_of_n", **SHORT)
    trainer = GRPOTrainer(
        letters_only(tokenizer),
        tokenizer,
        [],
        None,
        config,
        seed=0,
        environment=own_environment(Word),
    )
    first = trainer.update()
    while not trainer.finished:
        last = trainer.update()
    assert last["env/reward"] > first["env/reward"] + 0.3


class Shaky:
    def reset(self, task, seed):
        self.bad = seed % 5 == 0
        return "start"

    def step(self, answer):
        if self.bad:
            raise ValueError("a bad day")
        return None, float(answer == "c"), True


def test_failures_stop_the_run_or_are_left_out_and_written_down(tokenizer, memory_path):
    def trainer(on_failure):
        config = GRPOConfig(group=4, on_failure=on_failure, **SHORT)
        return GRPOTrainer(
            letters_only(tokenizer),
            tokenizer,
            [],
            None,
            config,
            seed=0,
            environment=own_environment(Shaky),
            folder=memory_path,
        )

    with pytest.raises(SharedFault, match=r"a bad day.*line.*the episode.*'start"):
        trainer("stop").update()
    found = trainer("skip").update()
    assert found["env/failures"] > 0 and 0 <= found["env/reward"] <= 1
    assert "a bad day" in (memory_path / "failures" / "000000.txt").read_text()


def test_a_round_or_an_evaluation_of_which_nothing_is_left_is_written_down_first(
    tokenizer, memory_path
):
    class Broken(Silent):
        def step(self, answer):
            raise RuntimeError("broken")

    trainer = GRPOTrainer(
        *(letters_only(tokenizer), tokenizer, [], None),
        GRPOConfig(group=4, on_failure="skip", **SHORT),
        seed=0,
        environment=own_environment(Broken),
        folder=memory_path,
    )
    count, model = SHORT["batch"], letters_only(tokenizer)
    with pytest.raises(SharedFault, match=rf"^all {count} episodes of round 0 failed: .*broken"):
        trainer.update()
    told = (memory_path / "failures" / "000000.txt").read_text()
    assert told.count("raised RuntimeError: broken") == count
    limits, given = EpisodeLimits(max_new_tokens=1), {"on_failure": "skip"}
    evaluator = EpisodeEvaluator(tokenizer, own_environment(Broken), 3, limits, **given)
    reference = Reference(model)
    said = r"^all 3 episodes of an evaluation failed: .*broken"
    with pytest.raises(EnvironmentFault, match=said):
        evaluator.measure(model, reference, folder=memory_path, step=7)
    told = (memory_path / "failures" / "evaluation-000007.txt").read_text()
    assert told.count("raised RuntimeError: broken") == 3
    unscored = replace(evaluator, factory=own_environment(Silent), reward=raises)
    with pytest.raises(DataError, match=r"^all 3 episodes of an evaluation failed: .*no score"):
        unscored.measure(model, reference, folder=memory_path, step=8)
    assert "no score" in (memory_path / "failures" / "evaluation-000008.txt").read_text()
    engine = evaluator.engine(model, temperature=1.0)
    with pytest.raises(EnvironmentFault, match=r"^all 6 episodes to rank failed: .*broken"):
        rank_episodes(engine, own_environment(Broken), None, count=2, samples=3, skip=True)


def raises(answers):
    raise ValueError("no score")


def test_failures_of_episodes_that_are_sampled_anew_stop_the_run_or_are_written_down(
    tokenizer, memory_path
):
    def trainer(on_failure):
        begun = itertools.count()

        class Tired(Silent):
            def reset(self, task, seed):
                if next(begun) >= 32:
                    raise RuntimeError("tired")
                return "start"

        return GRPOTrainer(
            *(letters_only(tokenizer), tokenizer, [], None),
            GRPOConfig(group=4, on_failure=on_failure, resample=1, **SHORT),
            seed=0,
            environment=own_environment(Tired),
            folder=memory_path,
        )

    with pytest.raises(SharedFault, match="tired"):
        trainer("stop").update()
    found = trainer("skip").update()
    assert found["env/failures"] == 32 and found["env/turns"] == 1
    assert (memory_path / "failures" / "000000.txt").read_text().count("tired") == 32


def often_none(answers):
    """No number for c, an error for d."""
    if "d" in answers:
        raise ValueError("no d")
    return [float("nan") if answer == "c" else float(answer == "a") for answer in answers]


@pytest.mark.parametrize("where", ["environment", "prompts", "resampled"])
def test_what_a_reward_function_fails_on_stops_the_run_or_is_left_out(
    tokenizer, where, memory_path
):
    def trainer(on_failure):
        config = GRPOConfig(
            group=4, on_failure=on_failure, resample=int(where == "resampled"), **SHORT
        )
        return GRPOTrainer(
            *(letters_only(tokenizer), tokenizer, ["start"], often_none, config),
            seed=0,
            environment=own_environment(Silent) if where == "environment" else None,
            folder=memory_path,
        )

    with pytest.raises(DataError, match="the reward function often_none raised ValueError: no d"):
        trainer("stop").update()
    one = trainer("skip")
    metrics = one.update()
    left = one.collect(1).episodes
    assert {episode.answer for episode in left} == {"a", "b"} and 0 < one.failures < 32
    assert 0 < metrics["objective/scores"] < 1
    told = (memory_path / "failures" / "000000.txt").read_text()
    assert "raised ValueError: no d" in told and "often_none returned nan for text 0" in told


class Silent:
    def reset(self, task, seed):
        return "start"

    def step(self, answer):
        return None, 0.0, True


def test_evaluations_leave_out_what_a_reward_function_fails_on(tokenizer):
    model = letters_only(tokenizer)
    reference = Reference(model)
    limits = EpisodeLimits(max_new_tokens=1)
    given = tokenizer, own_environment(Silent), 24, limits, often_none
    asked = tokenizer, ["start"] * 24, often_none
    for kind, told in ((EpisodeEvaluator, given), (PolicyEvaluator, asked)):
        options = {} if kind is EpisodeEvaluator else {"max_new_tokens": 1}
        with pytest.raises(DataError, match="no d"):
            kind(*told, **options).measure(model, reference)
        found = kind(*told, on_failure="skip", **options).measure(model, reference)
        assert 0 < found["reward"] < 1 and found["reward_std"] > 0


class Pair(Silent):
    """Two who answer once each."""

    def reset(self, task, seed):
        self.turn = 0
        return "start"

    def step(self, answer):
        self.turn += 1
        return " then", {"a": 0.5, "b": 0.5}, self.turn == 2

    def role(self):
        return "ab"[self.turn % 2]


def test_of_several_roles_what_is_measured_is_of_whole_episodes(tokenizer, tmp_path):
    model = letters_only(tokenizer)
    other = Transformer(model.config, seed=0)  # to which all tokens are about as likely
    limits = EpisodeLimits(max_new_tokens=1)
    evaluator = EpisodeEvaluator(tokenizer, own_environment(Pair), 8, limits)
    found = evaluator.measure(model, Reference(other), folder=tmp_path)
    (shown,) = read_samples(tmp_path).values()
    assert found["kl"] == pytest.approx(sum(row["kl"] for row in shown) / 8, rel=1e-3)
    assert found["kl"] > 2 and found["length"] == 2
    told = evaluator.metrics(model, Reference(other))
    assert told["eval/reward"] == told["eval/role/a"] == told["eval/role/b_greedy"] == 1.0
    # Of roles more reward is no better policy, so that no checkpoint is the best by it.
    assert "eval/objective" not in told
    one = replace(evaluator, factory=own_environment(Silent)).metrics(model, Reference(other))
    assert one["eval/objective"] == pytest.approx(-0.1 * one["eval/kl"])


SCRIPT = """
import sys
from test_episode_training import killable
killable(sys.argv[1], int(sys.argv[2]))
"""


def killable(path, calls):
    """Train in `path`; the process kills itself in the middle of an episode, at a given step."""
    tokenizer = Tokenizer.train(synthetic.reviews(200), vocab_size=300)
    count = 0

    class Deadly(LongWord):
        def step(self, answer):
            nonlocal count
            count += 1
            if count == calls:
                os.kill(os.getpid(), 9)
            return super().step(answer)

    config = GRPOConfig(group=4, **{**SHORT, "batch": 8, "updates": 5})
    trainer = GRPOTrainer(
        letters_only(tokenizer),
        tokenizer,
        [],
        None,
        config,
        seed=3,
        environment=own_environment(Deadly),
    )
    run = RunDir.open_or_create(path, kind="rlhf.grpo", config={}, seed=3)
    train(trainer, run, save_every=2, console=False)
    return trainer


def test_a_run_killed_in_the_middle_of_an_episode_ends_as_the_one_that_was_not(memory_path):
    whole = killable(memory_path / "whole", 0)
    path = str(memory_path / "killed")
    places = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    variables = {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"}
    code, _, err = forked.run("-c", SCRIPT, path, "85", variables=variables)
    assert code == -9, err
    assert RunDir.open(path).find().step == 2
    resumed = killable(path, 0)
    for name, tensor in whole.policy.state_dict().items():
        assert torch.equal(tensor, resumed.policy.state_dict()[name]), name

    def metrics(folder):
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]

    assert metrics(memory_path / "whole") == metrics(memory_path / "killed")


def test_pairs_for_dpo_are_the_answers_in_which_the_best_and_the_worst_episode_part(tokenizer):
    engine = EpisodeEngine(
        letters_only(tokenizer),
        tokenizer,
        limits=EpisodeLimits(max_new_tokens=1),
        seed=0,
        dtype=torch.float32,
        stop=["a", "b", "c", "d"],
    )
    engine.stops = None  # the letter itself is the answer
    over = []
    pairs = rank_episodes(
        *(engine, own_environment(Word), None), count=8, samples=6, told=over.append
    )
    assert over == sorted(over) and over[-1] == 48
    assert len(pairs) >= 4
    for pair in pairs:
        assert pair.prompt == "start" and pair.first != pair.second
        assert pair.margin in (0.5, 1.0)
    assert sum(pair.first == "c" for pair in pairs) > len(pairs) / 2
    talk = [
        Episode(True, 0, [{"role": "user", "content": "q"}], answers=["x", answer], replies=["r"])
        for answer in ("good", "bad")
    ]
    for episode in talk:
        episode.answer_ended = [True, True]
    before, good, bad = _pair(*talk)
    assert [m["content"] for m in before] == ["q", "x", "r"] and (good, bad) == ("good", "bad")
