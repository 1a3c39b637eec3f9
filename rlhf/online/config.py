"""Settings of learning from sampled responses: one dataclass for PPO and one for GRPO.

The commands `rlhf` and `grpo` inherit their flags from these, so every default stands here alone.
No torch, so that `--help` stays quick. What the settings do is the trainers' business.
"""

from dataclasses import dataclass, replace

from playout.agents.ppo.config import PPOConfig
from playout.errors import ConfigError

__all__ = ["CRITICS", "ESTIMATORS", "GRPOConfig", "OnlineConfig", "RLHFConfig"]

ESTIMATORS = ("k1", "k3")
CRITICS = ("auto", "shared", "own", "reward")


@dataclass(frozen=True, kw_only=True)
class OnlineConfig:
    """How responses are sampled and scored, how often, and how the policy moves."""

    updates: int = 80
    """Rounds of sampling and learning."""
    batch: int = 64
    """Responses a round."""
    max_new_tokens: int = 32
    """Longest response, in tokens."""
    learning_rate: float = 1e-4
    """At the start; it falls to zero."""
    kl_coef: float = 0.1
    """Coefficient of KL to the reference in the reward."""
    kl_estimator: str = "k1"
    """k1 (log-ratio) or k3 (never negative)."""
    temperature: float = 1.0
    """At which responses are sampled, and log-probabilities computed everywhere."""
    missing_end_penalty: float = 1.0
    """Taken from the score of a response that was cut off."""
    epochs: int = 4
    """Passes over a round's responses."""
    minibatch: int = 32
    """Responses a gradient step."""
    microbatch: int = 0
    """Responses a forward pass, to save memory; 0 takes the minibatch."""
    clip: float = 0.2
    """How far a token's probability ratio may move in one round."""
    dtype: str = "auto"
    """float32, bfloat16 or auto."""

    def __post_init__(self) -> None:
        if self.updates < 1 or self.batch < 1:
            raise ConfigError("updates and batch must be at least 1")
        if self.kl_estimator not in ESTIMATORS:
            raise ConfigError(f"kl_estimator must be k1 or k3, not {self.kl_estimator!r}")
        if self.kl_coef < 0:
            raise ConfigError(f"kl_coef must not be negative, not {self.kl_coef}")

    def ppo_config(self) -> PPOConfig:
        """The settings of `ppo_update`: whole rows, no discount, no value loss."""
        return PPOConfig(
            learning_rate=self.learning_rate,
            gamma=1.0,
            num_epochs=self.epochs,
            minibatch_size=self.minibatch,
            microbatch_size=self.microbatch,
            batch_by="rows",
            clip_coef=self.clip,
            clip_vloss=True,
            max_grad_norm=1.0,
            vf_coef=0.0,
            norm_adv=False,
            norm_adv_by="batch",
        )


@dataclass(frozen=True, kw_only=True)
class RLHFConfig(OnlineConfig):
    """PPO: a value head, and a coefficient of KL that can be steered.

    The value head stands on the policy's own Transformer (`critic` shared), on a copy of it, or on
    a copy of the reward model; auto is the last if that reads the policy's tokens, else shared.
    """

    kl_coef: float = 0.1
    """Coefficient of KL in the reward; the least one if it is steered."""
    kl_target: float = 7.0
    """Steer the coefficient towards this KL a response, in nats; 0 keeps it fixed."""
    kl_horizon: float = 0.0
    """Responses in which it changes by a fifth at most; 0 stands for a twentieth of the run."""
    whiten_rewards: bool = False
    """Divide rewards by their deviation."""
    value_warmup: int = 4
    """Batches to which the value head is fitted before the first round."""
    critic: str = "auto"
    """Below the value head: shared (the policy), own (a copy), reward (that model) or auto."""
    gae_lambda: float = 0.95
    """Decay of generalised advantage estimation."""
    vf_coef: float = 0.1
    """Weight of the value loss."""
    norm_adv: bool = True
    """Scale a round's advantages to mean 0 and deviation 1."""

    def __post_init__(self) -> None:
        OnlineConfig.__post_init__(self)
        if self.critic not in CRITICS:
            raise ConfigError(f"critic must be one of {', '.join(CRITICS)}, not {self.critic!r}")
        if self.kl_target < 0 or self.kl_horizon < 0:
            raise ConfigError("kl_target and kl_horizon must not be negative")

    def ppo_config(self) -> PPOConfig:
        """The settings of `ppo_update` and `compute_gae`."""
        return replace(
            super().ppo_config(),
            gae_lambda=self.gae_lambda,
            vf_coef=self.vf_coef,
            norm_adv=self.norm_adv,
        )


@dataclass(frozen=True, kw_only=True)
class GRPOConfig(OnlineConfig):
    """GRPO: groups of responses to the same prompt, compared with each other."""

    learning_rate: float = 4e-4
    """At the start; it falls to zero."""
    kl_coef: float = 0.05
    """Times a response's KL to the reference is taken from its score."""
    epochs: int = 1
    """Passes over a round's responses."""
    minibatch: int = 64
    """Responses a gradient step."""
    group: int = 8
    """Responses a prompt; divides the batch."""
    unscaled: bool = False
    """Do not divide advantages by the group's deviation."""

    def __post_init__(self) -> None:
        OnlineConfig.__post_init__(self)
        if self.group < 2 or self.batch % self.group:
            raise ConfigError(
                f"a group needs at least 2 responses and must divide the batch of {self.batch}, "
                f"not {self.group}"
            )
