"""Presets by game, and the one dial: a game, a length and a size become a configuration.

agents/presets/alphazero.toml holds the numbers of each game and says which of them were measured;
a game without a table gets its class's, a guess. Here are the rules by which more follows from
them: what depends on the game's table (plies, legal moves), the network's size and the machine.
Left out: how fast the machine is, and what fits into minutes (minutes.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from playout.agents.alphazero.budget.length import planned_plies
from playout.agents.alphazero.budget.machine import Machine
from playout.agents.alphazero.config import AlphaZeroConfig, LearnerConfig, SelfPlayConfig
from playout.agents.networks.boards.resnet import parse_size
from playout.agents.runs.config import from_dict, read_presets
from playout.envs.core.game import NativeGame
from playout.envs.core.registry import built_in
from playout.errors import ConfigError

SMALL = "small"  # the network that `Preset.evaluations` and `steps` are said for


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What is set for a game, and the rules by which the rest follows.

    Attributes:
        basis: where the numbers were measured, or that they are a guess.
        up_to_plies: 0, or this is the table of all games no longer than this that have none.
        sizes: networks from small to large; time and speed decide which.
        size_evaluations: a larger one than the first, the second ... is taken where the largest
            could answer so many questions in the time there is.
        counted_size: the network of a run whose length is counted and not timed; "" for the first.
        grows: the largest network only takes over after the smallest has played.
        simulations: a move's search has these at least ...
        max_simulations: ... and one for every second legal move, up to these.
        grown_simulations: of a network that takes over.
        grown_steps: a factor on its gradient steps.
        opening_length: random openings have this share of the longest game's plies at most ...
        max_opening_plies: ... and no more than these.
        explore_length: moves follow the search's noise for this share of the longest game ...
        min_explore_plies: ... and at least so long.
        proof_length: positions are proven where this share of the longest game is left at most, for
            on a board that is proven whole nothing would be left to learn ...
        max_proof_plies: ... and no more plies than these.
        evaluations: of an update, with the network "small"; larger ones have fewer.
        steps: gradient steps of an update, likewise.
        long_minutes: from here on a run counts as long; 0 for never.
        long_update: a factor on evaluations and steps of an update in long runs.
        long_batch: a factor on the batch of a network that learns alone in a long run.
        adapts: the sizes of updates, batches and self-play follow from the measured speed.
        run: further settings of AlphaZeroConfig.
        selfplay: further settings of SelfPlayConfig.
        learner: further settings of LearnerConfig.
    """

    basis: str = "a guess"
    up_to_plies: int = 0
    sizes: tuple[str, ...] = (SMALL,)
    size_evaluations: tuple[float, ...] = ()
    counted_size: str = ""
    grows: bool = False
    simulations: int = 16
    max_simulations: int = 64
    grown_simulations: int = 24
    grown_steps: float = 1.0
    opening_length: float = 0.5
    max_opening_plies: int = 24
    explore_length: float = 0.25
    min_explore_plies: int = 6
    proof_length: float = 1.0
    max_proof_plies: int = 16
    evaluations: int = 32768
    steps: int = 48
    long_minutes: float = 0.0
    long_update: int = 1
    long_batch: int = 1
    adapts: bool = False
    run: dict[str, Any] = field(default_factory=dict)
    selfplay: dict[str, Any] = field(default_factory=dict)
    learner: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.size_evaluations) != len(self.sizes) - 1:
            raise ConfigError("a preset needs one of size_evaluations between any two sizes")

    def is_long(self, minutes: float | None) -> bool:
        """Whether a run of so many minutes is a long one; None: its length is counted."""
        return self.long_minutes > 0 and (minutes is None or minutes >= self.long_minutes)

    def sizes_for(self, evaluations: float) -> tuple[str, str]:
        """The network that learns first ("" for none) and the final one.

        Args:
            evaluations: how many questions the largest one could answer in the time there is.
        """
        index = sum(evaluations >= limit for limit in self.size_evaluations)
        return self._first(self.sizes[index]), self.sizes[index]

    @property
    def sizes_by_count(self) -> tuple[str, str]:
        """The same for a run whose length is counted, equal on every machine."""
        size = self.counted_size or self.sizes[0]
        return self._first(size), size

    def _first(self, size: str) -> str:
        largest = len(self.sizes) > 1 and size == self.sizes[-1]
        return self.sizes[0] if self.grows and largest else ""


LIKE = {"mnk": "gomoku"}
"""Games that are learned as another one is, unless they are over sooner."""


def read_preset(tables: dict[str, dict[str, Any]], name: str) -> Preset:
    """The table of that name.

    Raises:
        ConfigError: a setting that does not exist, or of the wrong type.
    """
    where = f"preset alphazero[{name}]"
    table = tables[name]
    preset = from_dict(Preset, table, where=where)
    # Also settings that no run begins with have to exist.
    from_dict(AlphaZeroConfig, {"updates": 1, **preset.run}, where=f"{where}: run")
    from_dict(SelfPlayConfig, preset.selfplay, where=f"{where}: selfplay")
    from_dict(LearnerConfig, preset.learner, where=f"{where}: learner")
    return preset


def preset_for(
    game: NativeGame, tables: dict[str, dict[str, Any]] | None = None
) -> tuple[str, Preset]:
    """A game's preset and the name of its table.

    Args:
        game: what is learned.
        tables: all presets; by default those that come with playout.
    """
    tables = read_presets("alphazero") if tables is None else tables
    # A game of one's own may be called like one that comes with playout, and be another.
    own_table = game.name in tables and not tables[game.name].get("up_to_plies")
    if own_table and built_in(game):
        return game.name, read_preset(tables, game.name)
    classes = {name: read_preset(tables, name) for name in tables if "up_to_plies" in tables[name]}
    most = planned_plies(game)
    fitting = [name for name, one in classes.items() if most <= one.up_to_plies]
    if fitting:
        name = min(fitting, key=lambda name: classes[name].up_to_plies)
        return name, classes[name]
    like = LIKE.get(game.name)
    if like in tables and built_in(game):
        return like, read_preset(tables, like)
    return "default", read_preset(tables, "default")


def cost(size: str) -> float:
    """Time of an evaluation or a gradient step: multiplications, and what goes by width alone."""
    channels, blocks, _, inner = parse_size(size)
    return blocks * channels * ((inner or channels) + 40.0)


def configure(
    game: NativeGame,
    *,
    name: str = "",
    preset: Preset | None = None,
    machine: Machine | None = None,
    size: str,
    first_size: str = "",
    network: str = "resnet",
    simulations: int | None = None,
    proofs: bool = True,
    updates: int | None = None,
    games: int | None = None,
    minutes: float | None = None,
    long: bool = False,
) -> AlphaZeroConfig:
    """The configuration for a game and sizes of networks, with all that depends on them.

    An update of a larger network takes about as long as one of the small network: it has fewer
    evaluations and steps.

    Args:
        game: what is learned.
        name: what a run stores for the game, by default the game's own text.
        preset: by default the game's.
        machine: what it runs on, by default this one.
        size: of the network.
        first_size: of the one that plays before it, "" for none.
        network: its kind, see AlphaZeroConfig.
        simulations: a move; by default the preset's.
        proofs: whether provers help.
        updates: the length of the run, or ...
        games: ... in games, or ...
        minutes: ... in time.
        long: whether it is a long run.
    """
    preset = preset_for(game)[1] if preset is None else preset
    machine = Machine.here() if machine is None else machine
    factor = preset.long_update if long else 1
    relative = min(1.0, cost(SMALL) / cost(size))
    steps_factor = preset.grown_steps if first_size else 1.0
    least = min(max(preset.simulations, game.max_legal // 2), preset.max_simulations)
    grown = max(least, preset.grown_simulations) if first_size else least
    most = planned_plies(game)
    selfplay = SelfPlayConfig(
        num_groups=machine.num_groups,
        num_trees=machine.num_trees,
        search_threads=machine.search_threads,
        num_simulations=simulations or grown,
        opening_plies=min(int(preset.opening_length * most), preset.max_opening_plies),
        explore_plies=max(preset.min_explore_plies, int(preset.explore_length * most)),
        proof_plies=min(int(preset.proof_length * most), preset.max_proof_plies),
    )
    learner = LearnerConfig(num_shards=machine.num_shards)
    if long and not first_size:
        learner = replace(
            learner,
            batch_size=preset.long_batch * learner.batch_size,
            learning_rate=preset.long_batch**0.5 * learner.learning_rate,
        )
    selfplay = from_dict(SelfPlayConfig, preset.selfplay, where="preset: selfplay", base=selfplay)
    config = AlphaZeroConfig(
        game=name or str(game),
        network=network,
        size=size,
        first_size=first_size,
        first_evaluations=factor * preset.evaluations,
        first_steps=factor * preset.steps,
        first_simulations=simulations or least,
        updates=updates,
        games=games,
        minutes=minutes,
        evaluations=round(factor * preset.evaluations * relative),
        steps=max(1, round(factor * preset.steps * relative * steps_factor)),
        overlap=machine.overlaps,
        selfplay=selfplay,
        learner=from_dict(LearnerConfig, preset.learner, where="preset: learner", base=learner),
    )
    config = from_dict(AlphaZeroConfig, preset.run, where="preset: run", base=config)
    if not proofs:
        selfplay = replace(selfplay, proof_nodes=0)
        config = replace(config, leaf_proof_nodes=0, selfplay=selfplay)
    return config
