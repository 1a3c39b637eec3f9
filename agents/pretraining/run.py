"""What can be done with a run of pretraining (runs/kinds.py): features, classes, pictures, export.

`evaluate` measures the objective on held-out data. What a run learned is begun from by `--init` of
other commands. A network that imitates moves plays like one of self-play; of the others `play`
shows what they draw. Left out: probes, which read other kinds of runs as well (evaluation.py).
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from playout.agents.alphazero.player import AlphaZeroPlayer, network_of, player_of
from playout.agents.alphazero.run import export_board
from playout.agents.players.learned import learned_game
from playout.agents.players.load import one_torch_thread
from playout.agents.pretraining.config import PretrainConfig
from playout.agents.pretraining.data.dataset import UNKNOWN, Split, independent, most_frequent
from playout.agents.pretraining.data.folders import read_given
from playout.agents.pretraining.data.pictures import Pictures
from playout.agents.pretraining.data.positions import unit_of
from playout.agents.pretraining.data.repeats import tell_of_repeats
from playout.agents.pretraining.data.sources import digest, read_otherwise
from playout.agents.pretraining.data.sources import load as load_data
from playout.agents.pretraining.objectives.labels import Classes
from playout.agents.pretraining.objectives.reconstruction import RECONSTRUCTING, Autoencoder, Masked
from playout.agents.pretraining.pictures import check_picture, draw_reconstructions
from playout.agents.pretraining.trainer import PretrainTrainer
from playout.agents.pretraining.trunk import BOARDS, Trunk, learned_trunk, restore_trunk
from playout.agents.rating.intervals import share_interval
from playout.agents.runs.checkpoint.chosen import Chosen, choose_checkpoint, tell_checkpoint
from playout.agents.runs.config import from_dict
from playout.agents.runs.devices import resolve_device, resolve_dtype, to_device
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import EvalOptions, ExportOptions, PlayOptions, RunKind
from playout.agents.runs.options import DEFAULT_MACHINE, MachineOptions
from playout.agents.runs.reporting import note_found
from playout.envs.core.game import NativeGame
from playout.errors import CheckpointError, ConfigError, DataError, RunError
from torch import Tensor, nn

__all__ = ["evaluate", "export", "game_of", "game_player", "load", "play"]


@dataclass(frozen=True, slots=True)
class TrunkPlayer:
    """A trunk that turns pictures into features, and into classes where it has learned some.

    Attributes:
        trunk: below the heads.
        classes: names of what it tells apart; of earlier versions' runs numbers. Empty for none.
        heads: which tell them; None for none.
    """

    trunk: Trunk
    classes: tuple[str, ...] = ()
    heads: Classes | None = None

    def __repr__(self) -> str:
        """One line, without the layers, which `trunk` shows."""
        shape = " x ".join(map(str, self.trunk.shape))
        told = f", {len(self.classes)} classes" if self.classes else ""
        count = self.trunk.num_features
        return f"<TrunkPlayer: {self.trunk.network} of {shape}, {count} features{told}>"

    @torch.no_grad()
    def act(self, images: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """`[N, C, H, W]` in [0, 1] to `[N, num_features]`.

        Raises:
            ConfigError: they have another shape, or are no such numbers, as bytes are not.
        """
        return self.trunk.vector(self._placed(images)).float().cpu().numpy()

    @torch.no_grad()
    def probabilities(self, images: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """`[N, C, H, W]` in [0, 1] to probabilities of `classes`, `[N, K]`.

        Raises:
            RunError: it has learned no classes of pictures. ConfigError: as `act`.
        """
        if self.heads is None:
            raise RunError("only what has learned classes of pictures, by labels, tells them")
        return self.heads.logits(self._placed(images)).softmax(1).cpu().numpy()

    def _placed(self, images: npt.ArrayLike) -> Tensor:
        of_board = isinstance(self.trunk.net, BOARDS)
        what = "boards" if of_board else "pictures"
        try:
            found = np.ascontiguousarray(images, np.float32)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{what} cannot be read as an array of numbers: {error}") from None
        if found.ndim != 4 or found.shape[1:] != self.trunk.shape:
            wanted = ", ".join(map(str, self.trunk.shape))
            raise ConfigError(
                f"{what} must have shape [N, {wanted}] (channels, rows, columns behind their "
                f"number), not {list(found.shape)}"
            )
        if not np.isfinite(found).all():
            raise ConfigError(f"{what} hold NaN or infinity")
        if not of_board and found.size and (found.min() < 0 or found.max() > 1):
            raise ConfigError(
                f"pictures are numbers from 0 to 1, not from {found.min():g} to {found.max():g}: "
                "divide bytes by 255"
            )
        return to_device(found, next(self.trunk.parameters()).device)


def load(
    run: RunDir,
    which: str | int = "best",
    *,
    machine: MachineOptions = DEFAULT_MACHINE,
    game: object | None = None,
) -> TrunkPlayer:
    """The trunk of a checkpoint, with the heads of classes that it has learned."""
    use_threads(machine)
    step, state = run.load(which, only=("model", "network", "objective"))
    trunk = learned_trunk(state, run.path)
    classes, heads = (), None
    try:
        if run.config["pretrain"]["objective"] == "supervised" and not run.config["game"]:
            count = len(state["objective"]["head.1.bias"])
            classes = tuple(run.config.get("classes") or map(str, range(count)))
            heads = Classes(trunk, count).eval()
            heads.load_state_dict(state["objective"])
    except (KeyError, RuntimeError, TypeError) as error:
        reason = str(error).split("\n", 1)[0]
        raise CheckpointError(f"checkpoint {step} of {run.path}: {reason}") from None
    device = resolve_device(machine.device)
    return TrunkPlayer(trunk.eval().to(device), classes, heads and heads.to(device))


def use_threads(machine: MachineOptions) -> None:
    """Lets torch compute on as many threads as are asked for; 0 leaves it as it is."""
    if machine.threads:
        torch.set_num_threads(machine.threads)


def refuse_play(options: EvalOptions, game: object | None = None) -> None:
    """Raises ConfigError for options of acting and playing, where a trunk is measured on data.

    Args:
        options: what is asked for.
        game: given beside them, where data name their own.
    """
    where = "for a trunk, which is measured on data"
    options.refuse_unused("episodes", "opponents", "simulations", "stochastic", where=where)
    if game is not None:
        raise ConfigError(f"--game does nothing {where}: leave it out")


def game_of(run: RunDir, game: object | None = None) -> NativeGame | None:
    """The game whose moves a run has learned by labels; None for everything else."""
    if run.config["pretrain"]["objective"] != "supervised" or not run.config["game"]:
        return None
    return learned_game(str(run.config["game"]), run, game, variants=True)


def game_player(
    run: RunDir,
    which: str | int = "best",
    game: object | None = None,
    *,
    machine: MachineOptions = DEFAULT_MACHINE,
) -> AlphaZeroPlayer:
    """The network that imitates moves, as a player like one of self-play."""
    learned = game_of(run, game)
    if learned is None:
        raise RunError(f"{run.path} has not learned to play: only supervised positions teach that")
    return player_of(run, learned, network_of(run, which)[0], machine)


def data_of(run: RunDir) -> Split:
    """The data that a run was made with.

    Raises:
        DataError: it is not there any more, or holds something else.
    """
    config = run.config
    split = load_data(
        config["data"],
        count=config["count"],
        image_size=config["image_size"],
        seed=config.get("data_seed", config["seed"]),  # earlier versions had one seed
        wrappers=config.get("wrappers", ()),
        env_options=config.get("env_options"),
        version=config.get("data_version", 1),
    )
    if digest(split) != config["digest"]:
        raise DataError(
            f"{config['data']} does not hold what {run.path} was trained on{read_otherwise(config)}"
        )
    return split


def _trainer(
    run: RunDir, which: str | int, data: Split, machine: MachineOptions
) -> PretrainTrainer:
    device = resolve_device(machine.device)
    use_threads(machine)
    _, state = run.load(which)
    config = from_dict(PretrainConfig, run.config["pretrain"], where=str(run.path))
    if config.teacher and not RunDir.is_run(Path(config.teacher)):
        config = replace(config, teacher="")  # what was learned from it is measured by labels
    trainer = PretrainTrainer(
        restore_trunk(state["network"], run.path),
        data,
        config,
        steps=max(1, int(run.config["total_steps"])),
        seed=run.seed,
        device=device,
        dtype=getattr(torch, resolve_dtype(machine.dtype, device)),
    )
    trainer.load_weights(state)
    return trainer


def evaluate(run: RunDir, options: EvalOptions, *, game: object | None = None) -> dict[str, Any]:
    """The objective on held-out data, or the classes of given pictures."""
    refuse_play(options, game)
    chosen, options = choose_checkpoint(run, options)
    if options.pictures:
        return _told(run, options, chosen)
    data = data_of(run)
    trainer = _trainer(run, options.which, data, options)
    about = tell_checkpoint(run, chosen)
    test = trainer.data.test  # with the run's own augmentation
    rows = trainer.measurable(test)
    try:
        measured = trainer.measure(test, rows)
    finally:
        trainer.close()
    print(f"{len(rows):,} held-out {unit_of(test)} of {test.name}")
    tell_of_repeats(data)
    found = about | {f"eval/{name}": value for name, value in measured.items()}
    found |= {"eval/score": trainer.score(measured), "pictures": len(rows)}
    for name, value in measured.items():
        print(f"{name:16} {value:.4f}")
    if trainer.config.objective == "supervised" and "accuracy" in measured:
        count = independent(test, rows)
        low, high = share_interval(measured["accuracy"] * count, count)
        print(f"95 % interval    {low:.4f} to {high:.4f} of accuracy")
        found["interval"] = [low, high]
        if usual := most_frequent(test, rows):
            print(f"most frequent    {usual['share']:.4f} of labels: {usual['class']}")
            found["most_frequent"] = usual
    return found


def _told(run: RunDir, options: EvalOptions, chosen: Chosen | None) -> dict[str, Any]:
    """Says which classes given pictures are of, `pictures`, a row each."""
    player = load(run, options.which, machine=options)
    if player.heads is None:
        raise RunError(f"{run.path} has learned no classes of pictures, so it cannot tell them")
    paths, pixels = read_given(
        map(Path, options.pictures), player.trunk.shape, size=run.config["image_size"]
    )
    data = Pictures(name="given", pixels=pixels, labels=np.full(len(paths), UNKNOWN, np.int64))
    about, told = tell_checkpoint(run, chosen, file=sys.stderr), list[dict[str, Any]]()
    for start in range(0, len(paths), 256):
        rows = np.arange(start, min(start + 256, len(paths)))
        for row, shares in zip(rows, player.probabilities(data.images(rows)), strict=True):
            first = int(shares.argmax())
            name = player.classes[first]
            print(f"{paths[row]}  {name}  {100 * shares[first]:.1f} %")
            named = dict(zip(player.classes, map(float, shares), strict=True))
            told.append({"file": str(paths[row]), "class": name, "probabilities": named})
        note_found({"pictures": [*told]})
    return about | {"pictures": told}


def play(run: RunDir, options: PlayOptions, *, game: object | None = None) -> None:
    """Plays what it imitates, or draws what a reconstructing objective makes of pictures."""
    if game_of(run, game) is not None:
        from playout.agents.players.terminal import play_games

        player = game_player(run, options.which, game, machine=options)
        one_torch_thread()
        if options.simulations is not None:
            player = player.with_simulations(options.simulations)
        play_games(player, options)
        return
    objective = run.config["pretrain"]["objective"]
    if objective not in RECONSTRUCTING:
        probe = ("--probe", "linear") if run.config.get("classes") else ()
        raise RunError(
            f"{run.path} learned {objective}, which draws nothing; measure it with: "
            f"{run.command_for('eval', *probe)}"
        )
    unused = ("simulations", "second", "opponent", "episodes")
    options.refuse_unused(*unused, where="where pictures are drawn")
    path = options.out or run.path / "pictures.png"
    check_picture(path)
    data = data_of(run)
    trainer = _trainer(run, options.which, data, options)
    try:
        assert isinstance(trainer.objective, Autoencoder | Masked)
        draw_reconstructions(trainer.objective, data.test, path, seed=options.seed)
    finally:
        trainer.close()
    print(f"wrote {path}")


class ExportedTrunk(nn.Module):
    """Pictures [N, C, H, W] in [0, 1] to features [N, num_features] and logits of classes [N, K].

    Args:
        trunk: what gives features.
        heads: of classes, if it has learned any; without, there are no logits.
    """

    def __init__(self, trunk: Trunk, heads: Classes | None = None) -> None:
        super().__init__()
        self.trunk, self.heads = trunk, heads
        self.input_names, self.output_names = ["images"], ["features"]
        if heads is not None:
            self.output_names += ["logits"]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Features, and logits where there are heads."""
        features = self.trunk.vector(inputs[0])
        return (features,) if self.heads is None else (features, self.heads.head(features))

    def example_inputs(self, rows: int, seed: int) -> list[Tensor]:
        """Random pictures."""
        generator = torch.Generator().manual_seed(seed)
        return [torch.rand(rows, *self.trunk.shape, generator=generator)]


def export(run: RunDir, options: ExportOptions, *, game: object | None = None) -> None:
    """The trunk, with heads that tell classes, as ONNX or safetensors.

    What imitates moves is written as a network of self-play.
    """
    from functools import partial

    from playout.agents.networks.export import export_network

    resolve_device(options.device)
    if (learned := game_of(run, game)) is not None:
        export_board(run, options, learned, *network_of(run, options.which))
        return
    if options.quantise is not None:
        raise ConfigError("--quantise of pretrain-trunk is for runs that have learned to play")
    player = load(run, options.which, machine=replace(options, device="cpu"))
    trunk = player.trunk
    about = {"data": str(run.config["data"]), "network": json.dumps(trunk.description())}
    weights = trunk.net.state_dict()
    if player.heads is not None:
        about["classes"] = json.dumps(player.classes)
        weights |= player.heads.state_dict()
    wrapper = partial(ExportedTrunk, trunk, player.heads)
    export_network(run, options, weights, wrapper, stem="trunk", about=about)


if TYPE_CHECKING:  # the type checker compares this module with the protocol
    from playout.agents.players.load import GameKind
    from playout.agents.pretraining import run as this

    _: RunKind = this
    __: GameKind = this
