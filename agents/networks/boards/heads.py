"""Parts that networks of boards share: the side to move as a number, and heads of two kinds.

"linear" heads see all cells in one matrix: the best where a board is small, and for any meaning of
the actions; 19x19 cells would make millions of weights. "pooled" heads hold no weight a cell:
action `i` is answered from cell `i`'s features (row by row; several planes of actions one after the
other), actions beyond the cells and the value from means and maxima over the board. Left out:
trunks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from playout.errors import ConfigError
from torch import Tensor, nn
from torch.nn import functional

HEADS = ("linear", "pooled")
MAX_LINEAR_WEIGHTS = 1 << 20  # of a linear policy head; Go 9x9 has a fifth of it, 19x19 four times


def read_shape(data: Mapping[str, Any]) -> dict[str, Any]:
    """What the description of a network stores of a game's shape, as its configuration holds it.

    Args:
        data: a description with obs_shape, heads and side_planes, and whatever else it has.

    Raises:
        KeyError, TypeError, ValueError: one of the three is missing or wrong.
    """
    shape = tuple(int(n) for n in data["obs_shape"])
    if len(shape) != 3:
        raise ValueError("obs_shape needs three numbers")
    if data["heads"] not in HEADS:
        raise ValueError(f"heads must be {' or '.join(HEADS)}")
    planes = data["side_planes"]
    planes = None if planes is None else tuple(int(n) for n in planes)
    if planes is not None and len(planes) != 2:
        raise ValueError("side_planes needs two numbers")
    return {**data, "obs_shape": shape, "side_planes": planes}


def choose_heads(heads: str, obs_shape: tuple[int, int, int], num_actions: int, width: int) -> str:
    """The kind of heads: "auto" is pooled where the linear policy would be huge.

    Only where an action is a cell, but for a few; what other actions mean is not known here.

    Args:
        heads: "auto", "linear" or "pooled".
        obs_shape: `(C, H, W)`.
        num_actions: A.
        width: planes that the heads see.
    """
    if heads not in ("auto", *HEADS):
        raise ConfigError(f"heads must be auto, {' or '.join(HEADS)}, not {heads!r}")
    cells = obs_shape[1] * obs_shape[2]
    if heads != "auto":
        return heads
    one_a_cell = cells <= num_actions < 2 * cells
    return "pooled" if one_a_cell and width * cells * num_actions > MAX_LINEAR_WEIGHTS else "linear"


def side_to_move(obs: Tensor, planes: tuple[int, int]) -> Tensor:
    """Whose turn it is, 0 for the first player to 1 for the second: [M, 1, 1, 1].

    Args:
        obs: [M, C, H, W].
        planes: (a, b), as a game declares them (`side_planes`). Where stones stay on the board, the
            second player moves when plane b holds a stone more than plane a: the difference of
            their sums, cut to [0, 1]. With b = -1 it is the mean of plane a.
    """
    own, other = planes
    if other == -1:
        return obs[:, own : own + 1].mean(dim=(2, 3), keepdim=True)
    stones = obs.sum(dim=(2, 3), keepdim=True)
    return (stones[:, other : other + 1] - stones[:, own : own + 1]).clamp(0, 1)


def pooled(x: Tensor) -> Tensor:
    """Mean and maximum of every plane: [M, C, H, W] -> [M, 2C]."""
    # In float32, since torch's maxima of bfloat16 take ten times as long on processors.
    return torch.cat([x.mean(dim=(2, 3)), x.float().amax(dim=(2, 3)).to(x.dtype)], dim=1)


class PooledPolicy(nn.Module):
    """A policy without a weight a cell.

    Args:
        features: F, planes that it sees.
        cells: H * W.
        num_actions: A. A // cells planes of actions come from the cells, the rest from the board.
    """

    def __init__(self, features: int, cells: int, num_actions: int) -> None:
        super().__init__()
        planes, rest = divmod(num_actions, cells)
        # What the whole board looks like, for every cell to weigh.
        self.mix = nn.Linear(2 * features, features)
        self.cells = nn.Linear(features, planes) if planes else None
        self.others = nn.Linear(2 * features, rest) if rest else None

    def forward(self, x: Tensor, board: Tensor) -> Tensor:
        """Features [M, F, H, W] and their pooled means and maxima [M, 2F] to logits [M, A]."""
        parts = []
        if self.cells is not None:
            cells = functional.relu(x.flatten(2).mT + self.mix(board)[:, None])  # [M, H * W, F]
            parts.append(self.cells(cells).mT.flatten(1))
        if self.others is not None:
            parts.append(self.others(board))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def make_policy(heads: str, features: int, cells: int, num_actions: int) -> nn.Module:
    """The last layer of a policy: a matrix over all cells, or a `PooledPolicy`."""
    if heads == "pooled":
        return PooledPolicy(features, cells, num_actions)
    return nn.Linear(features * cells, num_actions)


def value_inputs(heads: str, features: int, cells: int) -> int:
    """Numbers that the value's hidden layer sees."""
    return 2 * features if heads == "pooled" else features * cells


def answers(
    heads: str, x: Tensor, policy: nn.Module, value_hidden: nn.Module, value: nn.Module
) -> tuple[Tensor, Tensor]:
    """Features [M, F, H, W] to logits [M, A] and value logits [M, V] by heads of that kind."""
    if heads == "pooled":
        board = pooled(x)
        logits = policy(x, board)
    else:
        board = x.flatten(1)
        logits = policy(board)
    return logits, value(functional.relu_(value_hidden(board)))


class AuxiliaryHeads(nn.Module):
    """What a finished game teaches besides its result: planes, and the game's own score.

    They see what the other heads see, and are only there to learn from (Wu 2019, section 4.1).

    Args:
        features: F, planes that it sees.
        planes: T, target planes; 0 for none.
        scores: learn the score?
        generator: of the first weights.
    """

    def __init__(
        self, features: int, planes: int, scores: bool, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        self.planes = nn.Conv2d(features, planes, 1) if planes else None
        self.score = nn.Linear(2 * features, 1) if scores else None
        for layer in (self.planes, self.score):
            if layer is not None:
                nn.init.normal_(layer.weight, std=1e-3, generator=generator)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Features [M, F, H, W] to target planes [M, T, H, W] and scores [M]; None: not learned.

        Planes are logits, of which tanh(logit / 2) is the target; scores are divided by the cells
        of the board.
        """
        planes = None if self.planes is None else self.planes(x)
        score = None if self.score is None else self.score(pooled(x))[:, 0]
        return planes, score


@torch.no_grad()
def initialise_heads(
    policy: nn.Module,
    value_hidden: nn.Linear,
    value: nn.Linear,
    generator: torch.Generator | None,
) -> None:
    """First weights: an even policy, a value of 0."""
    nn.init.kaiming_normal_(value_hidden.weight, nonlinearity="relu", generator=generator)
    if isinstance(policy, PooledPolicy):
        nn.init.kaiming_normal_(policy.mix.weight, nonlinearity="relu", generator=generator)
        nn.init.zeros_(policy.mix.bias)
    last = [policy] if isinstance(policy, nn.Linear) else [policy.cells, policy.others]
    for layer in (*last, value):
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=1e-3, generator=generator)
            nn.init.zeros_(layer.bias)
    nn.init.zeros_(value_hidden.bias)
