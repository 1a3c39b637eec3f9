"""Policies for Gymnasium spaces: trunks (encoder, core, MLP) under an action and a value head.

`ActorCritic` follows the `Policy` protocol of ppo.py for every space and architecture here;
`build_policy` chooses its parts from the spaces and a `NetworkConfig`, or builds your own class
named as "module:Class". Leaves out: the residual networks of tree search (resnet.py) and language
models (rlhf).
"""

from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import spaces
from numpy.typing import NDArray
from playout.agents.networks.encoders import MLP, build_encoder, linear
from playout.agents.networks.heads import ActionHead, build_head
from playout.agents.networks.recurrent import Core
from playout.agents.ppo.config import NetworkConfig
from playout.agents.ppo.rollout import Minibatch, Tree, map_tree
from playout.agents.ppo.update import PolicyStep
from playout.agents.vector.factory import import_module
from playout.errors import ConfigError
from torch import Tensor, nn
from torch.nn import functional


class Trunk(nn.Module):
    """Encoder, optional recurrent core, layers: observation to features."""

    def __init__(self, space: spaces.Space[Any], config: NetworkConfig) -> None:
        super().__init__()
        self.encoder = _encoder(space, config)
        width = int(self.encoder.num_features)  # type: ignore[arg-type]
        self.core: Core | None = None
        if config.recurrent != "none":
            self.core = Core(config.recurrent, width, config.recurrent_size)
            width = config.recurrent_size
        hidden = config.hidden
        if hidden is None:
            hidden = () if has_images(space, config.network) else (64, 64)
        self.layers = MLP(width, tuple(hidden), config.activation)
        self.num_features = self.layers.num_features

    def step(self, obs: Tree, state: Any) -> tuple[Tensor, Any]:
        """Features `[N, F]` and the next state."""
        x = self.encoder(obs)
        if self.core is not None:
            x, state = self.core.step(x, state)
        return self.layers(x), state

    def sequence(self, obs: Tree, state: Any, starts: Tensor | None) -> Tensor:
        """Features `[R * T, F]` of flattened rows."""
        x = self.encoder(obs)
        if self.core is not None:
            assert starts is not None
            x = self.core(x, state, starts)
        features: Tensor = self.layers(x)
        return features


class ActorCritic(nn.Module):
    """A policy and a value function over shared or separate trunks.

    The recurrent state is a tuple of one state a trunk, each a tuple of `[N, size]`, or None.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        config: NetworkConfig,
    ) -> None:
        super().__init__()
        self.config = config
        # Faster ways to do the same: native_mlp.py sets both, ppo/parallel_trunks.py the second.
        self.native: Any = None
        self.learner: Any = None
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

    @property
    def recurrent(self) -> bool:
        """Whether the policy has a memory, and so must learn from whole rows."""
        return self.policy_trunk.core is not None

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

        `noise` `[N, D]` replaces the standard normal numbers that a Gaussian head would draw.
        """
        if self.native is not None:
            acted: PolicyStep = self.native.step(obs, mask, generator, deterministic, noise)
            return acted
        features, first = self.policy_trunk.step(obs, state[0] if state else None)
        distribution = self.head(features, mask)
        if deterministic:
            action = distribution.mode()
        elif noise is not None:
            action = distribution.shifted(noise)  # type: ignore[attr-defined]
        else:
            action = distribution.sample(generator)
        value, second = self._value(obs, features, state)
        following = (first,) if second is None else (first, second)
        return PolicyStep(
            action, distribution.log_prob(action), value, following if self.recurrent else None
        )

    @torch.no_grad()
    def value(self, obs: Tree, state: Tree = None) -> Tensor:
        """Values `[N]` of observations, without acting."""
        if self.native is not None:
            values: Tensor = self.native.value(obs)
            return values
        if self.value_trunk is not None:
            return self._value(obs, None, state)[0]
        features, _ = self.policy_trunk.step(obs, state[0] if state else None)
        return self._value(obs, features, state)[0]

    def _value(self, obs: Tree, features: Tensor | None, state: Tree) -> tuple[Tensor, Any]:
        after = None
        if self.value_trunk is not None:
            features, after = self.value_trunk.step(obs, state[1] if state else None)
        assert features is not None
        values = functional.linear(features, self.value_head.weight, self.value_head.bias)
        return values.squeeze(-1), after

    @property
    def differentiate(self) -> Any:
        """A function that does what autograd would after `evaluate`, or None; see ppo.py."""
        return None if self.learner is None else self.learner.differentiate

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As nn.Module's; the compiled path takes the new weights over."""
        found = super().load_state_dict(*args, **kwargs)
        if self.native is not None:
            self.native.dirty = True
        return found

    def evaluate(self, batch: Minibatch) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities, entropies and values, shaped like `batch.logprobs`."""
        if self.learner is not None:
            found: tuple[Tensor, Tensor, Tensor] = self.learner.evaluate(batch)
            return found
        features = other = self.features(self.policy_trunk, batch, 0)
        if self.value_trunk is not None:
            other = self.features(self.value_trunk, batch, 1)
        return self.outputs(features, other, batch)

    def features(self, trunk: Trunk, batch: Minibatch, which: int) -> Tensor:
        """Features `[N, F]` of a minibatch's steps; `which` is the trunk's place in the state."""
        if batch.logprobs.dim() == 1:
            if self.recurrent:
                raise ConfigError('a recurrent policy learns from rows: set batch_by="rows"')
            return trunk.sequence(batch.obs, None, None)
        obs = map_tree(lambda x: x.flatten(0, 1), batch.obs)
        state = batch.initial_state[which] if self.recurrent else None
        return trunk.sequence(obs, state, batch.episode_starts)

    def outputs(
        self, features: Tensor, other: Tensor, batch: Minibatch
    ) -> tuple[Tensor, Tensor, Tensor]:
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


def has_images(space: spaces.Space[Any], network: str) -> bool:
    """Whether any part of the observation goes through a convolutional (or your own) encoder."""
    if ":" in network:
        return True
    if isinstance(space, spaces.Dict):
        return any(has_images(part, network) for part in space.spaces.values())
    if network == "mlp" or not isinstance(space, spaces.Box) or len(space.shape) not in (2, 3):
        return False
    return network != "auto" or len(space.shape) == 3 or space.dtype == "uint8"


def load_class(name: str) -> Any:
    """The class called "module:Class"; importing runs that module's code."""
    module, _, attribute = name.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ConfigError) as error:
        raise ConfigError(f"cannot find network {name!r}: {error}") from error


def _encoder(space: spaces.Space[Any], config: NetworkConfig) -> nn.Module:
    if ":" not in config.network:
        return build_encoder(space, config.network)
    encoder = load_class(config.network)(space)
    if not isinstance(encoder, nn.Module) or not hasattr(encoder, "num_features"):
        raise ConfigError(
            f"{config.network} must be an nn.Module with an attribute num_features (an encoder), "
            "or have the methods step and evaluate (a whole policy)"
        )
    return encoder


def build_policy(
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    config: NetworkConfig | None = None,
    *,
    seed: int = 0,
) -> Any:
    """A policy with reproducible weights.

    Your own "module:Class" is called with `(observation_space, action_space)` if it has a method
    `evaluate`, and is then the whole policy; otherwise with `(observation_space)`, and is then an
    encoder with `num_features`.
    """
    config = config or NetworkConfig()
    # Layers draw their weights from the global generator: seed it inside and put it back after.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if ":" in config.network:
            cls = load_class(config.network)
            if hasattr(cls, "evaluate"):
                return cls(observation_space, action_space)
        return ActorCritic(observation_space, action_space, config)
