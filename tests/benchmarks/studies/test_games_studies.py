"""Studies of games: settings with and without an option, matches that are kept, and their Elo."""

import itertools
import json
import math
import statistics
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import playout
import pytest
import torch
from playout.agents.networks.boards.policy import BoardPolicy
from playout.agents.networks.boards.registry import new_network
from playout.agents.networks.policy import Minibatch
from playout.agents.rating.ratings import Result, rate
from playout.agents.runs.directory import RunDir
from playout.agents.runs.metrics.log import read_rows
from playout.benchmarks.studies.games import alphago, learned_games, meetings, starts
from playout.benchmarks.studies.games import selfplay_options as options
from playout.benchmarks.studies.games.alphago_training import three_steps
from playout.benchmarks.studies.games.meetings import Entrant, difference, meet, write_network
from playout.benchmarks.tools import hex_openings
from playout.benchmarks.tools.measuring import STUDIES
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError
from playout.mcts.exact.positions import canonical_hashes


@contextmanager
def beside_none(function, cases, **options):
    """What `cases.beside` gives, done by this process: autograd allows no forks after its use."""
    done = []
    for case in cases:
        future = Future()
        future.set_result(function(*case))
        done.append(future)
    yield done


@pytest.fixture
def in_this_process(monkeypatch):
    """Studies do all by themselves."""
    monkeypatch.setattr(meetings, "beside", beside_none)
    for module in (alphago, options):
        one_by_one = lambda function, cases, **_: [function(*case) for case in cases]  # noqa: E731
        monkeypatch.setattr(module, "side_by_side", one_by_one)


def test_openings_of_hex_are_judged_by_the_published_map():
    whole = "".join(hex_openings.PUBLISHED)
    assert whole.count("W") == 27 and whole == whole[::-1]  # as the page says; a half turn
    assert hex_openings.judged_right(list(hex_openings.PUBLISHED)) == 49
    assert hex_openings.judged_right(["W" * 7] * 7) == 27
    # Which corners win: solved on a smaller board, whose map lies alike.
    rows, _ = hex_openings.opening_map(4)
    assert rows == ["...W", "..W.", ".W..", "W..."]


@pytest.mark.slow
def test_both_sides_of_an_option_differ_in_it_alone():
    pairs = options.pairs_of(playout.game("go(size=7)"))
    brief = {"fast_share": 0.5, "fast_simulations": 8}
    assert pairs["playout-cap randomisation"] == ({}, brief)
    assert pairs["values weighing 1.0, not 0.1"] == ({"c_scale": 0.1}, {})
    assert pairs["policy-surprise weighting"] == ({}, {"surprise_weight": 0.5})
    assert pairs["bounded reuse"] == ({"max_reuse": 0.0}, {})
    puct, forced = pairs["forced playouts, pruned targets"]
    assert forced == {**puct, "forced_playouts": 2.0} and puct == {"algorithm": "puct"}
    one, several = pairs["several sizes"]
    assert several == {**one, "also": (str(playout.game("go(size=5)")),)} and one == {
        "heads": "pooled"
    }
    assert set(pairs) == set(options.OPTIONS)

    othello = options.pairs_of(playout.game("othello(size=6)"))
    assert othello["playout-cap randomisation"][0] == {}
    assert othello["ownership target"] == ({"target_weight": 0.0}, {})
    without_planes = options.pairs_of(playout.game("tic_tac_toe"))
    assert not {"ownership target", "score target", "several sizes"} & set(without_planes)
    with pytest.raises(ConfigError, match="there is no option 'resigning'"):
        options.pairs_of(playout.game("tic_tac_toe"), ("resigning",))


def test_a_difference_has_the_interval_of_games_or_of_seeds_whichever_is_wider():
    names = ["a0", "a1", "b0", "b1"]
    results = [
        Result(one, other, 500 + 5 * i, 100, 400 - 5 * i)
        for i, one in enumerate(names)
        for other in names
        if one != other
    ]
    found = rate(results)
    elo = {one.name: one.elo for one in found.players}
    mean, _, _ = difference(found, names[:2], names[2:])
    assert mean == pytest.approx(statistics.mean([elo["a0"], elo["a1"]])
                                 - statistics.mean([elo["b0"], elo["b1"]]))  # fmt: skip
    one, _, high_one = difference(found, ["a0"], ["b0"])
    assert high_one - one == pytest.approx(1.959964 * found.spread("a0", "b0"))

    # Two seeds that lie 400 Elo apart: Student's t with one degree of freedom decides.
    far = [Result("a0", "a1", 10_000, 0, 1000), Result("a1", "a0", 1000, 0, 10_000)]
    far += [Result("b0", x, 5000, 0, 5000) for x in ("b1",)]
    far += [Result("a0", "b0", 3162, 0, 1000), Result("b0", "a0", 1000, 0, 3162)]
    found = rate(far)
    elo = {one.name: one.elo for one in found.players}
    mean, _, high = difference(found, ["a0", "a1"], ["b0", "b1"])
    assert elo["a0"] - elo["a1"] == pytest.approx(400, abs=8)
    spread = math.sqrt(((elo["a0"] - elo["a1"]) ** 2 + (elo["b0"] - elo["b1"]) ** 2) / 4)
    assert high - mean == pytest.approx(12.706 * spread, rel=0.05)


def test_seeds_that_are_strong_on_both_sides_do_not_widen_the_interval():
    strength = {"a0": 500, "b0": 480, "a1": 0, "b1": -20, "a2": -400, "b2": -430}
    results = []
    for one, other in itertools.permutations(strength, 2):
        share = 1 / (1 + 10 ** ((strength[other] - strength[one]) / 400))
        results.append(Result(one, other, round(1e6 * share), 0, round(1e6 * (1 - share))))
    mean, low, high = difference(rate(results), ["a0", "a1", "a2"], ["b0", "b1", "b2"])
    apart = statistics.stdev([20, 20, 30]) / math.sqrt(3)
    assert mean == pytest.approx(70 / 3, abs=0.5)
    assert high - mean == pytest.approx(mean - low) == pytest.approx(4.303 * apart, rel=0.1)


def test_pairs_that_have_met_are_not_played_again(tmp_path, monkeypatch, capsys, in_this_process):
    game = playout.game("tic_tac_toe")
    for seed in (0, 1):
        write_network(new_network(game, "4x1", seed=seed), tmp_path / f"net-{seed}.safetensors")
    nets = [Entrant(f"net {n}", str(tmp_path / f"net-{n}.safetensors"), 4) for n in (0, 1)]
    uct = Entrant("uct", "uct:10")
    kept = tmp_path / "matches.jsonl"
    first = meet("tic_tac_toe", [(nets[0], nets[1]), (uct, nets[0])], 6, kept)
    assert sum(result.wins + result.draws + result.losses for result in first) == 12
    assert {(one.first, one.second) for one in first} == {
        ("net 0", "net 1"), ("net 1", "net 0"), ("uct", "net 0"), ("net 0", "uct")
    }  # fmt: skip
    assert "match 2 of 2" in capsys.readouterr().out

    monkeypatch.setattr(meetings, "beside", None)  # nobody may be asked to play
    assert meet("tic_tac_toe", [(uct, nets[0])], 6, kept) == first[2:]
    # Under another name a network is what it was; another network of that name is not.
    named = Entrant("first", nets[0].source, 4)
    assert {one.second for one in meet("tic_tac_toe", [(uct, named)], 6, kept)} == {"first", "uct"}
    write_network(new_network(game, "4x1", seed=9), tmp_path / "net-0.safetensors")
    with pytest.raises(TypeError):
        meet("tic_tac_toe", [(uct, nets[0])], 6, kept)


def test_a_snapshot_is_the_network_that_was_written(tmp_path):
    game = playout.game("go(size=4)")
    net = new_network(game, "4x1", seed=3).eval()
    write_network(net, tmp_path / "net.safetensors")
    again = meetings.read_network(tmp_path / "net.safetensors")
    obs = torch.from_numpy(np.random.default_rng(0).random((5, *game.obs_shape), np.float32))
    with torch.no_grad():
        for ours, theirs in zip(net(obs), again(obs), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.slow
def test_options_are_trained_rated_and_written_on_a_page(tmp_path, in_this_process):
    length = {"updates": 1, "evaluations": 64, "steps": 1, "batch_size": 8, "num_trees": 4}
    length |= {"learning_rate": 0.02, "warmup_positions": 8, "size": "4x1"}
    form = options.Form("tic_tac_toe", length, simulations=2, games=4)
    chosen = ("random symmetry an evaluation", "resignation")
    assert options.main(True, (3,), tmp_path, chosen, form) == 0
    page = (tmp_path / "index.html").read_text()
    assert "resign_below=-0.9, seed 3" in page and all(name in page for name in chosen)
    assert (tmp_path / "options.png").stat().st_size > 5000
    # Each of both options has met the preset, and neither the other.
    assert len((tmp_path / "matches.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_a_board_network_is_reinforced_against_its_past_without_search(tmp_path):
    game = playout.game("tic_tac_toe")
    net = new_network(game, "8x1", seed=0)
    policy = BoardPolicy(net)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    options = {"num_envs": 16, "num_steps": 16, "minibatch_size": 64, "num_epochs": 1}
    playout.ppo(
        game, policy=policy, run=tmp_path / "run", quiet=True, self_play=True, threads=1, seed=0,
        total_timesteps=2048, learning_rate=3e-3, gamma=1.0, eval_every=8, **options,
    )  # fmt: skip
    last = [*read_rows(tmp_path / "run")][-1]
    assert last["selfplay/pool_size"] > 1  # past versions of it were opponents
    changed = {name for name, old in before.items() if not torch.equal(old, net.state_dict()[name])}
    statistics = {name for name, _ in net.named_buffers()}
    assert changed and not changed & statistics
    # What was sampled and what is learned from are the same function, whoever calls `train`.
    assert not policy.train().net.training
    obs = torch.from_numpy(game.batch(3).observe())
    mask = torch.ones(3, game.num_actions)
    step = policy.step(obs, None, mask, generator=torch.Generator().manual_seed(1))
    batch = Minibatch(obs, step.action, step.logprob, *(4 * [step.value]),
                      action_mask=mask)  # fmt: skip
    logprobs, _, values = policy.evaluate(batch)
    assert torch.allclose(logprobs, step.logprob) and torch.allclose(values, step.value)


@pytest.mark.slow
def test_three_steps_and_one_are_trained_rated_and_drawn(tmp_path, capsys, in_this_process):
    small = {"steps": 2, "batch_size": 16}
    form = replace(
        alphago.QUICK, game="tic_tac_toe", games=40, size="4x1", epochs=0.2, learning=small,
        teacher=("uct:20", "uct:10"), simulations=2, matches=2, snapshots=1,
        reinforce=alphago.QUICK.reinforce
        | {"total_timesteps": 256, "num_envs": 8, "num_steps": 16, "minibatch_size": 64},
        zero=small | {"updates": 3, "evaluations": 64, "num_trees": 4, "warmup_positions": 16},
    )  # fmt: skip
    assert alphago.main(True, 0, tmp_path, form) == 0
    rows, anchors = alphago.measured(tmp_path, replace(form, files=records_in(tmp_path)))
    assert [row["step"] for row in rows if row["part"]][-3:] == list(alphago.STEPS)
    for way in alphago.NAMES:
        minutes = [row["minutes"] for row in rows if row["way"] == way]
        assert minutes == sorted(minutes) and len(minutes) > 2
    assert anchors == {"random": 0.0}
    assert all(0 <= row["accuracy"] <= 1 and 0 <= row["error"] <= 1 for row in rows)
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert "value" in (tmp_path / "index.html").read_text()
    claims = alphago.claims_of(rows, form)
    assert len(claims) == 12 and {claim["column"] for claim in claims} == {
        "Elo above random play", "recorded moves foretold", "error of outcomes"
    }  # fmt: skip
    # Nothing is made twice.
    capsys.readouterr()
    three_steps(tmp_path, replace(form, files=records_in(tmp_path)), 0)
    assert capsys.readouterr().out.count("kept from before") == 3


def records_in(folder):
    return tuple(str(path) for path in sorted((folder / "records").glob("part-*.jsonl")))


@pytest.mark.slow
def test_what_was_learned_is_drawn_in_points_within_their_bounds(tmp_path, monkeypatch):
    plt = pytest.importorskip("matplotlib.pyplot")
    drawn = []
    monkeypatch.setattr(plt, "close", drawn.append)
    kept = json.loads((STUDIES / "games" / "learned_games.json").read_text(encoding="utf-8"))
    runs = kept["results"]["runs"]
    for point in (point for run in runs for point in run["curve"]):
        low, likeliest, high = learned_games.promised(point)
        assert 0 < low < likeliest < high < 100
    learned_games.plot(runs, tmp_path / "picture.png")
    monkeypatch.undo()
    panels = [panel for panel in drawn[0].axes if panel.get_title()]
    # Longer runs of a game stand in its panel, with as many lines and points as in all of them.
    games = list(dict.fromkeys(run["game"] for run in runs))
    assert [panel.get_title() for panel in panels] == games
    assert len(games) < len(runs)
    for panel, game in zip(panels, games, strict=True):
        here = [run for run in runs if run["game"] == game]
        assert panel.get_ylim() == (0, 103)
        _, labels = panel.get_legend_handles_labels()
        assert len(labels) == sum(1 + len(run["matches"]) + ("openings" in run) for run in here)
    plt.close(drawn[0])


def test_what_was_measured_of_a_run_is_written_before_the_next_one_is_made(monkeypatch):
    written = []

    def train(game, *settings):
        if game == "go":
            raise KeyboardInterrupt
        return game

    run = {"minutes": 1, "cores": 1, "seed": 0}
    monkeypatch.setattr(learned_games, "train", train)
    monkeypatch.setattr(learned_games, "measured", lambda path, *_: {**run, "game": path})
    monkeypatch.setattr(learned_games, "kept_runs", lambda study: [])
    monkeypatch.setattr(learned_games, "plot", lambda runs, path: None)
    monkeypatch.setattr(learned_games, "claims_of", lambda runs: [])
    monkeypatch.setattr(learned_games, "write_result", lambda name, found: written.append(found))
    monkeypatch.setattr("sys.argv", ["learned_games", "--train", "1", "hex", "go"])
    with pytest.raises(KeyboardInterrupt):
        learned_games.main()
    assert [[one["game"] for one in found["runs"]] for found in written] == [["hex"]]


def test_time_to_a_strength_lies_on_lines_between_points_and_may_never_come():
    curve = [(0.0, 0.4), (2.0, 0.6), (4.0, 0.5), (6.0, 0.9)]
    assert starts.reached(curve, 0.3) == 0.0
    assert starts.reached(curve, 0.5) == pytest.approx(1.0)
    assert starts.reached(curve, 0.7) == pytest.approx(5.0)  # past the fall
    assert starts.reached(curve, 0.95) is None
    weakest = [(0.0, 0.1), (1.0, 0.7), (2.0, 0.5)]
    assert starts.level_of([curve, weakest], 0.4) == pytest.approx(0.49)  # nine tenths of its gain


def test_a_start_is_worth_times_that_are_compared_seed_by_seed():
    nothing = [[(0.0, 0.4), (8.0, 0.8)], [(0.0, 0.4), (4.0, 0.8)]]
    trunk = [[(0.0, 0.4), (2.0, 0.8)], [(0.0, 0.4), (1.0, 0.8)]]
    strong = [[(0.0, 0.9), (2.0, 0.9)], [(0.0, 0.9), (1.0, 0.9)]]
    weak = [[(0.0, 0.4), (2.0, 0.8)], [(0.0, 0.4), (1.0, 0.5)]]
    curves = {("PPO", "none"): nothing, ("PPO", "vae"): trunk, ("PPO", "supervised"): strong,
              ("PPO", "next"): weak}  # fmt: skip
    before = {"vae": [1.75, 6.125], "supervised": [1.0, 1.0], "next": [1.0, 1.0]}
    none, vae, supervised, following = starts.worth(curves, before, 0.3)
    assert none.level == pytest.approx(0.75) and none.sooner is None
    assert none.minutes == pytest.approx([7.0, 3.5])
    assert vae.sooner == pytest.approx((4.0, 4.0, 4.0))
    # 7 minutes against 1.75 + 1.75, and 3.5 against 6.125 + 0.875: as long on the whole.
    assert vae.sooner_in_all[0] == pytest.approx(1.0)
    assert "4.00 times sooner than from nothing (95 %: 4.00 to 4" in vae.sentence()
    assert "with the minutes of pretraining counted" in vae.sentence()
    assert "which may be chance" in vae.sentence()
    assert "before it plays, with 2 of 2 seeds" in supervised.sentence()
    assert supervised.sooner is None and supervised.sooner_in_all[0] == pytest.approx(24.5**0.5)
    assert "does not reach 75 % of moves kept with 1 of 2 seeds" in following.sentence()
    assert following.row()["seeds that reach it"] == "1 of 2"


@pytest.mark.slow
def test_both_learners_begin_with_the_trunk_and_are_measured_where_labels_tell_nothing(tmp_path):
    reward = {"num_envs": 8, "num_steps": 8, "minibatch_size": 64, "num_epochs": 1,
              "eval_episodes": 2, "total_timesteps": 256}  # fmt: skip
    play = {"updates": 2, "evaluations": 128, "steps": 1, "batch_size": 16, "num_trees": 8,
            "warmup_positions": 16, "proofs": False}  # fmt: skip
    settings = {starts.ALPHAZERO: play, starts.PPO: reward}
    board = starts.Board("connect_four(width=4,height=4)", 150, "4x1", (2, 10), 1.0, ("masked",),
                         settings, settings, snapshots=2)  # fmt: skip
    data, asked = board.data(3), board.deciding(3)
    learned = StateBatch.from_data(data.train.game, data.train.states)
    assert not set(canonical_hashes(learned)) & set(canonical_hashes(asked.states))
    assert 0 < starts.kept_by_chance(asked) < 1

    run = starts.trunk_run(tmp_path, board, "masked", 3)
    taught = playout.load(run.path, "latest").trunk.net.state_dict()
    curves = {}
    for learner in starts.LEARNERS:
        curve = starts.curve_of(tmp_path, board, learner, "masked", 3)
        first = meetings.read_network(
            tmp_path / f"{learner.lower()}-from-masked-3.first.safetensors"
        )
        assert torch.equal(
            first.state_dict()["blocks.0.conv1.weight"], taught["blocks.0.conv1.weight"]
        )
        minutes = [one for one, _ in curve]
        assert minutes[0] == 0.0 and minutes == sorted(minutes) and len(curve) >= 3
        curves[learner, "masked"] = curves[learner, "none"] = [curve]
    assert curves[starts.PPO, "none"][0][0] == curves[starts.ALPHAZERO, "none"][0][0]
    # What PPO has taught is what its last snapshot is.
    last = meetings.read_network(max((tmp_path / "ppo-from-masked-3" / "snapshots").iterdir()))
    _, state = RunDir.open(tmp_path / "ppo-from-masked-3").load("latest", only=("model",))
    assert all(torch.equal(state["model"][f"net.{k}"], v) for k, v in last.state_dict().items())
    starts.draw(curves, 0.4, tmp_path / "starts.png")
    assert (tmp_path / "starts.png").stat().st_size > 10_000
