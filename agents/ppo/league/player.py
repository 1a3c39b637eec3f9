"""A policy of PPO as a player of one of playout's games, and how `eval` measures it.

Moves are the policy's own, or those of a tree search that asks it about its leaves. Native games go
through the same tables and boards as AlphaZero runs; PettingZoo environments, which know no such
players, are measured against random play.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from playout.agents.networks.policy import map_tree
from playout.agents.players.analysis import Judge, policy_judge
from playout.agents.players.learned import must_be_variant
from playout.agents.players.player import Actions, RunPlayer
from playout.agents.players.search import SearchPlayer, playing_search
from playout.agents.ppo.league.exploit import move_probabilities, referee_of, tells_logits
from playout.agents.ppo.league.games import NativeGames, make_games, native_game
from playout.agents.ppo.league.trainer import fixed_opponents, play_fixed
from playout.agents.ppo.player import PPOPlayer, collect_config, learned_source, load
from playout.agents.ppo.rollout import to_tensors
from playout.agents.rating.intervals import mean_interval
from playout.agents.runs.checkpoint.chosen import choose_checkpoint, tell_checkpoint
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import EvalOptions
from playout.agents.runs.options import DEFAULT_MACHINE, MachineOptions
from playout.agents.runs.reporting import note_found
from playout.agents.runs.signals import Interrupted
from playout.agents.vector.sources import Source
from playout.envs.core.game import NativeGame, StateBatch
from playout.envs.core.registry import game_text
from playout.errors import ConfigError, GameError, RunError
from playout.mcts.evaluators import Evaluation, Evaluator, LeafBatch
from torch import nn

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
        self.temperature = 1.0 if game.hidden else 0.0  # what is certain is exploited

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

    def probabilities(self, states: StateBatch) -> NDArray[np.float64]:
        """float64 [B, A]: what the policy plays by itself in B positions."""
        if getattr(self.player.policy, "recurrent", False):
            raise ConfigError(f"{self.name} has a memory: its moves depend on more than a position")
        return move_probabilities(self.player.policy, states, self.player.normalizer)

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
        """Logits [M, A] and values [M], of more than two players [M, P]."""
        policy, size = self.player.policy, leaves.size
        assert leaves.obs is not None
        raw = np.ascontiguousarray(leaves.obs[:size])
        seen = raw if self.player.normalizer is None else self.player.normalizer(raw)
        device = self.player.device
        obs = to_tensors(seen, device)
        logits: NDArray[np.float32]
        values: NDArray[np.float32]
        if tells_logits(policy):
            logits, values = (x.cpu().numpy() for x in policy.answer(obs))
        else:
            mask = to_tensors(leaves.mask[:size].astype(bool), device)
            state = map_tree(lambda x: x.to(device), policy.initial_state(size))
            step = policy.step(obs, state, mask, deterministic=True)
            logits = np.zeros((size, leaves.game.num_actions), np.float32)
            logits[np.arange(size), step.action.cpu().numpy()] = _CHOSEN_LOGIT
            values = step.value.cpu().numpy()
        own = values.clip(-1.0, 1.0)
        players = leaves.game.num_players
        if players <= 2:
            return logits, own
        # A policy knows the return of the side to move alone: the others are taken to share what
        # it does not get, as in a zero-sum game.
        rest = (-own / (players - 1)).astype(np.float32)
        everyone = np.repeat(rest[:, None], players, axis=1)
        everyone[np.arange(size), leaves.to_play[:size]] = own
        return logits, everyone


def game_of(run: RunDir, game: object | None = None) -> NativeGame | None:
    """The game of playout's, or behind its table, that a run has learned; None if it is another.

    Args:
        run: The run.
        game: The game itself, where the run cannot name it.
    """
    if isinstance(game, NativeGame):
        return game
    source = learned_source(run, game)
    try:
        return native_game(source)
    except (ConfigError, GameError):
        return None


def game_player(
    run: RunDir,
    which: str | int = "best",
    game: NativeGame | None = None,
    *,
    machine: MachineOptions = DEFAULT_MACHINE,
) -> PolicyPlayer:
    """The player of a run that has learned a game; see players/load.py."""
    chosen = game if game is not None else game_of(run)
    if chosen is None:
        raise RunError(
            f"{run.path} learned {run.config['env']}, which is not one of playout's games"
        )
    return _at_game(run, load(run, which, machine=machine), chosen)


def _at_game(run: RunDir, player: PPOPlayer, chosen: NativeGame) -> PolicyPlayer:
    """What a run has learned as a player of that game.

    Raises:
        ConfigError: The game has other spaces, or is another one.
    """
    board = spaces.Box(-np.inf, np.inf, chosen.obs_shape, np.float32)
    try:
        player.must_fit(board, spaces.Discrete(chosen.num_actions))
    except ConfigError as error:
        raise ConfigError(
            f"{run.path} has learned {run.config['env']}, it cannot play {chosen}"
        ) from error
    _must_be_learned(run, chosen)
    return PolicyPlayer(player, chosen, run.path.name)


def _must_be_learned(run: RunDir, chosen: NativeGame) -> None:
    """Refuses other games on boards of the same shape; other rules of the same game are told of."""
    text = str(run.config["env"])
    if ":" in text and text in (game_text(chosen), str(chosen)):  # its code need not run for that
        return
    try:
        known = game_of(run)
    except RunError:  # it was made in Python, and has no name
        return
    if known is None:
        raise ConfigError(f"{run.path} has learned {text}, not {chosen}")
    if known != chosen:
        must_be_variant(run, chosen, [known])


def evaluate_games(
    run: RunDir, source: Source, options: EvalOptions, *, policy: nn.Module | None = None
) -> dict[str, Any]:
    """Points from the beginning of the game; of playout's games ratings with intervals as well."""
    chosen, options = choose_checkpoint(run, options)
    learned = load(run, options.which, machine=options, policy=policy)
    count = 100 if options.episodes is None else options.episodes
    games = make_games(source, count, collect_config(run).env_options)
    found = []
    try:
        player = None
        if isinstance(games, NativeGames):
            player = _at_game(run, learned, games.game)
        else:
            names = ("opponents", "simulations")
            options.refuse_unused(*names, where=f"for {source.text}, whom none of them plays")
        about = tell_checkpoint(run, chosen)
        for name in fixed_opponents(games):
            points = play_fixed(
                learned.policy,
                games,
                name,
                options.seed,
                normalizer=learned.normalizer,
                deterministic=not (options.stochastic or (player and player.game.hidden)),
            )
            found.append(_points(name, points))
    except Interrupted:
        if found:
            _told(source.text, count, found)
        raise
    finally:
        games.close()
    result = about | _told(source.text, count, found)
    if player is not None:
        from playout.agents.rating.evaluation import evaluate_player

        result |= _exploited(player)
        player.temperature = 1.0 if options.stochastic or player.game.hidden else 0.0
        rated = player.with_simulations(options.simulations or 0)
        print("Ratings, after random openings:")
        result |= evaluate_player(rated, options)
    return result


def _told(env: str, count: int, found: list[dict[str, Any]]) -> dict[str, Any]:
    """Points from the beginning, printed, noted and as plain data."""
    print(
        f"{env}, {count} games from the beginning, points "
        + ", ".join(
            f"against {one['opponent']} play {100 * one['score']:.1f} ± {100 * one['ci95']:.1f} %"
            for one in found
        )
    )
    result = {"env": env, "from_the_beginning": found, **found[0]}
    note_found(result)
    return result


def _exploited(player: PolicyPlayer) -> dict[str, float]:
    """How much the policy loses to whoever knows it; nothing where that cannot be found out."""
    referee = referee_of(player.game)
    if referee is None:
        return {}
    lost = referee.nash_conv(player)
    share = lost / player.game.num_players
    print(f"Exploitability {share:.4f} a game (NashConv {lost:.4f}); 0 is an equilibrium")
    return {"exploitability": share, "nash_conv": lost}


def _points(opponent: str, points: NDArray[np.float64]) -> dict[str, Any]:
    mean, _, high = mean_interval(points.tolist())
    return {"opponent": opponent, "games": len(points), "score": mean, "ci95": high - mean}
