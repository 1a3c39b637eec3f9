"""Distillation: a student learns what a larger network answers, not only what is right.

Of pictures the teacher's probabilities at a temperature (Hinton et al. 2015), of positions its
policy and its value. The teacher is the best checkpoint of a finished run; it answers and never
learns, and a student that is resumed goes on with the same one. Labels are used besides, where
there are any and a weight says so.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from playout.agents.players.learned import learned_game
from playout.agents.pretraining.objectives.labels import Classes, Outcomes
from playout.agents.pretraining.objectives.objective import Batch, Losses, Objective
from playout.agents.pretraining.trunk import BOARDS, Trunk, learned_trunk
from playout.agents.runs.checkpoint.folder import digest
from playout.agents.runs.directory import RunDir
from playout.envs.core.game import NativeGame
from playout.errors import ConfigError, RunError
from torch import Tensor
from torch.nn import functional

TEACHERS = ("pretrain-trunk", "alphazero")


def soft_cross_entropy(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Cross entropy [N] of a student's distribution to the teacher's, both at a temperature.

    Times the square of the temperature, so that gradients keep their size (Hinton et al. 2015).
    """
    wanted = (teacher / temperature).softmax(1)
    return -(wanted * functional.log_softmax(logits / temperature, 1)).sum(1) * temperature**2


@dataclass(frozen=True, slots=True)
class Teacher:
    """A checkpoint that teaches.

    Attributes:
        trunk: frozen.
        state: the heads' is its "objective".
        note: which checkpoint it is: `step`, and `digest` of its weights.
    """

    trunk: Trunk
    state: Mapping[str, Any]
    note: dict[str, Any]


def load_teacher(
    path: str,
    trunk: Trunk,
    *,
    game: NativeGame | None = None,
    classes: Sequence[str] = (),
    which: str | int = "best",
) -> Teacher:
    """A checkpoint of a run, as a teacher.

    Args:
        path: of the run.
        trunk: of the student.
        game: whose positions the student sees; None of pictures.
        classes: names of what the student is to tell apart; empty asks for none.
        which: "best", "latest" or the number of the checkpoint.

    Raises:
        ConfigError: it is of another kind, sees other pictures, or has learned another game or
            other classes.
    """
    run = RunDir.open(path)
    if run.kind not in TEACHERS:
        raise ConfigError(f"a teacher is a run of {' or '.join(TEACHERS)}, not of {run.kind}")
    if run.kind == "pretrain-trunk" and run.config["pretrain"]["objective"] != "supervised":
        raise ConfigError(
            f"{path} has learned no answers to teach: its objective was not supervised"
        )
    heads = ("objective",) if run.kind == "pretrain-trunk" else ()  # of self-play in the network
    step, state = run.load(which, only=("model", "network", *heads))
    teacher = learned_trunk(state, path)
    if teacher.shape != trunk.shape:
        raise ConfigError(
            f"the teacher {path} sees {teacher.shape} and this data is {trunk.shape}: it is a "
            "teacher for something else"
        )
    if game is not None:
        settings = run.config.get("alphazero", run.config)
        learned_game(str(settings["game"]), run, game, also=settings.get("also", ()))
    known = run.config.get("classes") or classes  # earlier versions did not keep them
    if game is None and classes and list(known) != list(classes):
        raise ConfigError(
            f"the teacher {path} tells apart {_some(known)}, and this data holds {_some(classes)}: "
            "it is a teacher for something else"
        )
    weights: dict[str, Any] = {k: state[k] for k in ("model", "objective") if k in state}
    note = {"step": step, "digest": digest(weights)}
    return Teacher(teacher.eval().requires_grad_(False), state, note)


def _some(names: Sequence[str]) -> str:
    """The first names of many."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


class _Taught(Objective):
    """An objective with a teacher, whose checkpoint a run that is resumed finds again."""

    @abstractmethod
    def _take(self, teacher: Trunk, state: Mapping[str, Any]) -> None:
        """Lets a frozen trunk teach; the state of its heads is the "objective" of its run's."""

    def _begin(self, path: str, read: Callable[..., Teacher]) -> None:
        """Learns from the best checkpoint of a run.

        Args:
            path: of the run, in errors.
            read: `load_teacher`, but for `which`.
        """
        self._path, self._read = path, read
        self._follow(read())

    def _follow(self, teacher: Teacher) -> None:
        self._take(teacher.trunk, teacher.state)
        self._note = teacher.note

    def taught_by(self) -> dict[str, Any]:
        """Step and digest of the teacher."""
        return self._note

    def learn_from(self, noted: Mapping[str, Any] | None) -> None:
        """Goes on with the noted teacher, or, of earlier versions, with the last one."""
        if noted == self._note:  # the best checkpoint, which was read at the beginning
            return
        if noted is None:
            self._follow(self._read(which="latest"))
            return
        try:
            found = self._read(which=noted["step"])
        except RunError as error:
            raise ConfigError(
                f"this run has learned from a teacher that is gone: {error}"
            ) from None
        if found.note != noted:
            raise ConfigError(
                f"the teacher {self._path} has changed: its checkpoint {noted['step']} is not the "
                "one that this run has learned from; put that one back, or begin a new run"
            )
        self._follow(found)


class DistilledClasses(_Taught, Classes):
    """Classes of pictures as a teacher tells them.

    Args:
        trunk: the student.
        classes: K names.
        teacher: path of the teacher's run.
        temperature: of both distributions.
        label_weight: of the labels themselves; 0 uses none.
        **settings: of `Classes`.
    """

    def __init__(
        self,
        trunk: Trunk,
        classes: Sequence[str],
        *,
        teacher: str,
        temperature: float = 2.0,
        label_weight: float = 0.1,
        **settings: Any,
    ) -> None:
        num_classes = len(classes)
        super().__init__(trunk, num_classes, **settings)
        if temperature <= 0 or label_weight < 0:
            raise ConfigError("the temperature is positive and the weight of labels not negative")
        self.temperature, self.label_weight = temperature, label_weight
        self._begin(teacher, partial(load_teacher, teacher, trunk, classes=classes))

    def _take(self, teacher: Trunk, state: Mapping[str, Any]) -> None:
        heads = Classes(teacher, self.num_classes)
        try:
            heads.load_state_dict(state["objective"])
        except (KeyError, RuntimeError):
            raise ConfigError(
                f"the teacher {self._path} does not tell {self.num_classes} classes"
            ) from None
        # In a list: not the student's own, neither learned nor saved.
        self._teacher = [heads.eval().requires_grad_(False)]

    def losses(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Cross entropy to the teacher and, by their weight, to the labels."""
        teacher = self._teacher[0].to(batch.images.device)
        teacher.trunk.to(batch.images.device)
        with torch.no_grad():
            wanted = teacher.logits(batch.images)
        logits = self.logits(batch.images, batch, generator)
        loss = soft_cross_entropy(logits, wanted, self.temperature).mean()
        if self.label_weight:
            loss = loss + self.label_weight * functional.cross_entropy(logits, batch.labels)
        right = (logits.argmax(1) == batch.labels).float().mean()
        agrees = (logits.argmax(1) == wanted.argmax(1)).float().mean()
        return {"loss": loss, "accuracy": right, "agreement": agrees}


class DistilledOutcomes(_Taught):
    """Moves and values of positions as a teacher's network gives them; labels only measure."""

    name = "supervised"
    judged_by_loss = True

    def __init__(self, trunk: Trunk, *, teacher: str, game: NativeGame, draws: bool = True) -> None:
        super().__init__(trunk)
        self._begin(teacher, partial(load_teacher, teacher, trunk, game=game))
        self._measure = Outcomes(trunk, draws=draws)

    def _take(self, teacher: Trunk, state: Mapping[str, Any]) -> None:
        if not isinstance(teacher.net, BOARDS) or not isinstance(self.trunk.net, BOARDS):
            raise ConfigError("positions are taught by a board network to a board network")
        self._teacher = [teacher]

    def losses(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Cross entropy to the teacher's policy and value."""
        net, teacher = self.trunk.net, self._teacher[0].to(batch.images.device).net
        assert isinstance(net, BOARDS) and isinstance(teacher, BOARDS)
        with torch.no_grad():
            policy, value = teacher.heads(batch.images)
        logits, value_logits = net.heads(batch.images)
        loss = soft_cross_entropy(logits.float(), policy.float(), 1.0).mean()
        loss = loss + functional.binary_cross_entropy_with_logits(
            value_logits.float(), value.float().sigmoid()
        )
        found = {"loss": loss}
        if batch.policy is not None and not self.training:
            found |= {
                key: part
                for key, part in self._measure.losses(batch, generator).items()
                if key != "loss"
            }
        return found
