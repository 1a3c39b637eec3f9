"""`Variant`: one of the games that a run learns, with its self-play, its replay and its evaluators.

Nearly every run learns one. Others are forms of the same game, of another komi or another board,
which one network answers alike (`on_board`); `turn` says when it is whose turn. Under several
ranks each has some of the groups of games, and a replay of what they bring. Left out: what is done
with games (trainer.py) and how a network knows several boards (networks/boards/resnet.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from playout.agents.alphazero.replay import CompactReplay, Replay, ReplayBuffer, TrainingBatch
from playout.agents.alphazero.selfplay import SelfPlay
from playout.agents.alphazero.selfplay.together import Outcome, Played, sum_up
from playout.agents.networks.boards.network import Board, BoardNetwork, on_board
from playout.agents.networks.boards.registry import new_network
from playout.agents.runs import ranks
from playout.envs.core.game import NativeGame
from playout.envs.core.registry import game as find_game
from playout.errors import CheckpointError, ConfigError
from playout.mcts.evaluators import Evaluator
from playout.mcts.hidden import refuse_self_play

GROUPS = "groups of games (--selfplay.num-groups)"
"""What games are shared out by among ranks."""


def game_texts(config: AlphaZeroConfig) -> list[str]:
    """All games that a run learns, as it stores them, the main one first."""
    return [config.game, *config.also]


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

    Attributes:
        brought: positions that self-play of all ranks has ever brought.
        held: positions that the replays of all ranks hold together.

    Raises:
        ConfigError: more ranks than groups of games.
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
            algorithm=config.selfplay.algorithm,
            c_scale=config.selfplay.c_scale,
            forced_playouts=config.selfplay.forced_playouts,
            max_legal=game.max_legal,
        )
        self._numbers = ranks.share(config.selfplay.num_groups, GROUPS)
        self.brought = self.held = 0
        self._rows = config.selfplay.num_trees * search.leaves_per_step  # of a group's questions
        self.network_evaluators: list[NetworkEvaluator] = []
        self._drawing: list[RandomSymmetryEvaluator] = []
        self.selfplay = SelfPlay(
            game,
            self.make_evaluators(net),
            config.selfplay,
            search=search,
            numbers=self._numbers,
            num_simulations=plan.num_simulations,
            seed=seed,
            keep_finals=keep_finals,
            keep_moves=config.compact_replay,
        )
        self.replay = self._new_replay(index, keep_finals=keep_finals)

    def _new_replay(self, index: int, *, keep_finals: bool) -> ReplayBuffer:
        """This rank's part of the replay; batches are drawn by a stream of its own."""
        config, seed, rank = self.config, self.seed, ranks.rank()
        capacity = len(ranks.share(config.replay_capacity, "positions of replay"))
        if rank:
            seed = int(np.random.default_rng([seed, 12, rank]).integers(2**62))
        if config.compact_replay:
            prefix = f"replay{index}" if index else "replay"
            return CompactReplay(
                self.game, capacity, seed=seed, keep_finals=keep_finals, prefix=prefix
            )
        return Replay(self.game, capacity, seed=seed, keep_finals=keep_finals)

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
            for _ in self._numbers
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

    def keep(self, outcome: Outcome) -> Played:
        """Adds what this rank has played to its replay; what all have played."""
        played = sum_up(outcome, self.replay)
        self.replay.add(outcome.examples)
        self.brought, self.held = self.brought + played.positions, played.held
        return played

    def window(self) -> int:
        """The newest positions that batches are drawn from, of all ranks' together."""
        config = self.config
        return max(config.min_window, int(config.window * self.brought))

    def batch(self, number: int, rows: range) -> TrainingBatch:
        """The `rows` of training batch `number` that are this rank's, of its own positions."""
        return self.replay.batch(number, len(rows), window=-(-self.window() // ranks.world()))

    def state_dict(self) -> dict[str, Any]:
        """Replay and games in play."""
        return {"replay": self.replay.state_dict(), "selfplay": self.selfplay.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any], parts: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave; `parts` is the whole state of the checkpoint."""
        self.replay.load_state_dict(state["replay"], parts)
        self.selfplay.load_state_dict(state["selfplay"])

    def deal(self, states: Sequence[Mapping[str, Any]], parts: Sequence[Mapping[str, Any]]) -> None:
        """Takes this rank's share of what another number of ranks had.

        Games in play go on where their groups are now. Positions are dealt out anew, and how many
        were brought before those that are left is known to `brought` alone.

        Args:
            states: of all of them in their order, as `state_dict` gave them.
            parts: what each one's replay takes as `parts`.
        """
        groups = [group for state in states for group in state["selfplay"]["groups"]]
        if len(groups) != self.config.selfplay.num_groups:
            raise CheckpointError("the checkpoint's games do not fit this configuration")
        self.selfplay.load_state_dict({"groups": [groups[number] for number in self._numbers]})
        self.replay.deal([state["replay"] for state in states], parts)


def final_lessons(config: AlphaZeroConfig, game: NativeGame) -> tuple[bool, bool]:
    """Whether networks learn what finished games teach of each cell, and of the game's own score.

    If either, games are kept with their last states.
    """
    learner = config.learner
    planes = learner.target_weight > 0 and game.target_planes > 0
    return planes, learner.score_weight > 0 and game.has_score


def new_networks(config: AlphaZeroConfig, game: NativeGame, *, seed: int) -> list[BoardNetwork]:
    """The fresh networks of a run, in the order in which they play.

    Args:
        config: of the run.
        game: the main one.
        seed: of the run.
    """
    planes, scores = final_lessons(config, game)
    weights_seed = int(np.random.default_rng([seed, 6]).integers(2**62))
    return [
        new_network(
            game,
            plan.size,
            network=config.network,
            pooling=config.pooling,
            heads=config.heads,
            planes=planes,
            scores=scores,
            boards=also_boards(config, game),
            seed=weights_seed,
        )
        for plan in config.networks
    ]


def count_together(variants: Sequence[Variant]) -> None:
    """Tells every game what the ranks hold together, by one message."""
    held = [float(len(variant.replay)) for variant in variants]
    added = [float(variant.replay.num_added) for variant in variants]
    found = ranks.sums([*held, *added, *(float(not size) for size in held)])
    for index, variant in enumerate(variants):
        size, brought, without = (int(value) for value in found[index :: len(variants)])
        variant.held = 0 if without else size
        variant.brought = max(variant.brought, brought)


def brought_by(variants: Sequence[Variant]) -> dict[str, Any]:
    """For a checkpoint: what was brought, where its replays do not say that by themselves."""
    brought = [variant.brought for variant in variants]
    known = [variant.replay.num_added for variant in variants]
    told = ranks.world() > 1 or any(a > b for a, b in zip(brought, known, strict=True))
    return {"positions": brought} if told else {}


def parts_of(variants: Sequence[Variant]) -> dict[str, Any]:
    """For a checkpoint: parts of replays, and other forms of the game, where there are some."""
    found: dict[str, Any] = {}
    for variant in variants:
        found.update(variant.replay.parts())
    if len(variants) > 1:
        found["also"] = [variant.state_dict() for variant in variants[1:]]
    return found


def load_variants(variants: Sequence[Variant], state: Mapping[str, Any]) -> None:
    """Replays and games in play as this rank has saved them, the main game on the top level."""
    for variant, part in zip(variants, _of_games(state), strict=True):
        variant.load_state_dict(part, state)


def deal_variants(variants: Sequence[Variant], states: Sequence[Mapping[str, Any]]) -> None:
    """Shares out what another number of ranks had, each its state, among fresh games.

    Raises:
        CheckpointError: they do not fit the configuration.
    """
    states = [*states]  # they may be read when they are asked for, each time anew
    of_games = zip(*(_of_games(state) for state in states), strict=True)
    for variant, parts in zip(variants, of_games, strict=True):
        variant.deal(parts, states)


def _of_games(state: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [state, *state.get("also", [])]
