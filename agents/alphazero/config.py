"""Every setting of an AlphaZero run, and the searches that follow from them.

`AlphaZeroConfig` holds the run, `SelfPlayConfig` how games are played, `LearnerConfig` how networks
learn; all are frozen and checked when they are made. Left out: settings by their names, and those
of stored runs (settings.py); which ones suit a game and a time (budget/). No torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from playout.agents.optim.names import check_optimizer
from playout.errors import ConfigError
from playout.mcts.exact.solver import END_NODES
from playout.mcts.exact.tactics import Tactics
from playout.mcts.search import SearchConfig
from tyro.conf import Suppress, arg

LEAF_PROOF_NODES = 300
"""Alpha-beta's effort at a leaf: 10 us on average, half of what a small network takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfPlayConfig:
    """How games are played.

    Attributes:
        num_groups: groups of trees, each on a thread of its own.
        num_trees: games at once in a group.
        search_threads: threads that descend in a group's trees.
        num_simulations: of a move's search.
        algorithm: of the search: "gumbel", or "puct", which draws the first moves of a game by its
            visits and learns their shares; it wants more simulations.
        c_scale: with "gumbel", weight of the search's values in the policy that it teaches, where
            values are results of games: small, and policies stay broad and change slowly; large,
            and early errors of the values are learned by heart (SearchConfig.c_scale).
        forced_playouts: with "puct", what a move that was tried gets at least, as in SearchConfig
            (Wu 2019, section 3.2, with 2); 0: none.
        opening_share: share of games that start from a random position; what the others play, many
            of them play alike.
        opening_plies: the most random plies before such a game.
        explore_plies: moves chosen with the search's noise; later ones are the best found.
        stop_proven: a game ends as soon as the search has proven its result.
        value_mix: share of the search's value in a value target, against what followed.
        regret_threshold: a move worse than the best found by more than this was exploration: what
            followed it is no value target.
        proof_nodes: effort to prove a position, in games that bring a prover and say how many plies
            are left; 0 leaves all to the search.
        proof_plies: it tries where at most so many plies are left.
        continue_proven: the chance, ply by ply, that a proven game goes on for its exact examples.
        policy_moves: moves kept of a policy target, the likeliest; 0 keeps all that have a
            probability. For games of hundreds of legal moves, whose replay it makes smaller.
        fast_share: share of moves that are searched briefly and without noise, to get on with the
            game, and teach nothing (playout-cap randomisation; Wu 2019, section 3.1) ...
        fast_simulations: ... and simulations of such a search; 0 stands for a quarter.
        surprise_weight: share of the policy's weight that goes to positions by how far the search
            has moved from the network's own policy (policy-surprise weighting), 0 to 1.
        resign_below: a game ends when the search's value for the side to move has been below this
            for three of its moves in a row; -1: never. For zero-sum games of two players.
        resign_check: share of games that are played on to see how often that would be wrong.
        random_symmetry: the network sees each position through one of the board's symmetries, drawn
            for it, instead of as it stands.
    """

    num_groups: int = 2
    num_trees: int = 128
    search_threads: int = 1
    num_simulations: int = 16
    algorithm: Literal["gumbel", "puct"] = "gumbel"
    c_scale: float = 0.1
    forced_playouts: float = 0.0
    opening_share: float = 0.5
    opening_plies: int = 12
    explore_plies: int = 6
    stop_proven: bool = True
    value_mix: float = 0.05
    regret_threshold: float = 0.2
    proof_nodes: int = END_NODES
    proof_plies: int = 16
    continue_proven: float = 0.8
    policy_moves: int = 0
    fast_share: float = 0.0
    fast_simulations: int = 0
    surprise_weight: float = 0.0
    resign_below: float = -1.0
    resign_check: float = 0.1
    random_symmetry: bool = False

    def __post_init__(self) -> None:
        _check_at_least(self, 1, "num_groups", "num_trees", "num_simulations", "search_threads")
        _check_at_least(self, 0, "opening_plies", "proof_nodes", "proof_plies", "policy_moves")
        _check_at_least(self, 0, "fast_simulations", "explore_plies")
        shares = ("opening_share", "value_mix", "continue_proven", "surprise_weight")
        for name in (*shares, "fast_share", "resign_check"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be from 0 to 1, not {getattr(self, name)}")
        if not 0 <= self.c_scale <= 1000:
            raise ConfigError(f"c_scale must be from 0 to 1000, not {self.c_scale}")
        if not 0 <= self.forced_playouts <= 1000:
            raise ConfigError(f"forced_playouts must be from 0 to 1000, not {self.forced_playouts}")
        if self.forced_playouts and self.algorithm != "puct":
            raise ConfigError('forced_playouts go with algorithm "puct"')
        if self.fast_share == 1:
            raise ConfigError("fast_share must be less than 1: nothing would be learned")
        if not -1 <= self.resign_below < 0:
            raise ConfigError(f"resign_below must be from -1 to 0, not {self.resign_below}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerConfig:
    """How a network learns.

    Attributes:
        batch_size: rows a gradient step.
        num_shards: parts of a batch that are computed at the same time, each on its own thread.
        optimizer: "muon" for convolutions with AdamW for the rest; "adamw", "adam", "momentum" or
            "sgd" for all.
        learning_rate: the peak, reached after the warm-up, of a network of 32 channels; wider ones
            take shorter steps, by the root of their width.
        trunk_rate: with --init, the share of the learning rate for the weights below the heads that
            were begun from; 0 leaves them as they are.
        warmup: share of the run over which the rate rises to it.
        final_rate: the last rate as a share of the peak; between them a half cosine.
        weight_decay: of matrices and convolutions, decoupled.
        max_grad_norm: gradients longer than this are shortened to it.
        value_weight: of the value loss against the policy loss.
        target_weight: of the loss of planes that finished games teach, such as who owns each cell,
            in games that have such targets (`NativeGame.target_planes`); 0: none are learned.
        score_weight: of the loss of the game's own score, such as a margin in points.
        average: decay a step of the averaged weights; they play, the others learn.
        dtype: "bfloat16" (autocast) or "float32".
    """

    batch_size: int = 256
    num_shards: int = 2
    optimizer: str = "muon"
    learning_rate: float = 0.02
    trunk_rate: Annotated[float, arg(aliases=["--trunk-rate"])] = 1.0
    warmup: float = 0.02
    final_rate: float = 0.05
    weight_decay: float = 1e-3
    max_grad_norm: float = 4.0
    value_weight: float = 1.0
    target_weight: float = 0.0
    score_weight: float = 0.0
    average: float = 0.997
    dtype: Literal["bfloat16", "float32"] = "bfloat16"

    def __post_init__(self) -> None:
        if self.num_shards < 1 or self.batch_size < 2 * self.num_shards:
            raise ConfigError(
                f"{self.num_shards} shards need a batch of at least {2 * self.num_shards} rows"
            )
        check_optimizer(self.optimizer)
        if not self.learning_rate > 0 or not 0 <= self.average < 1:
            raise ConfigError("learning_rate must be positive and average in [0, 1)")
        if not self.max_grad_norm > 0:
            raise ConfigError(f"max_grad_norm must be positive, not {self.max_grad_norm}")
        _check_at_least(self, 0, "weight_decay", "value_weight", "target_weight", "score_weight")
        if not 0 <= self.trunk_rate < math.inf:
            raise ConfigError(f"trunk_rate must be 0 or more, not {self.trunk_rate}")
        if not 0 <= self.warmup < 1 or not 0 <= self.final_rate <= 1:
            raise ConfigError("warmup must be in [0, 1) and final_rate in [0, 1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlan:
    """One network of a run: its size, its work in an update, and when it learns and plays.

    Attributes:
        size: as in AlphaZeroConfig.
        evaluations: the network's answers in the self-play of one update.
        steps: gradient steps of one update.
        num_simulations: of a move's search.
        learns_from: the share of the run from which it learns ...
        learns_until: ... and the one at which the next network learns instead.
        plays_from: the share of the run from which it plays.
    """

    size: str
    evaluations: int
    steps: int
    num_simulations: int
    learns_from: float = 0.0
    learns_until: float = 1.0
    plays_from: float = 0.0

    def trained(self, done: float) -> float:
        """The share of its training that lies behind it (0 to 1), with `done` of the run behind."""
        return (done - self.learns_from) / (self.learns_until - self.learns_from)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlphaZeroConfig:
    """Everything that a run depends on besides its seed.

    Attributes:
        game: name, with parameters in brackets.
        network: "resnet", "transformer" or "module:Class" of your own.
        size: "tiny", "small", "medium", "base", "large" or CHANNELSxBLOCKS.
        pooling: global pooling in every second block of a resnet.
        heads: of the built-in networks: "linear", "pooled" or "auto".
        first_size: a smaller network that plays and learns first, "" for none. It makes games
            faster while there is much to learn from each; then the other learns from them and
            takes over.
        first_evaluations: as evaluations, while the first network plays.
        first_steps: as steps, while the first network learns.
        first_simulations: simulations a move while the first network plays; by default as ever
            after.
        grow_at: when the second network begins to play, as a share of the run.
        grow_warmup: how long before that it learns, as a share of the run.
        updates: length of the run in updates, or ...
        games: ... in finished games, or ...
        minutes: ... in time, which becomes updates before a trainer is made.
        evaluations: the network's answers in the self-play of one update.
        steps: gradient steps of one update.
        also: other forms of the game that the same network learns, such as "go(size=7)" beside
            Go 9x9, or another komi. Their boards need heads="pooled" where they are smaller or
            larger; ratings and checkpoints are by the main game.
        also_share: share of updates and of batches that all of them have together.
        records: files of games (JSON lines, SGF, PGN) that the network learns from before it plays:
            the moves that were played and the results.
        record_epochs: how often it sees each of their positions.
        record_moves: "all", or "winners" for the moves of those who did best in a game alone.
        compact_replay: keep games as moves, and share what is kept among checkpoints: for games of
            large states and replays of millions of positions.
        replay_capacity: positions kept.
        window: the share of all positions so far that batches are drawn from ...
        min_window: batches are drawn from so many of the newest positions at least.
        warmup_positions: no gradient step before so many positions are there.
        max_reuse: no position is drawn into batches more often than so many times on average: an
            update that brought few positions makes fewer steps; 0: no bound.
        games_from: a folder of games that `playout selfplay` publishes; the run plays none itself.
        reuse: how often each position of such games is learned from.
        stale_after: such games are left out whose network is more than so many updates older than
            the newest one that was saved; 0: none are.
        overlap: play the games of the next update while the network learns from this one's, with
            the weights of before.
        eval_every: updates between ratings; 0: a few in the run.
        eval_simulations: of the search that is rated.
        eval_positions: solved positions that a rating looks at, in games that have some.
        eval_games: games of a rating.
        eval_max_anchor: simulations of the strongest tree search that a rating is anchored to.
        tactics: at its leaves, self-play's search sees wins at once ("one_ply") and what lets the
            other side win at once ("two_plies"), or neither ("off"); "auto" looks two plies ahead
            in games of at most 16 legal moves.
        leaf_proof_nodes: effort to prove a leaf of the search, in games that bring a prover; 0
            leaves it out.
        infer_dtype: dtype of the network that plays, "auto" for the device's best.
        cache_size: evaluations each group of trees remembers within an update.
        selfplay: how games are played.
        learner: how networks learn.
    """

    game: Suppress[str] = "connect_four"
    network: Suppress[str] = "resnet"
    size: Suppress[str] = "base"
    updates: Suppress[int | None] = None
    games: Suppress[int | None] = None
    minutes: Suppress[float | None] = None
    evaluations: int = 32768
    steps: int = 48
    pooling: bool = False
    heads: str = "auto"
    first_size: Annotated[str, arg(metavar="SIZE", help_behavior_hint="")] = ""
    first_evaluations: int = 32768
    first_steps: int = 48
    first_simulations: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    grow_at: float = 0.2
    grow_warmup: float = 0.12
    also: tuple[str, ...] = ()
    also_share: float = 0.5
    records: tuple[str, ...] = ()
    record_epochs: float = 4.0
    record_moves: Literal["all", "winners"] = "all"
    compact_replay: bool = False
    replay_capacity: int = 500_000
    window: float = 0.5
    min_window: int = 50_000
    warmup_positions: int = 4096
    max_reuse: float = 0.0
    games_from: Annotated[str, arg(metavar="FOLDER", help_behavior_hint="")] = ""
    reuse: int = 4
    stale_after: int = 500
    overlap: bool = False
    eval_every: int = 0
    eval_simulations: int = 128
    eval_positions: int = 400
    eval_games: int = 40
    eval_max_anchor: int = 8192
    tactics: Tactics = "auto"
    leaf_proof_nodes: int = LEAF_PROOF_NODES
    infer_dtype: Suppress[str] = "auto"
    cache_size: int = 1 << 17
    selfplay: SelfPlayConfig = field(default_factory=SelfPlayConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)

    def __post_init__(self) -> None:
        lengths = [n for n in (self.updates, self.games, self.minutes) if n is not None]
        if len(lengths) != 1:
            raise ConfigError("give one of updates, games and minutes as the length of the run")
        if not lengths[0] > 0 or lengths[0] == float("inf"):
            raise ConfigError("a run needs at least one update or game, or some minutes")
        _check_at_least(self, 1, "evaluations", "steps", "replay_capacity", "min_window", "reuse")
        _check_at_least(self, 0, "leaf_proof_nodes", "eval_every", "max_reuse", "stale_after")
        _check_at_least(self, 0, "warmup_positions")
        if not 0 < self.also_share < 1:
            raise ConfigError(f"also_share must be between 0 and 1, not {self.also_share}")
        if not 0 < self.record_epochs < 1e6:
            raise ConfigError(f"record_epochs must be positive, not {self.record_epochs}")
        if not 0 <= self.grow_warmup <= self.grow_at < 1 or self.grow_at == 0:
            raise ConfigError("grow_at must be in (0, 1) and grow_warmup not larger")
        if not 0 < self.window <= 1:
            raise ConfigError(f"window must be in (0, 1], not {self.window}")

    @property
    def networks(self) -> tuple[NetworkPlan, ...]:
        """The networks of the run in the order in which they play."""
        simulations = self.selfplay.num_simulations
        if not self.first_size:
            return (
                NetworkPlan(
                    size=self.size,
                    evaluations=self.evaluations,
                    steps=self.steps,
                    num_simulations=simulations,
                ),
            )
        change = self.grow_at - self.grow_warmup
        return (
            NetworkPlan(
                size=self.first_size,
                evaluations=self.first_evaluations,
                steps=self.first_steps,
                num_simulations=min(self.first_simulations or simulations, simulations),
                learns_until=change,
            ),
            NetworkPlan(
                size=self.size,
                evaluations=self.evaluations,
                steps=self.steps,
                num_simulations=simulations,
                learns_from=change,
                plays_from=self.grow_at,
            ),
        )


def selfplay_search(
    simulations: int,
    *,
    cache_size: int = 0,
    threads: int = 1,
    rescale_q: bool = False,
    algorithm: Literal["gumbel", "puct"] = "gumbel",
    c_scale: float = 0.1,
    forced_playouts: float = 0.0,
    max_legal: int = 1,
) -> SearchConfig:
    """The search that makes training targets: Gumbel with its noise, and softer; or PUCT with its.

    Args:
        simulations: a move.
        cache_size: see SearchConfig ...
        threads: ... and this ...
        rescale_q: ... and this: for games with rewards along the way, whose values differ little in
            units of the scale of whole games.
        algorithm: which of them.
        c_scale: of Gumbel's search.
        forced_playouts: of PUCT.
        max_legal: the game's most legal moves, to which PUCT's noise is fitted: 0.03 in Go 19x19.
    """
    return SearchConfig(
        algorithm=algorithm,
        forced_playouts=forced_playouts,
        dirichlet_alpha=min(1.0, 10 / max_legal),
        num_simulations=simulations,
        gumbel_scale=1.0,
        rescale_q=rescale_q,
        c_scale=c_scale,
        cache_size=cache_size,
        threads=threads,
    )


def _check_at_least(config: Any, least: int, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not value >= least:  # nor NaN
            words = "must not be negative" if least == 0 else f"must be at least {least}"
            raise ConfigError(f"{name} {words}, not {value}")
