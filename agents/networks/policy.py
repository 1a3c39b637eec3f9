"""The interface of policies: what acting and learning ask of one, and the types that are passed.

`ppo_update` needs a `TrainablePolicy`; collection, evaluation and players need a whole `Policy`.
Methods without a body must be there; the others are hooks with a default that holds for any
network. Shapes: N environments or steps, R rows, T steps of a row. Leaves out every implementation
(actor_critic.py, boards/policy.py, rlhf's language policy).
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from numpy.typing import NDArray
from playout.agents.runs.devices import new_generator
from playout.agents.vector.episodes import derive_seed
from playout.errors import ConfigError
from torch import Tensor, nn

Tree = Any
"""A tensor, or a dict, list or tuple of trees."""

Outputs = tuple[Tensor, Tensor, Tensor]
"""Log-probabilities, entropies and values of one minibatch, all of the same shape."""


def map_tree(function: Callable[[Tensor], Tensor], tree: Tree) -> Tree:
    """Apply `function` to every tensor of a tree of dicts, lists and tuples; None stays None."""
    if tree is None:
        return None
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, dict):
        return {key: map_tree(function, value) for key, value in tree.items()}
    return type(tree)(map_tree(function, value) for value in tree)


def join_trees(trees: Sequence[Tree], join: Callable[[list[Any]], Any]) -> Tree:
    """Trees of one form as one, whose leaves are `join` of theirs; None stays None."""
    first = trees[0]
    if first is None:
        return None
    if isinstance(first, dict):
        return {key: join_trees([tree[key] for tree in trees], join) for key in first}
    if isinstance(first, list | tuple):
        return type(first)(join_trees(parts, join) for parts in zip(*trees, strict=True))
    return join(list(trees))


class PolicyStep(NamedTuple):
    """What `Policy.step` returns for `[N]` environments."""

    action: Tensor
    """`[N]` or `[N, ...]`, as `evaluate` and `to_env` expect it."""
    logprob: Tensor
    """`[N]`."""
    value: Tensor
    """`[N]`."""
    state: Tree
    """Recurrent state after this step, or None."""


@dataclass(slots=True)
class Minibatch:
    """What one gradient step sees of a rollout: steps `[N, ...]` or whole rows `[r, T, ...]`.

    The fields mean what they mean in `Rollout`. For steps, every step is valid and `initial_state`
    is None.
    """

    obs: Tree
    actions: Tensor
    logprobs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    valid: Tensor
    action_mask: Tensor | None = None
    episode_starts: Tensor | None = None
    initial_state: Tree = None
    ref_logprobs: Tensor | None = None
    weights: Tensor | None = None
    allowed: Tensor | None = None

    def __len__(self) -> int:
        """Number of steps or rows along the first axis."""
        return int(self.logprobs.shape[0])

    def slice(self, begin: int, end: int) -> "Minibatch":
        """Entries begin to end of the first axis, without copying."""
        return Minibatch(
            **{
                field.name: map_tree(lambda x: x[begin:end], getattr(self, field.name))
                for field in fields(self)
            }
        )


class TrainablePolicy(Protocol):
    """The part of a policy that the update uses; an nn.Module."""

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """As nn.Module's."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """As nn.Module's."""

    @property
    def inner_matrices(self) -> Collection[str]:
        """Hook: names of matrices between hidden layers, which Muon may make orthogonal."""
        return ()

    @property
    def init_encoders(self) -> Sequence[nn.Module]:
        """Hook: what `--init` may have begun, and what then learns at a rate of its own."""
        return ()

    @property
    def init_parameters(self) -> Collection[str]:
        """Hook: names of the parameters that have that rate, by default all of `init_encoders`."""
        begun = {id(one) for encoder in self.init_encoders for one in encoder.parameters()}
        return [name for name, one in self.named_parameters() if id(one) in begun]

    def evaluate(self, batch: Minibatch) -> Outputs:
        """Log-probabilities of the batch's actions, entropies and values, like `logprobs`."""

    def spare_parts(self, own: int) -> Sequence[Minibatch]:
        """Hook: what a rank evaluates in a gradient step beside its `own` parts of a minibatch.

        Every rank asks before each step, and differentiates the answer with a gradient of zero.
        There is one where a pass needs all ranks, such as one through weights that are cut over
        them, and another rank has more parts.
        """
        return ()

    def backward(
        self,
        outputs: Outputs,
        logprob_grad: Tensor,
        entropy_grad: Tensor | None,
        value_grad: Tensor,
    ) -> None:
        """Add the gradient of the last `evaluate` to the parameters' own.

        Hook: a policy that knows its own derivative computes it here, and its `evaluate` returns
        tensors without a graph.

        Args:
            outputs: What that `evaluate` returned.
            logprob_grad: Gradient of the loss with respect to the log-probabilities.
            entropy_grad: With respect to the entropies; None where they are not in the loss.
            value_grad: With respect to the values.
        """
        pairs = [
            (output, grad.to(output.dtype))
            for output, grad in zip(outputs, (logprob_grad, entropy_grad, value_grad), strict=True)
            if output.requires_grad and grad is not None
        ]
        torch.autograd.backward([output for output, _ in pairs], [grad for _, grad in pairs])


@runtime_checkable
class Policy(TrainablePolicy, Protocol):
    """A policy with a value function; an nn.Module."""

    def initial_state(self, num_rows: int) -> Tree:
        """Recurrent state at an episode's start, a tree of tensors `[num_rows, ...]`, or None."""

    def step(
        self,
        obs: Tree,
        state: Tree = None,
        mask: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        deterministic: bool = False,
        noise: Tensor | None = None,
    ) -> PolicyStep:
        """Act in `[N]` environments, without a graph.

        Args:
            obs: A tensor `[N, ...]` or a dict of them.
            state: Recurrent state, fresh where an episode starts (`reset_state`).
            mask: 1 where an action is legal, `[N, A]`.
            generator: Of the actions that are sampled.
            deterministic: Take the most likely action.
            noise: What `draw` gave, to be used instead of drawing from `generator`; or correlated
                normal numbers `[N, D]` where a run asks for them.
        """

    def value(self, obs: Tree, state: Tree = None) -> Tensor:
        """Values `[N]` of observations, without acting and without a graph."""

    def to_env(self, actions: Tensor) -> NDArray[Any]:
        """Actions of a rollout `[N, ...]` as the environment takes them."""

    def state_dict(self) -> dict[str, Any]:
        """As nn.Module's."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """As nn.Module's."""

    def to(self, device: torch.device) -> Any:
        """As nn.Module's."""

    @property
    def recurrent(self) -> bool:
        """Hook: whether the policy has a memory, and so must learn from whole rows."""
        return False

    @property
    def prefers_processor(self) -> bool:
        """Hook: whether it is fastest on the processor even where there is a GPU."""
        return False

    def draw(self, rows: int, generator: torch.Generator) -> Tensor | None:
        """Hook: random numbers for `step` in N environments, drawn on the processor `[rows, ...]`.

        They travel to a device with the observations, so that runs draw the same numbers on every
        device. None: `step` draws by itself, from a generator of the device.
        """
        return None

    def draw_as_sampled(self, rows: int, generator: torch.Generator) -> Tensor | None:
        """Hook: like `draw`, but the numbers that `step` on the processor would draw by itself.

        Ranks draw for the environments of all and hand each `step` its own rows: so actions are
        those of one process.
        """
        return self.draw(rows, generator)

    def use_dtype(self, dtype: torch.dtype) -> None:
        """Hook: compute in a lower precision; parameters and gradients keep theirs.

        Raises:
            ConfigError: This policy has only its own.
        """
        if dtype != torch.float32:
            raise ConfigError(f"{type(self).__name__} cannot compute in {dtype}: leave out dtype")

    @property
    def uses_own_threads(self) -> bool:
        """Hook: whether it spreads its work over cores itself; torch then gets one thread."""
        return False

    def reset_state(self, state: Tree, starts: Tensor) -> Tree:
        """Hook: `state` made fresh in the rows `[N]` where bool `starts` is set; zeros, here."""
        keep = (~starts).unsqueeze(1)
        return map_tree(lambda x: x * keep.to(x.device), state)

    def accelerate(self) -> None:
        """Hook: choose the fastest code for the device; parameters stay where they lie now."""
        return None

    def weights_changed(self) -> None:
        """Hook: parameters may have been written from outside since the last call."""
        return None

    def metrics(self) -> Mapping[str, Tensor | float]:
        """Hook: numbers for the log, such as `train/std`; tensors are fetched with the others."""
        return {}


def draw_ahead(
    policy: Policy,
    rows: int,
    generator: torch.Generator,
    device: torch.device,
    own: slice | None = None,
) -> tuple[Tensor | None, torch.Generator]:
    """Noise and generator to be given to a `step` of N environments on `device`.

    Random numbers come from a generator of the processor, so that a run goes on on any device.
    There the policy draws by itself. On a device it takes what it drew ahead, on the processor
    still; where it does not know how to, a generator of the device, seeded by the other.

    Args:
        policy: The policy.
        rows: N, of all ranks together.
        generator: Of the processor; alike on all ranks, and alike afterwards.
        device: Where the policy is.
        own: This rank's rows, where there are ranks.
    """
    if device.type == "cpu" and own is None:
        return None, generator
    draw = policy.draw_as_sampled if device.type == "cpu" else policy.draw
    noise = draw(rows, generator)
    if noise is None:
        seed = int(torch.randint(1 << 62, (), generator=generator))
        if own is not None:
            seed = derive_seed(seed, "rank", own.start)
        return None, new_generator(device, seed)
    return (noise if own is None else noise[own]), generator


def as_policy(policy: nn.Module | Policy) -> Policy:
    """A module of the person's own as a Policy: hooks that it does not have take their defaults.

    Raises:
        ConfigError: It lacks a method that has no default.
    """
    if isinstance(policy, Policy):
        return policy
    needed = ("initial_state", "step", "value", "evaluate", "to_env")
    lacking = [name for name in needed if not callable(getattr(policy, name, None))]
    cls = type(policy)
    if lacking or not isinstance(policy, nn.Module):
        raise ConfigError(
            f"{cls.__name__} cannot be a policy: it must be an nn.Module with the methods "
            f"{', '.join(needed)}"
        )
    policy.__class__ = type(cls.__name__, (cls, Policy), {"__module__": cls.__module__})
    assert isinstance(policy, Policy)
    return policy
