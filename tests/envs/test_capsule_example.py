"""The example of a game in a package of its own: built outside the tree, checked and played."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import playout
import pytest
from playout.envs.core.registry import register_game, unregister_game
from playout.testing import check_game, count_positions, perft

EXAMPLE = Path(__file__).parents[2] / "examples" / "capsule_game"


@pytest.fixture(scope="module")
def breakthrough(tmp_path_factory):
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
    spec = importlib.util.spec_from_file_location("breakthrough_game", built)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Plain:
    """The same rules, written once more."""

    def __init__(self):
        self.cells = {(x, y): 0 for x in range(5) for y in (0, 1)}
        self.cells |= {(x, y): 1 for x in range(5) for y in (3, 4)}
        self.turn, self.over = 0, False

    def moves(self):
        found = []
        if self.over:
            return found
        step = 1 if self.turn == 0 else -1
        for (x, y), owner in self.cells.items():
            for dx in (-1, 0, 1):
                to = (x + dx, y + step)
                if owner != self.turn or not (0 <= to[0] < 5 and 0 <= to[1] < 5):
                    continue
                there = self.cells.get(to)
                if there is None or (there != self.turn and dx != 0):
                    found.append("abcde"[x] + str(y + 1) + "abcde"[to[0]] + str(to[1] + 1))
        return found

    def play(self, text):
        start = ("abcde".index(text[0]), int(text[1]) - 1)
        to = ("abcde".index(text[2]), int(text[3]) - 1)
        del self.cells[start]
        self.cells[to] = self.turn
        last = 4 if self.turn == 0 else 0
        self.over = to[1] == last or 1 - self.turn not in self.cells.values()
        self.turn = 1 - self.turn


def test_it_keeps_every_promise(breakthrough):
    report = check_game(breakthrough.make(), num_games=15)
    assert report.game == "breakthrough"
    game = playout.game(breakthrough.make())
    assert game.zero_sum
    assert game.max_legal == 30


def test_it_plays_as_a_plain_implementation(breakthrough):
    import random

    rng = random.Random(5)
    game = playout.game(breakthrough.make())
    for _ in range(60):
        plain, state = Plain(), game.initial_state()
        while True:
            texts = [state.action_text(action) for action in state.legal_actions]
            assert sorted(texts) == sorted(plain.moves())
            assert state.to_play == (-1 if plain.over else plain.turn)
            if plain.over:
                assert state.returns[1 - plain.turn] == 1
                break
            text = rng.choice(texts)
            plain.play(text)
            state = state.apply(state.read_action(text))


def test_counts_and_names_work_without_rebuilding_playout(breakthrough):
    register_game("breakthrough_5x5", breakthrough.make)
    try:
        game = playout.game("breakthrough_5x5")
        assert perft(game, 1) == 13
        # The first pawn that steps forward blocks one of the thirteen answers.
        assert count_positions(game, 2) == [1, 13, 13 * 12]
        assert game.from_moves("b2b3 d4d3 b3a4").to_play == 1
    finally:
        unregister_game("breakthrough_5x5")


def test_search_takes_it_as_it_is(breakthrough):
    search = pytest.importorskip("playout.mcts.search")
    game = playout.game(breakthrough.make())
    # One step from the goal, with nothing in the way.
    state = game.from_text("...../..X../...../O..../...../X")
    config = search.SearchConfig(algorithm="uct", num_simulations=200)
    result = search.Search(game, config, num_trees=1, seed=0).run(
        playout.envs.StateBatch.from_states([state]), "rollout"
    )
    assert state.action_text(int(result.action[0])) in ("c4b5", "c4c5", "c4d5")
