import json
import signal
import threading
import time

import forked
import numpy as np
import playout
import pytest
import torch
import tyro
from playout.agents.alphazero.budget.machine import Machine
from playout.agents.alphazero.budget.minutes import network_rate
from playout.agents.alphazero.budget.presets import preset_for
from playout.agents.alphazero.config import AlphaZeroConfig
from playout.agents.alphazero.evaluation.report import describe_network, print_plan
from playout.agents.alphazero.evaluator import NetworkEvaluator
from playout.agents.alphazero.settings import picked, setting_names
from playout.agents.commands.alphazero import Command, alphazero, plan_run
from playout.agents.networks.boards.registry import new_network
from playout.agents.runs.devices import resolve_device
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import load
from playout.cli import main
from playout.errors import ConfigError, RunError


def planned(**options):
    command = Command(**options)
    return plan_run(command, playout.game(command.game), resolve_device("cpu"), time.monotonic())[0]


def rows(run):
    found = []
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        found.append({k: v for k, v in row.items() if not k.startswith(("time/", "eval/"))})
    return found


@pytest.mark.slow
def test_a_run_ends_with_a_summary_and_continues_where_it_stopped(tmp_path, capsys):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = {"size": "8x1", "simulations": 4, "seed": 3}
    assert alphazero("tic_tac_toe", updates=4, run=whole, quiet=True, **options).path == whole
    capsys.readouterr()
    assert alphazero("tic_tac_toe", updates=2, run=parts, **options).path == parts
    shown = capsys.readouterr().out
    assert "Learning tic_tac_toe by self-play: 2 updates, then a short measurement." in shown
    assert "What it has learned from" in shown
    assert "solved positions: how often its move keeps the outcome" in shown
    assert "against each of these: its points" in shown
    assert f"playout play {parts}" in shown
    assert max(map(len, shown.splitlines())) <= 100 + len(str(parts))
    assert (parts / "summary.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((parts / "strength.json").read_text())["matches"][0]["opponent"] == "random"
    alphazero(resume=parts, updates=4)
    assert len(rows(parts)) == len(rows(whole)) == 4
    assert rows(parts)[0] == rows(whole)[0]
    found = (parts / "strength.json").read_bytes()
    capsys.readouterr()
    alphazero(resume=parts, updates=1)  # less than it has: what was measured is kept
    shown = capsys.readouterr().out
    assert "It was measured at its end" in shown and "Measuring" not in shown
    assert (parts / "strength.json").read_bytes() == found


def test_the_plan_names_the_network_and_promises_only_what_is_done(tmp_path, capsys):
    options = {**SMALL, "quiet": False, "updates": 1}
    own = "own_boards:Mlp(width=5)"
    alphazero("tic_tac_toe", run=tmp_path / "own", network=own, **options)
    shown = capsys.readouterr().out
    net = new_network(playout.game("tic_tac_toe"), "8x1", network=own)
    count = sum(one.numel() for one in net.parameters())
    assert f"network    {own}, {count} parameters\n" in shown
    assert "by self-play: 1 update.\n" in shown and "measurement" not in shown
    alphazero("tic_tac_toe", run=tmp_path / "plain", **options)
    assert "network    resnet, 8 channels x 1 block, " in capsys.readouterr().out


def test_the_plan_of_a_run_with_actors_names_their_command_with_what_it_has_to_trust(
    tmp_path, capsys
):
    config = AlphaZeroConfig(game="mine:Nim", games_from="games", updates=1)
    run = RunDir.create(tmp_path / "r", kind="alphazero", config={"game": "mine:Nim"}, seed=0)
    print_plan(run, config, None, [new_network(playout.game("tic_tac_toe"), "8x1")])
    line = f"playout selfplay --from {run.path} --into games --trust mine\n"
    assert line in capsys.readouterr().out


@pytest.mark.slow
def test_a_resume_with_nothing_left_to_do_says_so(tmp_path, capsys):
    run = alphazero("tic_tac_toe", updates=2, run=tmp_path / "run", **SMALL).path
    for updates, complete in ((2, True), (1, True), (3, False)):
        alphazero(resume=run, updates=updates, rating=False)
        shown = capsys.readouterr().out
        assert (f"{run} is already complete: to go on, give larger --updates" in shown) == complete


SMALL = {
    "size": "8x1",
    "simulations": 4,
    "rating": False,
    "quiet": True,
    "evaluations": 100,
    "num_trees": 8,
}
FLAGS = ["--size", "8x1", "--simulations", "4", "--no-rating", "--quiet", "--evaluations", "64"]
FLAGS += ["--selfplay.num-trees", "8", "--learner.batch_size=32"]


@pytest.mark.slow
def test_every_setting_is_an_option_and_a_keyword_and_stays_on_resume(tmp_path):
    typed, given = tmp_path / "typed", tmp_path / "given"
    assert main(["alphazero", "tic_tac_toe", "--updates", "1", "--run", str(typed), *FLAGS]) == 0
    settings = {"num_trees": 8, "learner": {"batch_size": 32}, "evaluations": 64}
    alphazero("tic_tac_toe", updates=1, run=given, **{**SMALL, **settings})
    stored = [RunDir.open(run).config["alphazero"] for run in (typed, given)]
    assert stored[0] == stored[1]
    assert stored[0]["selfplay"]["num_trees"] == 8
    assert stored[0]["learner"]["batch_size"] == 32
    assert stored[0]["evaluations"] == 64
    assert stored[0]["steps"] == 8  # the preset's
    assert main(["alphazero", "--resume", str(typed), "--updates", "2"]) == 0
    alphazero(resume=given, updates=2, quiet=True)
    assert len(rows(typed)) == len(rows(given)) == 2


@pytest.mark.parametrize("game", ["hex(size=3)", "go(size=3)"])
def test_a_run_pools_and_keeps_its_replay_as_its_preset_says(game):
    _, preset = preset_for(playout.game(game))
    config = planned(game=game, updates=1, size="8x2", rating=False, quiet=True)
    assert config.pooling is preset.run["pooling"] is True
    assert config.compact_replay is preset.run.get("compact_replay", False)


DEFAULTS = picked(AlphaZeroConfig(updates=1), sorted(set(setting_names().values())))


@pytest.mark.parametrize("sign", ["", "no-"])
@pytest.mark.parametrize(
    "name", [name for name, value in DEFAULTS.items() if isinstance(value, bool)]
)
def test_a_switch_counts_as_given_whether_it_is_turned_on_or_off(name, sign):
    group, dot, switch = name.rpartition(".")
    arguments = ["tic_tac_toe", f"--{group}{dot}{sign}{switch}".replace("_", "-")]
    assert Command.defaults(arguments).given == (name,)
    parsed = tyro.cli(Command, args=arguments, default=Command.defaults(arguments))
    assert picked(parsed.alphazero, parsed.given) == {name: sign == ""}


def test_a_setting_that_changes_on_resume_is_refused_by_its_name(tmp_path, capsys):
    run = alphazero("tic_tac_toe", updates=1, run=tmp_path / "run", **SMALL).path
    with pytest.raises(ConfigError, match=r"selfplay.num_trees \(was 8, now 4\)"):
        alphazero(resume=run, updates=3, num_trees=4)
    assert main(["alphazero", "--resume", str(run), "--selfplay.num-trees", "4"]) == 2
    shown = capsys.readouterr().err
    assert "selfplay.num_trees (was 8, now 4)" in shown and shown.count("\n") == 1


def test_the_help_shows_what_matters_first_and_all_the_rest(capsys):
    with pytest.raises(SystemExit):
        main(["alphazero", "--help"])
    shown = capsys.readouterr().out
    first = [
        shown.index(name) for name in ("--minutes", "--size", "--simulations", "--evaluations")
    ]
    assert first == sorted(first)
    for name in setting_names().values():
        assert f"--{name.replace('_', '-')}" in shown
    assert "num_trees" not in shown and "--minutes-" not in shown


@pytest.mark.slow
def test_a_player_is_loaded_with_any_number_of_simulations(tmp_path):
    run = tmp_path / "run"
    alphazero("tic_tac_toe", updates=1, run=run, quiet=True, size="8x1", simulations=4)
    player = load(run)
    states = player.game.batch(3)
    assert player.config.num_simulations == 128
    assert player.with_simulations(0).config is None
    for simulations in (0, 1, 16):
        actions = player.with_simulations(simulations).act(states)
        assert actions.shape == (3,)
        assert states.legal_mask()[np.arange(3), actions].all()
    assert playout.load(run, "latest").name == player.name
    assert RunDir.open(run).kind == "alphazero"


@pytest.mark.slow
def test_minutes_become_a_number_of_updates_that_is_kept(tmp_path):
    run = tmp_path / "run"
    alphazero("tic_tac_toe", minutes=0.02, run=run, quiet=True, size="8x1", simulations=4)
    budget = RunDir.open(run).record["budget"]
    assert budget["minutes"] == 0.02
    totals = [total for _, total in budget.get("corrections", [])] or [budget["total"]]
    assert len(rows(run)) == totals[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minutes": 1.0, "updates": 3}, "only one"),
        ({"minutes": -1.0}, "positive"),
        ({"size": "enormous"}, "size"),
        ({"simulations": 1}, "simulations"),
        ({"game": "checkers"}, "checkers"),
        ({"updates": 0}, "at least one"),
    ],
)
def test_options_that_mean_nothing_are_refused_in_one_line(options, message):
    with pytest.raises(ConfigError, match=message) as found:
        planned(**options)
    assert "\n" not in str(found.value)


def test_the_machine_decides_which_network_an_hour_is_enough_for(monkeypatch):
    def sizes(**options):
        config = planned(game="connect_four", rating=False, **options)
        return config.first_size, config.size

    for speed, expected in (
        (5_000, ("", "small")),
        (10_000, ("", "medium")),
        (40_000, ("small", "base")),
    ):
        monkeypatch.setattr(
            "playout.agents.alphazero.budget.minutes.network_rate",
            lambda net, machine, device, speed=speed: speed,
        )
        assert sizes(minutes=60) == expected
        assert sizes(minutes=6) == ("", "small")
        assert sizes(minutes=60, size="tiny") == ("", "tiny")
        # What is counted, not timed, is the same on every machine.
        assert sizes(updates=100) == ("small", "base")


def test_how_much_a_network_could_answer_is_measured_on_all_threads(monkeypatch):
    asked = []
    evaluate = NetworkEvaluator.evaluate_obs

    def counted(self, obs):
        asked.append((threading.get_ident(), len(obs)))
        return evaluate(self, obs)

    monkeypatch.setattr(NetworkEvaluator, "evaluate_obs", counted)
    monkeypatch.setattr("playout.agents.alphazero.budget.minutes.RATE_SECONDS", 0.05)
    found = network_rate(new_network(playout.game("connect_four"), "8x1"), Machine(2))
    # No more than all that was asked, warm-up included, within the time of one of two rounds.
    assert 0 < found <= 1 / 0.05 * sum(rows for _, rows in asked)
    assert len({thread for thread, _ in asked}) == 2


class Race:
    """Whoever first reaches the end of a track by one or two steps wins; a Python game."""

    name = "race"
    num_players = 2
    num_actions = 2
    obs_shape = (2, 1, 16)

    def __init__(self, length=15):
        self.length = length
        self.max_plies = 2 * length

    def initial_state(self):
        return (0, 0, 0)

    def to_play(self, state):
        return -1 if max(state[1:]) >= self.length else state[0]

    def legal_actions(self, state):
        return [0, 1] if state[1 + state[0]] + 2 <= self.length else [0]

    def apply(self, state, action):
        places = list(state[1:])
        places[state[0]] += action + 1
        return (1 - state[0], *places)

    def returns(self, state):
        return [1.0, -1.0] if state[1] >= self.length else [-1.0, 1.0]

    def observe(self, state, player):
        planes = np.zeros(self.obs_shape, np.float32)
        for plane, who in enumerate((player, 1 - player)):
            planes[plane, 0, state[1 + who]] = 1
        return planes

    def encode(self, state):
        return bytes(state)

    def decode(self, data):
        if len(data) != 3 or data[0] > 1 or max(data[1:]) > self.length:
            raise ValueError("not a state of this game")
        return tuple(data)


@pytest.mark.slow
def test_a_game_object_is_learned_and_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    seen = []
    run = alphazero(
        Race(), updates=2, run=tmp_path / "run", callbacks=[lambda *it: seen.append(it)], **SMALL
    )
    assert [trainer.game.name for trainer, _ in seen] == ["race", "race"]
    assert all("selfplay/games" in metrics for _, metrics in seen)
    alphazero(Race(), resume=run.path, updates=4, quiet=True)
    whole = alphazero(Race(), updates=4, run=tmp_path / "whole", **SMALL)
    files = [one.find().files for one in (RunDir.open(run.path), whole)]
    digests = [{name: digest for name, (_, digest) in one.items()} for one in files]
    # Learning rates fall over the length, which was shorter at first: the games are the same.
    assert rows(run.path)[0] == rows(whole.path)[0]
    assert digests[0].keys() == digests[1].keys()


def test_another_game_than_the_runs_is_refused_when_it_is_resumed(tmp_path):
    run = alphazero(Race(), updates=1, run=tmp_path / "run", **SMALL)
    with pytest.raises(ConfigError, match=r"has learned race\(length=15\), not tic_tac_toe"):
        alphazero("tic_tac_toe", resume=run.path, updates=2)


class Faulty(Race):
    def apply(self, state, action):
        raise RuntimeError("no such move")


def test_a_run_that_could_not_begin_leaves_no_folder(tmp_path):
    with pytest.raises(Exception, match="no such move"):
        alphazero(Faulty(), updates=1, run=tmp_path / "runs" / "new" / "run", **SMALL)
    assert not (tmp_path / "runs").exists()
    (tmp_path / "runs").mkdir()
    with pytest.raises(Exception, match="no such move"):
        alphazero(Faulty(), updates=1, run=tmp_path / "runs" / "run", **SMALL)
    assert (tmp_path / "runs").is_dir() and not any((tmp_path / "runs").iterdir())
    assert alphazero(Race(), updates=1, run=tmp_path / "run", **SMALL).find() is not None


def test_a_run_is_locked_while_its_speed_is_measured(tmp_path, monkeypatch):
    def measured(run, *rest, **more):
        with pytest.raises(RunError, match="in use"), RunDir.open(run.path).lock():
            pass
        raise ConfigError("measured")

    monkeypatch.setattr("playout.agents.alphazero.budget.minutes.updates_for", measured)
    with pytest.raises(ConfigError, match="measured"):
        alphazero(Race(), minutes=1.0, run=tmp_path / "run", **SMALL)


MEASURING = """
import sys, time
from playout.agents.alphazero.budget import minutes
from playout.agents.commands.alphazero import alphazero
def measured(*rest, **more):
    print("measuring", flush=True)
    time.sleep(100)
minutes.updates_for = measured
alphazero("tic_tac_toe", minutes=1.0, size="8x1", run=sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_measuring_ends_at_once_and_says_what_is_left(tmp_path, number, code):
    process = forked.start("-c", MEASURING, tmp_path / "run")
    process.until("measuring\n")
    process.send_signal(number)
    found, _, errors = forked.finish(process)
    assert found == code
    assert "Measuring how much fits" in errors and "nothing was learned yet" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "run").exists()


def test_a_run_begins_with_the_weights_of_an_earlier_one_of_another_board(tmp_path):
    first = alphazero("tic_tac_toe", updates=1, run=tmp_path / "first", **SMALL)
    options = {key: value for key, value in SMALL.items() if key != "size"}
    begun = []
    run = alphazero(
        "tic_tac_toe",
        updates=1,
        run=tmp_path / "second",
        init=first.path,
        steps=1,
        learning_rate=1e-9,
        callbacks=[lambda trainer, metrics: begun.append(trainer.learners[0].net.state_dict())],
        **options,
    )
    assert RunDir.open(run.path).config["alphazero"]["size"] == "8x1"
    old = first.load(only=("model",))[1]["model"]
    assert all(torch.allclose(begun[0][name], old[name], atol=1e-2) for name in old)
    with pytest.raises(ConfigError, match=r"reads 2 planes|width, depth"):
        alphazero(
            Race(), updates=1, run=tmp_path / "third", init=first.path, **{**SMALL, "size": "16x1"}
        )
    assert not (tmp_path / "third").exists()


def test_a_plan_says_how_many_channels_blocks_have_inside():
    net = new_network(playout.game("tic_tac_toe"), "16x2/8")
    said = describe_network("resnet", "16x2/8", net)
    assert "16 channels x 2 blocks, 8 inside each, " in said
