"""Settings of a PPO run as frozen dataclasses: the update and the collection.

No torch here, so that `playout ppo --help` and the presets stay quick. Names and defaults are the
field's. The network's are in networks/config.py.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from playout.errors import ConfigError


@dataclass(frozen=True, slots=True)
class PPOConfig:
    """Options of the update; names and defaults are the field's."""

    learning_rate: float = 2.5e-4
    """Adam's step size at the start."""
    anneal_lr: bool = True
    """Lower the learning rate linearly to 0 over the run."""
    adam_eps: float = 1e-5
    """Adam's epsilon (PPO's customary 1e-5, not torch's 1e-8)."""
    gamma: float = 0.99
    """Discount."""
    gae_lambda: float = 0.95
    """Decay of generalised advantage estimation."""
    num_epochs: int = 4
    """Passes over each rollout."""
    minibatch_size: int = 256
    """Steps (or rows, see batch_by) in a gradient step."""
    batch_by: Literal["steps", "rows"] = "steps"
    """Cut minibatches from single steps, or from whole rows (recurrent and language policies)."""
    microbatch_size: int = 0
    """Steps or rows a forward pass, to bound memory; gradients are summed. 0: all at once."""
    clip_coef: float = 0.2
    """Clip the probability ratio to 1 ± clip_coef."""
    anneal_clip: bool = False
    """Lower clip_coef linearly to 0 over the run."""
    clip_vloss: bool = False
    """Clip the value's change to ± vf_clip_coef as well."""
    vf_clip_coef: float = 0.2
    """Range of the value's change where clip_vloss is set."""
    ent_coef: float = 0.0
    """Weight of the entropy bonus."""
    vf_coef: float = 0.5
    """Weight of the value loss (half the squared error)."""
    max_grad_norm: float = 0.5
    """Clip the gradient's norm; 0 leaves it alone."""
    target_kl: float | None = None
    """End the update when a minibatch's approximate KL passes 1.5 times this."""
    norm_adv: bool = True
    """Scale advantages to mean 0 and deviation 1."""
    norm_adv_by: Literal["minibatch", "batch"] = "minibatch"
    """Normalise over each minibatch or over the whole rollout."""

    def __post_init__(self) -> None:
        _positive(self, "learning_rate", "adam_eps", "clip_coef", "vf_clip_coef")
        _not_negative(self, "ent_coef", "vf_coef", "max_grad_norm")
        _fraction(self, "gamma", "gae_lambda")
        _at_least_one(self, "num_epochs", "minibatch_size")
        _one_of(self, "batch_by", "steps", "rows")
        _one_of(self, "norm_adv_by", "minibatch", "batch")
        if self.target_kl is not None and not self.target_kl > 0:
            raise ConfigError(f"target_kl must be above 0 (or left out), not {self.target_kl}")


@dataclass(frozen=True, slots=True)
class CollectConfig:
    """How experience is collected and judged."""

    num_envs: int = 8
    """Environments stepped together."""
    num_steps: int = 128
    """Steps of each environment between updates."""
    normalize_obs: bool = False
    """Scale vector observations to running mean 0 and deviation 1; saved with the model."""
    clip_obs: float = 10.0
    """Clip normalised observations to ± this."""
    normalize_rewards: bool = False
    """Divide rewards by the running deviation of the discounted return."""
    clip_reward: float = 10.0
    """Clip normalised rewards to ± this."""
    noise_correlation: float = 0.0
    """Continuous actions: correlation of one step's exploration noise with the next one's."""
    sequence_length: int = 0
    """Recurrent: backpropagate through so many steps (divides num_steps); 0: all of them."""
    wrappers: tuple[str, ...] = ()
    """Around each environment: atari, clip_reward, frame_stack:4, rescale_action."""
    env_options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment."""
    eval_every: int = 0
    """Updates between evaluations; 0: when the training returns make one worth while."""
    eval_episodes: int = 100
    """Episodes of an evaluation, on separate environments."""
    reward_threshold: float | None = None
    """Mean return that ends the run; by default the environment's own."""

    def __post_init__(self) -> None:
        _at_least_one(self, "num_envs", "num_steps", "eval_episodes")
        _positive(self, "clip_obs", "clip_reward")
        _not_negative(self, "eval_every", "sequence_length")
        if not 0 <= self.noise_correlation < 1:
            raise ConfigError(f"noise_correlation must lie in [0, 1), not {self.noise_correlation}")
        if self.sequence_length and self.num_steps % self.sequence_length:
            raise ConfigError(
                f"sequence_length {self.sequence_length} does not divide num_steps {self.num_steps}"
            )


def _positive(config: Any, *names: str) -> None:
    for name in names:
        if not 0 < getattr(config, name) < math.inf:
            raise ConfigError(f"{name} must be above 0, not {getattr(config, name)}")


def _not_negative(config: Any, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(config, name) < math.inf:
            raise ConfigError(f"{name} must be 0 or more, not {getattr(config, name)}")


def _fraction(config: Any, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise ConfigError(f"{name} must lie between 0 and 1, not {getattr(config, name)}")


def _at_least_one(config: Any, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} must be at least 1, not {getattr(config, name)}")


def _one_of(config: Any, name: str, *choices: str) -> None:
    if getattr(config, name) not in choices:
        shown = ", ".join(choices)
        raise ConfigError(f"{name} must be one of {shown}, not {getattr(config, name)!r}")
