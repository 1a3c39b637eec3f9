"""What can be done with a run of PPO (runs/kinds.py): measure it, watch it, draw its curve.

Runs that learned a game by self-play go the way of games, as league/player.py. Leaves out export
(networks/export.py) and training.
"""

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from playout.agents.ppo.config import CollectConfig
from playout.agents.ppo.evaluation import evaluate_policy
from playout.agents.ppo.league.games import is_game
from playout.agents.ppo.league.player import evaluate_games, game_of, game_player
from playout.agents.ppo.player import PPOPlayer
from playout.agents.ppo.player import load as load_policy
from playout.agents.runs.config import from_dict
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import EvalOptions, ExportOptions, PlayOptions, RunKind
from playout.agents.runs.options import DEFAULT_MACHINE, MachineOptions
from playout.agents.runs.reporting import must_be_writable
from playout.agents.vector.episodes import derive_seed
from playout.agents.vector.factory import (
    EnvSource,
    make_environments,
    make_single,
    native_twin,
    wrap,
)
from playout.agents.vector.interface import Environments
from playout.errors import ConfigError, RunError
from playout.own_code import trust_environment
from torch import nn

__all__ = ["evaluate", "export", "game_of", "game_player", "load", "play", "plot_run"]

_MAX_FRAMES = 2000


def load(
    run: RunDir,
    which: str | int = "best",
    *,
    machine: MachineOptions = DEFAULT_MACHINE,
    game: object | None = None,
) -> PPOPlayer:
    """The run's policy, which acts on observations."""
    return load_policy(run, which)


def _collect(run: RunDir) -> CollectConfig:
    return from_dict(CollectConfig, run.config.get("collect", {}), where=f"{run.path}: collect")


def _source(run: RunDir) -> str:
    env = str(run.config["env"])
    trust_environment(env, run.path)
    return env


def _environments(run: RunDir, num_envs: int, source: EnvSource) -> Environments:
    collect = _collect(run)
    return make_environments(
        source,
        num_envs,
        native=bool(run.config.get("native", True)),
        wrappers=collect.wrappers,
        options=collect.env_options,
    )


def is_selfplay(run: RunDir) -> bool:
    """Whether the run learned a game against a pool of itself."""
    return bool(run.config.get("self_play")) or is_game(str(run.config["env"]))


def evaluate(run: RunDir, options: EvalOptions, *, game: object | None = None) -> dict[str, Any]:
    """Returns over whole episodes with a 95 % interval; of games, scores and ratings."""
    if is_selfplay(run):
        return evaluate_games(run, options)
    episodes = 100 if options.episodes is None else options.episodes
    player = load(run, options.which)
    envs = _environments(run, min(episodes, 100), _source(run))
    try:
        found = evaluate_policy(
            player.policy,
            envs,
            episodes=episodes,
            seed=derive_seed(options.seed, "eval"),
            deterministic=not options.stochastic,
            normalizer=player.normalizer,
        )
    finally:
        envs.close()
    result = {
        "env": run.config["env"],
        "episodes": len(found.returns),
        "deterministic": not options.stochastic,
        "mean_reward": found.mean,
        "std_reward": found.std,
        "ci95": 1.96 * found.stderr,
        "min_reward": float(found.returns.min()),
        "max_reward": float(found.returns.max()),
        "mean_ep_length": float(found.lengths.mean()),
        "reward_threshold": envs.reward_threshold,
    }
    how = "sampled" if options.stochastic else "deterministic"
    print(
        f"{run.config['env']}, {how} actions, {len(found.returns)} episodes: "
        f"{found.mean:.2f} ± {1.96 * found.stderr:.2f} (deviation {found.std:.2f}, "
        f"from {found.returns.min():.1f} to {found.returns.max():.1f}), "
        f"length {found.lengths.mean():.1f}"
    )
    return result


def play(run: RunDir, options: PlayOptions, *, game: object | None = None) -> None:
    """Shows it acting, as a moving picture or as text; of games, plays against it."""
    if is_selfplay(run):
        from playout.agents.players.terminal import play_games

        player_of_game = game_player(run, options.which)
        play_games(player_of_game.with_simulations(options.simulations or 0), options)
        return
    out = options.out if options.out is not None else run.path / "play.gif"
    check_pictures(out)
    player = load(run, options.which)
    env, ansi = _watchable(run)
    if ansi and options.out is not None:
        raise ConfigError(f"{run.config['env']} is shown as text, not as pictures: leave out --out")
    frames: list[Any] = []
    episodes = options.episodes or 1
    for episode in range(episodes):
        player.reset(options.seed)
        obs, info = env.reset(seed=options.seed + episode)
        total, length, over = 0.0, 0, False
        while not over:
            _show(env, ansi, frames)
            action = player.act(obs, mask=_mask(env, info))
            obs, reward, terminated, truncated, info = env.step(
                action.item() if action.ndim == 0 else action
            )
            total, length = total + float(reward), length + 1
            over = bool(terminated or truncated)
        _show(env, ansi, frames)
        print(f"episode {episode + 1}: return {total:.2f}, {length} steps")
    env.close()
    if not ansi:
        fps = float(env.metadata.get("render_fps") or 30)
        print(f"wrote {save_frames(frames, out, fps)}")


def _mask(env: Any, info: dict[str, Any]) -> Any:
    if "action_mask" in info:
        return info["action_mask"]
    try:
        return env.get_wrapper_attr("action_masks")()
    except AttributeError:
        return None


def _watchable(run: RunDir) -> tuple[Any, bool]:
    """One environment that renders, and whether it renders text."""
    collect, source = _collect(run), _source(run)
    if source.startswith("parallel:"):
        raise RunError("watching PettingZoo environments is not supported")
    twin = native_twin(source) if run.config.get("native", True) else None
    errors = []
    for mode in ("rgb_array", "ansi"):
        for env_id in dict.fromkeys((twin or source, source)):
            try:
                env = make_single(env_id, {**collect.env_options, "render_mode": mode})
                env.reset(seed=0)
                if env.render() is not None:
                    return wrap(env, collect.wrappers), mode == "ansi"
            except (ConfigError, ValueError, AttributeError, NotImplementedError) as error:
                errors.append(str(error))
    raise RunError(f"{source} cannot be watched: {errors[0] if errors else 'it does not render'}")


def _show(env: Any, ansi: bool, frames: list[Any]) -> None:
    if ansi:
        print(env.render())
    elif len(frames) < _MAX_FRAMES:
        frames.append(np.asarray(env.render(), np.uint8))


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
        Image.fromarray(np.concatenate(chosen, axis=1)).save(path)
        return path
    pictures = [Image.fromarray(frame) for frame in frames]
    # Browsers show no more than 50 pictures a second.
    every = max(1, round(fps / 50))
    pictures = pictures[::every]
    duration = max(20, round(1000 * every / fps))
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=duration, loop=0)
    return path


def plot_run(run: RunDir) -> Path:
    """Draw training and evaluation returns over steps into the run's folder."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").open(encoding="utf-8")]
    for key, label, style in (
        ("rollout/ep_rew_mean", "training, sampled actions", "-"),
        ("eval/mean_reward", "evaluation, deterministic", "o-"),
    ):
        points = [(entry["time/total_timesteps"], entry[key]) for entry in lines if key in entry]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=label)
    axes.set_xlabel("environment steps")
    axes.set_ylabel("return")
    axes.set_title(str(run.config["env"]))
    axes.legend()
    path = run.path / "curve.png"
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
    print(f"wrote {path}", file=sys.stderr)
    return path


def export(run: RunDir, options: ExportOptions, *, game: object | None = None) -> None:
    """Writes its network as ONNX, with the statistics of its observations, or the bare weights."""
    from playout.agents.networks.export import ExportedPolicy, export_network

    player = load(run, options.which)
    policy, space, normalizer = player.policy, player.observation_space, player.normalizer
    assert isinstance(policy, nn.Module)
    wrapper = partial(ExportedPolicy, policy, space, normalizer)
    about = {"env": str(run.config["env"])}
    export_network(run, options, policy, wrapper, stem="policy", about=about)


if TYPE_CHECKING:  # the type checker compares this module with the protocol
    from playout.agents.players.load import GameKind
    from playout.agents.ppo import run as this

    _: RunKind = this
    __: GameKind = this
