"""Positions of a game as data: planes, outcomes as classes, and the moves that are worth imitating.

Labels come from a solver where the game has a quick one or is small (random positions, outcomes
under best play, every move that keeps the outcome), else from games between players of search, or
from records (the result of the game, the move that was played). Symmetries are the augmentation. A
game's positions and those of its repeats, or a solved position with its mirror images, are on one
side of the split only, of what is made on the same side always; openings that different games share
may be on both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from playout.agents.alphazero.replay.policies import Policies, action_dtype
from playout.agents.alphazero.replay.records import result_of
from playout.agents.players.load import make_player
from playout.agents.pretraining.data.dataset import (
    ALL,
    DATA_VERSION,
    USUAL,
    Augmentation,
    Dataset,
    Images,
    Rows,
    Split,
    keyed_rows,
    split_rows,
)
from playout.agents.pretraining.data.solved import can_solve, solved_examples
from playout.agents.rating.play import play_games
from playout.agents.runs import ranks
from playout.agents.runs.console import progress
from playout.envs.core.game import NativeGame
from playout.envs.core.registry import game as find_game
from playout.envs.core.state_batch import StateBatch
from playout.envs.records import files
from playout.errors import ConfigError, DataError
from playout.mcts.exact.positions import canonical_hashes
from playout.mcts.exact.prover import can_prove

Kinds = npt.NDArray[np.int32]

OUTCOMES = ("loss", "draw", "win")
"""For the side to move."""

DRAW = OUTCOMES.index("draw")

HELD_OUT = 0.1
TEACHER = "uct:100"
_GAMES_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """Positions of one game; see `Dataset`.

    Attributes:
        name: what it was called.
        game: whose they are.
        states: uint8 [N, state_size].
        labels: int64 [N], the place of the outcome in OUTCOMES.
        moves: what to play there.
        played: whether moves are those of the games that the positions come from.
        groups: int64 [N], equal for positions that are never parted; None: each is by itself.
        augmentation: whether a generator shows positions by symmetries of the game.
    """

    name: str
    game: NativeGame
    states: npt.NDArray[np.uint8]
    labels: Rows
    moves: Policies | None = None
    played: bool = False
    groups: Rows | None = None
    augmentation: Augmentation = USUAL
    classes: tuple[str, ...] = OUTCOMES

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(C, H, W)` of an observation."""
        return self.game.obs_shape

    def __len__(self) -> int:
        return len(self.states)

    def subset(self, rows: Rows) -> Positions:
        """Some of the rows."""
        moves = None if self.moves is None else self.moves[rows]
        groups = None if self.groups is None else self.groups[rows]
        states, labels = self.states[rows], self.labels[rows]
        return replace(self, states=states, labels=labels, moves=moves, groups=groups)

    def images(
        self, rows: Rows, rng: np.random.Generator | None = None, own: slice = ALL
    ) -> Images:
        """float32 [B, C, H, W]: planes as the side to move sees them; `rng` turns the board."""
        return self._planes(rows[own], self._kinds(len(rows), rng, own))

    def shown(
        self, rows: Rows, rng: np.random.Generator | None = None, own: slice = ALL
    ) -> tuple[Images, npt.NDArray[np.float32] | None]:
        """`images`, and moves to imitate, float32 [B, A], on the board as it is turned there."""
        chosen, kinds = rows[own], self._kinds(len(rows), rng, own)
        images = self._planes(chosen, kinds)
        if self.moves is None or kinds is None:
            return images, self.policy(chosen)
        return images, self.moves[chosen].seen(self.game.symmetry_actions(), kinds)

    def views(self, rows: Rows) -> list[Images]:
        """`images` of the rows by every symmetry of the game, in their order."""
        kinds = range(self.game.num_symmetries)
        return [self._planes(rows, np.full(len(rows), kind, np.int32)) for kind in kinds]

    def _planes(self, rows: Rows, kinds: Kinds | None) -> Images:
        """Planes of positions, as symmetries show them."""
        states = StateBatch.from_data(self.game, self.states[rows], check=False)
        return (states if kinds is None else states.symmetry(kinds)).observe()

    def _kinds(self, count: int, rng: np.random.Generator | None, own: slice) -> Kinds | None:
        """Symmetries drawn for `count` rows, those of `own`; None where boards stay as they are."""
        if rng is None or self.game.num_symmetries < 2 or not self.augmentation.symmetries:
            return None
        kinds = rng.integers(0, self.game.num_symmetries, count, dtype=np.int32)
        return np.ascontiguousarray(kinds[own])

    def following(
        self, rows: Rows, rng: np.random.Generator | None = None, own: slice = ALL
    ) -> tuple[Images, Images]:
        """Planes of positions and of those after one more move, both as the mover sees them.

        The move is the one that was played, where positions come from games; else any legal one is
        as likely. `rng` draws it and turns the board, of both alike; without it the move follows
        from the rows. It is drawn for all rows, and planes are made of those in `own`:
        float32 [B, C, H, W] each.
        """
        chosen, streams = rows[own], np.arange(len(rows))[own]
        states = StateBatch.from_data(self.game, self.states[chosen], check=False)
        movers = states.to_play()
        drawn = rng or np.random.default_rng([9, *rows[:1].tolist()])
        moves, dice = (int(number) for number in drawn.integers(2**62, size=2))
        after = states.copy()
        if self.played and self.moves is not None:
            actions = self.moves[chosen].dense(self.game.num_actions).argmax(axis=1)
        else:
            actions = after.random_actions(moves, streams=streams)
        after.apply(actions.astype(np.int32))
        after.resolve_chance(dice, streams=streams)
        kinds = self._kinds(len(rows), rng, own)
        if kinds is not None:
            states, after = states.symmetry(kinds), after.symmetry(kinds)
        return states.observe(), after.observe(player=movers)

    def policy(self, rows: Rows) -> npt.NDArray[np.float32] | None:
        """float32 [B, A]: moves to imitate, those of the board as it lies."""
        return None if self.moves is None else self.moves[rows].dense(self.game.num_actions)


def unit_of(data: Dataset) -> str:
    """What the rows of some data are, for people: "positions" or "pictures"."""
    return "positions" if isinstance(data, Positions) else "pictures"


def _must_suit(game: NativeGame) -> None:
    if game.num_players != 2 or not game.zero_sum or game.hidden:
        raise ConfigError(
            f"{game}: positions are labelled for games of two players that hide nothing"
        )


@lru_cache(maxsize=4)  # the solver takes minutes, and studies ask again and again
def positions_of_game(
    text: str, *, count: int, seed: int = 0, threads: int = 0, version: int = DATA_VERSION
) -> Split:
    """Labelled positions of a game, a tenth held out.

    Args:
        text: a game as `playout.game` takes it.
        count: of positions, about.
        seed: of random play; what is held out does not follow from it.
        threads: of the solver, which finds the same with any number; 0: every core.
        version: see DATA_VERSION.
    """
    game = find_game(text)
    _must_suit(game)
    if can_solve(game, version):
        plies = game.max_plies // 5, max(1, (game.max_plies * 5) // 8)
        if not can_prove(game):  # a small game: any position that goes on
            plies = 0, game.max_plies - 1
        found = solved_examples(
            game, count=count, plies=plies, seed=seed, threads=threads, even=version < 2
        )
        labels = found.values[:, 0].astype(np.int64) + 1
        states = StateBatch.from_data(game, found.states, check=False)
        keys, groups = np.unique(canonical_hashes(states), return_inverse=True)
        whole = Positions(
            name=text,
            game=game,
            states=found.states,
            labels=labels,
            moves=found.policy,
            groups=groups.astype(np.int64),
        )
        return _split(whole, seed, keys if version > 3 else None)
    others = not ranks.is_first()
    with progress(f"games of {TEACHER}, {game}", count, unit="positions", quiet=others) as tell:
        lines = _played(game, count=count, seed=seed, tell=tell)
    return _of_lines(text, game, lines, seed=seed, keyed=version > 3)


def positions_of_records(path: Path, *, seed: int = 0) -> Split:
    """Positions of recorded games (of any format of records) of one game, a tenth held out.

    Games of whatever komi, resigned ones by what the file says; those without a result, and those
    that begin at another position, are left out.

    Raises:
        DataError: the file holds no game whose result is known, or games of several kinds.
    """
    game, lines = None, []
    for number, one in enumerate(files.read(path), 1):
        if one.start is not None:
            continue
        if game is None:
            game = find_game(one.game, **one.params)
            _must_suit(game)
        where = f"{path}, game {number}"
        files.must_be_of(one, game, where)
        states, actions = files.played(one, game, where)
        result = result_of(one, states[-1])
        if result is not None and actions:
            lines.append((actions, result.tolist()))
    if game is None or not lines:
        raise DataError(f"{path} holds no game from the first position whose result is known")
    return _of_lines(path.name, game, lines, seed=seed)


def _played(
    game: NativeGame, *, count: int, seed: int, tell: Callable[[int], None]
) -> list[tuple[Sequence[int], Sequence[float]]]:
    """Games between two of the teacher, after a few random moves, with about `count` positions."""
    from playout.agents.rating.openings import opening_plies, random_openings

    player = make_player(TEACHER, game, seed=seed)
    found: list[tuple[Sequence[int], Sequence[float]]] = []
    positions = 0
    while positions < count:
        batch = random_openings(
            game, _GAMES_AT_ONCE, plies=opening_plies(game), seed=seed + len(found)
        )
        seats = np.zeros((len(batch), 2), np.int64)
        played = play_games(game, [player], seats, batch, range(len(batch)), seed=seed + len(found))
        found += [(one.moves, one.returns) for one in played]
        positions += sum(len(one.moves) for one in played)
        tell(min(positions, count))
    return found


def _of_lines(
    name: str,
    game: NativeGame,
    lines: Iterable[tuple[Sequence[int], Sequence[float]]],
    *,
    seed: int,
    keyed: bool = False,
) -> Split:
    """All positions of some games with the move that was played and how the game ended.

    A game and its repeats, mirrored ones too, are one group; `keyed` it is held out by its moves.
    """
    states, labels, moves, groups = [], [], [], []
    known: dict[bytes, int] = {}
    for actions, result in lines:
        group = known.setdefault(_line_key(game, actions), len(known))
        state = game.initial_state()
        for action in actions:
            if state.to_play >= 0:
                states.append(np.frombuffer(state.to_bytes(), np.uint8))
                mine = result[state.to_play] / game.value_scale
                labels.append(int(np.sign(mine)) + 1)
                moves.append(action)
                groups.append(group)
            state = state.apply(action)
    if not states:
        raise DataError(f"{name}: there is no position to learn from")
    ones = np.ones(len(moves), np.float32)
    chosen = np.array(moves, action_dtype(game.num_actions))
    whole = Positions(
        name=name,
        game=game,
        states=np.stack(states),
        labels=np.array(labels, np.int64),
        moves=Policies(ones.astype(np.int32), chosen, ones),
        played=True,
        groups=np.array(groups),
    )
    if not keyed:
        return _split(whole, seed)
    digests = b"".join(hashlib.blake2b(line, digest_size=8).digest() for line in known)
    return _split(whole, seed, np.frombuffer(digests, "<u8").astype(np.uint64))


def _line_key(game: NativeGame, actions: Sequence[int]) -> bytes:
    """Equal for the moves of a game and those of its mirror images."""
    moves = np.asarray(actions, np.int32)
    if game.has_chance:  # what chance brings is no action, and no symmetry knows it
        return moves.tobytes()
    return min(one[moves].tobytes() for one in game.symmetry_actions())


def _split(whole: Positions, seed: int, keys: npt.NDArray[np.uint64] | None = None) -> Split:
    """The two sides: by the key of each group, else drawn by the seed."""
    if keys is None:
        held = split_rows(len(whole), whole.groups, HELD_OUT, seed=seed)
    else:
        held = keyed_rows(keys[whole.groups], HELD_OUT)
    rest = np.setdiff1d(np.arange(len(whole)), held)
    if not len(rest):
        raise DataError(f"{whole.name}: too few different games to hold some out")
    return Split(whole.subset(rest), whole.subset(held))
