"""The compiled path of small MLP policies: same parameters, same formulas, a tenth of the calls.

`compile_mlp` looks whether a policy is one that _mlp.pyx can evaluate and differentiate (vectors
in, tanh or relu layers, a categorical or plain Gaussian head, on the CPU); any other keeps to
torch. Gradients are added to the parameters' own `.grad`, as autograd would.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from playout.agents.kernels.mlp._mlp import NativeMLP
from playout.agents.kernels.processor import fuses_multiply_add
from playout.agents.networks.encoders.vectors import Flat
from playout.agents.networks.heads import ActionHead, BoxHead, DiscreteHead
from playout.agents.networks.policy import Minibatch, Outputs, PolicyStep
from playout.agents.networks.trunks import Trunk
from torch import Tensor, nn

_ACTIVATIONS = {"tanh": 1, "relu": 2}
# Wider layers, or more parameters, are better off with a general matrix library and its threads.
_MAX_WIDTH = 256
_MAX_PARAMETERS = 300_000


class CompiledMLP:
    """One policy's compiled twin, over the same memory.

    Attributes:
        stale: Parameters may have changed since they were last packed.
    """

    def __init__(self, network: NativeMLP, num_params: int, gaussian: bool) -> None:
        self.network, self.num_params, self.gaussian = network, num_params, gaussian
        self.stale = True

    def _prepare(self) -> None:
        if self.stale:
            self.network.prepare()
            self.stale = False

    def step(
        self,
        obs: Tensor,
        mask: Tensor | None,
        generator: torch.Generator | None,
        deterministic: bool,
        noise: Tensor | None = None,
    ) -> PolicyStep:
        """Act in `[N]` environments; see `Policy.step`."""
        self._prepare()
        rows = len(obs)
        if deterministic:
            noise = None
        elif noise is None and self.gaussian:
            noise = torch.empty(rows, self.num_params).normal_(generator=generator)
        elif noise is None:
            noise = torch.empty(rows, 1).uniform_(generator=generator)
        if self.gaussian:
            actions = torch.empty(rows, self.num_params)
        else:
            actions = torch.empty(rows, dtype=torch.int64)
        logprobs, values = torch.empty(rows), torch.empty(rows)
        self.network.step(
            _rows(obs),
            _bytes(mask),
            None if noise is None else noise.numpy(),
            actions.numpy(),
            logprobs.numpy(),
            values.numpy(),
        )
        return PolicyStep(actions, logprobs, values, None)

    def value(self, obs: Tensor) -> Tensor:
        """Values `[N]`."""
        self._prepare()
        params, values = torch.empty(len(obs), self.num_params), torch.empty(len(obs))
        self.network.forward(_rows(obs), params.numpy(), values.numpy())
        return values

    def evaluate(self, batch: Minibatch) -> Outputs:
        """Log-probabilities, entropies, values `[N]`, without a graph; see `backward`."""
        self.stale = True
        self._prepare()
        shape = batch.logprobs.shape
        flat = batch.logprobs.numel()
        actions, mask = batch.actions, batch.action_mask
        if len(shape) == 2:
            actions = actions.flatten(0, 1)
            mask = None if mask is None else mask.flatten(0, 1)
        obs = batch.obs.reshape(flat, -1)
        logprobs, entropy, values = torch.empty(flat), torch.empty(flat), torch.empty(flat)
        self.network.evaluate(
            _rows(obs),
            _bytes(mask),
            actions.contiguous().numpy(),
            logprobs.numpy(),
            entropy.numpy(),
            values.numpy(),
        )
        return logprobs.view(shape), entropy.view(shape), values.view(shape)

    def backward(
        self, logprob_grad: Tensor, entropy_grad: Tensor | None, value_grad: Tensor
    ) -> None:
        """Add the gradient of the last `evaluate` to the parameters'."""
        self.network.backward(
            _flat(logprob_grad),
            None if entropy_grad is None else _flat(entropy_grad),
            _flat(value_grad),
        )
        self.stale = True


def _rows(x: Tensor) -> Any:
    return x.reshape(len(x), -1).contiguous().numpy()


def _flat(x: Tensor) -> Any:
    return x.detach().reshape(-1).contiguous().numpy()


def _bytes(mask: Tensor | None) -> Any:
    if mask is None:
        return None
    array = mask.contiguous().numpy()
    return array.view(np.uint8) if array.dtype == np.bool_ else array.astype(np.uint8, copy=False)


def can_compile(
    trunk: Trunk, value_trunk: Trunk | None, head: ActionHead, value_head: nn.Linear
) -> bool:
    """Whether there is a compiled path for a policy with these parts, on the processor."""
    trunks = [part for part in (trunk, value_trunk) if part is not None]
    parameters = [p for part in (*trunks, head, value_head) for p in part.parameters()]
    fits = fuses_multiply_add() and _small(parameters) and all(map(_fits, trunks))
    return fits and _known(head)


def compile_mlp(
    trunk: Trunk, value_trunk: Trunk | None, head: ActionHead, value_head: nn.Linear
) -> CompiledMLP | None:
    """The compiled path of a policy with these parts, or None if it has none.

    Call it after the optimiser is built: the parameters' memory must not move any more.
    """
    trunks = [part for part in (trunk, value_trunk) if part is not None]
    plain = all(p.device.type == "cpu" for part in (*trunks, head) for p in part.parameters())
    if not plain or not can_compile(trunk, value_trunk, head, value_head):
        return None
    body, *rest = [
        [_layer(layer, _ACTIVATIONS[part.activation]) for layer in part.layers.layers]
        for part in trunks
    ]
    out, value_out = _layer(head.out, 0), _layer(value_head, 0)
    gaussian = isinstance(head, BoxHead)
    log_std = _arrays(head.log_std) if isinstance(head, BoxHead) else (None, None)
    if rest:
        network = NativeMLP([], [*body, out], [*rest[0], value_out], *log_std)
    else:
        network = NativeMLP(body, [out], [value_out], *log_std)
    return CompiledMLP(network, head.out.weight.shape[0], gaussian)


def _small(parameters: Sequence[Tensor]) -> bool:
    plain = all(p.dtype == torch.float32 for p in parameters)
    return plain and sum(p.numel() for p in parameters) <= _MAX_PARAMETERS


def _fits(trunk: Trunk) -> bool:
    """Whether a trunk takes vectors and has no memory and only narrow layers."""
    encoder = trunk.encoder
    vectors = isinstance(encoder, Flat) and encoder.floats and encoder.num_features > 0
    if trunk.dtype != torch.float32:
        return False
    if not vectors or trunk.core is not None or trunk.activation not in _ACTIVATIONS:
        return False
    widths = [encoder.num_features, *(layer.weight.shape[0] for layer in trunk.layers.layers)]
    return max(widths) <= _MAX_WIDTH


def _known(head: ActionHead) -> bool:
    if head.out.weight.shape[0] > _MAX_WIDTH:
        return False
    if type(head) is DiscreteHead:
        return True
    return type(head) is BoxHead and not head.squash and not head.state_dependent_std


def _layer(layer: nn.Linear, activation: int) -> Any:
    weight, weight_grad = _arrays(layer.weight)
    bias, bias_grad = _arrays(layer.bias)
    return weight, bias, weight_grad, bias_grad, activation


def _arrays(parameter: Tensor) -> tuple[Any, Any]:
    """A parameter and its gradient as arrays over their own memory."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.data.numpy(), parameter.grad.numpy()
