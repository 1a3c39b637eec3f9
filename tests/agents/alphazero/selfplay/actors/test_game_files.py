"""Files of games come back as they were written, and whatever else is in one is refused."""

import json
import os
import tracemalloc
from dataclasses import replace

import numpy as np
import playout
import pytest
from playout.agents.alphazero.config import SelfPlayConfig, selfplay_search
from playout.agents.alphazero.replay.chunk import Chunk
from playout.agents.alphazero.replay.policies import Policies
from playout.agents.alphazero.selfplay import Counts, SelfPlay
from playout.agents.alphazero.selfplay.actors import game_file
from playout.agents.alphazero.selfplay.actors.game_file import (
    FORMAT,
    Header,
    encode,
    most_positions,
    read,
)
from playout.agents.runs.checkpoint import durable_io
from playout.errors import DataError
from playout.mcts.evaluators import UniformEvaluator

ACTOR = "0123456789abcdef"


def games_of(name, *, finals=False, number=20):
    game = playout.game(name)
    config = SelfPlayConfig(num_groups=1, num_trees=8, num_simulations=4)
    players = SelfPlay(
        game,
        [UniformEvaluator()],
        config,
        search=selfplay_search(4),
        keep_finals=finals,
        keep_moves=True,
    )
    examples, counts = players.play(10_000, games=number)
    return game, examples, counts


def header_of(text, examples, counts, **changes):
    about = {"run": "r1", "game": text, "step": 7, "settings": "s", "actor": ACTOR, "number": 3}
    return Header(positions=len(examples), counts=counts, **{**about, **changes})


def written(folder, header, game, examples):
    path = folder / header.name
    path.write_bytes(b"".join(encode(header, game, examples)))
    return path


@pytest.fixture(scope="module")
def tic_tac_toe():
    return games_of("tic_tac_toe")


@pytest.mark.parametrize(
    ("name", "finals"), [("tic_tac_toe", False), ("othello(size=6)", True), ("backgammon", False)]
)
def test_games_come_back_with_half_precision_policies(tmp_path, name, finals):
    game, examples, counts = games_of(name, finals=finals, number=2)
    header = header_of(name, examples, counts)
    path = written(tmp_path, header, game, examples)
    found, back = read(path, {name: game}, run="r1", finals=finals)
    assert replace(found, bytes=0, sha256="") == header
    np.testing.assert_array_equal(back.states, examples.states)
    np.testing.assert_array_equal(back.values, examples.values)
    np.testing.assert_array_equal(back.policy_weights, examples.policy_weights)
    np.testing.assert_array_equal(back.policy.actions, examples.policy.actions)
    np.testing.assert_allclose(
        back.policy.probabilities, examples.policy.probabilities, atol=5e-4, rtol=1e-3
    )
    if finals:
        ended = examples.finals.rows >= 0
        np.testing.assert_array_equal(back.finals.rows >= 0, ended)
        np.testing.assert_array_equal(
            back.finals.states[back.finals.rows[ended]],
            examples.finals.states[examples.finals.rows[ended]],
        )
    assert path.stat().st_size < 1500 + 60 * len(examples) * (1 + game.num_actions // 100)


def refused(path, game, run="r1", text="tic_tac_toe"):
    with pytest.raises(DataError) as caught:
        read(path, {text: game}, run=run)
    return str(caught.value)


def test_any_flipped_byte_and_any_missing_end_is_noticed(tmp_path, tic_tac_toe):
    game, examples, counts = tic_tac_toe
    path = written(tmp_path, header_of("tic_tac_toe", examples, counts), game, examples)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in [0, 1, *rng.integers(len(whole), size=60).tolist(), len(whole) - 1]:
        broken = bytearray(whole)
        broken[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        refused(path, game)
        path.write_bytes(whole[:place])
        refused(path, game)
    path.write_bytes(whole)
    read(path, {"tic_tac_toe": game}, run="r1")


def test_games_of_another_run_game_or_version_are_named_for_what_they_are(tmp_path, tic_tac_toe):
    game, examples, counts = tic_tac_toe
    path = written(tmp_path, header_of("tic_tac_toe", examples, counts), game, examples)
    assert "another run" in refused(path, game, run="r2")
    assert "of tic_tac_toe, not of hex(size=5)" in refused(path, game, text="hex(size=5)")
    line, body = path.read_bytes().split(b"\n", 1)
    value = json.loads(line)
    later = durable_io.seal({**value, "format": "playout.games.v2"})
    path.write_bytes(json.dumps(later).encode() + b"\n" + body)
    assert "later version of playout" in refused(path, game)
    moved = tmp_path / "00000009-0123456789abcdef-000003.games"
    path.write_bytes(line + b"\n" + body)
    os.rename(path, moved)
    assert "it was renamed" in refused(moved, game)
    moved.write_bytes(b"\x80\x04\x95 a pickle, perhaps\n" * 100)
    assert "not a file of games" in refused(moved, game)
    moved.unlink()
    moved.symlink_to("/etc/passwd")
    assert "cannot be read" in refused(moved, game)


@pytest.mark.parametrize(
    "place", ["values", "weights", "probabilities", "illegal", "sums", "states"]
)
def test_targets_that_no_search_gives_are_refused_however_well_they_are_signed(
    tmp_path, tic_tac_toe, place
):
    game, examples, counts = tic_tac_toe
    policy = examples.policy
    if place == "values":
        examples = replace(examples, values=np.full_like(examples.values, np.nan))
    elif place == "weights":
        examples = replace(examples, policy_weights=-examples.policy_weights)
    elif place == "probabilities":
        policy = Policies(policy.counts, policy.actions, policy.probabilities * 1000)
    elif place == "sums":
        policy = Policies(policy.counts, policy.actions, policy.probabilities / 2)
    elif place == "illegal":
        actions = (policy.actions + 1) % game.num_actions
        policy = Policies(policy.counts, actions.astype(policy.actions.dtype), policy.probabilities)
    else:
        states = examples.states.copy()
        states[0] = 255
        examples = replace(examples, states=states, moves=None)
    examples = replace(examples, policy=policy)
    path = written(tmp_path, header_of("tic_tac_toe", examples, counts), game, examples)
    refused(path, game)


def test_a_header_cannot_ask_for_more_than_a_file_may_hold(tmp_path, tic_tac_toe):
    game, examples, _ = tic_tac_toe
    for changes in (
        {"positions": 1 << 30},
        {"bytes": 1 << 50},
        {"step": -1},
        {"actor": "../../../etc"},
        {"counts": {"games": float("1e300")}},
        {"counts": {"games": "many"}},
        {"counts": {"games": -5}},
        {"counts": []},
        {"number": True},
        {"step": 10**18},
        {"number": 10**12},
    ):
        header = header_of("tic_tac_toe", examples, Counts())
        line, body = b"".join(encode(header, game, examples)).split(b"\n", 1)
        value = durable_io.seal({**json.loads(line), **changes})
        assert value["format"] == FORMAT
        told = {key: value[key] for key in ("step", "actor", "number")}
        name = replace(header, **told).name  # whoever forges a header gives the file its name
        path = tmp_path / (header.name if "/" in name else name)
        path.write_bytes(json.dumps(value).encode() + b"\n" + body)
        refused(path, game)


def empty_positions(game, rows):
    """The arrays of a chunk of so many positions, all of them the first one, in 16 bytes each."""
    return {
        "values": np.zeros((rows, 1), np.float32),
        "policy_weights": np.zeros(rows, np.float32),
        "counts": np.zeros(rows, np.int32),
        "actions": np.empty(0, np.uint8),
        "probabilities": np.empty(0, np.float16),
        "keys": np.zeros(1, np.int32),
        "key_states": game.batch(1).data.copy(),
        "ends": np.zeros(rows, np.int32),
        "moves": np.empty(0, np.uint8),
    }


def forged(folder, game, arrays, monkeypatch, *, positions):
    """A file with any arrays in it, signed as if an actor had written it."""

    class Forged:
        to_dict = staticmethod(lambda: arrays)

    header = header_of("go(size=9)", range(positions), Counts())
    with monkeypatch.context() as patch:
        patch.setattr(game_file.Chunk, "of", lambda game, examples: Forged)
        return written(folder, header, game, None)


@pytest.mark.parametrize("told", ["few", "all"])
def test_positions_by_the_hundred_thousand_are_refused_before_they_take_memory(
    tmp_path, monkeypatch, told
):
    game = playout.game("go(size=9)")
    rows = most_positions(game) + 1000
    arrays = empty_positions(game, rows)
    positions = 20 if told == "few" else rows
    path = forged(tmp_path, game, arrays, monkeypatch, positions=positions)
    tracemalloc.start()
    try:
        said = refused(path, game, text="go(size=9)")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "as many positions as it says" in said or "more than" in said
    assert peak < 3 * path.stat().st_size < rows * game.state_size


def test_a_file_as_large_as_an_actor_may_write_is_read(tmp_path, monkeypatch, tic_tac_toe):
    game, examples, counts = tic_tac_toe
    monkeypatch.setattr(game_file, "MAX_BYTES", len(examples) * 700)
    assert most_positions(game) >= len(examples)
    path = written(tmp_path, header_of("tic_tac_toe", examples, counts), game, examples)
    assert path.stat().st_size < game_file.MAX_BYTES
    assert len(read(path, {"tic_tac_toe": game}, run="r1")[1]) == len(examples)


@pytest.mark.parametrize("what", ["moves before a whole state", "moves of a policy"])
def test_lists_that_no_position_needs_are_refused(tmp_path, monkeypatch, what):
    game, many = playout.game("go(size=9)"), 100_000
    arrays = empty_positions(game, 2)
    if what == "moves of a policy":
        arrays |= {"counts": np.full(2, many, np.int32)}
        arrays |= {"actions": np.zeros(2 * many, np.uint8)}
        arrays |= {"probabilities": np.zeros(2 * many, np.float16)}
    else:
        arrays |= {"keys": np.arange(2, dtype=np.int32), "key_states": game.batch(2).data.copy()}
        arrays |= {"ends": np.array([0, many], np.int32), "moves": np.zeros(many, np.uint8)}
    path = forged(tmp_path, game, arrays, monkeypatch, positions=2)
    assert "ever has" in (said := refused(path, game, text="go(size=9)")) or "no games of" in said


def test_a_file_for_which_there_is_no_memory_is_refused(tmp_path, monkeypatch, tic_tac_toe):
    game, examples, counts = tic_tac_toe
    path = written(tmp_path, header_of("tic_tac_toe", examples, counts), game, examples)

    def too_much(self, game):
        raise MemoryError

    monkeypatch.setattr(Chunk, "examples", too_much)
    assert "more memory than there is" in refused(path, game)
