"""What can be done with a run of PPO (runs/kinds.py): measure it, watch it, draw its curve.

Runs that learned a game by self-play go the way of games (league/player.py); all others are shown
by watching.py. Leaves out export (networks/export.py) and training.
"""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playout.agents.ppo.evaluation import Evaluation, evaluate_policy, figures, joined
from playout.agents.ppo.league.player import evaluate_games, game_of, game_player
from playout.agents.ppo.player import PPOPlayer, collect_config, learned_source
from playout.agents.ppo.player import load as load_policy
from playout.agents.ppo.watching import watch
from playout.agents.runs.checkpoint.chosen import choose_checkpoint, tell_checkpoint
from playout.agents.runs.devices import resolve_device
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import EvalOptions, ExportOptions, PlayOptions, RunKind
from playout.agents.runs.metrics import read_rows
from playout.agents.runs.options import DEFAULT_MACHINE, MachineOptions
from playout.agents.runs.reporting import note_found
from playout.agents.runs.signals import Interrupted
from playout.agents.vector.episodes import derive_seed
from playout.agents.vector.factory import make_environments
from playout.agents.vector.sources import Source
from playout.errors import RunError
from torch import nn

__all__ = ["evaluate", "export", "game_of", "game_player", "load", "play", "plot_run"]


def load(
    run: RunDir,
    which: str | int = "best",
    *,
    machine: MachineOptions = DEFAULT_MACHINE,
    game: object | None = None,
) -> PPOPlayer:
    """The run's policy, which acts on observations."""
    return load_policy(run, which, machine=machine)


def load_own_policy(
    run: RunDir,
    which: str | int = "best",
    *,
    machine: MachineOptions = DEFAULT_MACHINE,
    game: object | None = None,
    policy: nn.Module,
) -> PPOPlayer:
    """As `load`, of a run that learned with a policy of the person's own."""
    return load_policy(run, which, machine=machine, policy=policy)


def evaluate(run: RunDir, options: EvalOptions, *, game: object | None = None) -> dict[str, Any]:
    """Returns over whole episodes with a 95 % interval; of games, scores and ratings."""
    return evaluate_own_policy(run, options, game=game, policy=None)


def evaluate_own_policy(
    run: RunDir, options: EvalOptions, *, game: object | None = None, policy: nn.Module | None
) -> dict[str, Any]:
    """As `evaluate`, of a run that learned with a policy of the person's own."""
    source = learned_source(run, game)
    if is_selfplay(run, source):
        return evaluate_games(run, source, options, policy=policy)
    options.refuse_unused("opponents", "simulations", where="for an environment")
    episodes = 100 if options.episodes is None else options.episodes
    chosen, options = choose_checkpoint(run, options)
    player = load_policy(run, options.which, machine=options, policy=policy)
    collect = collect_config(run)
    envs = make_environments(
        source,
        min(episodes, 100),
        native=bool(run.config.get("native", True)),
        wrappers=collect.wrappers,
        options=collect.env_options,
    )
    over: list[Evaluation] = []
    try:
        player.must_fit(envs.observation_space, envs.action_space)
        about = tell_checkpoint(run, chosen)
        found = evaluate_policy(
            player.policy,
            envs,
            episodes=episodes,
            seed=derive_seed(options.seed, "eval"),
            deterministic=not options.stochastic,
            normalizer=player.normalizer,
            on_episodes=over.append,
        )
    except Interrupted:
        if over:
            print(
                f"{len(joined(over).returns)} episodes were over, short ones first", file=sys.stderr
            )
            note_found(_told(run, options, joined(over), envs.reward_threshold))
        raise
    finally:
        envs.close()
    return about | _told(run, options, found, envs.reward_threshold)


def _told(
    run: RunDir, options: EvalOptions, found: Evaluation, threshold: float | None
) -> dict[str, Any]:
    """Returns and lengths, printed and as plain data."""
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
        "reward_threshold": threshold,
    }
    how = "sampled" if options.stochastic else "deterministic"
    low, high = figures(found.returns.min()), figures(found.returns.max())
    print(
        f"{run.config['env']}, {how} actions, {len(found.returns)} episodes: "
        f"{figures(found.mean)} ± {figures(1.96 * found.stderr)} "
        f"(deviation {figures(found.std)}, from {low} to {high}), "
        f"length {found.lengths.mean():.1f}"
    )
    return result


def play(run: RunDir, options: PlayOptions, *, game: object | None = None) -> None:
    """Shows it acting, as a moving picture or as text; of games, plays against it."""
    source = learned_source(run, game)
    if is_selfplay(run, source) and source.kind != "aec":
        from playout.agents.players.terminal import play_games

        player = game_player(run, options.which, game_of(run, game), machine=options)
        play_games(player.with_simulations(options.simulations or 0), options)
        return
    watch(run, load(run, options.which, machine=options), source, options)


def is_selfplay(run: RunDir, source: Source) -> bool:
    """Whether the run learned a game against a pool of itself."""
    return bool(run.config.get("self_play")) or source.kind in ("game", "aec")


def plot_run(run: RunDir) -> Path:
    """Draw training and evaluation returns over steps into the run's folder."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    lines = list(read_rows(run.path))
    for key, label, style in (
        ("rollout/ep_rew_mean", "training, sampled actions", "-"),
        ("eval/mean_reward", "evaluation, deterministic", "o-"),
    ):
        measured = [entry for entry in lines if entry.get(key) is not None]
        points = [(entry["time/total_timesteps"], entry[key]) for entry in measured]
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
    from playout.agents.networks.boards.policy import BoardPolicy
    from playout.agents.networks.export import ExportedBoard, ExportedPolicy, export_network

    resolve_device(options.device)  # an unknown one is said; the file is the same from any
    player = load(run, options.which, machine=replace(options, device="cpu"))
    policy, space, normalizer = player.policy, player.observation_space, player.normalizer
    about = {"env": str(run.config["env"])}
    if isinstance(policy, BoardPolicy):
        if normalizer is not None:
            raise RunError(
                f"{run.path} learned a board network with --normalize-obs, whose statistics the "
                "file could not hold"
            )
        net = policy.net
        about["network"] = json.dumps(net.config.to_dict())
        board = partial(ExportedBoard, net)
        export_network(run, options, net.state_dict(), board, stem="policy", about=about)
        return
    assert isinstance(policy, nn.Module)
    wrapper = partial(ExportedPolicy, policy, space, normalizer)
    export_network(run, options, policy.state_dict(), wrapper, stem="policy", about=about)


if TYPE_CHECKING:  # the type checker compares this module with the protocol
    from playout.agents.players.load import GameKind
    from playout.agents.ppo import run as this

    _: RunKind = this
    __: GameKind = this
