"""Rounds of stages of reward by minutes: chosen once, kept, and learned as if they were given."""

import json
from pathlib import Path

import playout
import pytest
import torch
from playout.agents.runs.directory import RunDir
from playout.agents.runs.metrics import read_rows
from playout.cli import main
from playout.errors import ConfigError
from playout.rlhf.games import recipe as recipe_module
from playout.rlhf.games.data import GameData
from playout.rlhf.games.minutes import minutes_left, note_data
from playout.rlhf.games.recipe import GamesSize
from playout.rlhf.model.folder import load_model
from playout.rlhf.online.config import GRPOConfig, RLHFConfig
from playout.rlhf.stages import rounds, sizes
from playout.rlhf.stages.sizes import Recipe

BASE = Path(__file__).parents[2] / "fixtures" / "runs" / "pretrain"


def short(texts):
    return [-float(len(text)) for text in texts]


COMMON = {
    "size": "tiny",
    "dtype": "float32",
    "quiet": True,
    "seed": 1,
    "batch": 16,
    "max_new_tokens": 4,
    "reward_fn": short,
}


@pytest.mark.parametrize("stage", [playout.grpo, playout.rlhf])
def test_a_run_by_minutes_learns_what_one_of_as_many_rounds_does(tmp_path, stage):
    own = {"group": 2} if stage is playout.grpo else {"value_warmup": 1}
    given = {**COMMON, **own, "prompts": ["the film", "i", "the plot"]}
    timed = stage(BASE, run=tmp_path / "timed", minutes=0.02, **given)
    updates = timed.config["updates"]
    assert updates >= 1 and [*read_rows(timed.path)][-1]["update"] == updates
    assert timed.record["baseline_seconds"] > 0
    counted = stage(BASE, run=tmp_path / "counted", updates=updates, **given)
    weights = [load_model(str(run.path), ())[0].state_dict() for run in (timed, counted)]
    assert all(torch.equal(a, b) for a, b in zip(*(w.values() for w in weights), strict=True))


def test_minutes_that_say_nothing_or_too_much_are_refused(tmp_path, capsys):
    with pytest.raises(ConfigError, match="--updates or --minutes, not both"):
        playout.grpo(BASE, ["i"], run=tmp_path / "both", minutes=1, updates=2, group=2, **COMMON)
    assert not (tmp_path / "both").exists()
    assert main(["rlhf", "grpo", "--base", str(BASE), "--minutes", "-1"]) == 2
    assert "--minutes must be 0 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("batch", "minutes", "evaluation", "left", "part"),
    [
        (16, 10.0, 0.0, 10.0, 2),
        (16, 10.0, 12.0, 8.0, 2),
        (16, 10.0, 600.0, 5.0, 2),  # evaluations take half at most
        (6, 4.0, 0.0, 4.0, 6),
    ],
)
def test_answers_that_fit_beside_evaluations_make_rounds(
    monkeypatch, tmp_path, batch, minutes, evaluation, left, part
):
    made = []

    class Trainer:
        def __init__(self, model, config):
            made.append((model, config.batch))

        def update(self):
            made.append("update")

    def plan(run, *, minutes, unit, measure):
        assert minutes == pytest.approx(left) and unit == "answers"
        assert measure() == measure() == part
        return 100

    monkeypatch.setattr(rounds, "plan", plan)
    model = torch.nn.Linear(2, 2)
    config = GRPOConfig(batch=batch, group=2, updates=5)
    found = rounds.planned_rounds(None, minutes, config, Trainer, model, evaluation=evaluation)
    assert found == 100 // batch
    (copied, size), *updates = made
    warmed = RLHFConfig(batch=batch, value_warmup=4)  # in which as many rounds are sampled
    made.clear()
    monkeypatch.setattr(rounds, "plan", lambda *_, **__: 10 * batch)
    assert rounds.planned_rounds(None, 9.0, warmed, Trainer, model, evaluation=0.0) == 6
    assert size == part and updates == ["update", "update"]  # on one copy, made once
    assert copied is not model and torch.equal(copied.weight, model.weight)


def test_what_is_left_of_the_recipe_s_minutes_is_what_nothing_has_taken_or_will(tmp_path):
    plan, stage, measured = tmp_path / "plan.json", tmp_path / "sft", tmp_path / "sft.json"
    stage.mkdir()
    (stage / "metrics.jsonl").write_text('{"update": 1, "step": 8, "time/elapsed": 240.0}\n')
    measured.write_text(json.dumps({"seconds": 60.0}))
    note_data(plan, 120.0)
    assert minutes_left(20.0, plan, [stage], [measured], 2) == pytest.approx(20 - 2 - 4 - 1 - 2)
    assert minutes_left(20.0, plan, [stage, stage], [], 2) == pytest.approx(20 - 2 - 8)
    assert minutes_left(5.0, plan, [stage], [measured], 2) == 0


@pytest.mark.slow
def test_stages_of_reward_share_what_the_recipe_has_left(tmp_path, monkeypatch, capsys):
    few = GamesSize(GameData(200, 60, 2, 20, 20, sights=40), 1e-3, 1e-4, 1e-4, 2, ("random",))
    monkeypatch.setitem(recipe_module.SIZES, "tiny", few)
    numbers = Recipe(300, "games-tiny", 128, 2, 2, 0, 0, 1, 0, 1, 12, 3, 8)
    monkeypatch.setitem(sizes.GAME_RECIPES, "games-tiny", numbers)
    words = ["rlhf", "games", "--size", "tiny", "--game", "tic_tac_toe", "--minutes", "0.2"]
    monkeypatch.setattr(recipe_module, "minutes_left", lambda *_: 0.14)
    assert main([*words, "--run", str(tmp_path / "run")]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    grpo, ppo = (RunDir.open(tmp_path / "run" / name).config for name in ("grpo", "rlhf"))
    assert (grpo["minutes"], ppo["minutes"]) == (pytest.approx(0.07), pytest.approx(0.14))
    assert grpo["updates"] >= 1 and ppo["updates"] >= 1 and said.count("as many as fit into") == 2
