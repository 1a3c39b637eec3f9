"""The table of what playout brings: board games, control tasks, environments of many agents.

An entry is written once, here. The Gymnasium and PettingZoo ids with their time limits and reward
thresholds (farama/registration.py), games by name (core/registry.py), pictures (drawing/) and the
lists of `playout list` follow from it. Names only: nothing is imported before it is used. Games of
a user's own are not in this table; see `playout.envs.register_game`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class GameEntry:
    """One board game.

    Attributes:
        name: An identifier, such as "connect_four".
        gymnasium_id: "playout/ConnectFour-v0"; the version rises when a player's score could
            change.
        pettingzoo_id: "playout/connect_four-v0", its turn-by-turn (AEC) environment.
        module: The module whose `make(**params)` returns a capsule (playout_game.h), or an object
            that follows `playout.envs.Game`; None: the header of that name in games/.
        params: Parameters of the module's `make` and their defaults; a header has its own.
        drawing: "module:function" from a State, and where information is hidden the player who
            looks or None, to a `Board` (drawing/description.py), or to a
            picture uint8 [H, W, 3]; None draws the observation planes.
        prover: "module:name" of what builds a prover for the game (`NativeGame.prover`), or None.
        positions: What the names of its files of solved positions begin with (agents/rating/data),
            or None; smaller games are solved where positions are asked for.
    """

    name: str
    gymnasium_id: str
    pettingzoo_id: str
    module: str | None = None
    params: Mapping[str, int | float | str] = field(default_factory=dict)
    drawing: str | None = None
    prover: str | None = None
    positions: str | None = None

    def parameters(self) -> dict[str, int | float | str]:
        """The parameters that the game takes, by name, and their defaults."""
        if self.module is not None:
            return dict(self.params)
        found: dict[str, int | float | str] = load("playout.envs.games:parameters")(self.name)
        return found

    def make(self, /, **params: Any) -> Any:
        """The game with these parameters: a capsule, or an object of Python."""
        if self.module is not None:
            return import_module(self.module).make(**params)
        return load("playout.envs.games:make")(self.name, **params)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEntry:
    """One native control task, whose physics is `control/physics/<name>.h`.

    Attributes:
        name: As `_control.make` knows it.
        gymnasium_id: "playout/CartPole-v1"; with the same name and version as Gymnasium's where
            that has the task, and then with the same limit and threshold.
        max_episode_steps: Steps after which an episode is truncated.
        reward_threshold: Mean return that counts as solved, or None.
        params: Keyword arguments and their defaults, in the order of the C struct's params.
        bounded: How many components of a state the reset options "low" and "high" bound.
        fps: Pictures a second.
        drawing: "module:function" from a state float64 [S] to a picture; None for no pictures.
    """

    name: str
    gymnasium_id: str
    max_episode_steps: int
    reward_threshold: float | None
    params: tuple[tuple[str, float], ...] = ()
    bounded: int = 4
    fps: int = 50
    drawing: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelEntry:
    """One environment in which several agents move at once (PettingZoo's parallel API)."""

    pettingzoo_id: str
    entry_point: str


_STONES = "playout.envs.drawing.stones"
_TABLES = "playout.envs.drawing.tables"
_CONTROL = "playout.envs.drawing.control"

GAMES: dict[str, GameEntry] = {
    entry.name: entry
    for entry in (
        GameEntry(
            name="backgammon",
            gymnasium_id="playout/Backgammon-v0",
            pettingzoo_id="playout/backgammon-v0",
            drawing=f"{_TABLES}:backgammon",
        ),
        GameEntry(
            name="breakthrough",
            gymnasium_id="playout/Breakthrough-v0",
            pettingzoo_id="playout/breakthrough-v0",
            drawing=f"{_TABLES}:breakthrough",
        ),
        GameEntry(
            name="chess",
            gymnasium_id="playout/Chess-v0",
            pettingzoo_id="playout/chess-v0",
            drawing=f"{_TABLES}:chess",
        ),
        GameEntry(
            name="connect_four",
            gymnasium_id="playout/ConnectFour-v0",
            pettingzoo_id="playout/connect_four-v0",
            drawing=f"{_STONES}:connect_four",
            positions="connect_four",
            prover="playout.mcts.exact.connect_four.engine:connect_four_prover",
        ),
        GameEntry(
            name="game_2048",
            gymnasium_id="playout/Game2048-v0",
            pettingzoo_id="playout/game_2048-v0",
            drawing=f"{_TABLES}:game_2048",
        ),
        GameEntry(
            name="go",
            gymnasium_id="playout/Go-v0",
            pettingzoo_id="playout/go-v0",
            drawing=f"{_STONES}:go",
        ),
        GameEntry(
            name="gomoku",
            gymnasium_id="playout/Gomoku-v0",
            pettingzoo_id="playout/gomoku-v0",
            drawing=f"{_STONES}:gomoku",
        ),
        GameEntry(
            name="hex",
            gymnasium_id="playout/Hex-v0",
            pettingzoo_id="playout/hex-v0",
            drawing=f"{_STONES}:hex",
            prover="playout.mcts.exact.hex.engine:hex_prover",
        ),
        GameEntry(
            name="kuhn_poker",
            gymnasium_id="playout/KuhnPoker-v0",
            pettingzoo_id="playout/kuhn_poker-v0",
            drawing=f"{_TABLES}:kuhn_poker",
        ),
        GameEntry(
            name="leduc_poker",
            gymnasium_id="playout/LeducPoker-v0",
            pettingzoo_id="playout/leduc_poker-v0",
            drawing=f"{_TABLES}:leduc_poker",
        ),
        GameEntry(
            name="liars_dice",
            gymnasium_id="playout/LiarsDice-v0",
            pettingzoo_id="playout/liars_dice-v0",
            drawing=f"{_TABLES}:liars_dice",
        ),
        GameEntry(
            name="mnk",
            gymnasium_id="playout/Mnk-v0",
            pettingzoo_id="playout/mnk-v0",
            drawing=f"{_STONES}:mnk",
        ),
        GameEntry(
            name="othello",
            gymnasium_id="playout/Othello-v0",
            pettingzoo_id="playout/othello-v0",
            drawing=f"{_STONES}:othello",
        ),
        GameEntry(
            name="tic_tac_toe",
            gymnasium_id="playout/TicTacToe-v0",
            pettingzoo_id="playout/tic_tac_toe-v0",
            drawing=f"{_STONES}:tic_tac_toe",
        ),
    )
}

TASKS: dict[str, TaskEntry] = {
    entry.name: entry
    for entry in (
        TaskEntry(
            name="cartpole",
            gymnasium_id="playout/CartPole-v1",
            max_episode_steps=500,
            reward_threshold=475.0,
            params=(("sutton_barto_reward", 0.0),),
            drawing=f"{_CONTROL}:cartpole",
        ),
        TaskEntry(
            name="mountain_car",
            gymnasium_id="playout/MountainCar-v0",
            max_episode_steps=200,
            reward_threshold=-110.0,
            params=(("goal_velocity", 0.0),),
            bounded=1,
            fps=30,
            drawing=f"{_CONTROL}:mountain_car",
        ),
        TaskEntry(
            name="mountain_car_continuous",
            gymnasium_id="playout/MountainCarContinuous-v0",
            max_episode_steps=999,
            reward_threshold=90.0,
            params=(("goal_velocity", 0.0),),
            bounded=1,
            fps=30,
            drawing=f"{_CONTROL}:mountain_car_continuous",
        ),
        TaskEntry(
            name="acrobot",
            gymnasium_id="playout/Acrobot-v1",
            max_episode_steps=500,
            reward_threshold=-100.0,
            fps=15,
            drawing=f"{_CONTROL}:acrobot",
        ),
        TaskEntry(
            name="pendulum",
            gymnasium_id="playout/Pendulum-v1",
            max_episode_steps=200,
            reward_threshold=None,
            params=(("g", 10.0),),
            bounded=2,
            fps=30,
            drawing=f"{_CONTROL}:pendulum",
        ),
        TaskEntry(
            name="signal_maze",
            gymnasium_id="playout/SignalMaze-v0",
            max_episode_steps=100,
            # The best play reaches 0.935 on average; without memory it stays below 0.
            reward_threshold=0.85,
            params=(("min_length", 3.0), ("max_length", 8.0)),
            bounded=0,
            fps=5,
            drawing=f"{_CONTROL}:signal_maze",
        ),
    )
}

PARALLEL: dict[str, ParallelEntry] = {
    "pursuit": ParallelEntry(
        pettingzoo_id="playout/pursuit-v0", entry_point="playout.envs.farama.pursuit:parallel_env"
    ),
}


def load(reference: str) -> Any:
    """What "module:name" names, imported now."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
