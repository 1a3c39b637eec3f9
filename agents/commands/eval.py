"""Measure how good a run is; what that means depends on its kind (runs/kinds.py)."""

import os
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from playout.agents.runs.console import silence
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import (
    EvalOptions,
    find_kind,
    folder_kind,
    folder_of,
    own_policy,
)
from playout.agents.runs.options import check_device, make_command, run_options_last
from playout.agents.runs.reporting import keep_noted, must_be_writable, write_json
from playout.agents.runs.signals import Interrupted
from playout.errors import ConfigError
from playout.own_code import trust_modules
from tyro.conf import Positional, arg


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(EvalOptions):
    """Measure how good a run is: returns, games against others, win rates of texts, suites.

    For example:
      playout eval runs/cartpole --episodes 200
      playout eval runs/demo --opponents uct:1000 runs/older
      playout eval runs/demo --json - | jq .ratings
      playout eval runs/demo --probe linear
      playout eval runs/pictures --pictures new/*.png
      playout eval runs/words/sft --suite pairs cloze --against runs/words/pretrain
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """A run directory, or with --suite a model folder."""

    game: Annotated[str | None, arg(metavar="GAME", help_behavior_hint="")] = None
    """The game, where the run cannot name it: module:Name of what makes it; or the one that it has
    learned by other rules on the same board, such as another komi.
    """

    json: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """Also write the result to this file; - is standard output. A command that is stopped writes
    what was complete, with "partial": true."""


def main(command: Command) -> int:
    """Hands over to the run's kind, and writes what it found."""
    if command.game is not None:
        trust_modules(command.game)
    check_device(command)
    if command.json is not None:
        must_be_writable(command.json)
    with keep_noted() as parts:
        try:
            found = _measured(command, command.game)
        except Interrupted:
            _leave(command, parts)
            raise
    if command.json is not None:
        write_json(command.json, found)
    return 0


def _leave(command: Command, parts: Mapping[str, Any]) -> None:
    """Writes what was complete when a signal came, and says that it is not all."""
    if not parts.keys() - {"checkpoint"}:
        print("nothing was measured yet", file=sys.stderr)
        return
    print("partial: this is what was complete by then", file=sys.stderr)
    if command.json is not None:
        write_json(command.json, {**parts, "partial": True})


def _measured(
    command: Command, game: object | None, policy: object | None = None
) -> Mapping[str, Any]:
    """What the run's kind finds; of a model folder, what its kind does."""
    folder = folder_kind(command.run)
    if folder is not None:
        if command.probe or command.pictures:
            flag = "--probe" if command.probe else "--pictures"
            raise ConfigError(f"{flag} reads runs; {command.run} is a model folder")
        found: Mapping[str, Any] = folder.evaluate_folder(command.run, command)
        return found
    run = RunDir.open(command.run)
    if command.suite and not run.kind.startswith("rlhf."):
        raise ConfigError(f"--suite asks language runs; {run.path} is a run of {run.kind}")
    if command.pictures and run.kind != "pretrain-trunk":
        raise ConfigError(
            f"--pictures reads runs of pretrain-trunk; {run.path} is a run of {run.kind}"
        )
    if command.probe:
        from playout.agents.pretraining.evaluation import evaluate_trunk

        return evaluate_trunk(run, command, game=game)
    kind = find_kind(run, wanted="eval")
    if policy is None:
        return kind.evaluate(run, command, game=game)
    measured: Mapping[str, Any] = own_policy("evaluate", kind, run, policy)(run, command, game=game)
    return measured


def evaluate(
    run: str | os.PathLike[str],
    *,
    game: object | None = None,
    policy: object | None = None,
    verbose: bool = False,
    **options: Any,
) -> Mapping[str, Any]:
    """`playout eval` in Python: `playout.evaluate("runs/demo", episodes=20)["ratings"]`.

    Args:
        run: A run directory, or what training returned.
        game: The game, the environment or what makes one, where the run cannot name it.
        policy: Of a run of PPO with a policy of your own: one like it, which gets the weights.
        verbose: Print what the command prints.
        **options: The command's options.

    Returns:
        What it measured, as plain data.
    """
    command = make_command(Command, run=str(folder_of(run)), **options)
    check_device(command)
    if command.json is not None:
        must_be_writable(command.json)
    with nullcontext() if verbose else silence():
        found = _measured(command, game, policy)
    if command.json is not None:
        write_json(command.json, found)
    return found
