"""The example of a game in a package of its own: built outside the tree, checked and played."""

import importlib.util
import random
import shutil
import subprocess
import sys
from pathlib import Path

import playout
import pytest
from playout.envs.core.registry import register_game, unregister_game
from playout.errors import ConfigError, GameError
from playout.testing import check_game, count_games, count_positions, perft

EXAMPLE = Path(__file__).parents[2] / "examples" / "capsule_game"


@pytest.fixture(scope="module")
def clobber(tmp_path_factory):
    folder = tmp_path_factory.mktemp("capsule_game")
    for path in EXAMPLE.iterdir():
        if path.suffix in (".c", ".py", ".toml"):
            shutil.copy(path, folder)
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    built = next(path for path in folder.iterdir() if path.suffix in (".so", ".pyd"))
    spec = importlib.util.spec_from_file_location("clobber_game", built)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Plain:
    """The same rules, written once more."""

    def __init__(self, rows, columns):
        self.columns, self.turn = columns, 0
        self.stones = {(r, c): (r + c) % 2 for r in range(rows) for c in range(columns)}

    def moves(self):
        """All (from, to)."""
        return {
            ((r, c), to)
            for (r, c), side in self.stones.items()
            for to in ((r - 1, c), (r, c - 1), (r, c + 1), (r + 1, c))
            if side == self.turn and self.stones.get(to) == 1 - self.turn
        }

    def play(self, move):
        self.stones[move[1]] = self.stones.pop(move[0])
        self.turn = 1 - self.turn


def ends(state, action):
    """The cells that an action of the example stands for."""
    _, rows, columns = state.game.obs_shape
    way, cell = divmod(action, rows * columns)
    r, c = divmod(cell, columns)
    return (r, c), ((r - 1, c), (r, c - 1), (r, c + 1), (r + 1, c))[way]


def test_it_is_short():
    assert len((EXAMPLE / "clobber_game.c").read_text().splitlines()) < 120


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "columns"), [(5, 6), (1, 2), (8, 8)])
def test_it_keeps_every_promise(clobber, rows, columns):
    report = check_game(clobber.make(rows, columns), num_games=5)
    assert report.game == f"clobber(rows={rows}, columns={columns})"
    game = playout.game(clobber.make())
    assert game.zero_sum
    assert game.params == {"rows": 5, "columns": 6}


def test_it_plays_as_a_plain_implementation(clobber):
    rng = random.Random(5)
    for rows, columns in [(5, 6)] * 30 + [(2, 8), (8, 3), (8, 8)]:
        plain = Plain(rows, columns)
        state = playout.game(clobber.make(rows=rows, columns=columns)).initial_state()
        while moves := plain.moves():
            assert {ends(state, action) for action in state.legal_actions} == moves
            assert state.to_play == plain.turn
            action = rng.choice(state.legal_actions)
            plain.play(ends(state, action))
            state = state.apply(action)
        assert state.is_terminal
        assert state.returns[1 - plain.turn] == 1


@pytest.mark.parametrize("size", [(0, 6), (9, 6), (5, 1), (5, 9)])
def test_impossible_sizes_are_refused(clobber, size):
    with pytest.raises(ValueError, match="clobber has"):
        clobber.make(*size)


def test_bytes_from_a_file_do_no_harm(clobber):
    game = playout.game(clobber.make())
    good = game.initial_state().to_bytes()
    for at, value in ((16, 2), (0, 255), (7, 1)):
        with pytest.raises(GameError):
            game.from_bytes(good[:at] + bytes([value]) + good[at + 1 :])


def test_counts_and_names_work_without_rebuilding_playout(clobber):
    register_game("clobber", clobber.make)
    try:
        game = playout.game("clobber(rows=2, columns=3)")
        assert perft(game, 1) == 7  # a full board: every pair of neighbours, by the side to move
        assert count_positions(game, 1) == [1, 7]
        assert sum(count_games(game).values()) > 7
    finally:
        unregister_game("clobber")


def test_a_parameter_that_it_does_not_have_is_refused_by_those_that_it_has(clobber):
    register_game("clobber", clobber.make)
    try:
        with pytest.raises(ConfigError) as refused:
            playout.game("clobber(rows=2, width=3)")
        assert str(refused.value) == "clobber has no parameter 'width': it takes rows, columns"
        with pytest.raises(ConfigError, match="str"):  # Python's own words, of a value
            playout.game("clobber(rows='a')")
    finally:
        unregister_game("clobber")


def test_search_takes_it_as_it_is(clobber):
    search = pytest.importorskip("playout.mcts.search")
    game = playout.game(clobber.make(rows=1, columns=4))
    config = search.SearchConfig(algorithm="uct", num_simulations=200)
    result = search.Search(game, config, num_trees=1, seed=0).run(game.batch(1), "rollout")
    # X O X O: the first step of the third stone to the right loses, both others win.
    found = ends(game.initial_state(), int(result.action[0]))
    assert found in {((0, 0), (0, 1)), ((0, 2), (0, 1))}
