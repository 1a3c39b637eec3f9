"""A replay of games as moves against one of whole states; what checkpoints of it hold and share."""

import os
from dataclasses import fields, is_dataclass, replace

import numpy as np
import playout
import pytest
from playout.agents.alphazero.config import SelfPlayConfig, selfplay_search
from playout.agents.alphazero.replay import CompactReplay, Examples, Moves, Replay
from playout.agents.alphazero.replay.chunk import Chunk, interval
from playout.agents.alphazero.selfplay import SelfPlay
from playout.agents.runs.directory import RunDir
from playout.envs.core.state_batch import StateBatch
from playout.errors import CheckpointError

GAMES = ["go(size=5)", "connect_four", "othello(size=4)", "backgammon"]


class Hashed:
    """Logits and values that look random, from the planes of a board."""

    def evaluate(self, leaves):
        boards = (8 * leaves.obs.reshape(leaves.size, -1)).astype(np.int64)
        hashed = boards @ (np.arange(1, boards.shape[1] + 1) * 2654435761 % 1000003) % 1000003
        columns = np.arange(1, leaves.mask.shape[1] + 1)
        logits = (hashed[:, None] * columns % 17 - 8) / 8
        return logits.astype(np.float32), ((hashed % 13 - 6) / 8).astype(np.float32)


def played(name, *, count=900, simulations=4, **changes):
    """Examples of self-play in parts, as updates bring them."""
    game = playout.game(name)
    config = SelfPlayConfig(num_groups=1, num_trees=8, num_simulations=simulations, **changes)
    play = SelfPlay(
        game,
        [Hashed()],
        config,
        search=selfplay_search(simulations),
        seed=1,
        keep_finals=True,
        keep_moves=True,
    )
    parts = []
    while sum(map(len, parts)) < count:
        parts.append(play.play(200 * simulations)[0])
    parts = [part for part in parts if len(part)]
    return game, parts


@pytest.fixture(scope="module")
def go():
    return played("go(size=5)", fast_share=0.4)


@pytest.mark.parametrize("name", GAMES)
def test_batches_are_those_of_whole_states(name, go):
    """In games with dice, with moves that teach nothing, and with proven ends too."""
    game, parts = go if name == GAMES[0] else played(name)
    whole = Replay(game, 700, seed=2, keep_finals=True)
    compact = CompactReplay(game, 700, seed=2, keep_finals=True, chunk_rows=256)
    for part in parts:
        whole.add(part)
        compact.add(part)
        one, other = whole.batch(3, 128), compact.batch(3, 128)
        for field in ("obs", "mask", "values", "policy_weights", "planes", "scores", "ended"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
        np.testing.assert_allclose(one.policy, other.policy, rtol=1e-3, atol=1e-7)
    assert len(compact) == 700 and len(compact._chunks) <= 4


def test_most_states_are_moves(go):
    game, parts = go
    examples = Examples.concatenate(parts)
    chunk = Chunk.of(game, examples)
    gaps = np.diff(chunk.keys)
    games = int((examples.moves.counts == 0).sum())
    assert len(chunk.keys) < games + len(examples) / (interval(game) / 2)
    kept = chunk.key_states.nbytes + chunk.moves.nbytes + chunk.ends.nbytes
    assert gaps.max() > 1 and kept < 0.25 * examples.states.nbytes
    path = chunk.path(np.arange(len(examples)))
    assert path.counts.max() <= interval(game)
    np.testing.assert_array_equal(path.rebuilt(game), examples.states)


def size_of(held):
    """Bytes of all arrays in a dataclass, and in those that it holds."""
    if is_dataclass(held):
        return sum(size_of(getattr(held, one.name)) for one in fields(held))
    return getattr(held, "nbytes", 0)


@pytest.mark.slow
@pytest.mark.parametrize("simulations", [32, 200])
def test_ten_million_positions_of_go_are_held_in_two_gibibytes(simulations):
    game, parts = played("go(size=9)", count=300, simulations=simulations)
    chunk = Chunk.of(game, Examples.concatenate(parts))
    assert chunk.finals is not None and size_of(chunk.finals) > 81
    # Policies of a network that knows nothing have most moves in them.
    assert len(chunk.actions) > 30 * len(chunk.values)
    assert size_of(chunk) * 10_000_000 < len(chunk.values) * 2 * 1024**3


def test_moves_that_lead_elsewhere_leave_states_whole(go):
    game, parts = go
    examples = Examples.concatenate(parts)
    moves = examples.moves
    rows = np.flatnonzero(moves.counts == 1)
    legal = StateBatch.from_data(game, examples.states[rows - 1], check=False).legal_mask()
    others = moves.actions.copy()
    at = np.cumsum(moves.counts)[rows] - 1
    legal[np.arange(len(rows)), others[at]] = 0
    others[at] = np.where(legal.any(axis=1), legal.argmax(axis=1), others[at])
    for actions in (others, np.roll(others, 1), np.full_like(others, 1 << 20)):
        wrong = replace(examples, moves=Moves(moves.counts, actions))
        chunk = Chunk.of(game, wrong)
        rows = np.arange(len(examples))
        np.testing.assert_array_equal(chunk.path(rows).rebuilt(game), examples.states)


def test_moves_between_positions_are_of_one_game_and_known():
    actions = np.array([5, 6, -1, 7, 8, 9], np.int32)
    games = np.array([0, 0, 0, 0, 1, 1])
    found = Moves.between(actions, np.array([0, 1, 3, 4, 5]), games)
    assert found.counts.tolist() == [0, 1, 0, 0, 1] and found.actions.tolist() == [5, 8]
    part = found.slice(1, 5)
    assert part.counts.tolist() == [0, 0, 0, 1] and part.actions.tolist() == [8]
    joined = Moves.concatenate([found, part])
    assert joined.counts.tolist() == [0, 1, 0, 0, 1, 0, 0, 0, 1]
    assert Moves.concatenate([found, None]) is None


def test_a_replay_that_is_taken_up_again_goes_on_alike(go):
    game, parts = go
    one = CompactReplay(game, 600, seed=2, keep_finals=True, chunk_rows=200)
    for part in parts[:2]:
        one.add(part)
    two = CompactReplay(game, 600, seed=2, keep_finals=True)
    two.load_state_dict(one.state_dict(), one.parts())
    for part in parts[2:]:
        one.add(part)
        two.add(part)
    assert one.parts().keys() == two.parts().keys()
    for number in range(3):
        first, second = one.batch(number, 64), two.batch(number, 64)
        np.testing.assert_array_equal(first.obs, second.obs)
        np.testing.assert_array_equal(first.policy, second.policy)


def test_checkpoints_share_the_files_of_chunks(go, tmp_path):
    game, parts = go
    run = RunDir.create(tmp_path / "run", kind="toy", config={}, seed=0)
    replay = CompactReplay(game, 10_000, keep_finals=True, chunk_rows=256)
    files = []
    for step, part in enumerate(parts[:3]):
        replay.add(part)
        run.save(step, {"replay": replay.state_dict(), **replay.parts()}, keep=2)
        folder = run.find(step).path
        files.append({path.name: path.stat() for path in folder.glob("replay-*")})
    kept = set(files[1]) & set(files[2])
    assert kept and all(files[1][name].st_ino == files[2][name].st_ino for name in kept)
    assert len(files[2]) > len(files[0])
    _, state = run.load()
    again = CompactReplay(game, 10_000, keep_finals=True)
    again.load_state_dict(state["replay"], state)
    np.testing.assert_array_equal(again.batch(1, 64).obs, replay.batch(1, 64).obs)
    for path in run.find(1).path.glob("replay-*"):  # each checkpoint stands alone
        os.unlink(path)
    assert run.load(2)[0] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"capacity": 5}, "room for 5"),
        ({"num_added": 10}, "does not hold what it should"),
        ({"chunks": {"0": "replay-gone"}}, "lacks its part"),
        ({"chunks": {}}, "does not hold what it should"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(go, change, message):
    game, parts = go
    replay = CompactReplay(game, 700, keep_finals=True, chunk_rows=256)
    replay.add(parts[0])
    replay.add(parts[1])
    with pytest.raises(CheckpointError, match=message):
        CompactReplay(game, 700, keep_finals=True).load_state_dict(
            {**replay.state_dict(), **change}, replay.parts()
        )
    with pytest.raises(CheckpointError, match="not a compact one"):
        replay.load_state_dict(Replay(game, 700).state_dict())


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_chunk_is_refused_or_harmless(go, seed):
    """Random bytes in any of its arrays: never a crash, never a state that is none of the game."""
    game, parts = go
    state = Chunk.of(game, parts[0]).to_dict()
    rng = np.random.default_rng(seed)
    name = sorted(state)[seed % len(state)]
    damaged = np.array(state[name])
    raw = damaged.reshape(-1).view(np.uint8)
    raw[rng.integers(0, len(raw), 3)] = rng.integers(0, 256, 3)
    try:
        chunk = Chunk.from_dict(game, {**state, name: damaged}, finals=True)
    except CheckpointError:
        return
    states = StateBatch.from_data(game, chunk.examples(game).states, check=True)
    assert len(states) == len(parts[0])
