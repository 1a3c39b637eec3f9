"""Watching a run of PPO act: pictures of episodes into a file, or text on the terminal.

Everything that has rows (Gymnasium, vector and parallel PettingZoo environments) is stepped as in
training; in PettingZoo's games of turns the run takes one side, and a person, random play or the
run itself the others. Leaves out playout's own games (players/terminal.py) and measuring (run.py).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playout.agents.ppo.league.games import AECGames
from playout.agents.ppo.player import PPOPlayer, collect_config
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import PlayOptions
from playout.agents.runs.reporting import must_be_writable
from playout.agents.vector.factory import make_single, native_twin, wrap
from playout.agents.vector.groups import GroupEnvs
from playout.agents.vector.gymnasium_vector import VectorEnvs
from playout.agents.vector.in_process import EnvGroup
from playout.agents.vector.interface import Environments
from playout.agents.vector.pettingzoo import ParallelGroup
from playout.agents.vector.sources import Source, takes
from playout.errors import ConfigError, EnvironmentFault, PlayoutError, RunError

_MAX_FRAMES = 2000
_MAX_STEPS = 100_000  # of one episode
_OPPONENTS = ("human", "random", "self")  # in PettingZoo's games
# What environments raise that know no such render mode.
_RENDERS_NOT = (
    PlayoutError,
    ValueError,
    TypeError,
    AttributeError,
    NotImplementedError,
    AssertionError,
)


@dataclass(slots=True)
class Screen:
    """What an environment shows: pictures that are kept, or text that is printed.

    Attributes:
        env: What is rendered.
        mode: The render mode, "rgb_array" or "ansi".
        fps: Pictures a second.
        frames: Pictures `[H, W, 3]` so far.
    """

    env: Any
    mode: str
    fps: float = 30.0
    frames: list[NDArray[np.uint8]] = field(default_factory=list)

    def show(self) -> None:
        """Look at the environment now."""
        if self.mode == "ansi":
            print(self.env.render())
        elif len(self.frames) < _MAX_FRAMES:
            picture = self.env.render()
            picture = picture[0] if isinstance(picture, list | tuple) else picture
            self.frames.append(np.asarray(picture, np.uint8))


def watch(run: RunDir, player: PPOPlayer, source: Source, options: PlayOptions) -> None:
    """Episodes of a run, shown.

    Args:
        run: The run; pictures go into it where `options` name no file.
        player: Its player.
        source: What it has learned.
        options: How many episodes, where to.

    Raises:
        ConfigError: The file cannot hold pictures. RunError: The environment does not render.
    """
    out = options.out if options.out is not None else run.path / "play.gif"
    check_pictures(out)
    if source.kind == "aec" and options.opponent not in _OPPONENTS:
        known = ", ".join(_OPPONENTS)
        raise ConfigError(f"PettingZoo games know the opponents {known}, not {options.opponent!r}")
    stage, screen = _opened(run, source)
    try:
        if screen.mode == "ansi" and options.out is not None:
            raise ConfigError(
                f"{run.config['env']} is shown as text, not as pictures: leave out --out"
            )
        for episode in range(options.episodes or 1):
            player.reset(options.seed)
            if isinstance(stage, AECGames):
                told = _game(stage, player, screen, options, episode)
            else:
                told = _episode(stage, player, screen, options.seed + episode)
            print(f"episode {episode + 1}: {told}")
            if told == _LEFT:
                break
    finally:
        stage.close()
    if screen.frames:
        print(f"wrote {save_frames(screen.frames, out, screen.fps)}")


def _opened(run: RunDir, source: Source) -> tuple[Environments | AECGames, Screen]:
    """One environment, or one game, and how it shows itself: pictures before text."""
    errors = list[str]()
    for mode in ("rgb_array", "ansi"):
        for make in _makers(run, source, mode):
            stage: Environments | AECGames | None = None
            try:
                stage, env = _stage(source, make, run)
                stage.reset(0)
                shown = env.render()
                shown = shown[0] if isinstance(shown, list | tuple) else shown
                if isinstance(shown, str):
                    return stage, Screen(env, "ansi")
                if shown is not None and np.ndim(shown) == 3:
                    fps = float((env.metadata or {}).get("render_fps") or 30)
                    return stage, Screen(env, "rgb_array", fps)
                errors.append(f"in mode {mode} its render gives {type(shown).__name__}")
            except _RENDERS_NOT as error:
                errors.append(str(error) or f"its render() raises {type(error).__name__}")
            if stage is not None:
                stage.close()
    raise RunError(f"{run.config['env']} cannot be watched: {errors[0]}")


def _makers(run: RunDir, source: Source, mode: str) -> list[Callable[[], Any]]:
    """Ways to make one environment that shows itself in a mode."""
    collect = collect_config(run)
    plain = dict(collect.env_options)
    if source.kind == "vector" and takes(source.make, "num_envs"):
        plain["num_envs"] = 1
    shown = {**plain, "render_mode": mode}
    if source.kind == "id":
        native = run.config.get("native", True) and not collect.wrappers
        twin = native_twin(source.text) if native else None
        names = dict.fromkeys((twin or source.text, source.text))
        return [partial(make_single, name, shown) for name in names]
    # One that takes no render mode may have chosen it by itself.
    return [partial(source.make, **shown), partial(source.make, **plain)]


def _stage(
    source: Source, make: Callable[[], Any], run: RunDir
) -> tuple[Environments | AECGames, Any]:
    """One environment in the form in which the policy acts, and itself, to be looked at."""
    if source.kind == "aec":
        games = AECGames(make, 1, source.text)
        return games, games.envs[0]
    if source.kind == "parallel":
        agents = ParallelGroup(make, 1, source.text)
        return GroupEnvs(agents, source.text), agents.envs[0]
    if source.kind == "vector":
        envs = VectorEnvs(make(), source.text, native=False)
        return envs, envs.envs
    group = EnvGroup([lambda: wrap(make(), collect_config(run).wrappers)])
    return GroupEnvs(group, source.text), group.envs[0]


def _episode(envs: Environments, player: PPOPlayer, screen: Screen, seed: int) -> str:
    """One episode of the first environment, or of all agents of a parallel one."""
    rows = 1 if isinstance(envs, VectorEnvs) else envs.num_envs
    totals, over = np.zeros(envs.num_envs), np.zeros(envs.num_envs, np.bool_)
    obs = envs.reset(seed)
    for step in range(_MAX_STEPS):
        screen.show()
        actions = player.rows(obs, envs.masks())
        obs, rewards, terminations, truncations = envs.step(actions)
        totals += np.where(over, 0.0, rewards)
        over |= terminations | truncations
        if over[:rows].all():
            if not envs.same_step:
                screen.show()
            shown = ", ".join(f"{total:.4g}" for total in totals[:rows])
            return f"return {shown}, {step + 1} steps"
    raise EnvironmentFault(
        f"an episode is still running after {_MAX_STEPS:,} steps; give the environment a time limit"
    )


_LEFT = "left before the end"


def _game(
    games: AECGames, player: PPOPlayer, screen: Screen, options: PlayOptions, number: int
) -> str:
    """One game; the run takes each side in turn."""
    side = (int(options.second) + number) % games.num_players
    rng = np.random.default_rng([options.seed, number])
    opponent = options.opponent
    if opponent == "human" and screen.mode != "ansi":
        opponent = "self"  # a person could not see the board before it moves
    games.reset(options.seed + number)
    while (mover := int(games.to_play()[0])) >= 0:
        screen.show()
        masks = games.masks()
        if mover == side or opponent == "self":
            action = int(player.rows(games.observe(), masks)[0])
        elif opponent == "random":
            action = int(games.random_moves(masks, rng)[0])
        else:
            typed = _typed_move(np.flatnonzero(masks[0]) + int(games.action_space.start))
            if typed is None:
                return _LEFT
            action = typed
        print(f"{games.agents[mover]}: {action}")
        games.apply(np.array([action]), np.ones(1, np.bool_))
    screen.show()
    pairs = zip(games.agents, games.returns()[0].tolist(), strict=True)
    shown = ", ".join(f"{agent} {value:.4g}" for agent, value in pairs)
    return f"{games.agents[side]} is the run, {opponent} plays against it; {shown}"


def _typed_move(legal: NDArray[np.int64]) -> int | None:
    """The number of an action that a person types; None if they leave."""
    shown = ", ".join(map(str, legal.tolist()))
    while True:
        try:
            line = input(f"Your action ({shown}), or quit: ").strip()
        except EOFError:
            return None
        if line.lower() in ("q", "quit", "exit"):
            return None
        if line.isdigit() and int(line) in legal:
            return int(line)
        print(f"{line[:40]!r} is not possible now.")


def check_pictures(path: Path) -> None:
    """Finds out before an episode whether its pictures can be written to a file."""
    if path.suffix.lower() not in (".gif", ".webp", ".png"):
        raise ConfigError(f"cannot write {path.suffix or path.name!r}: use .gif, .webp or .png")
    must_be_writable(path)


def save_frames(frames: list[Any], path: Path, fps: float) -> Path:
    """Write pictures `[H, W, 3]` as an animation (.gif, .webp) or a strip of a few (.png)."""
    from PIL import Image

    if not frames:
        raise RunError("there is nothing to show")
    if path.suffix.lower() == ".png":
        chosen = [frames[int(i)] for i in np.linspace(0, len(frames) - 1, min(6, len(frames)))]
        # Between them a white line, since pictures of one dark background run into each other.
        line = np.full((len(chosen[0]), max(2, chosen[0].shape[1] // 40), 3), 255, np.uint8)
        parts = [part for picture in chosen for part in (line, picture)][1:]
        Image.fromarray(np.concatenate(parts, axis=1)).save(path)
        return path
    pictures = [Image.fromarray(frame) for frame in frames]
    # Browsers show no more than 50 pictures a second.
    every = max(1, round(fps / 50))
    pictures = pictures[::every]
    duration = max(20, round(1000 * every / fps))
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=duration, loop=0)
    return path
