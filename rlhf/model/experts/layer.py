"""A mixture of experts in place of a block's SwiGLU: a token goes to the few that a router picks.

The weights of all experts lie in two matrices, as a dense block's do. The choice is routing.py's,
the products are mixing.py's.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from playout.rlhf.model.config import TransformerConfig
from playout.rlhf.model.experts.mixing import mix
from playout.rlhf.model.experts.routing import route
from playout.rlhf.model.layers.projection import Projection
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Experts", "routes_of"]


class Experts(nn.Module):
    """A router and its experts, whose weights are rows of two matrices, one expert below another.

    Attributes:
        router: [E, H].
        gate_up_proj: [E * 2 * I, H].
        down_proj: [E * H, I].
        routes: Where the router's logits are noted, inside `routes_of`.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        hidden, inner, count = config.hidden_size, config.intermediate_size, config.num_experts
        self.router = Projection(hidden, count)
        self.gate_up_proj = Projection(hidden, count * 2 * inner)
        self.down_proj = Projection(inner, count * hidden)
        self.routes: list[Tensor] | None = None

    def forward(self, x: Tensor, gain: Tensor) -> Tensor:
        """[B, L, H] after a norm whose gain is `gain`; the result has the same shape and type."""
        config = self.config
        # Here the tokens are fewer than the rows of all experts: the gain is given to them.
        rows = x.flatten(0, 1) * gain.to(x.dtype)
        exact = rows if rows.dtype == torch.float64 else rows.float()
        kind = x.device.type
        lowers = torch.is_autocast_enabled(kind)
        with torch.autocast(kind, enabled=False) if lowers else nullcontext():
            logits = F.linear(exact, self.router.dense().to(exact.dtype))
        if self.routes is not None:
            self.routes.append(logits)
        weights, chosen = route(logits, config.num_experts_per_tok, normalise=config.norm_topk_prob)
        gate_up = self.gate_up_proj.dense().to(x.dtype).unflatten(0, (config.num_experts, -1))
        down = self.down_proj.dense().to(x.dtype).unflatten(0, (config.num_experts, -1))
        return mix(rows, weights, chosen, gate_up, down).view_as(x)


@contextmanager
def routes_of(model: nn.Module) -> Iterator[list[Tensor]]:
    """Inside, the list gets the router's logits, float32 [N, E], of every mixture that computes.

    Go backward outside: layers that compute again there would be noted twice.
    """
    found: list[Tensor] = []
    mixtures = [module for module in model.modules() if isinstance(module, Experts)]
    for one in mixtures:
        one.routes = found
    try:
        yield found
    finally:
        for one in mixtures:
            one.routes = None
