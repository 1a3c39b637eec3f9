"""Recorded games as training examples: the moves that were played, and the results.

`read` turns files of games into examples, with every twentieth game held out; `RecordedStart` is
the part of an AlphaZero run that learns from them before it plays itself (AlphaGo's first step;
Silver et al. 2016). Games whose result nobody knows are left out, and counted. Left out: formats
of files (envs/records), self-play (alphazero/).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from playout.agents.alphazero.config import AlphaZeroConfig
from playout.agents.alphazero.evaluator import NetworkEvaluator, chunk_for
from playout.agents.alphazero.learner import Learner, mean_metrics
from playout.agents.alphazero.replay import CompactReplay, Examples, Finals, Moves
from playout.agents.alphazero.replay.examples import values_per_position
from playout.agents.alphazero.replay.policies import Policies, action_dtype
from playout.agents.runs import ranks
from playout.envs.core.game import NativeGame, State, StateBatch
from playout.envs.records import files
from playout.envs.records.json_lines import GameRecord
from playout.errors import CheckpointError, ConfigError, DataError

Float32 = npt.NDArray[np.float32]

HELD_OUT = 20  # one game of so many
MAX_MEASURED = 1024  # held-out positions that are measured after every update
_NO_BOUND = 1 << 40
_BLOCK = 20_000  # positions that are packed at a time
_PGN_RESULTS = {"1-0": (1.0, -1.0), "0-1": (-1.0, 1.0), "1/2-1/2": (0.0, 0.0)}


@dataclass(frozen=True, slots=True)
class Recorded:
    """What files of games hold.

    Attributes:
        replay: the positions to learn from.
        held_out: those of games that are left out of it.
        games: read, ...
        skipped: ... and left out, since their result is not known.
        digest: a hash of the files.
    """

    replay: CompactReplay
    held_out: Examples
    games: int
    skipped: int
    digest: str


def result_of(record: GameRecord, last: State) -> Float32 | None:
    """The returns [P] of a recorded game: as players agreed, or by its end; None: not known.

    Players agree about stones that are dead, and leave them on the board that would count them.
    """
    told = _told(record.info, last.game.num_players)
    if told is not None:
        return told
    if record.result is not None:
        return np.array(record.result, np.float32)
    return np.asarray(last.returns, np.float32) if last.is_terminal else None


def _told(told: Mapping[str, Any], players: int) -> Float32 | None:
    """The result that a file tells beside the moves, if it does."""
    given = told.get("returns")
    if isinstance(given, list) and len(given) == players:
        return np.array(given, np.float32)
    if players == 2 and told.get("Result") in _PGN_RESULTS:
        return np.array(_PGN_RESULTS[told["Result"]], np.float32)
    text = str(told.get("RE", "")).strip().lower()
    if players == 2 and text[:2] in ("b+", "w+"):
        # Black is the first player of the games that SGF holds.
        return np.array((1, -1) if text[0] == "b" else (-1, 1), np.float32)
    if players == 2 and text in ("0", "draw"):
        return np.zeros(2, np.float32)
    return None


def examples_of(
    game: NativeGame,
    record: GameRecord,
    *,
    moves: str = "all",
    keep_finals: bool = False,
    where: str = "the record",
) -> Examples | None:
    """The positions of a recorded game in which somebody moved; None if its result is not known.

    Args:
        game: whose rules they are played by.
        record: the game.
        moves: "all", or "winners": others' moves are no policy target.
        keep_finals: tell in which state it ended.
        where: words for where it stands, for errors.

    Raises:
        DataError: it cannot be played by these rules.
    """
    states, actions = files.played(record, game, where)
    state = states[-1]
    returns = result_of(record, state)
    if len(actions) < len(record.moves):  # it is over by these rules, and was played on
        returns = np.asarray(state.returns, np.float32)
    if returns is None:
        return None
    movers = np.array([one.to_play for one in states[:-1]], np.int64)
    taught = np.flatnonzero(movers >= 0)
    movers, chosen = movers[taught], np.array(actions, np.int32)
    batch = StateBatch.from_states([states[at] for at in taught]) if len(taught) else game.batch(0)
    values = np.repeat(returns[None], len(taught), axis=0)
    if game.step_rewards:
        values = values - batch.returns()
    values = np.clip(values / np.float32(game.value_scale), -1, 1).astype(np.float32)
    if values_per_position(game) == 1:
        values = values[np.arange(len(taught)), movers][:, None]
    weights = np.ones(len(taught), np.float32)
    if moves == "winners":
        weights = (returns[movers] == returns.max()).astype(np.float32)
    ones = np.ones(len(taught), np.float32)
    played = chosen[taught].astype(action_dtype(game.num_actions))
    finals = None
    if keep_finals:
        over = state.is_terminal
        last = StateBatch.from_states([state]).data[: int(over)]
        finals = Finals(last, np.full(len(taught), 0 if over else -1, np.int64))
    return Examples(
        batch.data,
        Policies(ones.astype(np.int32), played, ones),
        values,
        weights,
        finals,
        Moves.between(chosen, taught, np.zeros(len(chosen), np.int64)),
    )


def _games(game: NativeGame, paths: Sequence[str]) -> Iterator[tuple[str, GameRecord]]:
    """All games of the files, with words for where each stands."""
    for path in paths:
        try:
            for number, record in enumerate(files.read(path), 1):
                where = f"{path}, game {number}"
                files.must_be_of(record, game, where)
                yield where, record
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from error


def digest_of(paths: Iterable[str]) -> str:
    """A hash of the contents of files, in their order.

    Raises:
        DataError: one cannot be read.
    """
    found = hashlib.sha256()
    for path in paths:
        try:
            with open(path, "rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from error
    return found.hexdigest()


def read(
    game: NativeGame,
    paths: Sequence[str],
    *,
    moves: str = "all",
    seed: int = 0,
    keep_finals: bool = False,
) -> Recorded:
    """The games of files (JSON lines, SGF, PGN) as training examples.

    Args:
        game: what they are games of; boards have to be its own, komi need not.
        paths: the files.
        moves: whose moves are learned, see `examples_of`.
        seed: of batches.
        keep_finals: remember how games ended.

    Raises:
        DataError: a file that cannot be read, a game of something else, or no game whose result is
            known.
    """
    replay = CompactReplay(game, _NO_BOUND, seed=seed, keep_finals=keep_finals)
    held, waiting = list[Examples](), list[Examples]()
    number = skipped = 0
    for where, record in _games(game, paths):
        found = examples_of(game, record, moves=moves, keep_finals=keep_finals, where=where)
        if found is None:
            skipped += 1
            continue
        number += 1
        (waiting if number % HELD_OUT else held).append(found)
        if sum(map(len, waiting)) >= _BLOCK:
            replay.add(Examples.concatenate(waiting))
            waiting = []
    if waiting:
        replay.add(Examples.concatenate(waiting))
    if not len(replay):
        raise DataError(
            f"{', '.join(paths)}: no game of {game} whose result is known"
            + (f" ({skipped} without a result)" if skipped else "")
        )
    none = Examples.none(game, finals=keep_finals, moves=True)
    held_out = Examples.concatenate([none, *held])
    return Recorded(replay, held_out, number, skipped, digest_of(paths))


def measure(evaluator: NetworkEvaluator, game: NativeGame, held_out: Examples) -> dict[str, float]:
    """How well a network foretells games that it has not seen.

    Returns:
        The share of moves that it likes best, the mean probability that it gives to them as a loss
        in nats, and the mean squared error of its values; nothing where no game is held out.
    """
    if not len(held_out):
        return {}
    rows = np.linspace(0, len(held_out) - 1, min(len(held_out), MAX_MEASURED)).astype(np.int64)
    seen = held_out[rows]
    states = StateBatch.from_data(game, seen.states, check=False)
    logits, values = evaluator.evaluate_obs(states.observe())
    logits = np.where(states.legal_mask() != 0, logits, -np.inf)
    top = logits.max(axis=1)
    sums = np.exp(logits - top[:, None]).sum(axis=1)
    played = logits[np.arange(len(rows)), seen.policy.actions]
    values = values.reshape(len(rows), -1)
    return {
        "records/held_out_accuracy": float((logits.argmax(axis=1) == seen.policy.actions).mean()),
        "records/held_out_loss": float((np.log(sums) + top - played).mean()),
        "records/held_out_value_error": float(((values - seen.values) ** 2).mean()),
    }


class RecordedStart:
    """The updates at the beginning of a run that learn from recorded games.

    Files are read when the first such update begins, and not at all by a run that has them behind
    it.

    Args:
        game: what is learned.
        config: of the run.
        seed: of the run.
        keep_finals: whether the run learns from how games end.

    Attributes:
        steps: gradient steps so far, of all networks.
    """

    def __init__(
        self, game: NativeGame, config: AlphaZeroConfig, *, seed: int, keep_finals: bool
    ) -> None:
        self.game, self.config, self.seed = game, config, seed
        self.keep_finals = keep_finals
        self.steps = 0
        self._found: Recorded | None = None
        self._evaluator: NetworkEvaluator | None = None
        self._digest = ""  # of the files that the run began with
        self._updates: int | None = None if config.records else 0

    @property
    def recorded(self) -> Recorded:
        """The games, read when they are first needed."""
        if self._found is None:
            config = self.config
            seed = int(np.random.default_rng([self.seed, 10]).integers(2**62))
            self._found = read(
                self.game,
                config.records,
                moves=config.record_moves,
                seed=seed,
                keep_finals=self.keep_finals,
            )
            if self._digest and self._digest != self._found.digest:
                raise ConfigError(
                    f"{', '.join(config.records)}: not the games that the run began with"
                )
            self._digest = self._found.digest
            # Machines may have other files under one name.
            ranks.agree("the games of --records", self._digest)
        return self._found

    @property
    def updates(self) -> int:
        """How many updates learn from records: what `record_epochs` asks for."""
        if self._updates is None:
            config = self.config
            rows = config.learner.batch_size * config.networks[0].steps
            wanted = config.record_epochs * len(self.recorded.replay)
            self._updates = max(1, math.ceil(wanted / rows))
        return self._updates

    def learn(self, learners: Sequence[Learner], update: int, *, done: float) -> dict[str, float]:
        """The gradient steps of one update, of every network of the run; its metrics.

        Args:
            learners: the networks.
            update: its number.
            done: the share of the run behind it, which the learning rate follows.
        """
        recorded, config = self.recorded, self.config
        steps, rows = config.networks[0].steps, []
        size = config.learner.batch_size
        mine = learners[0].rows(size)  # every rank has all games, and learns from its rows
        for number in range(update * steps, (update + 1) * steps):
            batch = recorded.replay.batch(number, size, part=mine)
            for learner in learners:
                ready = min(1.0, learner.steps / (4 * steps))
                rate_at = max(done, config.learner.warmup * ready)
                rows.append(learner.step(batch, done=rate_at, whole=size))
                self.steps += 1
        return {
            **mean_metrics(rows, weight=len(mine) / size),
            **measure(self._answering(learners[-1]), self.game, recorded.held_out),
            "records/games": float(recorded.games),
            "records/positions": float(len(recorded.replay)),
            "records/epochs": (update + 1)
            * steps
            * config.learner.batch_size
            / len(recorded.replay),
        }

    def _answering(self, learner: Learner) -> NetworkEvaluator:
        """The averaged network of a learner, to be measured."""
        if self._evaluator is None:
            self._evaluator = NetworkEvaluator(
                learner.average,
                device=learner.device,
                dtype=self.config.infer_dtype,
                chunk=chunk_for(MAX_MEASURED, learner.device),
            )
        self._evaluator.refresh(learner.average)
        return self._evaluator

    def state_dict(self) -> dict[str, Any]:
        """Counters, and which files they belong to."""
        return {"updates": self.updates, "steps": self.steps, "digest": self._digest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        try:
            self._updates, self.steps = int(state["updates"]), int(state["steps"])
            self._digest = str(state["digest"])
        except (KeyError, TypeError, ValueError):
            raise CheckpointError(
                "the checkpoint does not say what was learned from records"
            ) from None
