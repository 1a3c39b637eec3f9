"""Residual policy and value networks for board games.

A cell's place and the side to move add to its features before the blocks. With pooled heads that
is all that depends on the board's size, so one network can learn several boards, each with maps of
its own. Left out: fast answers (folded.py), heads (heads.py), recurrence and planning inside the
network.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import torch
from playout.agents.networks.boards.folded import FoldedResNet
from playout.agents.networks.boards.heads import (
    AuxiliaryHeads,
    answers,
    choose_heads,
    initialise_heads,
    make_policy,
    pooled,
    read_shape,
    side_to_move,
    value_inputs,
)
from playout.agents.networks.boards.network import Board, Tuning, squash, values_for
from playout.agents.networks.boards.norm_relu import norm_relu
from playout.agents.networks.boards.smaller.held import PLAIN, check_weights, hold
from playout.errors import ConfigError
from torch import Tensor, nn

CPU = torch.device("cpu")
HEADS = ("head", "head_norm", "policy", "value_hidden", "value", "auxiliary")
# name -> (channels, blocks, head_channels)
SIZES: dict[str, tuple[int, int, int]] = {
    "tiny": (16, 2, 8),
    "small": (32, 3, 16),
    "medium": (48, 4, 32),
    "base": (64, 4, 32),
    "large": (128, 6, 32),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResNetConfig:
    """The shape of a network.

    Attributes:
        obs_shape: planes, rows and columns `(C, H, W)` of an observation.
        num_actions: length of the policy.
        num_players: up to 2 share one value, that of the side to move; more have one each, ...
        zero_sum: ... and so have 2 whose results do not add up to zero.
        channels: width of the trunk.
        blocks: residual blocks of two 3x3 convolutions.
        head_channels: planes that both heads see.
        value_hidden: hidden units of the value head.
        pooling: every second block adds a bias from planes' means and maxima.
        heads: "linear" or "pooled", see heads.py.
        side_planes: where the observation shows the side to move, see `side_to_move`; None: a game
            does not say.
        target_planes: planes of `AuxiliaryHeads`; 0 for none.
        scores: whether they have the game's own score.
        boards: (rows, columns, actions) of further boards that it answers, with the same planes and
            pooled heads.
        inner: channels between the two convolutions of a block; 0 for as many as `channels`.
        weights: what they are held in, "float32", or "int8" or "nf4" (smaller/held.py).
    """

    obs_shape: tuple[int, int, int]
    num_actions: int
    num_players: int = 2
    zero_sum: bool = True
    channels: int = 64
    blocks: int = 4
    head_channels: int = 32
    value_hidden: int = 64
    pooling: bool = False
    heads: str = "linear"
    side_planes: tuple[int, int] | None = (0, 1)
    target_planes: int = 0
    scores: bool = False
    boards: tuple[Board, ...] = ()
    inner: int = 0
    weights: str = PLAIN

    def __post_init__(self) -> None:
        check_weights(self.weights)
        if not 0 <= self.inner <= self.channels:
            raise ConfigError(f"a block has 1 to {self.channels} channels inside")
        sizes = [self.obs_shape[1:], *(board[:2] for board in self.boards)]
        if len(set(sizes)) < len(sizes):
            raise ConfigError("boards of equal size need equal actions, and to be named once")
        kinds = {divmod(a, h * w) for h, w, a in [(*sizes[0], self.num_actions), *self.boards]}
        if self.boards and (self.heads != "pooled" or len(kinds) > 1):
            raise ConfigError(
                "a network for boards of several sizes needs heads=pooled, and as many actions a "
                "cell and besides on each"
            )

    @property
    def num_values(self) -> int:
        """How many values a position has: 1, or one a player where there are more than two."""
        return values_for(self.num_players, self.zero_sum)

    @property
    def inner_channels(self) -> int:
        """Channels between the two convolutions of a block."""
        return self.inner or self.channels

    @property
    def sees_side(self) -> bool:
        """Whether the observation has the planes that show the side to move."""
        return self.side_planes is not None and max(self.side_planes) < self.obs_shape[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for a configuration file.

        Settings that came later are left out where they are what networks had before: those
        descriptions stay what they were.
        """
        data = {**asdict(self), "obs_shape": list(self.obs_shape)}
        if self.side_planes is not None:
            data["side_planes"] = list(self.side_planes)
        earlier = {"heads": "linear", "side_planes": [0, 1], "zero_sum": True}
        data["boards"] = [list(board) for board in self.boards]
        later = {"target_planes": 0, "scores": False, "boards": [], "inner": 0, "weights": PLAIN}
        for name, before in {**earlier, **later}.items():
            if data[name] == before:
                del data[name]
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ResNetConfig:
        """The configuration that `to_dict` wrote; unknown or missing keys are errors."""
        try:
            boards = tuple((int(h), int(w), int(a)) for h, w, a in data.get("boards", ()))
            earlier = {"heads": "linear", "side_planes": (0, 1)}
            return cls(**read_shape({**earlier, **data, "boards": boards}))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"not the description of a network: {error}") from None


class Size(NamedTuple):
    """What a size says of a network; `inner` as in `ResNetConfig`."""

    channels: int
    blocks: int
    head_channels: int
    inner: int = 0


def parse_size(size: str) -> Size:
    """The size of a preset, of CHANNELSxBLOCKS such as "48x4", or of one of them and "/INNER"."""
    whole, slash, inner = size.partition("/")
    if whole in SIZES:
        found = Size(*SIZES[whole])
    else:
        channels, cross, blocks = whole.partition("x")
        if not (cross and _from_1(channels, 1024) and _from_1(blocks, 64)):
            raise _unknown_size(size)
        found = Size(int(channels), int(blocks), max(2, int(channels) // 2))
    if not slash:
        return found
    if not _from_1(inner, found.channels):
        raise _unknown_size(size)
    return found._replace(inner=int(inner) % found.channels)


def plain_size(size: str) -> Size:
    """The same for networks that cannot be narrower inside; ConfigError for a size that is."""
    found = parse_size(size)
    if found.inner:
        raise ConfigError(f"size {size}: only a resnet has fewer channels inside its blocks")
    return found


def _from_1(text: str, most: int) -> bool:
    return text.isdecimal() and 1 <= int(text) <= most


def _unknown_size(size: str) -> ConfigError:
    return ConfigError(
        f"size {size!r} is unknown: use {', '.join(SIZES)} or CHANNELSxBLOCKS, for instance 48x4, "
        "for a resnet that is narrower inside its blocks with /INNER behind it, 48x4/24"
    )


class Block(nn.Module):
    """Two 3x3 convolutions with a skip, and optionally a bias from pooled planes between them."""

    def __init__(self, channels: int, inner: int, *, pooling: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, inner, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.pool = nn.Linear(2 * inner, inner) if pooling else None
        nn.init.zeros_(self.norm2.weight)  # a block starts as the identity
        if self.pool is not None:
            nn.init.zeros_(self.pool.weight)
            nn.init.zeros_(self.pool.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[M, C, H, W] to the same."""
        y = norm_relu(self.conv1(x), self.norm1)
        if self.pool is not None:
            y = y + self.pool(pooled(y))[:, :, None, None]
        return norm_relu(self.conv2(y), self.norm2, x)


class BoardMaps(nn.Module):
    """What a network knows of the cells of one more board."""

    def __init__(self, channels: int, height: int, width: int, *, turn: bool) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(channels, height, width))
        if turn:
            self.turn = nn.Parameter(torch.zeros(channels, height, width))


class ResNet(nn.Module):
    """The residual network as a `BoardNetwork` (network.py).

    `forward(obs [M, C, H, W])` gives logits [M, A] and values [M] in [-1, 1]. With more than two
    players values are [M, P], else those of the side to move.

    Args:
        config: the shape.
        generator: of the first weights; by default torch's global one.
    """

    def __init__(self, config: ResNetConfig, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        planes, height, width = config.obs_shape
        self.stem = nn.Conv2d(planes, config.channels, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(config.channels)
        # Convolutions see neither rows nor whose turn it is, and both matter together: who gets the
        # odd and who the even cells.
        self.position = nn.Parameter(torch.zeros(config.channels, height, width))
        if config.side_planes is not None:
            self.turn = nn.Parameter(torch.zeros(config.channels, height, width))
        self.boards = nn.ModuleDict()
        for rows, columns, _ in config.boards:
            maps = BoardMaps(config.channels, rows, columns, turn=config.side_planes is not None)
            self.boards[f"{rows}x{columns}"] = maps
        self.blocks = nn.ModuleList(
            Block(
                config.channels,
                config.inner_channels,
                pooling=config.pooling and index % 2 == 1,
            )
            for index in range(config.blocks)
        )
        self.head = nn.Conv2d(config.channels, config.head_channels, 1, bias=False)
        self.head_norm = nn.BatchNorm2d(config.head_channels)
        heads, features, cells = config.heads, config.head_channels, height * width
        self.policy = make_policy(heads, features, cells, config.num_actions)
        self.value_hidden = nn.Linear(value_inputs(heads, features, cells), config.value_hidden)
        self.value = nn.Linear(config.value_hidden, config.num_values)
        self._initialise(generator)
        self.auxiliary: AuxiliaryHeads | None = None
        if config.target_planes or config.scores:
            self.auxiliary = AuxiliaryHeads(
                features, config.target_planes, config.scores, generator
            )
        hold(self, config.weights)

    def _initialise(self, generator: torch.Generator | None) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        initialise_heads(self.policy, self.value_hidden, self.value, generator)

    @property
    def undecayed(self) -> Collection[str]:
        """Maps of boards: a bias a cell, though they have three axes."""
        maps = ("position", "turn")
        return [*maps, *(f"boards.{size}.{name}" for size in self.boards for name in maps)]

    def on_board(self, obs_shape: tuple[int, int, int], num_actions: int) -> ResNet:
        """The network for one of its boards, sharing all weights; ConfigError for another one."""
        board = (*obs_shape[1:], num_actions)
        if obs_shape[0] != self.config.obs_shape[0] or board not in self.config.boards:
            raise ConfigError(f"the network was not made for boards of {board[0]} x {board[1]}")
        maps = self.boards[f"{board[0]}x{board[1]}"]
        view = copy.copy(self)
        view.config = replace(self.config, obs_shape=obs_shape, num_actions=num_actions, boards=())
        # Dictionaries of its own: a copy shares them with the network.
        view._modules = {**self._modules, "boards": nn.ModuleDict()}
        view._parameters = {**self._parameters, **maps._parameters}
        return view

    @property
    def tuning(self) -> Tuning:
        """The configured learning rate is that of 32 channels; wider ones take shorter steps."""
        channels, (_, height, width) = self.config.channels, self.config.obs_shape
        return Tuning(
            rate_scale=min(1.0, (32 / channels) ** 0.5),
            activation_size=channels * height * width,
            heads=HEADS,
        )

    def trunk(self, obs: Tensor) -> Tensor:
        """What all heads share, [M, channels, H, W]: observations after the last block."""
        x = self.stem(obs)
        maps: Any = self
        if obs.shape[-2:] != self.position.shape[-2:]:
            maps = self.boards[f"{obs.shape[-2]}x{obs.shape[-1]}"]
        # In the dtype of x, since a sum in float32 would make the whole trunk float32.
        layout = torch.channels_last
        place = maps.position[None].to(dtype=x.dtype, memory_format=layout)
        if self.config.side_planes is not None and self.config.sees_side:
            turn = maps.turn[None].to(dtype=x.dtype, memory_format=layout)
            place = place + side_to_move(obs, self.config.side_planes).to(x.dtype) * turn
        x = norm_relu(x, self.stem_norm, place)
        for block in self.blocks:
            x = block(x)
        return x

    def _features(self, obs: Tensor) -> Tensor:
        """What the heads see, [M, F, H, W]."""
        return norm_relu(self.head(self.trunk(obs)), self.head_norm)

    def heads(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [M, A] and value logits [M, V], of which tanh(logit / 2) is the value."""
        x = self._features(obs)
        return answers(self.config.heads, x, self.policy, self.value_hidden, self.value)

    def all_heads(self, obs: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """The same, then logits of target planes [M, T, H, W] and scores [M] a cell, or None."""
        x = self._features(obs)
        kind, value = self.config.heads, (self.value_hidden, self.value)
        planes, score = (None, None) if self.auxiliary is None else self.auxiliary(x)
        return *answers(kind, x, self.policy, *value), planes, score

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and values."""
        logits, value_logits = self.heads(obs)
        return logits, squash(value_logits, self.config.num_values)

    def inference_copy(
        self, *, dtype: torch.dtype = torch.float32, device: torch.device = CPU
    ) -> FoldedResNet:
        """A folded copy that answers fast."""
        return FoldedResNet(self, dtype=dtype, device=device)


def build(
    obs_shape: tuple[int, int, int],
    num_actions: int,
    *,
    size: str = "base",
    num_players: int = 2,
    zero_sum: bool = True,
    pooling: bool = False,
    heads: str = "linear",
    side_planes: tuple[int, int] | None = (0, 1),
    target_planes: int = 0,
    scores: bool = False,
    boards: tuple[Board, ...] = (),
    seed: int = 0,
) -> ResNet:
    """A fresh network of a size; the same seed gives the same weights."""
    channels, blocks, head, inner = parse_size(size)
    config = ResNetConfig(
        obs_shape=obs_shape,
        num_actions=num_actions,
        num_players=num_players,
        zero_sum=zero_sum,
        channels=channels,
        blocks=blocks,
        head_channels=head,
        value_hidden=max(16, channels),
        pooling=pooling,
        heads=choose_heads(heads, obs_shape, num_actions, head),
        side_planes=side_planes,
        target_planes=target_planes,
        scores=scores,
        boards=boards,
        inner=inner,
    )
    # Linear layers draw from the global generator before we set them: keep it as it was.
    with torch.random.fork_rng(devices=[]):
        return ResNet(config, generator=torch.Generator().manual_seed(seed))
