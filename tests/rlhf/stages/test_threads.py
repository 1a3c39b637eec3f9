"""The number of threads: a rule of model and cores, stored, taken again."""

import itertools
import os
import time
from pathlib import Path

import playout
import pytest
import torch
from playout.agents.runs.directory import RunDir
from playout.cli import main
from playout.rlhf.environments import game_player
from playout.rlhf.evaluation.evaluator import PolicyEvaluator
from playout.rlhf.generation import player
from playout.rlhf.model.folder import export_model
from playout.rlhf.model.threads import decoding_threads, threads_to_decode
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.online.engine import EpisodeEngine
from playout.rlhf.stages import threads
from playout.rlhf.supervised.reward import RewardModel
from small_language import chat_tokenizer, small_model


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def cores(monkeypatch, number):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(number)), raising=False)


def test_the_number_follows_from_the_width_and_the_cores(monkeypatch):
    cores(monkeypatch, 16)
    assert [threads.threads_to_train(width) for width in (32, 128, 256, 576, 4096)] == [
        1,
        2,
        4,
        9,
        16,
    ]
    cores(monkeypatch, 2)
    assert threads.threads_to_train(576) == 2


def test_threads_to_decode_follow_from_the_work_of_a_step(monkeypatch):
    """A compiled step, of up to 16 rows, is worth sharing sooner than one of torch."""
    cores(monkeypatch, 16)
    assert threads_to_decode(4_200_000, 1) == 1
    assert threads_to_decode(135_000_000, 1) == 8
    assert threads_to_decode(135_000_000, 16) == 16
    assert threads_to_decode(135_000_000, 17) == 8
    assert threads_to_decode(8_000_000_000, 1) == 16
    assert threads_to_decode(500_000, 64) == 1


def test_a_run_keeps_the_number_that_was_chosen(monkeypatch, tmp_path):
    cores(monkeypatch, 2)
    run = RunDir.create(tmp_path / "run", kind="rlhf.sft", config={}, seed=0)
    assert threads.set_threads(run, 256) == 2 == torch.get_num_threads()
    cores(monkeypatch, 1)
    assert threads.set_threads(RunDir.open(run.path), 256) == 2
    assert threads.set_threads(run, 256, 1) == 1
    assert RunDir.open(run.path).record["threads"] == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert threads.set_threads(run, 256) == 1


def test_decoding_leaves_the_number_as_it_was(monkeypatch):
    cores(monkeypatch, 2)
    model = Transformer(TransformerConfig(20, 16, 32, 1, 2, 1))
    torch.set_num_threads(2)
    with decoding_threads(model, 1) as number:
        assert number == 1 == torch.get_num_threads()
    assert torch.get_num_threads() == 2
    with decoding_threads(model, 1, 2) as number:
        assert number == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with decoding_threads(model, 1) as number:
        assert number == 2


def test_no_clock_chooses_the_number(monkeypatch, tmp_path):
    """A timing once chose two threads and once one: the same command gave different weights."""
    cores(monkeypatch, 2)
    found = set()
    for number, jumps in enumerate(([1e-6], [5.0], [1e-6, 9.0, 1e-6, 1e-6], [9.0, 1e-6, 1e-6])):
        clock = itertools.accumulate(itertools.cycle(jumps))
        for name in ("perf_counter", "monotonic", "time", "process_time"):
            monkeypatch.setattr(time, name, lambda clock=clock: next(clock))
        run = RunDir.create(tmp_path / f"run{number}", kind="rlhf.sft", config={}, seed=0)
        found.add(threads.set_threads(run, 256))
        monkeypatch.undo()
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        cores(monkeypatch, 2)
    assert found == {2}


BASE = Path(__file__).parents[2] / "fixtures" / "runs" / "pretrain"


@pytest.mark.slow
def test_who_reads_or_writes_chooses_threads_by_the_rule(monkeypatch, tmp_path, capsys):
    """`score`, `judge`, `load`, `match` and `eval` took as many as torch had."""
    cores(monkeypatch, 2)
    tokenizer = chat_tokenizer("chatml")
    chat, asked = tmp_path / "chat", tmp_path / "a.txt"
    export_model(chat, small_model(tokenizer, length=256), tokenizer)
    asked.write_text("the cat\nsat\n")
    pairs = [{"prompt": "the", "chosen": "sat", "rejected": "cat"}] * 3
    few = {"size": "tiny", "dtype": "float32", "quiet": True, "batch": 2}
    scorer = playout.reward(chat, pairs, run=tmp_path / "scorer", steps=1, **few).path
    few |= {"updates": 1, "group": 2, "max_new_tokens": 3}
    one = playout.grpo(BASE, ["the", "a"], reward=str(scorer), run=tmp_path / "one", **few).path
    few["eval_episodes"] = 1
    given = {"env_options": "rules=false", **few}
    two = playout.grpo(chat, env="game:tic_tac_toe", run=tmp_path / "two", **given).path
    seen = []

    def watch(place, name):
        real = getattr(place, name)

        def watched(*args, **named):
            seen.append(torch.get_num_threads())
            return real(*args, **named)

        monkeypatch.setattr(place, name, watched)

    places = [(RewardModel, "raw"), (player, "generate"), (game_player, "generate")]
    for place, name in [*places, (PolicyEvaluator, "respond"), (EpisodeEngine, "run")]:
        watch(place, name)
    ways = {
        "score": lambda: main(["rlhf", "score", str(scorer), "--texts", str(asked)]),
        "judge": lambda: main(["rlhf", "judge", str(one), "--num-prompts", "2"]),
        "judge episodes": lambda: main(["rlhf", "judge", str(two), "--num-prompts", "2"]),
        "eval": lambda: main(["eval", str(one), "--episodes", "2"]),
        "load": lambda: playout.load(one).act(["the"]),
        "load a scorer": lambda: playout.load(scorer).act(["the"]),
        "load a folder": lambda: playout.load(chat).act(["the"]),
        "match": lambda: playout.match(
            [str(two), "random"], game="tic_tac_toe", games=2, quiet=True
        ),
    }
    for name, way in ways.items():
        torch.set_num_threads(2)
        seen.clear()
        way()
        assert set(seen) == {1}, name
    torch.set_num_threads(1)
    seen.clear()
    playout.load(one, threads=2).act(["the"])
    assert seen == [2]
    capsys.readouterr()
