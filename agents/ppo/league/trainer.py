"""Self-play by PPO: the learner against a pool of its past versions.

PPOTrainer does the learning; this adds the pool's upkeep (new versions, opponents of the next
rollout, ratings) and evaluation against fixed players. For native games and PettingZoo AEC
environments. Leaves out self-play by search (agents/alphazero).
"""

import copy
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from playout.agents.networks.actor_critic import build_policy
from playout.agents.networks.config import NetworkConfig
from playout.agents.networks.policy import Policy, as_policy
from playout.agents.players.player import Player
from playout.agents.ppo.config import CollectConfig, PPOConfig
from playout.agents.ppo.league.environments import LATEST, PoolEnvs, choose_moves
from playout.agents.ppo.league.exploit import move_probabilities, referee_of
from playout.agents.ppo.league.games import NativeGames, TurnBasedGames, make_games
from playout.agents.ppo.league.pool import Pool
from playout.agents.ppo.trainer import PPOTrainer
from playout.agents.runs import ranks
from playout.agents.runs.trainer import Trainer
from playout.agents.vector.episodes import derive_seed
from playout.agents.vector.normalize import ObsNormalizer
from playout.agents.vector.sources import EnvSource
from playout.agents.vector.spaces import rows_of
from playout.envs.core.game import StateBatch
from playout.errors import ConfigError
from torch import nn

_VERSIONS_A_RUN = 50
_EVALUATIONS_A_RUN = 20


class SelfPlayTrainer(Trainer):
    """Trains one policy against a pool of itself."""

    title, unit, best_metric = "PPO self-play", "moves", "eval/mean_reward"
    survives_faults = True

    def __init__(self, learner: PPOTrainer, envs: PoolEnvs, eval_games: TurnBasedGames) -> None:
        """`learner` learns in `envs`; evaluations are played on `eval_games`."""
        self.learner, self.envs, self.eval_games = learner, envs, eval_games
        self.pool = envs.pool
        rollout = envs.place.total * learner.collect.num_steps
        updates = max(1, learner.total_timesteps // rollout)
        self.version_every = max(1, updates // _VERSIONS_A_RUN)
        self.eval_every = learner.collect.eval_every or max(1, updates // _EVALUATIONS_A_RUN)
        self.recent: deque[float] = deque(maxlen=500)
        self.pool.add(learner.policy, 0)
        self.hidden = isinstance(eval_games, NativeGames) and eval_games.game.hidden
        self.referee = referee_of(eval_games.game) if isinstance(eval_games, NativeGames) else None
        self.last_evaluation: dict[str, float] = {}

    @property
    def policy(self) -> Policy:
        """The learner."""
        return self.learner.policy

    @property
    def progress(self) -> tuple[int, int]:
        """Moves of the learner, done and planned."""
        return self.learner.progress

    @property
    def finished(self) -> bool:
        """Whether the budget is spent."""
        return self.learner.steps >= self.learner.total_timesteps

    def update(self) -> dict[str, float]:
        """Draw opponents, play, learn, rate."""
        self.envs.choose()
        self.envs.results.clear()
        metrics = self.learner.update()
        for found in self.envs.results_of_all():
            if found.opponent != LATEST:
                self.pool.record(found.opponent, found.points)
                self.recent.append(found.points)
        metrics["selfplay/elo"] = self.pool.rate()
        if self.recent:
            metrics["selfplay/score_against_pool"] = float(np.mean(self.recent))
        if self.learner.updates % self.version_every == 0:
            full = len(self.pool.versions) >= self.pool.size
            self.pool.add(self.learner.policy, self.learner.updates)
            if full:
                self.envs.forget()
        metrics["selfplay/pool_size"] = float(len(self.pool.versions))
        return metrics

    def evaluate(self) -> dict[str, float]:
        """Score against players that do not change: random, and greedy for native games.

        Of a hidden game with a modest tree its exploitability as well, by which it is then judged.
        """
        if self.learner.updates % self.eval_every and not self.finished:
            return {}
        found = {}
        for name in fixed_opponents(self.eval_games):
            seed = derive_seed(self.learner.seed, "eval", name, self.learner.updates)
            points = play_fixed(
                self.learner.policy,
                self.eval_games,
                name,
                seed,
                normalizer=self.learner.normalizer,
                deterministic=not self.hidden,  # as its player plays, and `playout eval` measures
            )
            found[f"eval/score_against_{name}"] = float(points.mean())
        # From -1 (loses every game) to 1, as a game pays.
        found["eval/mean_reward"] = 2.0 * float(np.mean(list(found.values()))) - 1.0
        if self.referee is not None:
            lost = self.referee.exploitability(self._probabilities)
            found["eval/exploitability"] = lost
            # What it gets a game, in units of value_scale, from those who know it.
            found["eval/mean_reward"] = -lost / self.eval_games.value_scale
        self.last_evaluation = found
        return found

    def _probabilities(self, states: StateBatch) -> NDArray[np.float64]:
        return move_probabilities(self.learner.policy, states, self.learner.normalizer)

    def headline(self, metrics: dict[str, float]) -> dict[str, str]:
        """Rating and scores."""
        shown = {"Elo over its start": f"{metrics.get('selfplay/elo', 0.0):.0f}"}
        for key, value in self.last_evaluation.items():
            if "score" in key:
                shown[f"against {key.rpartition('_')[2]}"] = f"{100 * value:.0f} %"
        if "eval/exploitability" in self.last_evaluation:
            shown["exploitability"] = f"{self.last_evaluation['eval/exploitability']:.3f}"
        return shown

    def summary(self) -> str:
        """Moves, updates, rating and scores, on one line."""
        shown = self.headline({"selfplay/elo": self.pool.elo})
        text = ", ".join(f"{key} {value}" for key, value in shown.items())
        return f"{self.learner.steps:,} moves, {self.learner.updates} updates; {text}"

    def state_dict(self) -> dict[str, Any]:
        """The learner's state, the pool's and the counters."""
        return {
            **self.learner.state_dict(),
            "pool": self.pool.state_dict(),
            "recent": np.array(self.recent, np.float64),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`; the pool first, since running games need its versions."""
        self.pool.load_state_dict(state["pool"])
        self.learner.load_state_dict(state)
        self.recent.clear()
        self.recent.extend(state["recent"].tolist())

    def rank_state(self) -> dict[str, Any]:
        """The learner's."""
        return self.learner.rank_state()

    def load_rank_state(self, state: dict[str, Any]) -> None:
        """Continue from `rank_state`."""
        self.learner.load_rank_state(state)

    def deal_rank_states(self, parts: Sequence[dict[str, Any]]) -> str:
        """Begin new games."""
        self.learner.deal_rank_states(parts)
        return "games in play begin anew"

    def close(self) -> None:
        """Close the games."""
        self.learner.close()
        self.eval_games.close()


def fixed_opponents(games: TurnBasedGames) -> list[str]:
    """Who does not change and plays differently each time, so that no openings are needed."""
    looks_ahead = (
        isinstance(games, NativeGames) and games.num_players == 2 and not games.game.hidden
    )
    return ["random", "greedy"] if looks_ahead else ["random"]


def play_fixed(
    policy: Policy,
    games: TurnBasedGames,
    opponent: str,
    seed: int,
    *,
    normalizer: ObsNormalizer | None = None,
    deterministic: bool = False,
) -> NDArray[np.float64]:
    """Points (1, 0.5, 0) of one game on each board, the policy on every side equally often.

    Args:
        policy: The policy to be judged.
        games: Boards to play on; they are reset.
        opponent: "random", or for native games any player of players/load.py.
        seed: Of everything random.
        normalizer: The policy's statistics of observations, or None.
        deterministic: Take the most likely moves instead of sampling.
    """
    count = games.num_games
    rng = np.random.Generator(np.random.Philox(seed))
    generator = torch.Generator().manual_seed(seed)
    other: Player | None = None
    if opponent != "random":
        if not isinstance(games, NativeGames):
            raise ConfigError(f"only native games know the player {opponent!r}")
        from playout.agents.players.load import make_player

        other = make_player(opponent, games.game, seed=seed)
    sides = np.arange(count) % games.num_players
    games.reset(seed)
    while True:
        to_play = games.to_play()
        if (to_play < 0).all():
            break
        actions = np.zeros(count, np.int64)
        obs, masks = games.observe(), games.masks()
        own = np.flatnonzero(to_play == sides)
        if len(own):
            actions[own] = choose_moves(
                policy,
                rows_of(obs, own),
                masks[own],
                generator=generator,
                normalizer=normalizer,
                deterministic=deterministic,
            )
        rest = np.flatnonzero((to_play >= 0) & (to_play != sides))
        if len(rest) and other is not None and isinstance(games, NativeGames):
            actions[rest] = other.act(games.batch[rest])
        elif len(rest):
            actions[rest] = games.random_moves(masks[rest], rng)
        games.apply(actions, to_play >= 0)
    found = games.returns()[np.arange(count), sides]
    return 0.5 + 0.5 * np.sign(found.astype(np.float64))


def make_self_play(
    source: EnvSource,
    *,
    total_timesteps: int,
    seed: int,
    ppo: PPOConfig,
    network: NetworkConfig,
    collect: CollectConfig,
    threads: int = 0,
    device: str = "cpu",
    dtype: str = "auto",
    policy: nn.Module | None = None,
    begin: Callable[[Policy], None] | None = None,
) -> SelfPlayTrainer:
    """The trainer for self-play in a game.

    Args:
        source: As `make_games` takes it.
        total_timesteps: Moves of the learner to learn from.
        seed: Everything random derives from it.
        ppo: Options of the update.
        network: Architecture; without a memory.
        collect: Options of collection and evaluation.
        threads: For torch; 0 chooses by the size of the network.
        device: Where learner and opponents compute, as PPOTrainer takes it.
        dtype: What they compute in, as PPOTrainer takes it.
        policy: A policy of your own instead of one built from `network`.
        begin: Gives the policy the weights that it begins with, before it is kept as a version.
    """
    if network.recurrent != "none":
        raise ConfigError("self-play does not support recurrent policies")
    own, together = ranks.share(collect.num_envs, "games at once"), ranks.world() > 1
    first = own.start if together else None
    games = make_games(source, len(own), collect.env_options, first)
    try:
        eval_games = make_games(source, collect.eval_episodes, collect.env_options)
    except Exception:
        games.close()
        raise

    def build() -> Policy:
        if policy is not None:  # a past version of it is of its class
            return copy.deepcopy(learned)
        return build_policy(
            games.observation_space,
            games.action_space,
            network,
            seed=derive_seed(seed, "policy"),
        )

    learned = build() if policy is None else as_policy(policy)
    if begin is not None:
        begin(learned)
    pool = Pool(latest_share=collect.latest_share, seed=derive_seed(seed, "pool"))
    normalizer = None
    if collect.normalize_obs:
        normalizer = ObsNormalizer(games.observation_space, collect.clip_obs)
    envs = PoolEnvs(
        games,
        pool,
        learned,
        build,
        seed=derive_seed(seed, "opponents"),
        normalizer=normalizer,
        by_number=together,
    )
    learner = PPOTrainer(
        envs,
        lambda: envs,
        total_timesteps=total_timesteps,
        seed=seed,
        ppo=ppo,
        network=network,
        collect=collect,
        stop=False,
        threads=threads,
        device=device,
        dtype=dtype,
        policy=learned,
        normalizer=normalizer,
    )
    return SelfPlayTrainer(learner, envs, eval_games)
