"""`CompactReplay`: games kept as moves, for large states and many positions.

Positions gather as they come; every some ten thousand of them become a `Chunk` (chunk.py) that
never changes again, and whose file later checkpoints share (`Unchanging`), so that saving takes as
long as what is new. Ten million positions of Go 9x9 take less than 2 GiB. Policies are rounded to
half precision.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from playout.agents.alphazero.replay.buffer import NO_PARTS, ReplayBuffer, Rows
from playout.agents.alphazero.replay.chunk import Chunk, Path
from playout.agents.alphazero.replay.examples import Examples
from playout.agents.alphazero.replay.moves import Moves
from playout.agents.alphazero.replay.policies import Policies
from playout.agents.runs.checkpoint.folder import Unchanging
from playout.envs.core.game import NativeGame
from playout.errors import CheckpointError

CHUNK_ROWS = 1 << 16


class CompactReplay(ReplayBuffer):
    """The newest `capacity` examples, and less than a chunk of older ones.

    Args:
        game: the game whose states are stored.
        capacity: rows that batches can be drawn from.
        seed: names the stream that batches are drawn from.
        keep_finals: remember how games ended too, so that batches hold what that teaches.
        chunk_rows: positions of a chunk; a checkpoint goes on with its own.
        prefix: of the keys under which chunks stand in a checkpoint.
    """

    def __init__(
        self,
        game: NativeGame,
        capacity: int,
        *,
        seed: int = 0,
        keep_finals: bool = False,
        chunk_rows: int = CHUNK_ROWS,
        prefix: str = "replay",
    ) -> None:
        super().__init__(game, capacity, seed=seed)
        self.keep_finals, self.chunk_rows, self.prefix = keep_finals, chunk_rows, prefix
        self._chunks: dict[int, Chunk] = {}  # by their number, the oldest first
        self._names: dict[int, str] = {}  # of chunks in checkpoints
        self._open = self._none()  # those after the last chunk

    def _none(self) -> Examples:
        return Examples.none(self.game, finals=self.keep_finals, moves=True)

    def add(self, examples: Examples) -> None:
        """Stores examples; chunks that are older than all that may be drawn are dropped."""
        if not len(examples):
            return
        policy = examples.policy
        rounded = policy.probabilities.astype(np.float16).astype(np.float32)
        examples = replace(
            examples,
            policy=Policies(policy.counts, policy.actions, rounded),
            finals=examples.finals if self.keep_finals else None,
            moves=Moves.none(len(examples)) if examples.moves is None else examples.moves,
        )
        self.num_added += len(examples)
        self._open = Examples.concatenate([self._open, examples])
        size = self.chunk_rows
        while len(self._open) >= size:
            number = (self.num_added - len(self._open)) // size
            self._close(number, Chunk.of(self.game, self._open[:size]))
            self._open = self._open[size:]
        oldest = (self.num_added - len(self)) // size
        for number in [one for one in self._chunks if one < oldest]:
            del self._chunks[number], self._names[number]

    def examples(self, rows: Rows) -> Examples:
        """The examples with these numbers, in that order."""
        numbers = rows // self.chunk_rows
        paths, parts, places = list[Path](), list[Examples](), list[Rows]()
        for number in np.unique(numbers).tolist():
            at = np.flatnonzero(numbers == number)
            within = rows[at] - number * self.chunk_rows
            places.append(at)
            if number in self._chunks:
                chunk = self._chunks[number]
                paths.append(chunk.path(within))
                parts.append(chunk.others(within))
            else:
                found = self._open[within]
                nothing = np.zeros(len(at), np.int64)
                paths.append(Path(found.states, nothing, nothing[:0]))
                parts.append(replace(found, states=found.states[:, :0]))
        order = np.argsort(np.concatenate(places))
        states = Path.concatenate(paths).rebuilt(self.game)
        rest = Examples.concatenate(parts)[order]
        return replace(rest, states=states[order])

    def _close(self, number: int, chunk: Chunk) -> None:
        """Keeps a chunk, under a name that another course of the run would not give it."""
        mixed = zlib.crc32(chunk.moves.tobytes(), zlib.crc32(chunk.probabilities.tobytes()))
        self._chunks[number] = chunk
        self._names[number] = f"{self.prefix}-{number:07d}-{mixed:08x}"

    def _empty(self, capacity: int) -> CompactReplay:
        return CompactReplay(self.game, capacity, seed=self.seed, keep_finals=self.keep_finals)

    def _pieces(self) -> Iterator[Examples]:
        for chunk in self._chunks.values():
            yield chunk.examples(self.game)
        yield self._open

    def parts(self) -> dict[str, Any]:
        """All chunks by their names."""
        return {
            self._names[number]: Unchanging(chunk.to_dict())
            for number, chunk in self._chunks.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """The positions that are in no chunk yet, and the names of the chunks."""
        return {
            "capacity": self.capacity,
            "num_added": self.num_added,
            "chunk_rows": self.chunk_rows,
            "chunks": {str(number): self._names[number] for number in self._chunks},
            "open": Chunk.of(self.game, self._open).to_dict() if len(self._open) else None,
        }

    def load_state_dict(self, state: dict[str, Any], parts: Mapping[str, Any] = NO_PARTS) -> None:
        """Takes over what `state_dict` and `parts` gave; the capacity must be the same."""
        self._check(state)
        self.num_added, self.chunk_rows = int(state["num_added"]), int(state["chunk_rows"])
        self._chunks, self._names, self._open = {}, {}, self._none()
        for number, name in state["chunks"].items():
            if name not in parts:
                raise CheckpointError(f"the checkpoint's replay lacks its part {name}")
            chunk = Chunk.from_dict(self.game, parts[name], finals=self.keep_finals)
            self._close(int(number), chunk)
        if state["open"] is not None:
            chunk = Chunk.from_dict(self.game, state["open"], finals=self.keep_finals)
            self._open = chunk.examples(self.game)
        first = (self.num_added - len(self)) // self.chunk_rows
        last = (self.num_added - len(self._open)) // self.chunk_rows
        whole = all(len(chunk) == self.chunk_rows for chunk in self._chunks.values())
        if [*self._chunks] != [*range(first, last)] or not whole:
            raise CheckpointError("the checkpoint's replay does not hold what it should (chunks)")

    def _check(self, state: Mapping[str, Any]) -> None:
        if "chunks" not in state:
            raise CheckpointError("the checkpoint's replay is not a compact one")
        if state["capacity"] != self.capacity:
            raise CheckpointError(
                f"the checkpoint's replay has room for {state['capacity']}, not {self.capacity}"
            )
        if int(state["chunk_rows"]) < 1:
            raise CheckpointError("the checkpoint's replay does not hold what it should (chunks)")
