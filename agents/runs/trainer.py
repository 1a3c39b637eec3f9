"""What the training loop asks of a trainer: the one interface of PPO, AlphaZero and every stage.

Inherit `Trainer` and write `update`, `state_dict`, `load_state_dict` and `progress`; everything
else has a default that can be left as it is. An update is one turn of the loop: data is made or
read, the network learns from it. Leaves out when the loop evaluates, saves and stops (loop.py).
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

from playout.agents.runs.checkpoint.folder import digest


class Trainer(Protocol):
    """Something that learns in updates and can be saved between any two of them."""

    title: str = ""
    """Stands before the progress line; "" for the kind of the run."""

    unit: str = "updates"
    """What `progress` counts."""

    best_metric: str = ""
    """The key of `evaluate()` whose highest value marks the best checkpoint; "" for none."""

    survives_faults: bool = False
    """Whether the state is sound, and worth saving, after an update raised `EnvironmentFault`."""

    evaluates_together: bool = False
    """Whether all ranks of a job call `evaluate` together; else rank 0 does, and the others get
    what it returns."""

    @abstractmethod
    def update(self) -> dict[str, float]:
        """One iteration; returns its metrics under TensorBoard tags."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that later updates depend on; must not change anything.

        In a job of several ranks it is the same on all of them, and what differs is in
        `rank_state`.
        """

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""

    def digest(self) -> str:
        """A text that must be equal on all ranks of a job before its first update.

        By default of the whole `state_dict`; where ranks keep parts of the weights, of something
        else that all have.
        """
        return digest(self.state_dict())

    def weights_digest(self, state: dict[str, Any]) -> str:
        """A text that must be equal on all ranks of a job whenever they save.

        By default of the "model" in the state; where ranks keep parts of the weights, "".

        Args:
            state: What `state_dict` has just returned.
        """
        return digest({"model": state.get("model")})

    def rank_state(self) -> dict[str, Any]:
        """What each rank has for itself: its environments, replay, random streams.

        Its keys are others than those of `state_dict`: with one process both are one state, and
        `load_state_dict` and `load_rank_state` are given all of it.
        """
        return {}

    def load_rank_state(self, state: dict[str, Any]) -> None:
        """Continue from what this rank's `rank_state` returned; after `load_state_dict`."""
        return

    def deal_rank_states(self, parts: Sequence[dict[str, Any]]) -> str:
        """Continue from what another number of ranks had; after `load_state_dict`.

        Args:
            parts: What `rank_state` returned on each of them, in order of rank; read from the disk
                when it is asked for.

        Returns:
            What of it does not go on as it would have, as the end of a sentence: "environments
            begin new episodes"; "" where nothing is lost.
        """
        return "what each rank had for itself begins anew"

    @property
    @abstractmethod
    def progress(self) -> tuple[int, int]:
        """Units done and units planned."""

    @property
    def finished(self) -> bool:
        """Whether training is over."""
        done, total = self.progress
        return done >= total

    def evaluate(self) -> dict[str, float]:
        """Measurements of what was learned so far; must not change what training computes.

        In a job only rank 0 is asked, unless the trainer `evaluates_together`.
        """
        return {}

    def headline(self, metrics: dict[str, float]) -> dict[str, str]:
        """The two to four numbers for the progress line, by a word each."""
        return {}

    def stop_soon(self) -> None:
        """Takes note that somebody waits for training to stop; called within a signal handler.

        An update that goes on for long may raise StoppedError after that, and must then leave the
        state as it was before the update; so may an evaluation.
        """
        return

    def seconds_left(self) -> float | None:
        """How long training goes on by the trainer's own plan; None: estimate it from progress."""
        return None
