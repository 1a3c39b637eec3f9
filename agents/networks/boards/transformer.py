"""A Transformer over the cells of a board: one token a cell, every cell sees all others.

For games where far cells matter at once, which a small convolutional trunk sees only after many
blocks. Pre-normalised blocks of attention (torch's fused kernel) and a two-layer perceptron, with
learned places of rows and columns; the heads of heads.py, pooled by default where actions are
cells. Left out: relative positions and caches, which boards of a fixed size do not need.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from playout.agents.networks.boards.heads import (
    answers,
    choose_heads,
    initialise_heads,
    make_policy,
    read_shape,
    side_to_move,
    value_inputs,
)
from playout.agents.networks.boards.network import NetworkCopy, Tuning, squash, values_for
from playout.agents.networks.boards.resnet import plain_size
from playout.agents.networks.boards.smaller.held import PLAIN, check_weights, hold
from playout.errors import ConfigError
from torch import Tensor, nn
from torch.nn import functional

HEAD_WIDTH = 16  # of attention, at least
RATE_SCALE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardTransformerConfig:
    """The shape of a network.

    Attributes:
        obs_shape: planes, rows and columns `(C, H, W)` of an observation.
        num_actions: length of the policy.
        num_players: up to 2 share one value, that of the side to move; more have one each, ...
        zero_sum: ... and so have 2 whose results do not add up to zero.
        width: numbers of a token.
        blocks: of attention and perceptron.
        attention_heads: of each block; they share the width.
        head_channels: numbers of a token that policy and value see.
        value_hidden: hidden units of the value head.
        heads: "linear" or "pooled", see heads.py.
        side_planes: where the observation shows the side to move, see heads.py; None: a game does
            not say.
        weights: what they are held in, "float32", or "int8" or "nf4" (smaller/held.py).
    """

    obs_shape: tuple[int, int, int]
    num_actions: int
    num_players: int = 2
    zero_sum: bool = True
    width: int = 64
    blocks: int = 4
    attention_heads: int = 2
    head_channels: int = 32
    value_hidden: int = 64
    heads: str = "pooled"
    side_planes: tuple[int, int] | None = None
    weights: str = PLAIN

    def __post_init__(self) -> None:
        check_weights(self.weights)

    @property
    def num_values(self) -> int:
        """How many values a position has: 1, or one a player where there are more than two."""
        return values_for(self.num_players, self.zero_sum)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for a configuration file."""
        planes = None if self.side_planes is None else list(self.side_planes)
        lists = {"obs_shape": list(self.obs_shape), "side_planes": planes}
        data = {"network": "transformer", **asdict(self), **lists}
        if self.weights == PLAIN:  # descriptions stay what they were
            del data["weights"]
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> BoardTransformerConfig:
        """The configuration that `to_dict` wrote, without the name; strangers are errors."""
        try:
            return cls(**read_shape(data))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"not the description of a network: {error}") from None


class AttentionBlock(nn.Module):
    """Attention over all cells, then a perceptron for each, both added to what was there."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[M, T, D] to the same."""
        rows, tokens, width = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(rows, tokens, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # [M, heads, T, D / heads]
        seen = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.project(seen.transpose(1, 2).reshape(rows, tokens, width))
        return x + self.contract(functional.gelu(self.expand(self.mlp_norm(x))))


class BoardTransformer(nn.Module):
    """The Transformer as a `BoardNetwork` (network.py).

    Args:
        config: the shape.
        generator: of the first weights; by default torch's global one.
    """

    undecayed = ("row", "column")  # biases, though they have two axes

    def __init__(
        self, config: BoardTransformerConfig, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.config = config
        planes, height, width = config.obs_shape
        self.embed = nn.Linear(planes, config.width)
        self.row = nn.Parameter(torch.zeros(height, config.width))
        self.column = nn.Parameter(torch.zeros(width, config.width))
        self.turn = nn.Parameter(torch.zeros(config.width))
        self.blocks = nn.ModuleList(
            AttentionBlock(config.width, config.attention_heads) for _ in range(config.blocks)
        )
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.head_channels)
        heads, features, cells = config.heads, config.head_channels, height * width
        self.policy = make_policy(heads, features, cells, config.num_actions)
        self.value_hidden = nn.Linear(value_inputs(heads, features, cells), config.value_hidden)
        self.value = nn.Linear(config.value_hidden, config.num_values)
        self._initialise(generator)
        hold(self, config.weights)

    @torch.no_grad()
    def _initialise(self, generator: torch.Generator | None) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                std = module.in_features**-0.5
                nn.init.normal_(module.weight, std=std, generator=generator)
                nn.init.zeros_(module.bias)
        for place in (self.row, self.column, self.turn):
            nn.init.normal_(place, std=0.5, generator=generator)
        for block in self.blocks:  # a block starts as the identity
            assert isinstance(block, AttentionBlock)
            nn.init.zeros_(block.project.weight)
            nn.init.zeros_(block.contract.weight)
        initialise_heads(self.policy, self.value_hidden, self.value, generator)

    @property
    def tuning(self) -> Tuning:
        """Shorter steps than a residual network's; Muon for the matrices of the blocks."""
        _, height, width = self.config.obs_shape
        names = [
            f"blocks.{index}.{layer}.weight"
            for index in range(self.config.blocks)
            for layer in ("qkv", "project", "expand", "contract")
        ]
        return Tuning(
            rate_scale=RATE_SCALE * min(1.0, (32 / self.config.width) ** 0.5),
            activation_size=4 * self.config.width * height * width,
            matrices=frozenset(names),
            heads=("head", "policy", "value_hidden", "value"),
        )

    def _cells(self, obs: Tensor) -> Tensor:
        """[M, T, D]: what becomes of each cell after the last block."""
        x = self.embed(obs.flatten(2).mT)
        place = (self.row[:, None] + self.column).flatten(0, 1)  # [T, D]
        if self.config.side_planes is not None:
            place = place + side_to_move(obs, self.config.side_planes)[:, 0] * self.turn
        x = x + place.to(x.dtype)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)  # type: ignore[no-any-return]

    def _on_board(self, x: Tensor) -> Tensor:
        """[M, T, F] to [M, F, H, W]."""
        return x.mT.unflatten(2, self.config.obs_shape[1:])

    def trunk(self, obs: Tensor) -> Tensor:
        """What all heads share, [M, width, H, W]: observations after the last block."""
        return self._on_board(self._cells(obs))

    def heads(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [M, A] and value logits [M, V], of which tanh(logit / 2) is the value."""
        x = self._on_board(functional.relu_(self.head(self._cells(obs))))
        return answers(self.config.heads, x, self.policy, self.value_hidden, self.value)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and values."""
        logits, value_logits = self.heads(obs)
        return logits, squash(value_logits, self.config.num_values)

    def inference_copy(
        self, *, dtype: torch.dtype = torch.float32, device: torch.device | None = None
    ) -> NetworkCopy:
        """A copy in that dtype."""
        return NetworkCopy(self, dtype=dtype, device=device or torch.device("cpu"))


def build_transformer(
    obs_shape: tuple[int, int, int],
    num_actions: int,
    *,
    size: str = "base",
    num_players: int = 2,
    zero_sum: bool = True,
    heads: str = "auto",
    side_planes: tuple[int, int] | None = None,
    seed: int = 0,
) -> BoardTransformer:
    """A fresh network of a preset or WIDTHxBLOCKS size; the same seed gives the same weights."""
    width, blocks, head, _ = plain_size(size)
    cells = obs_shape[1] * obs_shape[2]
    if heads == "auto":  # attention brings to a cell whatever its action needs
        heads = "pooled" if cells <= num_actions < 2 * cells else "linear"
    attention_heads = max(1, width // (2 * HEAD_WIDTH))
    while width % attention_heads:
        attention_heads -= 1
    config = BoardTransformerConfig(
        obs_shape=obs_shape,
        num_actions=num_actions,
        num_players=num_players,
        zero_sum=zero_sum,
        width=width,
        blocks=blocks,
        attention_heads=attention_heads,
        head_channels=head,
        value_hidden=max(16, width),
        heads=choose_heads(heads, obs_shape, num_actions, head),
        side_planes=side_planes,
    )
    # Linear layers draw from the global generator before we set them: keep it as it was.
    with torch.random.fork_rng(devices=[]):
        return BoardTransformer(config, generator=torch.Generator().manual_seed(seed))
