"""Studies of games: settings with and without an option, matches that are kept, and their Elo."""

import math
import statistics

import numpy as np
import playout
import pytest
import torch
from playout.agents.networks.boards.registry import new_network
from playout.agents.rating.ratings import Result, rate
from playout.benchmarks.studies.games import meetings
from playout.benchmarks.studies.games import selfplay_options as options
from playout.benchmarks.studies.games.meetings import Entrant, difference, meet, write_network
from playout.errors import ConfigError


def test_both_sides_of_an_option_differ_in_it_alone():
    pairs = options.pairs_of(playout.game("go(size=7)"))
    assert pairs["playout-cap randomisation"] == ({"fast_share": 0.0}, {})
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


def test_pairs_that_have_met_are_not_played_again(tmp_path, monkeypatch, capsys):
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


def test_options_are_trained_rated_and_written_on_a_page(tmp_path):
    length = {"updates": 1, "evaluations": 64, "steps": 1, "batch_size": 8, "num_trees": 4}
    length |= {"learning_rate": 0.02, "warmup_positions": 8, "size": "4x1"}
    form = options.Form("tic_tac_toe", length, simulations=2, games=4)
    chosen = ("random symmetry an evaluation", "resignation")
    assert options.main(True, (0, 1), tmp_path, chosen, form) == 0
    page = (tmp_path / "index.html").read_text()
    assert "resign_below=-0.9, seed 1" in page and all(name in page for name in chosen)
    assert (tmp_path / "options.png").stat().st_size > 5000
    # Three settings of two seeds: all of the preset's pairs, and no pair of the two options.
    assert len((tmp_path / "matches.jsonl").read_text().splitlines()) == 9
