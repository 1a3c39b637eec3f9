"""Players from text and from runs, and what is none."""

import numpy as np
import playout
import pytest
from playout.agents.players.load import (
    game_of_players,
    load_player,
    make_player,
)
from playout.agents.runs.directory import RunDir
from playout.envs.core.game import StateBatch
from playout.errors import ConfigError, RunError
from playout.mcts.evaluators import LeafBatch


@pytest.fixture(scope="module")
def game():
    return playout.game("connect_four")


def positions(game, *moves):
    return StateBatch.from_states([game.from_moves(text) for text in moves])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "no player"),
        ("randem", "did you mean random"),
        ("random:3", "write it as random"),
        ("uct", "uct:SIMULATIONS"),
        ("uct:", "uct:SIMULATIONS"),
        ("uct:0", "from 1 up"),
        ("uct:-5", "from 1 up"),
        ("uct:many", "from 1 up"),
        ("uct:5:6", "from 1 up"),
        ("alphabeta:2000", "1 to 1000"),
        ("/nowhere/run", "no run directory"),
        ("/nowhere/run:50", "no run directory"),
    ],
)
def test_specs_that_are_no_player_are_refused_in_one_line(game, spec, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make_player(spec, game)
    assert "\n" not in str(caught.value)


def test_specs_of_all_kinds_make_players_that_play(game, untrained_run):
    states = positions(game, "", "44", "1234567")
    specs = ("random", "greedy", "uct:20", "alphabeta:2")
    for spec in (*specs, str(untrained_run), f"{untrained_run}:8", f"{untrained_run}:0:1"):
        player = make_player(spec, game, seed=3)
        first = player.act(states)
        assert first.dtype == np.int32 and (states.legal_mask()[np.arange(3), first] == 1).all()
        assert (make_player(spec, game, seed=3).act(states) == first).all()
    assert make_player("human", game).name == "human"


def test_runs_that_cannot_play_are_refused(game, untrained_run, tmp_path):
    with pytest.raises(RunError, match="not a run directory"):
        make_player(str(tmp_path), game)
    with pytest.raises(ConfigError, match="has learned"):
        make_player(str(untrained_run), playout.game("tic_tac_toe"))
    with pytest.raises(RunError):
        make_player(f"{untrained_run}:5:77", game)
    with pytest.raises(ConfigError, match="whole number"):
        make_player(f"{untrained_run}:x", game)
    RunDir.create(tmp_path / "text", kind="rlhf.reward", config={}, seed=0)
    with pytest.raises(ConfigError, match=r"kind rlhf\.reward, which plays no games"):
        make_player(str(tmp_path / "text"), game)
    assert load_player(untrained_run, simulations=0).act(game.batch(1)).shape == (1,)


def test_a_run_sees_symmetries_as_it_is_told(game, untrained_run):
    states = positions(game, "2", "1", "77", "65", "1234567", "112", "3", "5544")

    def answers(setting, shown=states):
        player = make_player(f"{untrained_run}:8?symmetry={setting}", game)
        logits, values = player.evaluator.network.evaluate(LeafBatch.of(shown))
        return np.column_stack([logits, values])

    def mirrored(found):
        return np.column_stack([found[:, 6::-1], found[:, 7:]])

    flipped = states.symmetry(np.ones(len(states), np.int32))
    plain, other = answers("none"), mirrored(answers("none", flipped))
    assert not np.allclose(plain, other, atol=1e-4)
    usual = make_player(f"{untrained_run}:8", game).evaluator.network.evaluate(LeafBatch.of(states))
    assert np.allclose(answers("mean"), (plain + other) / 2, atol=1e-5)
    assert np.array_equal(answers("mean"), np.column_stack(usual))
    drawn = answers("random")
    same = [np.isclose(drawn, one, atol=1e-5).all(1) for one in (plain, other)]
    assert (same[0] | same[1]).all() and same[0].any() and same[1].any()
    assert game_of_players([f"{untrained_run}?symmetry=random"]) == game
    for words, message in (("symmetry=all", "mean, random or none"), ("seed=3", "has symmetry")):
        with pytest.raises(ConfigError, match=message):
            make_player(f"{untrained_run}?{words}", game)
