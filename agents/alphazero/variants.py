"""`Variant`: one of the games that a run learns, with its self-play, its replay and its evaluators.

Nearly every run learns one. Others are forms of the same game, of another komi or another board,
which one network answers alike (`on_board`); `turn` says when it is whose turn. Left out: what is
done with games (trainer.py) and how a network knows several boards (networks/boards/resnet.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from playout.agents.alphazero.config import AlphaZeroConfig, NetworkPlan, selfplay_search
from playout.agents.alphazero.evaluator import (
    NetworkEvaluator,
    RandomSymmetryEvaluator,
    StoppableEvaluator,
    chunk_for,
)
from playout.agents.alphazero.proofs import TacticalEvaluator
from playout.agents.alphazero.replay import CompactReplay, Replay, ReplayBuffer
from playout.agents.alphazero.selfplay import SelfPlay
from playout.agents.networks.boards.network import Board, BoardNetwork, on_board
from playout.envs.core.game import NativeGame
from playout.envs.core.registry import game as find_game
from playout.errors import ConfigError
from playout.mcts.evaluators import Evaluator
from playout.mcts.hidden import refuse_self_play


def also_games(config: AlphaZeroConfig, game: NativeGame) -> list[NativeGame]:
    """The other forms of the game that a run learns.

    Raises:
        ConfigError: one network cannot learn it together with the main game.
    """
    found = [find_game(text) for text in config.also]
    for one in found:
        refuse_self_play(one)
        same = (
            one.obs_shape[0] == game.obs_shape[0]
            and one.num_players == game.num_players
            and one.zero_sum == game.zero_sum
            and one.side_planes == game.side_planes
            and one.target_planes == game.target_planes
        )
        if not same:
            raise ConfigError(f"one network cannot learn {game} and {one}: their planes differ")
    return found


def also_boards(config: AlphaZeroConfig, game: NativeGame) -> tuple[Board, ...]:
    """The boards of the other forms, (rows, columns, actions), where they are not the game's."""
    boards = [(*one.obs_shape[1:], one.num_actions) for one in also_games(config, game)]
    own = (*game.obs_shape[1:], game.num_actions)
    return tuple(dict.fromkeys(board for board in boards if board != own))


def turn(number: int, share: float, others: int) -> int:
    """Whose turn event `number` of a sequence is: 0 for the main game, else 1 to `others`.

    The others have `share` of all events, spread evenly, one after the other.
    """
    count = int((number + 1) * share)
    if not others or count == int(number * share):
        return 0
    return 1 + (count - 1) % others


class Variant:
    """A game of a run.

    Args:
        game: what is played.
        config: of the run.
        index: its number; 0 is the main game.
        net: the network that plays first ...
        plan: ... and how.
        seed: of the run.
        device: where networks play.
        keep_finals: whether replay remembers how games ended.
        must_stop: whether nobody waits for the answers of evaluators any more.
    """

    def __init__(
        self,
        game: NativeGame,
        config: AlphaZeroConfig,
        *,
        index: int,
        net: BoardNetwork,
        plan: NetworkPlan,
        seed: int,
        device: torch.device,
        keep_finals: bool,
        must_stop: Callable[[], bool],
    ) -> None:
        self.game, self.config, self.device = game, config, device
        self._must_stop = must_stop
        if index:
            seed = int(np.random.default_rng([seed, 9, index]).integers(2**62))
        self.seed = seed
        search = selfplay_search(
            config.selfplay.num_simulations,
            cache_size=config.cache_size,
            threads=config.selfplay.search_threads,
            rescale_q=game.step_rewards,
        )
        self._rows = config.selfplay.num_trees * search.leaves_per_step  # of a group's questions
        self.network_evaluators: list[NetworkEvaluator] = []
        self._drawing: list[RandomSymmetryEvaluator] = []
        self.selfplay = SelfPlay(
            game,
            self.make_evaluators(net),
            config.selfplay,
            search=search,
            num_simulations=plan.num_simulations,
            seed=seed,
            keep_finals=keep_finals,
            keep_moves=config.compact_replay,
        )
        self.replay: ReplayBuffer
        if config.compact_replay:
            prefix = f"replay{index}" if index else "replay"
            self.replay = CompactReplay(
                game, config.replay_capacity, seed=seed, keep_finals=keep_finals, prefix=prefix
            )
        else:
            self.replay = Replay(game, config.replay_capacity, seed=seed, keep_finals=keep_finals)

    def make_evaluators(self, net: BoardNetwork) -> list[Evaluator]:
        """Evaluators for a network that begins to play, one a group."""
        config, own = self.config, on_board(net, self.game.obs_shape, self.game.num_actions)
        self.network_evaluators = [
            NetworkEvaluator(
                own,
                device=self.device,
                dtype=config.infer_dtype,
                chunk=chunk_for(self._rows, self.device),
            )
            for _ in range(config.selfplay.num_groups)
        ]
        answering: Sequence[Evaluator] = self.network_evaluators
        if config.selfplay.random_symmetry:
            answering = self._drawing = [
                RandomSymmetryEvaluator(one, self.game, seed=self.seed)
                for one in self.network_evaluators
            ]
        found: list[Evaluator] = [
            TacticalEvaluator(
                one, self.game, proof_nodes=config.leaf_proof_nodes, tactics=config.tactics
            )
            for one in answering
        ]
        if config.overlap:  # the network learns meanwhile: an update cannot end early
            return found
        return [StoppableEvaluator(one, self._must_stop) for one in found]

    def assign(self, net: BoardNetwork, plan: NetworkPlan) -> None:
        """Another network plays from now on."""
        self.selfplay.assign_evaluators(
            self.make_evaluators(net), num_simulations=plan.num_simulations
        )

    def refresh(self, net: BoardNetwork, update: int) -> None:
        """Hands the newest weights to self-play, before the update of that number."""
        own = on_board(net, self.game.obs_shape, self.game.num_actions)
        for evaluator in self.network_evaluators:
            evaluator.refresh(own)
        for drawing in self._drawing:
            drawing.number = update

    def state_dict(self) -> dict[str, Any]:
        """Replay and games in play."""
        return {"replay": self.replay.state_dict(), "selfplay": self.selfplay.state_dict()}

    def load_state_dict(self, state: dict[str, Any], parts: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave; `parts` is the whole state of the checkpoint."""
        self.replay.load_state_dict(state["replay"], parts)
        self.selfplay.load_state_dict(state["selfplay"])
