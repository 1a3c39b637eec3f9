"""AlphaZero's loop as a Trainer: self-play, replay, gradient steps, evaluation.

One update plays until the network has answered a fixed number of questions, then makes a fixed
number of gradient steps, so that its cost hardly depends on how well caches work or how long games
are. The averaged network plays, the other learns. Nothing here reads a clock except `time/*`
metrics. The command (commands/alphazero.py) chooses sizes for a budget in minutes; rating against
opponents stands in evaluation.py.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from playout.agents.alphazero.evaluation import Strength, teach_config
from playout.agents.alphazero.evaluator import NetworkEvaluator, choose_device, choose_dtype
from playout.agents.alphazero.learner import Learner, LearnerConfig, mean_metrics
from playout.agents.alphazero.proofs import PROOF_NODES, LookaheadEvaluator
from playout.agents.alphazero.replay import Replay
from playout.agents.alphazero.selfplay import Counts, SelfPlay, SelfPlayConfig
from playout.agents.networks.resnet import ResNet, build
from playout.agents.runs.trainer import Trainer
from playout.envs.core.game import NativeGame
from playout.envs.core.registry import game as find_game
from playout.errors import CheckpointError, ConfigError
from playout.mcts.evaluators import Evaluator
from playout.mcts.search import SearchConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class AlphaZeroConfig:
    """Everything that a run depends on besides its seed.

    Attributes:
        game: name, with parameters in brackets.
        size: "tiny", "small", "base", "large" or CHANNELSxBLOCKS.
        pooling: global pooling in every second block.
        first_size: a smaller network that plays and learns first, "" for none. It makes games
            faster while there is much to learn from each; then the other learns from them and
            takes over.
        first_evaluations: as `evaluations`, while the first network plays.
        first_steps: as `steps`, while the first network learns.
        first_simulations: of a full search, while the first network plays; None as ever after.
        grow_at: when the second network begins to play, as a share of the run.
        teach: for how long before that it learns alone, as a share of the run.
        updates: length of the run in updates, or None ...
        games: ... and the games to finish instead.
        evaluations: the network's answers in the self-play of one update.
        steps: gradient steps of one update.
        replay_capacity: positions kept.
        window: the share of all positions so far that batches are drawn from ...
        least_window: ... but not fewer than these, nor more than the capacity.
        warmup_positions: no gradient step before so many positions are there.
        eval_simulations: of the search that is rated.
        eval_positions: scored positions an evaluation looks at.
        eval_games: games against each anchor.
        lookahead: self-play's search sees how the game ends where that is near (proofs.py) ...
        leaf_proof_nodes: ... by alpha-beta of so many nodes a leaf, in games with a quick solver; 0
            leaves it at two plies.
        infer_dtype: dtype of the network that plays, "auto" for the processor's best.
        cache_size: evaluations each group of trees remembers within an update.
    """

    game: str = "connect_four"
    size: str = "base"
    pooling: bool = False
    first_size: str = ""
    first_evaluations: int = 32768
    first_steps: int = 48
    first_simulations: int | None = None
    grow_at: float = 0.2
    teach: float = 0.12
    updates: int | None = None
    games: int | None = None
    evaluations: int = 32768
    steps: int = 48
    replay_capacity: int = 500_000
    window: float = 0.5
    least_window: int = 50_000
    warmup_positions: int = 4096
    eval_simulations: int = 128
    eval_positions: int = 400
    eval_games: int = 40
    lookahead: bool = True
    leaf_proof_nodes: int = PROOF_NODES
    infer_dtype: str = "auto"
    cache_size: int = 1 << 17
    selfplay: SelfPlayConfig = field(default_factory=SelfPlayConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)

    def __post_init__(self) -> None:
        if (self.updates is None) == (self.games is None):
            raise ConfigError("give either updates or games as the length of the run")
        if (self.updates or self.games or 0) < 1:
            raise ConfigError("a run needs at least one update or game")
        for name in ("evaluations", "steps", "replay_capacity", "least_window"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.teach <= self.grow_at < 1 or self.grow_at == 0:
            raise ConfigError("grow_at must be in (0, 1) and teach not larger")
        if self.leaf_proof_nodes < 0:
            raise ConfigError(f"leaf_proof_nodes must not be negative, not {self.leaf_proof_nodes}")
        if not 0 < self.window <= 1:
            raise ConfigError(f"window must be in (0, 1], not {self.window}")

    def resolved(self) -> AlphaZeroConfig:
        """The same with "auto" settled for this machine, to be stored with the run."""
        dtype = choose_dtype(choose_device()) if self.infer_dtype == "auto" else self.infer_dtype
        return replace(self, infer_dtype=dtype)


def search_config(config: AlphaZeroConfig) -> SearchConfig:
    """The search of self-play: Gumbel with its noise, a cache and proven results."""
    return replace(teach_config(config.selfplay.num_simulations), cache_size=config.cache_size)


class AlphaZeroTrainer(Trainer):
    """Learns a game by playing against itself.

    Args:
        config: see AlphaZeroConfig; store `config.resolved()` where runs are to be resumed.
        seed: names all random streams.
    """

    best_metric = "eval/mean_share"

    def __init__(self, config: AlphaZeroConfig, *, seed: int = 0) -> None:
        self.config = config = config.resolved()
        self.seed = seed
        self.game: NativeGame = find_game(config.game)
        self.unit = "games" if config.updates is None else "updates"
        self.title = f"alphazero {self.game.name}"
        sizes = [config.first_size, config.size] if config.first_size else [config.size]
        self.learners = [
            Learner(
                new_network(self.game, config, size, seed=seed),
                config.learner,
                device=choose_device(),
            )
            for size in sizes
        ]
        seats = self._seat(0)
        self.selfplay = SelfPlay(
            self.game, seats, config.selfplay, search=search_config(config), seed=seed
        )
        self.selfplay.seat(seats, simulations=self._simulations(0))
        num_values = self.game.num_players if self.game.num_players > 2 else 1
        self.replay = Replay(self.game, config.replay_capacity, num_values=num_values, seed=seed)
        self.updates = 0
        # (from this update on, so many are planned): a plan may change while it is carried out.
        self.plan: list[tuple[int, int]] = [(0, config.updates or 0)]
        self.totals = Counts()
        self._strength: Strength | None = None

    @property
    def progress(self) -> tuple[int, int]:
        """Updates, or games, done and planned."""
        if self.config.updates is not None:
            planned = [total for start, total in self.plan if start <= self.updates]
            return self.updates, planned[-1]
        return min(self.totals.games, self.config.games or 0), self.config.games or 0

    @property
    def finished(self) -> bool:
        """Whether the whole run is done."""
        return self.progress[0] >= self.progress[1]

    def _phase(self) -> tuple[int, int]:
        """Which network plays and which one learns."""
        config, done = self.config, self.progress[0] / self.progress[1]
        if len(self.learners) == 1:
            return 0, 0
        return int(done >= config.grow_at), int(done >= config.grow_at - config.teach)

    def _seat(self, playing: int) -> list[Evaluator]:
        """Evaluators for a network that begins to play, one a group."""
        config, self._playing = self.config, playing
        self._evaluators = [
            NetworkEvaluator(self.learners[playing].average, dtype=config.infer_dtype)
            for _ in range(config.selfplay.num_groups)
        ]
        if not config.lookahead:
            return list(self._evaluators)
        nodes = config.leaf_proof_nodes
        return [LookaheadEvaluator(one, self.game, proof_nodes=nodes) for one in self._evaluators]

    def _refresh(self) -> Learner:
        """Hands newest weights to self-play; returns the learner of the network that plays."""
        playing, _ = self._phase()
        if playing != self._playing:
            self.selfplay.seat(self._seat(playing), simulations=self._simulations(playing))
        for evaluator in self._evaluators:
            evaluator.refresh(self.learners[playing].average)
        return self.learners[playing]

    def update(self) -> dict[str, float]:
        """Some moves of self-play, then some gradient steps."""
        start = time.perf_counter()
        self._refresh()
        examples, counts = self.selfplay.play(self._amounts(self._playing)[0])
        self.replay.add(examples)
        self.totals.add(counts)
        played = time.perf_counter()
        learned = self._learn()
        end = time.perf_counter()
        self.updates += 1
        return {
            **self._play_metrics(counts, len(examples)),
            **learned,
            "time/selfplay_s": played - start,
            "time/train_s": end - played,
            "time/games_per_s": counts.games / max(played - start, 1e-9),
            "time/evaluations_per_s": counts.evaluations / max(played - start, 1e-9),
            "time/sims_per_s": counts.simulations / max(played - start, 1e-9),
        }

    def _learn(self) -> dict[str, float]:
        config = self.config
        if len(self.replay) < min(config.warmup_positions, config.replay_capacity):
            return {}
        window = max(config.least_window, int(config.window * self.replay.num_added))
        rows = []
        pupil = self._phase()[1]
        learner, done = self.learners[pupil], self._schooling(pupil)
        for _ in range(self._amounts(pupil)[1]):
            number = sum(one.steps for one in self.learners)
            batch = self.replay.batch(number, config.learner.batch_size, window=window)
            rows.append(learner.step(batch, done=done))
        return {**mean_metrics(rows), "train/window": float(min(window, len(self.replay)))}

    def _amounts(self, index: int) -> tuple[int, int]:
        """Evaluations and gradient steps of an update, by network."""
        config = self.config
        if index < len(self.learners) - 1:
            return config.first_evaluations, config.first_steps
        return config.evaluations, config.steps

    def _simulations(self, index: int) -> int:
        """Simulations a move, by network."""
        first, later = self.config.first_simulations, self.config.selfplay.num_simulations
        return first if first and index < len(self.learners) - 1 else later

    def _schooling(self, index: int) -> float:
        """How much of its time to learn a network has behind, 0 to 1."""
        config, done = self.config, self.progress[0] / self.progress[1]
        if len(self.learners) == 1:
            return done
        change = config.grow_at - config.teach
        return done / change if index == 0 else (done - change) / (1 - change)

    def _play_metrics(self, counts: Counts, examples: int) -> dict[str, float]:
        games, moves = max(counts.games, 1), max(counts.moves, 1)
        return {
            "selfplay/games": float(self.totals.games),
            "selfplay/positions": float(self.replay.num_added),
            "selfplay/examples": float(examples),
            "selfplay/game_length": examples / games,
            "selfplay/first_player_wins": counts.first_wins / games,
            "selfplay/draws": counts.draws / games,
            "search/evaluations": float(self.totals.evaluations),
            "search/evaluations_per_move": counts.evaluations / moves,
            "search/proven_share": counts.proven / moves,
        }

    def evaluate(self) -> dict[str, float]:
        """Shares of good moves and results against fixed anchors, of the averaged network."""
        config = self.config
        if self._strength is None:
            self._strength = Strength(
                self.game,
                simulations=config.eval_simulations,
                positions=config.eval_positions,
                games=config.eval_games,
                proofs=config.lookahead and config.leaf_proof_nodes > 0,
                seed=self.seed,
            )
        network = NetworkEvaluator(
            self._refresh().average, dtype=config.infer_dtype, threads=config.selfplay.num_groups
        )
        return self._strength.measure(network)

    def headline(self, metrics: dict[str, float]) -> dict[str, str]:
        """The numbers that tell a person whether it learns."""
        shown = {"games": f"{self.totals.games:,}"}
        for key, label in (("train/policy_loss", "policy"), ("train/value_loss", "value")):
            if key in metrics:
                shown[label] = f"{metrics[key]:.3f}"
        for key, label in (
            ("eval/policy_optimal_share", "optimal (policy)"),
            ("eval/optimal_move_share", "optimal (search)"),
            ("eval/score_uct500", "against uct:500"),
        ):
            if key in metrics:
                shown[label] = f"{metrics[key]:.1%}"
        return shown

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimiser, replay, games in play, counters."""
        player = self._refresh()
        return {
            "model": dict(player.average.state_dict()),
            "network": player.net.config.to_dict(),
            "learners": [learner.state_dict() for learner in self.learners],
            "replay": self.replay.state_dict(),
            "selfplay": self.selfplay.state_dict(),
            "updates": self.updates,
            "totals": {name: getattr(self.totals, name) for name in Counts.__slots__},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from what `state_dict` gave."""
        stored = [part["network"] for part in state["learners"]]
        if stored != [learner.net.config.to_dict() for learner in self.learners]:
            raise CheckpointError(
                "the checkpoint's network has another shape than this configuration's"
            )
        for learner, part in zip(self.learners, state["learners"], strict=True):
            learner.load_state_dict(part)
        self.replay.load_state_dict(state["replay"])
        self.selfplay.load_state_dict(state["selfplay"])
        self.updates = int(state["updates"])
        self.totals = Counts(**{name: int(number) for name, number in state["totals"].items()})


def new_network(game: NativeGame, config: AlphaZeroConfig, size: str, *, seed: int) -> ResNet:
    """A fresh network for a game."""
    weights_seed = int(np.random.default_rng([seed, 6]).integers(2**62))
    return build(
        game.obs_shape,
        game.num_actions,
        size=size,
        num_players=game.num_players,
        pooling=config.pooling,
        seed=weights_seed,
    )
