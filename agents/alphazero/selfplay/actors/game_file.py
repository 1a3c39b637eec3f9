"""A file of finished games: what an actor publishes and a learner reads.

One line of JSON, sealed by a digest of itself, says what the file is: its format, the run and the
network that played, the game, how many games, size and sha256 of the rest. The rest is a `Chunk` as
safetensors: games as moves, policies in half precision, some 40 bytes a position of Connect Four.
Nothing in it is believed: sizes are bounded, positions are played again by the game's rules, and
targets have to be of legal moves. Left out: the folder that files lie in (folder.py).
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from playout.agents.alphazero.replay.chunk import Chunk
from playout.agents.alphazero.replay.examples import Examples
from playout.agents.alphazero.selfplay.counts import Counts
from playout.agents.runs.checkpoint import codec, durable_io, tensor_file
from playout.envs.core.game import NativeGame, StateBatch
from playout.errors import CheckpointError, DataError, PlayoutError

FAMILY, VERSION = "playout.games", 1
FORMAT = f"{FAMILY}.v{VERSION}"
SUFFIX = ".games"
NAME = re.compile(rf"\d{{8,18}}-[0-9a-f]{{16,64}}-\d{{6,12}}{re.escape(SUFFIX)}")
MAX_BYTES = 1 << 28
_MAX_HEADER_BYTES = 1 << 16
_OTHER_BYTES = 512  # of a position: its values, its weight, moves between whole states
_MAX_WEIGHT = 1e4  # of a position's policy; surprise hands weights out unevenly
# Errors of a file system, or of somebody's clearing up, that say nothing of the file.
_PASSING = {errno.ENOENT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOMEM, errno.EMFILE}
_TEXTS, _NUMBERS = ("run", "game", "settings", "actor"), ("step", "number", "positions", "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a file says of itself.

    Attributes:
        run: the identity of the run whose network played.
        game: as that run stores it.
        step: the checkpoint of the network that played last; earlier moves may be of older ones.
        settings: sha256 of how games were searched and played.
        actor: sixteen or more hexadecimal digits, drawn by the actor when it began.
        number: of the file, counted by the actor.
        positions: in all games together.
        counts: what self-play did for them.
        bytes: size of the rest ...
        sha256: ... and its digest.
    """

    run: str
    game: str
    step: int
    settings: str
    actor: str
    number: int
    positions: int
    counts: Counts = field(default_factory=Counts)
    bytes: int = 0
    sha256: str = ""

    @property
    def name(self) -> str:
        """The name that belongs to the file: names sort by network, and no two are alike."""
        return f"{self.step:08d}-{self.actor}-{self.number:06d}{SUFFIX}"


def most_positions(game: NativeGame) -> int:
    """How many positions a file may hold: no more than fit into MAX_BYTES, whatever they are.

    Counted are a position's state, also as the end of a game, its policy (an action and a
    probability for each legal move) and the mask of its legal moves, which a reader makes.
    """
    size = 2 * game.state_size + 6 * game.max_legal + game.num_actions + _OTHER_BYTES
    return max(1, MAX_BYTES // size)


def encode(header: Header, game: NativeGame, examples: Examples) -> list[Any]:
    """The pieces of a file of `most_positions` at most, in their order.

    Size and digest are filled in.
    """
    arrays = Chunk.of(game, examples).to_dict()
    tensors = {name: codec.from_numpy(np.asarray(array)) for name, array in arrays.items()}
    body = b"".join(bytes(piece) for piece in tensor_file.chunks(tensors))
    about = asdict(header) | {"counts": header.counts.state_dict()}
    about |= {"bytes": len(body), "sha256": durable_io.sha256(body)}
    sealed = durable_io.seal({"format": FORMAT, **about})
    return [json.dumps(sealed, separators=(",", ":")).encode() + b"\n", body]


def read(
    path: Path, games: Mapping[str, NativeGame], *, run: str, finals: bool = False
) -> tuple[Header, Examples]:
    """A file's header and its examples, with states and moves.

    Args:
        path: the file.
        games: of which they have to be one, by the text under which the run stores it.
        run: the identity of the run that learns; games of another run's network are not taken.
        finals: whether the run learns from how games end.

    Raises:
        DataError: it is not such a file, or damaged, or breaks the game's rules, or needs more
            memory than there is: what is wrong, without the file's name. OSError: it cannot be read
            now, and perhaps later.
    """
    try:
        return _read(path, games, run=run, finals=finals)
    except MemoryError:
        raise DataError("it takes more memory than there is") from None


def _read(
    path: Path, games: Mapping[str, NativeGame], *, run: str, finals: bool
) -> tuple[Header, Examples]:
    """The same, where there is memory enough."""
    try:
        data = durable_io.read_file(path, MAX_BYTES + _MAX_HEADER_BYTES)
    except CheckpointError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in _PASSING:
            raise cause from None
        raise DataError(f"it {str(error).removeprefix(f'{path} ')}") from None
    end = data.find(b"\n", 0, _MAX_HEADER_BYTES)
    if end < 0 or data[:1] != b"{":
        raise DataError("it is not a file of games")
    header = _header(data[:end], path)
    if header.name != path.name:
        raise DataError(f"it was renamed: it says that it is {header.name}")
    if header.run != run:
        raise DataError("a network of another run has played its games")
    game = games.get(header.game)
    if game is None:
        raise DataError(f"its games are of {header.game[:80]}, not of {' or '.join(games)}")
    if header.positions > (most := most_positions(game)):
        raise DataError(f"it says that it holds {header.positions} positions, more than {most}")
    body = data[end + 1 :]
    if len(body) != header.bytes or durable_io.sha256(body) != header.sha256:
        raise DataError("it is truncated or damaged: its sha256 is not that of its header")
    return header, _examples(body, path, game, header, finals=finals)


def _header(line: bytes | bytearray, path: Path) -> Header:
    """The first line, checked."""
    try:
        value = durable_io.parse_json(line, path)
        kind = value.get("format") if isinstance(value, dict) else None
        version = re.fullmatch(rf"{re.escape(FAMILY)}\.v(\d{{1,9}})", str(kind))
        if version is not None and int(version[1]) > VERSION:
            raise DataError(f"a later version of playout has written it ({kind}): update this one")
        value = durable_io.check_seal(value, path, FORMAT)
    except CheckpointError:
        raise DataError("its first line is damaged, or not of a file of games") from None
    counts = value.get("counts")
    sound = (
        all(type(value.get(key)) is str for key in (*_TEXTS, "sha256"))
        and all(type(value.get(key)) is int and value[key] >= 0 for key in _NUMBERS)
        and value["positions"] > 0
        and value["bytes"] <= MAX_BYTES
        and isinstance(counts, dict)
        and all(type(one) in (int, float) and abs(one) < 1e15 for one in counts.values())
        and all(one >= 0 for name, one in counts.items() if name != "first_return")
    )
    if not sound or not isinstance(counts, dict):
        raise DataError("its first line is malformed")
    names = (*_TEXTS, *_NUMBERS, "sha256")
    header = Header(counts=Counts.from_state(counts), **{key: value[key] for key in names})
    if not NAME.fullmatch(header.name):
        raise DataError("its first line is malformed")
    return header


def _examples(
    body: bytearray, path: Path, game: NativeGame, header: Header, *, finals: bool
) -> Examples:
    """The rest of a file, played again."""
    try:
        tensors = tensor_file.parse(body, path)
        arrays = {name: codec.to_numpy(tensor, name) for name, tensor in tensors.items()}
        _check_sizes(arrays, game, header)
        chunk = Chunk.from_dict(game, arrays, finals=finals)
        examples = chunk.examples(game)
        if finals and examples.finals is not None:
            ends = StateBatch.from_data(game, examples.finals.states.copy(), check=True)
            if not ends.is_terminal().all():
                raise DataError("a game has not ended where it says")
    except CheckpointError:
        raise DataError(f"what it holds are no games of {game}") from None
    except PlayoutError as error:
        raise DataError(str(error)) from None
    _check_targets(game, examples)
    return examples


def _check_sizes(arrays: Mapping[str, Any], game: NativeGame, header: Header) -> None:
    """Refuses arrays that would take far more memory as positions than in the file."""
    counts = np.asarray(arrays.get("counts"))  # moves of each policy
    if counts.shape != (header.positions,):
        raise DataError("it does not hold as many positions as it says")
    if counts.dtype != np.int32 or counts.max() > game.max_legal:
        raise DataError(f"a policy target has more moves than {game} ever has")


def _check_targets(game: NativeGame, examples: Examples) -> None:
    """Refuses targets that no search gives: they would spoil the network without a word."""
    values, weights, policy = examples.values, examples.policy_weights, examples.policy
    numbers = (
        bool((np.abs(values) <= 1 + 1e-5).all())
        and bool(((weights >= 0) & (weights <= _MAX_WEIGHT)).all())
        and bool(((policy.probabilities >= 0) & (policy.probabilities <= 1 + 1e-2)).all())
    )
    if not numbers:
        raise DataError("a target is not a number that self-play gives")
    legal = StateBatch.from_data(game, examples.states, check=False).legal_mask()
    if not (legal[policy.rows, policy.actions] != 0).all():
        raise DataError("a policy target is of an illegal move")
    sums = np.bincount(policy.rows, policy.probabilities, len(examples))
    if not (np.abs(sums - 1) < 0.05)[weights > 0].all():
        raise DataError("a policy target does not add up to 1")


def settings_digest(settings: Mapping[str, Any]) -> str:
    """The hash by which a header names how games were played."""
    return durable_io.sha256(json.dumps(settings, sort_keys=True).encode())
