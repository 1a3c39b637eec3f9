"""The player that a self-play run has learned: `load(run)`.

It is a SearchPlayer over the run's averaged network, which searches without noise;
`with_simulations` gives it another budget, 0 the bare policy. Only the network is read from the
checkpoint. What can be done with a player stands in players/search.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch
from playout.agents.alphazero.budget.length import planned_plies
from playout.agents.alphazero.evaluator import NetworkEvaluator, one_thread
from playout.agents.alphazero.proofs import Symmetry, TacticalEvaluator, player_evaluator
from playout.agents.networks.boards.network import AuxiliaryNetwork, BoardNetwork, on_board
from playout.agents.networks.boards.registry import learned_network
from playout.agents.players.analysis import Judge, policy_judge, search_judge
from playout.agents.players.learned import learned_game
from playout.agents.players.player import Forecast
from playout.agents.players.search import SearchPlayer, must_have_shape_of, playing_search
from playout.agents.runs.devices import INT8, resolve_device, resolve_dtype
from playout.agents.runs.directory import RunDir
from playout.agents.runs.options import DEFAULT_MACHINE, MachineOptions
from playout.cores import usable_cores
from playout.envs.core.game import NativeGame
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError, RunError
from playout.mcts.exact.prover import can_prove

DEFAULT_SIMULATIONS = 128
CALIBRATION = 512  # positions of random games by which an int8 network chooses its scales


class AlphaZeroPlayer(SearchPlayer):
    """A network that plays a game; its search sees the game's end where that is near.

    Args:
        game: the game.
        network: answers for the game's observations.
        simulations: of a move's search; 0 plays the likeliest move of the bare policy.
        proofs: whether alpha-beta helps at the search's leaves, see proofs.py.
        name: what tables call it.
        seed: of sampled moves.
        learned: the network itself, on the processor, where it may have learned more than a search
            asks for: see `forecast`.
        symmetry: how symmetries of a position are seen, see `player_evaluator`: all of them is best
            for so many simulations, one of them for so much time.
    """

    def __init__(
        self,
        game: NativeGame,
        network: NetworkEvaluator,
        *,
        simulations: int = DEFAULT_SIMULATIONS,
        proofs: bool = True,
        name: str = "alphazero",
        seed: int = 0,
        learned: AuxiliaryNetwork | None = None,
        symmetry: Symmetry = "mean",
    ) -> None:
        config = network.config
        if config.obs_shape != game.obs_shape or config.num_actions != game.num_actions:
            raise RunError(f"the network was not made for {game}")
        self.network, self.proofs, self.learned = network, proofs, learned
        self.symmetry: Symmetry = symmetry
        tactical = player_evaluator(network, game, proofs=proofs, symmetry=symmetry)
        evaluator = tactical if simulations else tactical.network
        search = playing_search(simulations) if simulations else None
        super().__init__(game, search, evaluator, name=name, seed=seed)

    def with_simulations(self, simulations: int) -> AlphaZeroPlayer:
        """The same network with another budget of simulations a move; 0 for its bare policy."""
        name = f"{self.name.partition(':')[0]}:{simulations}"
        return self._changed(simulations=simulations, name=name)

    def for_game(self, game: NativeGame) -> AlphaZeroPlayer:
        """The same network at another game of this shape, such as another komi.

        Raises:
            ConfigError: Boards or actions of the other game have another shape.
        """
        must_have_shape_of(self.game, game)
        return self._changed(game=game)

    def with_words(self, words: Mapping[str, str]) -> AlphaZeroPlayer:
        """The same network with settings as they are typed: symmetry=mean, random or none.

        Raises:
            ConfigError: There is no such setting, or it cannot have this value.
        """
        if unknown := [name for name in words if name != "symmetry"]:
            raise ConfigError(f"a network has no setting {unknown[0]!r}; it has symmetry")
        word, known = words.get("symmetry", self.symmetry), get_args(Symmetry)
        if word not in known:
            raise ConfigError(f"symmetry must be {', '.join(known[:-1])} or {known[-1]}")
        return self._changed(symmetry=word)

    def _changed(self, **changes: Any) -> AlphaZeroPlayer:
        """The same player but for some arguments."""
        now: dict[str, Any] = {
            "game": self.game,
            "network": self.network,
            "simulations": 0 if self.config is None else self.config.num_simulations,
            "proofs": self.proofs,
            "name": self.name,
            "seed": self.seed,
            "learned": self.learned,
            "symmetry": self.symmetry,
        }
        return AlphaZeroPlayer(**now | changes)

    def forecast(self, states: StateBatch) -> Forecast:
        """The score and who owns each cell in the end, where its network has learned them.

        Symmetries are not averaged over: each position is seen as it is.
        """
        if self.learned is None:
            return Forecast()
        with torch.no_grad(), one_thread():
            _, _, planes, score = self.learned.all_heads(torch.from_numpy(states.observe()))
        _, height, width = self.game.obs_shape
        return Forecast(
            score=None if score is None else height * width * score.numpy(),
            ownership=None if planes is None else torch.tanh(planes[:, 0] / 2).numpy(),
        )

    def judges(self) -> dict[str, Judge]:
        """The bare policy, the search, and the search of the network alone where proofs help it."""
        bare = self._unproven().network
        found = {"policy": policy_judge(bare)}
        if self.config is not None:
            name = f"search of {self.config.num_simulations}"
            found[name] = self.judge()
            if self.proofs and can_prove(self.game):
                plain = self._unproven()
                found[f"{name}, no proofs"] = search_judge(self.game, self.config, plain)
        return found

    def _unproven(self) -> TacticalEvaluator:
        """What answers without alpha-beta."""
        return player_evaluator(self.network, self.game, proofs=False, symmetry=self.symmetry)


def game_of(run: RunDir, given: object | None = None, *, variants: bool = False) -> NativeGame:
    """The game that a run has learned.

    Args:
        run: a run of kind "alphazero".
        given: the game as the person names or holds it; needed where the run cannot name it.
        variants: see `learned_game`.

    Raises:
        ConfigError: the run names a module that nobody trusts, or a game that is known to nobody,
            or the given game is another one. RunError: a run of another kind.
    """
    if run.kind != "alphazero":
        raise RunError(f"{run.path} is a run of kind {run.kind}, not alphazero")
    settings = run.config["alphazero"]
    also = settings.get("also", ())
    return learned_game(str(settings["game"]), run, given, also=also, variants=variants)


def load_network(
    run: RunDir, which: str | int = "best", *, game: object | None = None
) -> tuple[NativeGame, BoardNetwork, int]:
    """The game, the averaged network and the number of a checkpoint."""
    net, step = network_of(run, which)
    return game_of(run, game), net, step


def network_of(run: RunDir, which: str | int = "best") -> tuple[BoardNetwork, int]:
    """The board network and the number of a checkpoint."""
    step, state = run.load(which, only=("model", "network"))
    return learned_network(state, run.path, step).eval(), step


def load(
    run: RunDir,
    which: str | int = "best",
    *,
    machine: MachineOptions = DEFAULT_MACHINE,
    game: object | None = None,
) -> AlphaZeroPlayer:
    """The player of a run."""
    learned, (net, _) = game_of(run, game, variants=True), network_of(run, which)
    # A run made without proofs plays without them.
    proofs = bool(run.config["alphazero"].get("leaf_proof_nodes", 1))
    return player_of(run, learned, net, machine, proofs=proofs)


def usual_observations(game: NativeGame) -> npt.NDArray[np.float32]:
    """float32 [M, C, H, W]: what a network sees in random games, from beginnings to ends."""
    states = game.batch(CALIBRATION)
    lengths = np.linspace(0, planned_plies(game), CALIBRATION, dtype=np.int32)
    states.random_plies(lengths, 0)
    going = np.flatnonzero(~states.is_terminal())
    return states[going].observe()


def player_of(
    run: RunDir,
    learned: NativeGame,
    net: BoardNetwork,
    machine: MachineOptions = DEFAULT_MACHINE,
    *,
    proofs: bool = True,
) -> AlphaZeroPlayer:
    """The player that a run's network makes."""
    device = resolve_device(machine.device)
    try:
        own = on_board(net, learned.obs_shape, learned.num_actions)
    except ConfigError:
        raise RunError(f"the network was not made for {learned}") from None
    whole = machine.dtype == INT8
    more = getattr(own.config, "target_planes", 0) or getattr(own.config, "scores", False)
    network = NetworkEvaluator(
        own,
        device=device,
        dtype=INT8 if whole else resolve_dtype(machine.dtype, device),
        threads=machine.threads or usable_cores(),
        calibration=usual_observations(learned) if whole else None,
    )
    return AlphaZeroPlayer(
        learned,
        network,
        proofs=proofs,
        name=run.path.name or "alphazero",
        learned=own if more and isinstance(own, AuxiliaryNetwork) else None,
    )
