"""The player of a PPO run that learned a game by self-play, and how good it is.

Native games go through the same tables and boards as AlphaZero runs; PettingZoo environments are
measured against random play. Leaves out training.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from playout.agents.networks.actor_critic import ActorCritic
from playout.agents.own_code import trust
from playout.agents.ppo.collector import to_tensors
from playout.agents.ppo.league.games import NativeTurns, make_turns
from playout.agents.ppo.league.trainer import play_fixed
from playout.agents.ppo.player import PPOPlayer, load
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import EvalOptions
from playout.errors import RunError


class GamePlayer:
    """A self-play policy as a Player of a native game (players/simple.py), without search."""

    config = None

    def __init__(self, player: PPOPlayer, game: Any, name: str) -> None:
        self.player, self.game, self.name = player, game, name
        self.temperature = 0.0
        self.evaluator = self

    def reset(self, seed: int) -> None:
        """New games begin."""
        self.player.reset(seed)

    def act(self, states: Any) -> NDArray[np.int32]:
        """A move for each position; sampled where `temperature` is above 0."""
        return self.player.act(states, deterministic=self.temperature == 0.0).astype(np.int32)

    def observe(self, actions: Any) -> None:
        """Needs no news."""

    @torch.no_grad()
    def evaluate(self, leaves: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits `[M, A]` and values `[M]` of positions, as search evaluators give them."""
        policy = self.player.policy
        assert isinstance(policy, ActorCritic)
        obs = to_tensors(np.ascontiguousarray(leaves.obs))
        features, _ = policy.policy_trunk.step(obs, None)
        logits = policy.head.out(features)
        return logits.numpy(), policy.value(obs).numpy()


def game_player(run: RunDir, which: str | int = "best") -> GamePlayer:
    """The player of a self-play run of a native game."""
    games = make_turns(str(run.config["env"]), 1)
    if not isinstance(games, NativeTurns):
        raise RunError(f"{run.path} learned {games.name}, which is not one of playout's games")
    return GamePlayer(load(run, which), games.game, run.path.name)


def evaluate_games(run: RunDir, options: EvalOptions) -> dict[str, Any]:
    """Scores and ratings with intervals."""
    env = str(run.config["env"])
    if not env.startswith("aec:"):
        from playout.agents.rating.evaluation import evaluate_player

        return evaluate_player(game_player(run, options.which), options)
    trust(env.removeprefix("aec:").partition("/")[0], run.path)
    games = make_turns(env, 100 if options.episodes is None else options.episodes)
    player = load(run, options.which)
    points = play_fixed(
        player.policy, games, "random", options.seed, deterministic=not options.stochastic
    )
    error = 1.96 * float(points.std(ddof=1)) / len(points) ** 0.5 if len(points) > 1 else 0.0
    print(
        f"{env}: {100 * points.mean():.1f} ± {100 * error:.1f} % of the points in {len(points)} "
        "games against random play"
    )
    return {
        "env": env,
        "games": len(points),
        "opponent": "random",
        "score": float(points.mean()),
        "ci95": error,
    }
