"""List what there is: games, environments, presets, the runs below a folder, commands."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from playout.agents.runs.console import short_number
from playout.agents.runs.directory import RunDir
from playout.agents.runs.reporting import write_json
from playout.errors import PlayoutError
from tyro.conf import Positional, arg

What = Literal["all", "games", "environments", "presets", "runs", "commands"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """List games, environments, presets, runs and commands.

    For example:
      playout list runs --folder runs
      playout list games
    """

    what: Positional[What] = "all"
    """Which list."""

    folder: Path = Path("runs")
    """Where to look for runs."""

    json: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """Write it to this file instead, as JSON; - is standard output."""


def games() -> dict[str, str]:
    """Names of the games, and their parameters as they are written."""
    from playout.envs.core.registry import games as registered

    found = {}
    for name, params in registered():
        shown = ", ".join(f"{key}={value}" for key, value in params.items())
        found[str(name)] = f"{name}({shown})" if shown else "no parameters"
    return found


def environments() -> dict[str, str]:
    """Ids that playout registers with Gymnasium and PettingZoo, and what each is."""
    import gymnasium
    from playout.envs.catalogue import PARALLEL

    found = {}
    for name, spec in sorted(gymnasium.registry.items()):
        if not name.startswith("playout/"):
            continue
        parts = [f"the game {spec.kwargs['game']}"] if "game" in spec.kwargs else []
        if spec.max_episode_steps is not None:
            parts.append(f"at most {spec.max_episode_steps} steps")
        if spec.reward_threshold is not None:
            parts.append(f"solved at a mean return of {spec.reward_threshold:g}")
        found[name] = ", ".join(parts)
    for entry in PARALLEL.values():
        module = entry.entry_point.partition(":")[0]
        found[f"parallel:{module}"] = "agents that move at once (PettingZoo)"
    return found


def presets() -> dict[str, str]:
    """Preset files and the subjects in each."""
    from playout.agents.runs.config import preset_files, read_presets

    return {
        name: ", ".join(key for key in read_presets(name) if key != "default")
        for name in preset_files()
    }


def runs(folder: Path) -> dict[str, str]:
    """Runs below a folder, with how far each has come; what cannot be read says why."""
    found = {}
    for path in sorted(folder.glob("**/run.json")) if folder.is_dir() else []:
        try:
            run = RunDir.open(path.parent)
            latest = run.find()
        except PlayoutError as error:
            found[str(path.parent)] = f"damaged: {error}"
            continue
        progress = "no checkpoint yet"
        if latest is not None:
            done, total = latest.info.get("done", latest.step), latest.info.get("total")
            of = f" of {short_number(total)}" if total is not None else ""
            progress = f"checkpoint {latest.step}, {short_number(done)}{of}"
        found[str(path.parent)] = f"{run.kind}, seed {run.seed}, {progress}"
    return found


def _commands() -> dict[str, str]:
    from playout.cli import commands

    return {name: text for name, (_, text) in commands().items()}


def main(command: Command) -> int:
    """Print the lists."""
    makers: dict[str, Any] = {
        "games": games,
        "environments": environments,
        "presets": presets,
        "runs": lambda: runs(command.folder),
        "commands": _commands,
    }
    chosen = list(makers) if command.what == "all" else [command.what]
    found = {name: makers[name]() for name in chosen}
    if command.json is not None:
        write_json(command.json, found)
        return 0
    for name, entries in found.items():
        title = f"runs below {command.folder}" if name == "runs" else name
        print(f"{title}:" if entries else f"{title}: none")
        width = max((len(key) for key in entries), default=0) + 2
        for key, text in entries.items():
            print(f"  {key:<{width}}{text}".rstrip())
    return 0
