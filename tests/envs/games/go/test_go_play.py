"""Random games of Go beside the slow rules, and what states, observations and texts keep."""

import random
import shutil
import subprocess

import gymnasium as gym
import numpy as np
import playout
import pytest
from go_reference import EMPTY, Reference
from playout.errors import GameError
from playout.testing import check_game

OWN, OTHER, ATARI, TWO, FORBIDDEN, PASSED, WHITE, KOMI = range(8)


def side_by_side(rng, size, ko, suicide, komi):
    """A random game in which everything is compared; passes are rare, so that games last."""
    game = playout.game("go", size=size, ko=ko, suicide=suicide, komi=komi)
    state, reference = game.initial_state(), Reference(size, ko, suicide, komi)
    while True:
        legal = reference.moves()
        assert state.legal_actions == legal, state.text
        assert state.is_terminal == reference.over()
        if not legal:
            margin = reference.margin()
            assert state.score.tolist() == [margin, -margin]
            assert state.returns.tolist() == [np.sign(margin), -np.sign(margin)]
            return state
        look_at(state, reference)
        action = rng.choices(legal, [1] * (len(legal) - 1) + [0.1])[0]
        reference.play(action)
        state = state.apply(action)


def look_at(state, reference):
    """The observation of the side to move, plane by plane."""
    size, turn, board = reference.size, reference.turn, np.array(reference.board)
    obs = state.observe().reshape(8, -1)
    assert (obs[OWN] == (board == turn)).all()
    assert (obs[OTHER] == (board == 1 - turn)).all()
    legal = np.isin(np.arange(size * size), reference.moves())
    assert (obs[FORBIDDEN] == ((board == EMPTY) & ~legal)).all()
    liberties = np.zeros(size * size)
    for point in np.flatnonzero(board != EMPTY):
        _, around = reference.group(board, point)
        liberties[point] = sum(board[other] == EMPTY for other in around)
    assert (obs[ATARI] == (liberties == 1)).all()
    assert (obs[TWO] == (liberties == 2)).all()
    assert (obs[PASSED] == (reference.passes > 0)).all()
    assert (obs[WHITE] == turn).all()
    komi = reference.komi if turn else -reference.komi
    assert np.allclose(obs[KOMI], np.clip(0.5 + komi / 40, 0, 1))


@pytest.mark.parametrize("suicide", [0, 1])
@pytest.mark.parametrize("ko", ["positional", "situational", "simple"])
def test_random_games_agree_with_the_slow_rules(ko, suicide):
    rng = random.Random(5)
    for size, games in ((2, 12), (3, 8), (4, 2)):
        for komi in (-3, 0.5)[: games // 2]:
            for _ in range(games // 2):
                side_by_side(rng, size, ko, suicide, komi)


@pytest.mark.slow
def test_games_on_boards_of_several_words_agree_with_the_slow_rules():
    """The slow rules play each fourth move, and list the moves of each fortieth position."""
    rng = random.Random(6)
    state, reference = playout.game("go(size=17)").initial_state(), Reference(17)
    for ply in range(320):
        if ply % 40 == 39:
            assert reference.moves() == state.legal_actions
        action = rng.choice(state.legal_actions[:-1])
        state = state.apply(action)
        board = board_of(state)
        assert ply % 4 or reference.after(action) == board
        reference.board, reference.turn = board, state.to_play
        reference.former.append((board, state.to_play))


def board_of(state):
    own = state.observe(0)
    return tuple(np.where(own[0] > 0, 0, np.where(own[1] > 0, 1, EMPTY)).ravel().tolist())


@pytest.mark.parametrize(
    "name",
    [
        "go(size=2,komi=0)",
        "go(size=3,ko=situational,suicide=1)",
        "go(size=5,ko=simple,komi=7)",
        "go(size=9,komi=7)",
    ],
)
def test_go_keeps_the_contract(name):
    check_game(playout.game(name), num_games=1, seed=4)


@pytest.mark.parametrize("komi", [-400, 7, 7.5, 30])
def test_observations_lie_in_the_space_that_environments_declare(komi):
    env = gym.make("playout/Go-v0", size=5, komi=komi)
    obs, info = env.reset(seed=1)
    assert env.observation_space.contains(obs)
    obs, *_ = env.step(int(np.flatnonzero(info["action_mask"])[3]))
    assert env.observation_space.contains(obs)


def test_the_largest_board_plays_and_comes_back_from_bytes_and_text():
    game = playout.game("go(size=19)")
    batch = game.batch(2)
    batch.random_plies([250, 722], 3)
    for row in range(2):
        state = batch[row]
        assert game.from_bytes(state.to_bytes()) == game.from_text(state.text) == state
        assert state.symmetry(3).symmetry(1) == state
    assert 700 < len(batch[1].text) < 4096


def test_own_random_games_end_like_random_moves_under_every_rule():
    for name in ("go(size=4)", "go(size=4,ko=situational,suicide=1)", "go(size=4,ko=simple)"):
        game = playout.game(name, komi=0)
        batch = game.batch(3000)
        batch.random_plies(9, 1)
        fast = batch.playouts(2)[:, 0]
        batch.random_plies(game.max_plies, 3)
        slow = batch.returns()[:, 0]
        for value in (-1, 0, 1):
            p, q = (fast == value).mean(), (slow == value).mean()
            assert abs(p - q) < 5 * np.sqrt(0.5 / 3000)


def test_the_key_of_evaluations_leaves_the_way_out_and_the_hash_keeps_it():
    game = playout.game("go")
    one, other = (game.from_moves(words) for words in ("D4 E5 F6", "F6 E5 D4"))
    assert one.eval_key == other.eval_key
    assert one.hash != other.hash
    small = playout.game("go(size=4)")
    ko = small.from_text(".XO./XO.O/.XO./.... b C3")
    same = small.from_text(".XO./X.XO/.XO./.... w")
    assert ko.eval_key != same.eval_key, "one point may not be played"
    assert ko.apply(12).eval_key == same.apply(12).eval_key


def test_random_bytes_and_texts_are_refused():
    game = playout.game("go(size=5)")
    rng = random.Random(9)
    batch = game.batch(1)
    batch.random_plies(30, 2)
    state = batch[0]
    data, text, refused = state.to_bytes(), state.text, 0
    for _ in range(1000):
        changed = bytearray(data)
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        with pytest.raises(GameError):
            game.from_bytes(bytes(changed))
        letters = list(text)
        for _ in range(rng.randrange(1, 4)):
            letters[rng.randrange(len(letters))] = rng.choice("XO. /bwABCDE12345pas")
        try:
            again = game.from_text("".join(letters))
        except GameError:
            refused += 1
            continue
        assert game.from_bytes(again.to_bytes()) == again
    assert refused > 500


@pytest.mark.peer
def test_gnugo_and_sgfmill_allow_and_count_the_same():
    boards = pytest.importorskip("sgfmill.boards")
    if shutil.which("gnugo") is None:
        pytest.skip("gnugo is not installed")
    rng = random.Random(11)
    command = ["gnugo", "--mode", "gtp", "--positional-superko", "--forbid-suicide"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as engine:

        def ask(line):
            engine.stdin.write(line + "\n")
            engine.stdin.flush()
            answer = engine.stdout.readline()
            while engine.stdout.readline() != "\n":
                pass
            assert answer.startswith("="), (line, answer)
            return answer[1:].split()

        for size in (5, 7):
            game = playout.game("go", size=size, komi=0)
            ask(f"boardsize {size}")
            for _ in range(3):
                ask("clear_board")
                state, board = game.initial_state(), boards.Board(size)
                while not state.is_terminal:
                    color = "bw"[state.to_play]
                    words = {state.action_text(a) for a in state.legal_actions} - {"pass"}
                    assert set(ask(f"all_legal {color}")) - {"PASS"} == words, state.text
                    word = rng.choice([*sorted(words)] * 3 + ["pass"])
                    ask(f"play {color} {word}")
                    action = state.read_action(word)
                    if word != "pass":
                        row, column = divmod(action, size)
                        board.play(size - 1 - row, column, color)
                    state = state.apply(action)
                assert state.score[0] == board.area_score()
        ask("quit")
