"""The models that a run starts from, learns from and is judged by: noted once, the same ever after.

What is noted is a digest of their weights: a path may come to hold another model, or name another
one from another folder.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from playout.agents.runs import ranks
from playout.agents.runs.directory import RunDir
from playout.errors import RunError
from playout.rlhf.model.folder import POLICIES, model_digest, model_folder
from playout.rlhf.online.rewards import is_function, reward_names
from playout.rlhf.stages.paths import beside
from playout.rlhf.supervised.reward import reward_folder

__all__ = ["check_base", "check_rewards", "own_base", "own_reward_models"]


def check_base(
    run: RunDir, base: str, stages: Iterable[str] = POLICIES, *, what: str = "base"
) -> None:
    """Note which model a run starts from, or see that it is still the same.

    Adapters are nothing without the weights below them, and a policy is held near what it was.

    Args:
        run: The run.
        base: As the command names it.
        stages: Which of a run of many stages (see `model_folder`).
        what: What the model is to the run: its base, or its teacher.

    Raises:
        RunError: the model has changed since.
    """

    def check() -> None:
        found = _must_be(run, base, model_folder(base, stages), what)
        if found != run.record.get(f"{what}_sha256"):
            with run.lock():
                run.update(**{f"{what}_sha256": found})

    ranks.by_first(check)


def check_rewards(run: RunDir, reward: str) -> None:
    """As `check_base`, of every model that a run's `--reward` names."""
    for what, _, folder in _rewards(reward):
        check_base(run, str(folder), what=what)


def own_base(run: RunDir, base: str, stages: Iterable[str] = POLICIES, *, instead: str) -> str:
    """The model that a run started from, where it is now.

    Args:
        run: The run.
        base: As its configuration names it.
        stages: Which of a run of many stages (see `model_folder`).
        instead: What to do where it is not there; ends an error.

    Raises:
        RunError: It is not there, or another model by now.
    """
    found = _there(run, base, instead)
    _must_be(run, found, model_folder(found, stages), "base", instead)
    return found


def own_reward_models(run: RunDir, reward: str, *, instead: str) -> str:
    """The rewards that a run learned from, where they are now; the rest is as for `own_base`."""
    names = reward_names(reward)
    found = [name if is_function(name) else _there(run, name, instead) for name in names]
    for what, named, folder in _rewards(",".join(found)):
        _must_be(run, named, folder, what, instead)
    return ",".join(found)


def _there(run: RunDir, named: str, instead: str) -> str:
    """A path that a run names, or the run of that name beside it."""
    found = beside(run, named)
    if not os.path.exists(found):
        raise RunError(f"{found}, which {run.path} was begun with, is not there; {instead}")
    return found


def _rewards(reward: str) -> Iterator[tuple[str, str, Path]]:
    """The models among rewards: by which word a run notes each, its name and its folder."""
    for number, name in enumerate(reward_names(reward) if reward else (), 1):
        if not is_function(name):
            yield ("reward" if number == 1 else f"reward_{number}"), name, reward_folder(name)


def _must_be(
    run: RunDir, named: str, folder: Path, what: str, instead: str = "start a new run"
) -> str:
    """The digest of a model, which is the one that the run has noted, if it has."""
    found, noted = model_digest(folder), run.record.get(f"{what}_sha256")
    if noted is not None and noted != found:
        raise RunError(
            f"{named} is no longer the model that {run.path} started from; put that back, or "
            f"{instead}"
        )
    return found
