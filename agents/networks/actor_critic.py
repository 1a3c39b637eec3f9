"""Policies for Gymnasium spaces: trunks (encoder, core, MLP) under an action and a value head.

`ActorCritic` implements `Policy` (policy.py) for every space and architecture here; `build_policy`
chooses its parts from the spaces and a `NetworkConfig`, or builds your own class named as
"module:Class", or the network of a board game (boards/policy.py). Leaves out language models
(rlhf).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from gymnasium import spaces
from numpy.typing import NDArray
from playout.agents.networks.config import BOARD_NETWORKS, NetworkConfig
from playout.agents.networks.distributions import chosen
from playout.agents.networks.encoders.residual import PictureResNet
from playout.agents.networks.encoders.vectors import linear
from playout.agents.networks.heads import ActionHead, BoxHead, build_head
from playout.agents.networks.native_mlp import CompiledMLP, can_compile, compile_mlp
from playout.agents.networks.policy import (
    Minibatch,
    Outputs,
    Policy,
    PolicyStep,
    Tree,
    as_policy,
    map_tree,
)
from playout.agents.networks.trunks import ParallelTrunks, Trunk, has_images
from playout.agents.runs.devices import cores
from playout.errors import ConfigError
from playout.own_code import load_object
from torch import Tensor, nn
from torch.nn import functional


class ActorCritic(nn.Module, Policy):
    """A policy and a value function over shared or separate trunks.

    The recurrent state is a tuple of one state a trunk, each a tuple of `[N, size]`, or None.

    Attributes:
        compiled: The compiled code that acts and learns in place of torch, or None.
        parallel: Learns two recurrent trunks on two cores, or None.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        config: NetworkConfig,
    ) -> None:
        super().__init__()
        self.config = config
        self.compiled: CompiledMLP | None = None
        self.parallel: ParallelTrunks | None = None
        shared = config.shared_trunk
        if shared is None:
            shared = has_images(observation_space, config.network)
        self.policy_trunk = Trunk(observation_space, config)
        self.value_trunk = None if shared else Trunk(observation_space, config)
        self.head: ActionHead = build_head(
            action_space,
            self.policy_trunk.num_features,
            squash=config.squash,
            log_std_init=config.log_std_init,
            state_dependent_std=config.state_dependent_std,
        )
        self.value_head = linear(self.policy_trunk.num_features, 1, 1.0)
        self.train()

    def train(self, mode: bool = True) -> "ActorCritic":
        """Learn, or only act; statistics of resnet-8 stand still in both.

        What a minibatch holds would change the policy between acting and learning otherwise.
        """
        super().train(mode)
        for module in self.modules():
            if isinstance(module, PictureResNet):
                module.eval()
        return self

    @property
    def recurrent(self) -> bool:
        """Whether the policy has a memory, and so must learn from whole rows."""
        return self.policy_trunk.core is not None

    @property
    def inner_matrices(self) -> Collection[str]:
        """Those of the layers above an encoder that learns, a memory, or another layer."""
        found = []
        for name in ("policy_trunk", "value_trunk"):
            trunk: Trunk | None = getattr(self, name)
            if trunk is None:
                continue
            raw = trunk.core is None and not any(True for _ in trunk.encoder.parameters())
            numbers = range(1 if raw else 0, len(trunk.layers.layers))
            found += [f"{name}.layers.layers.{number}.weight" for number in numbers]
        return found

    @property
    def init_encoders(self) -> Sequence[nn.Module]:
        """That of every trunk."""
        trunks = (self.policy_trunk, self.value_trunk)
        return [trunk.encoder for trunk in trunks if trunk is not None]

    @property
    def uses_own_threads(self) -> bool:
        """Whether there are two recurrent trunks on the CPU, which learn side by side."""
        separate = self.value_trunk is not None and self.recurrent
        return separate and all(p.device.type == "cpu" for p in self.parameters())

    def accelerate(self) -> None:
        """Use compiled code or a thread for each trunk where they can do what this policy does.

        The numbers and the order of random draws of compiled sampling differ from torch's.
        """
        self.compiled = compile_mlp(self.policy_trunk, self.value_trunk, self.head, self.value_head)
        if self.compiled is None and self.uses_own_threads and cores() > 1:
            self.parallel = ParallelTrunks(
                (self.policy_features, self.value_features), self.outputs
            )

    @property
    def prefers_processor(self) -> bool:
        """Whether compiled code takes this network: a card would wait for its small products."""
        parts = (self.policy_trunk, self.value_trunk, self.head, self.value_head)
        return can_compile(*parts)

    def draw(self, rows: int, generator: torch.Generator) -> Tensor:
        """What the action head needs for N environments."""
        return self.head.draw(rows, generator)

    def draw_as_sampled(self, rows: int, generator: torch.Generator) -> Tensor:
        """What compiled code or the distributions draw for N environments."""
        if self.compiled is not None:
            return self.head.draw(rows, generator)
        return self.head.draw_as_sampled(rows, generator)

    def use_dtype(self, dtype: torch.dtype) -> None:
        """Encoders and layers compute in `dtype` (autocast), memories and heads in float32."""
        for trunk in (self.policy_trunk, self.value_trunk):
            if trunk is not None:
                trunk.dtype = dtype

    def weights_changed(self) -> None:
        """The compiled code reads the parameters anew."""
        if self.compiled is not None:
            self.compiled.stale = True

    def metrics(self) -> Mapping[str, Tensor | float]:
        """The mean deviation of a Gaussian whose deviation does not depend on the state."""
        if isinstance(self.head, BoxHead) and not self.head.state_dependent_std:
            return {"train/std": self.head.log_std.detach().exp().mean()}
        return {}

    def to_env(self, actions: Tensor) -> NDArray[Any]:
        """Actions of a rollout as the environment takes them."""
        return self.head.to_env(actions)

    def initial_state(self, num_rows: int) -> Tree:
        """Zeros, or None without a memory."""
        trunks: Sequence[Trunk | None] = (self.policy_trunk, self.value_trunk)
        if not self.recurrent:
            return None
        return tuple(
            trunk.core.initial_state(num_rows)
            for trunk in trunks
            if trunk is not None and trunk.core is not None
        )

    @torch.no_grad()
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
        """Act in `[N]` environments; `state` must be zeroed already where an episode starts.

        `noise` replaces the random numbers that the head would draw.
        """
        if self.compiled is not None:
            return self.compiled.step(obs, mask, generator, deterministic, noise)
        features, first = self.policy_trunk.step(obs, state[0] if state else None)
        distribution = self.head(features, mask)
        action = chosen(distribution, generator=generator, deterministic=deterministic, noise=noise)
        value, second = self._value(obs, features, state)
        following = (first,) if second is None else (first, second)
        return PolicyStep(
            action, distribution.log_prob(action), value, following if self.recurrent else None
        )

    @torch.no_grad()
    def value(self, obs: Tree, state: Tree = None) -> Tensor:
        """Values `[N]` of observations, without acting."""
        if self.compiled is not None:
            return self.compiled.value(obs)
        if self.value_trunk is not None:
            return self._value(obs, None, state)[0]
        features, _ = self.policy_trunk.step(obs, state[0] if state else None)
        return self._value(obs, features, state)[0]

    def answer(self, obs: Tree) -> tuple[Tensor, Tensor]:
        """Logits `[N, A]` of a Discrete action and values `[N]`, without a memory or a mask."""
        features, _ = self.policy_trunk.step(obs, None)
        compiled = self.compiled is not None
        values = self.value(obs) if compiled else self._value(obs, features, None)[0]
        return self.head.out(features), values

    def _value(self, obs: Tree, features: Tensor | None, state: Tree) -> tuple[Tensor, Any]:
        after = None
        if self.value_trunk is not None:
            features, after = self.value_trunk.step(obs, state[1] if state else None)
        assert features is not None
        values = functional.linear(features, self.value_head.weight, self.value_head.bias)
        return values.squeeze(-1), after

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """As nn.Module's; the compiled code takes the new weights over."""
        found = super().load_state_dict(state_dict, strict, assign)
        self.weights_changed()
        return found

    def evaluate(self, batch: Minibatch) -> Outputs:
        """Log-probabilities, entropies and values, shaped like `batch.logprobs`."""
        if self.compiled is not None:
            return self.compiled.evaluate(batch)
        if self.parallel is not None:
            return self.parallel.evaluate(batch)
        features = other = self.policy_features(batch)
        if self.value_trunk is not None:
            other = self.value_features(batch)
        return self.outputs(features, other, batch)

    def backward(
        self,
        outputs: Outputs,
        logprob_grad: Tensor,
        entropy_grad: Tensor | None,
        value_grad: Tensor,
    ) -> None:
        """Add the gradient of the last `evaluate` to the parameters' own."""
        if self.compiled is not None:
            self.compiled.backward(logprob_grad, entropy_grad, value_grad)
        elif self.parallel is not None:
            self.parallel.backward(logprob_grad, entropy_grad, value_grad)
        else:
            super().backward(outputs, logprob_grad, entropy_grad, value_grad)

    def policy_features(self, batch: Minibatch) -> Tensor:
        """Features `[N, F]` of a minibatch's steps by the policy's trunk."""
        return self._features(self.policy_trunk, batch, 0)

    def value_features(self, batch: Minibatch) -> Tensor:
        """Features `[N, F]` of a minibatch's steps by a value trunk of its own."""
        assert self.value_trunk is not None
        return self._features(self.value_trunk, batch, 1)

    def _features(self, trunk: Trunk, batch: Minibatch, which: int) -> Tensor:
        if batch.logprobs.dim() == 1:
            if self.recurrent:
                raise ConfigError('a recurrent policy learns from rows: set batch_by="rows"')
            return trunk.sequence(batch.obs, None, None)
        obs = map_tree(lambda x: x.flatten(0, 1), batch.obs)
        state = batch.initial_state[which] if self.recurrent else None
        return trunk.sequence(obs, state, batch.episode_starts)

    def outputs(self, features: Tensor, other: Tensor, batch: Minibatch) -> Outputs:
        """What `evaluate` returns, from the features of the policy's and the value's trunk."""
        shape = batch.logprobs.shape
        mask, actions = batch.action_mask, batch.actions
        if len(shape) == 2:
            mask = None if mask is None else mask.flatten(0, 1)
            actions = actions.flatten(0, 1)
        distribution = self.head(features, mask)
        values = functional.linear(other, self.value_head.weight, self.value_head.bias)
        logprobs, entropy = distribution.log_prob(actions), distribution.entropy()
        return logprobs.view(shape), entropy.view(shape), values.view(shape)


def build_policy(
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    config: NetworkConfig | None = None,
    *,
    seed: int = 0,
) -> Policy:
    """A policy with reproducible weights.

    Your own "module:Class" is called with `(observation_space, action_space)` if it has a method
    `evaluate`, and is then the whole policy; otherwise with `(observation_space)`, and is then an
    encoder with `num_features`.
    """
    config = config or NetworkConfig()
    # Layers draw their weights from the global generator: seed it inside and put it back after.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config.network in BOARD_NETWORKS:
            # Here, since no other policy needs the networks of boards.
            from playout.agents.networks.boards.policy import board_policy

            return board_policy(observation_space, action_space, config)
        if ":" in config.network:
            cls = load_object(config.network, "network")
            if hasattr(cls, "evaluate"):
                return as_policy(cls(observation_space, action_space))
        return ActorCritic(observation_space, action_space, config)
