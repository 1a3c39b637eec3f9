"""A policy of PPO as a player of one of playout's games, and how `eval` measures it.

Moves are the policy's own, or those of a tree search that asks it about its leaves. Native games go
through the same tables and boards as AlphaZero runs; PettingZoo environments, which know no such
players, are measured against random play.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from playout.agents.networks.actor_critic import ActorCritic
from playout.agents.players.analysis import Judge, policy_judge
from playout.agents.players.player import Actions, RunPlayer
from playout.agents.players.search import SearchPlayer, playing_search
from playout.agents.ppo.collector import to_tensors
from playout.agents.ppo.league.games import NativeGames, make_games
from playout.agents.ppo.league.trainer import play_fixed
from playout.agents.ppo.player import PPOPlayer, load
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import EvalOptions
from playout.agents.runs.options import DEFAULT_MACHINE, MachineOptions
from playout.envs.core.game import NativeGame, StateBatch
from playout.errors import ConfigError, GameError, RunError
from playout.mcts.evaluators import Evaluation, Evaluator, LeafBatch
from playout.own_code import trust_environment

_CHOSEN_LOGIT = 8.0  # of the move chosen by a policy that tells no probabilities; others have 0


class PolicyPlayer(RunPlayer):
    """Plays a policy's likeliest moves, or samples from it where `temperature` is above 0.

    Args:
        player: The policy with its normalisation; its observations must be the game's.
        game: The game.
        name: What tables call it.
    """

    def __init__(self, player: PPOPlayer, game: NativeGame, name: str) -> None:
        self.player, self.game, self.name = player, game, name
        self.temperature = 0.0

    def reset(self, seed: int) -> None:
        """New games begin."""
        self.player.reset(seed)

    def act(self, states: StateBatch) -> Actions:
        """The policy's move in each position."""
        try:
            actions = self.player.act(states, deterministic=self.temperature == 0.0)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{self.name} cannot play {self.game}: {error}") from error
        return np.asarray(actions, np.int32)

    def with_simulations(self, simulations: int) -> RunPlayer:
        """A tree search that asks the policy; 0 is the policy itself."""
        if simulations == 0:
            return self
        evaluator = PolicyEvaluator(self.player)
        name = f"{self.name}:{simulations}"
        return SearchPlayer(self.game, playing_search(simulations), evaluator, name=name)

    def judge(self) -> Judge:
        """By the policy's probabilities and its value function."""
        return policy_judge(PolicyEvaluator(self.player))

    def judges(self) -> dict[str, Judge]:
        """The policy alone."""
        return {"policy": self.judge()}


class PolicyEvaluator(Evaluator):
    """Answers a search's leaves by a policy's logits and its value function.

    Values of PPO are expected returns, here cut to [-1, 1]. A policy with a memory, or of a class
    that is not playout's, only tells the move that it would make.
    """

    def __init__(self, player: PPOPlayer) -> None:
        self.player = player

    @torch.no_grad()
    def evaluate(self, leaves: LeafBatch) -> Evaluation:
        """Logits [M, A] and values [M]."""
        policy, size = self.player.policy, leaves.size
        assert leaves.obs is not None
        raw = np.ascontiguousarray(leaves.obs[:size])
        obs = to_tensors(raw if self.player.normalizer is None else self.player.normalizer(raw))
        if isinstance(policy, ActorCritic) and not policy.recurrent:
            features, _ = policy.policy_trunk.step(obs, None)
            logits: NDArray[np.float32] = policy.head.out(features).numpy()
            values = policy.value(obs)
        else:
            mask = torch.from_numpy(leaves.mask[:size].astype(bool))
            step = policy.step(obs, policy.initial_state(size), mask, deterministic=True)
            logits = np.zeros((size, leaves.game.num_actions), np.float32)
            logits[np.arange(size), step.action.numpy()] = _CHOSEN_LOGIT
            values = step.value
        return logits, values.numpy().clip(-1.0, 1.0)


def game_of(run: RunDir) -> NativeGame | None:
    """The game of playout's that a run has learned, if it has learned one."""
    env = str(run.config["env"])
    if env.startswith("aec:"):
        return None
    try:
        games = make_games(env, 1)
    except (ConfigError, GameError):
        return None
    return games.game if isinstance(games, NativeGames) else None


def game_player(
    run: RunDir,
    which: str | int = "best",
    game: NativeGame | None = None,
    *,
    machine: MachineOptions = DEFAULT_MACHINE,
) -> PolicyPlayer:
    """The player of a run that has learned a game; see players/load.py."""
    chosen = game if game is not None else game_of(run)
    env = run.config["env"]
    if chosen is None:
        raise RunError(f"{run.path} learned {env}, which is not one of playout's games")
    player = load(run, which)
    if player.observation_space.shape != tuple(chosen.obs_shape):
        raise ConfigError(f"{run.path} has learned {env}, it cannot play {chosen}")
    return PolicyPlayer(player, chosen, run.path.name)


def evaluate_games(run: RunDir, options: EvalOptions) -> dict[str, Any]:
    """Scores and ratings with intervals."""
    env = str(run.config["env"])
    if not env.startswith("aec:"):
        from playout.agents.rating.evaluation import evaluate_player

        player = game_player(run, options.which)
        simulations = options.simulations or 0
        return evaluate_player(player.with_simulations(simulations), options)
    trust_environment(env, run.path)
    games = make_games(env, 100 if options.episodes is None else options.episodes)
    learned = load(run, options.which)
    points = play_fixed(
        learned.policy,
        games,
        "random",
        options.seed,
        normalizer=learned.normalizer,
        deterministic=not options.stochastic,
    )
    games.close()
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
