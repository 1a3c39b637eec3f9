"""The compiled path of small MLP policies: same parameters, same formulas, a tenth of the calls.

`attach` looks whether a policy is one that _mlp.pyx can evaluate and differentiate (vectors in,
tanh or relu layers, a categorical or plain Gaussian head, on the CPU) and gives it that path; any
other keeps to torch. Gradients are added to the parameters' own `.grad`, as autograd would.
"""

from typing import Any

import numpy as np
import torch
from playout.agents.kernels.mlp._mlp import NativeMLP
from playout.agents.networks.encoders import Flat
from playout.agents.networks.heads import BoxHead, DiscreteHead
from playout.agents.ppo.rollout import Minibatch
from playout.agents.ppo.update import PolicyStep
from torch import Tensor, nn

_ACTIVATIONS = {"tanh": 1, "relu": 2}
# Wider layers, or more parameters, are better off with a general matrix library and its threads.
_MAX_WIDTH = 256
_MAX_PARAMETERS = 300_000


class Native:
    """One policy's compiled twin, over the same memory."""

    def __init__(self, network: NativeMLP, num_params: int, gaussian: bool) -> None:
        self.network, self.num_params, self.gaussian = network, num_params, gaussian
        self.dirty = True

    def _prepare(self) -> None:
        if self.dirty:
            self.network.prepare()
            self.dirty = False

    def step(
        self,
        obs: Tensor,
        mask: Tensor | None,
        generator: torch.Generator | None,
        deterministic: bool,
        given: Tensor | None = None,
    ) -> PolicyStep:
        """Act in `[N]` environments."""
        self._prepare()
        rows = len(obs)
        noise = None
        if not deterministic and given is not None:
            noise = given.numpy()
        elif not deterministic and self.gaussian:
            noise = torch.empty(rows, self.num_params).normal_(generator=generator).numpy()
        elif not deterministic:
            noise = torch.empty(rows, 1).uniform_(generator=generator).numpy()
        if self.gaussian:
            actions = torch.empty(rows, self.num_params)
        else:
            actions = torch.empty(rows, dtype=torch.int64)
        logprobs, values = torch.empty(rows), torch.empty(rows)
        self.network.step(
            _rows(obs), _bytes(mask), noise, actions.numpy(), logprobs.numpy(), values.numpy()
        )
        return PolicyStep(actions, logprobs, values, None)

    def value(self, obs: Tensor) -> Tensor:
        """Values `[N]`."""
        self._prepare()
        params, values = torch.empty(len(obs), self.num_params), torch.empty(len(obs))
        self.network.forward(_rows(obs), params.numpy(), values.numpy())
        return values

    def evaluate(self, batch: Minibatch) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities, entropies, values `[N]`, without a graph; see `differentiate`."""
        self.dirty = True
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

    def differentiate(
        self, logprob_grad: Tensor, entropy_grad: Tensor | None, value_grad: Tensor
    ) -> None:
        """Add the gradient of the last `evaluate` to the parameters'."""
        self.network.backward(
            _flat(logprob_grad),
            None if entropy_grad is None else _flat(entropy_grad),
            _flat(value_grad),
        )
        self.dirty = True


def _rows(x: Tensor) -> Any:
    return x.reshape(len(x), -1).contiguous().numpy()


def _flat(x: Tensor) -> Any:
    return x.detach().reshape(-1).contiguous().numpy()


def _bytes(mask: Tensor | None) -> Any:
    if mask is None:
        return None
    array = mask.contiguous().numpy()
    return array.view(np.uint8) if array.dtype == np.bool_ else array.astype(np.uint8, copy=False)


def attach(policy: Any) -> bool:
    """Give an `ActorCritic` its compiled path if it has one; returns whether it does.

    Call it after the optimiser is built: the parameters' memory must not move any more.
    """
    head: Any = getattr(policy, "head", None)
    trunk: Any = getattr(policy, "policy_trunk", None)
    if head is None or trunk is None or not _fits(policy):
        return False
    hidden, activation = trunk.layers.layers, _ACTIVATIONS[policy.config.activation]
    body = [_layer(layer, activation) for layer in hidden]
    out, value_out = _layer(head.out, 0), _layer(policy.value_head, 0)
    log_std = log_std_grad = None
    gaussian = isinstance(head, BoxHead)
    if gaussian:
        log_std, log_std_grad = _arrays(head.log_std)
    if policy.value_trunk is None:
        network = NativeMLP(body, [out], [value_out], log_std, log_std_grad)
    else:
        other = [_layer(layer, activation) for layer in policy.value_trunk.layers.layers]
        network = NativeMLP([], [*body, out], [*other, value_out], log_std, log_std_grad)
    policy.native = policy.learner = Native(network, head.out.weight.shape[0], gaussian)
    return True


def _fits(policy: Any) -> bool:
    """Whether every part is one that the compiled path knows."""
    head, trunk = policy.head, policy.policy_trunk
    parameters = list(policy.parameters())
    if any(p.device.type != "cpu" or p.dtype != torch.float32 for p in parameters):
        return False
    if sum(p.numel() for p in parameters) > _MAX_PARAMETERS:
        return False
    encoder = trunk.encoder
    vectors = isinstance(encoder, Flat) and encoder.floats and encoder.num_features > 0
    if not vectors or trunk.core is not None or policy.config.activation not in _ACTIVATIONS:
        return False
    widths = [layer.weight.shape[0] for layer in trunk.layers.layers]
    if max([encoder.num_features, head.out.weight.shape[0], *widths]) > _MAX_WIDTH:
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
