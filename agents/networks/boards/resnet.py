"""Residual policy and value networks for board games, and their folded copies for fast inference.

`ResNet` learns; `FoldedResNet` answers: batch normalisation is folded into the convolutions and
every activation is written in place, so a copy runs at the speed of its matrix products. A cell's
place and the side to move add to its features before the blocks. Left out: heads (heads.py),
recurrence and planning inside the network.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
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
from playout.agents.networks.boards.network import BoardNetwork, Tuning, squash, values_for
from playout.agents.networks.boards.norm_relu import norm_relu
from playout.errors import ConfigError
from torch import Tensor, nn
from torch.nn import functional

CPU = torch.device("cpu")
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

    @property
    def num_values(self) -> int:
        """How many values a position has: 1, or one a player where there are more than two."""
        return values_for(self.num_players, self.zero_sum)

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
        for name, before in {**earlier, "target_planes": 0, "scores": False}.items():
            if data[name] == before:
                del data[name]
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ResNetConfig:
        """The configuration that `to_dict` wrote; unknown or missing keys are errors."""
        try:
            return cls(**read_shape({"heads": "linear", "side_planes": (0, 1), **data}))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"not the description of a network: {error}") from None


def parse_size(size: str) -> tuple[int, int, int]:
    """Channels, blocks and head channels of a preset or of CHANNELSxBLOCKS such as "48x4"."""
    if size in SIZES:
        return SIZES[size]
    channels, cross, blocks = size.partition("x")
    if (
        cross
        and channels.isdecimal()
        and blocks.isdecimal()
        and 1 <= int(channels) <= 1024
        and 1 <= int(blocks) <= 64
    ):
        return int(channels), int(blocks), max(2, int(channels) // 2)
    raise ConfigError(
        f"size {size!r} is unknown: use {', '.join(SIZES)} or CHANNELSxBLOCKS, for instance 48x4"
    )


class Block(nn.Module):
    """Two 3x3 convolutions with a skip, and optionally a bias from pooled planes between them."""

    def __init__(self, channels: int, *, pooling: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.pool = nn.Linear(2 * channels, channels) if pooling else None
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


class ResNet(nn.Module):
    """The residual network as a `BoardNetwork` (network.py).

    `forward(obs [M, C, H, W])` gives logits [M, A] and values [M] in [-1, 1]. With more than two
    players values are [M, P], else those of the side to move.

    Args:
        config: the shape.
        generator: of the first weights; by default torch's global one.
    """

    undecayed = ("position", "turn")  # maps of the board: a bias a cell, though they have 3 axes

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
        self.blocks = nn.ModuleList(
            Block(config.channels, pooling=config.pooling and index % 2 == 1)
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

    def _initialise(self, generator: torch.Generator | None) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        initialise_heads(self.policy, self.value_hidden, self.value, generator)

    @property
    def tuning(self) -> Tuning:
        """The configured learning rate is that of 32 channels; wider ones take shorter steps."""
        channels, (_, height, width) = self.config.channels, self.config.obs_shape
        return Tuning(
            rate_scale=min(1.0, (32 / channels) ** 0.5),
            activation_size=channels * height * width,
        )

    def trunk(self, obs: Tensor) -> Tensor:
        """What all heads share, [M, channels, H, W]: observations after the last block."""
        x = self.stem(obs)
        # In the dtype of x, since a sum in float32 would make the whole trunk float32.
        layout = torch.channels_last
        place = self.position[None].to(dtype=x.dtype, memory_format=layout)
        if self.config.side_planes is not None and self.config.sees_side:
            turn = self.turn[None].to(dtype=x.dtype, memory_format=layout)
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


class FoldedResNet(nn.Module):
    """A ResNet for inference.

    Args:
        net: the network whose answers it gives.
        dtype: of its weights and inputs.
        device: where it answers; by default on the processor.
    """

    def __init__(
        self, net: ResNet, *, dtype: torch.dtype = torch.float32, device: torch.device | None = None
    ) -> None:
        super().__init__()
        config = net.config
        self.config = config
        planes = config.obs_shape[0]
        self.stem = nn.Conv2d(planes, config.channels, 3, padding=1)
        self.position = nn.Parameter(torch.zeros_like(net.position, device="cpu"))
        if config.side_planes is not None:
            self.turn = nn.Parameter(torch.zeros_like(net.turn, device="cpu"))
        pairs: list[nn.Conv2d] = []
        pools: list[nn.Module] = []
        for index in range(config.blocks):
            pairs += [nn.Conv2d(config.channels, config.channels, 3, padding=1) for _ in range(2)]
            use = config.pooling and index % 2 == 1
            pools.append(nn.Linear(2 * config.channels, config.channels) if use else nn.Identity())
        self.convs = nn.ModuleList(pairs)
        self.pools = nn.ModuleList(pools)
        self.head = nn.Conv2d(config.channels, config.head_channels, 1)
        heads, features = config.heads, config.head_channels
        cells = config.obs_shape[1] * config.obs_shape[2]
        self.policy = make_policy(heads, features, cells, config.num_actions)
        self.value_hidden = nn.Linear(value_inputs(heads, features, cells), config.value_hidden)
        self.value = nn.Linear(config.value_hidden, config.num_values)
        self._convs, self._pools = list(pairs), list(pools)  # plain lists are quick to read
        self.requires_grad_(False)
        layout = torch.channels_last
        self.to(device=device, dtype=dtype, memory_format=layout)  # type: ignore[call-overload]
        self.refresh(net)

    @torch.no_grad()
    def refresh(self, net: BoardNetwork) -> None:
        """Copies the weights of a ResNet in place, so that captured graphs stay valid."""
        if not isinstance(net, ResNet):
            raise TypeError(f"a {type(net).__name__} cannot be folded as a ResNet")
        fold(self.stem, net.stem, net.stem_norm)
        self.position.copy_(net.position)
        if self.config.side_planes is not None:
            self.turn.copy_(net.turn)
        for index, block in enumerate(net.blocks):
            assert isinstance(block, Block)
            fold(self._convs[2 * index], block.conv1, block.norm1)
            fold(self._convs[2 * index + 1], block.conv2, block.norm2)
            pool = self._pools[index]
            if isinstance(pool, nn.Linear) and block.pool is not None:
                pool.weight.copy_(block.pool.weight)
                pool.bias.copy_(block.pool.bias)
        fold(self.head, net.head, net.head_norm)
        for name in ("policy", "value_hidden", "value"):
            theirs = getattr(net, name).state_dict()
            for key, mine in getattr(self, name).state_dict().items():
                mine.copy_(theirs[key])

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [M, A] and values, both float32."""
        x = conv3x3(obs, self.stem).add_(self.position)
        if self.config.side_planes is not None and self.config.sees_side:
            x.addcmul_(side_to_move(obs, self.config.side_planes), self.turn)
        x = functional.relu_(x)
        for index, pool in enumerate(self._pools):
            y = functional.relu_(conv3x3(x, self._convs[2 * index]))
            if isinstance(pool, nn.Linear):
                y = y + pool(pooled(y))[:, :, None, None]
            x = functional.relu_(conv3x3(y, self._convs[2 * index + 1]).add_(x))
        x = functional.relu_(self.head(x))
        logits, value_logits = answers(
            self.config.heads, x, self.policy, self.value_hidden, self.value
        )
        return logits.float(), squash(value_logits, self.config.num_values)


def conv3x3(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """The convolution without a module call, whose overhead costs small networks a tenth."""
    return functional.conv2d(x, conv.weight, conv.bias, 1, 1)


def fold(target: nn.Conv2d, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Writes a convolution and its evaluated normalisation into one convolution with a bias."""
    assert (
        norm.running_var is not None and norm.running_mean is not None and target.bias is not None
    )
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    target.weight.copy_(conv.weight * scale[:, None, None, None])
    target.bias.copy_(norm.bias - norm.running_mean * scale)


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
    seed: int = 0,
) -> ResNet:
    """A fresh network of a preset or CHANNELSxBLOCKS size; the same seed gives the same weights."""
    channels, blocks, head = parse_size(size)
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
    )
    # Linear layers draw from the global generator before we set them: keep it as it was.
    with torch.random.fork_rng(devices=[]):
        return ResNet(config, generator=torch.Generator().manual_seed(seed))
