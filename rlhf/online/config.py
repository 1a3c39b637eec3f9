"""Settings of learning from sampled responses: one dataclass for PPO and one for GRPO.

The commands `rlhf` and `grpo` inherit their flags from these, so every default stands here alone.
No torch, so that `--help` stays quick. What the settings do is the trainers' business.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated

from playout.agents.optim.names import OPTIMIZERS, check_optimizer
from playout.agents.ppo.config import PPOConfig
from playout.errors import ConfigError
from tyro.conf import UseAppendAction, arg

__all__ = [
    "CRITICS",
    "ESTIMATORS",
    "VARIANTS",
    "EpisodeLimits",
    "EpisodeOptions",
    "GRPOConfig",
    "OnlineConfig",
    "RLHFConfig",
]

ESTIMATORS = ("k1", "k3")
CRITICS = ("auto", "shared", "own", "reward")
BASELINES = ("group", "leave_one_out", "best")
AVERAGES = ("tokens", "sequences", "constant", "sums")
KL_PLACES = ("score", "loss", "none")
ON_FAILURE = ("stop", "skip")


@dataclass(frozen=True, slots=True)
class Variant:
    """What a published way to compare a group's answers stands for."""

    baseline: str
    """group (mean of the group), leave_one_out (mean of the others), best (learn the best only)."""
    scaled: bool
    """Advantages are divided by the group's deviation."""
    average: str
    """The loss is a mean over tokens; over sequences of means over tokens; over sequences of sums
    divided by a constant, the longest answer; or of sums."""
    clip_high: float
    """How far a ratio may rise; 0: as far as it may fall."""
    kl_in: str
    """KL to the reference is taken from the score, is a term of the loss, or is left out."""


VARIANTS = {
    "plain": Variant("group", True, "tokens", 0.0, "score"),
    # Shao et al. 2024.
    "grpo": Variant("group", True, "sequences", 0.0, "loss"),
    # Liu et al. 2025: no division by length or deviation.
    "dr_grpo": Variant("group", False, "constant", 0.0, "loss"),
    # Yu et al. 2025: clip-higher, mean over tokens, no KL.
    "dapo": Variant("group", True, "tokens", 0.28, "none"),
    # Ahmadian et al. 2024: REINFORCE with the other answers as baseline, KL in the reward.
    "rloo": Variant("leave_one_out", False, "sums", 0.0, "score"),
    # The likelihood of the best of n answers is raised (RAFT, Dong et al. 2023).
    "best_of_n": Variant("best", False, "tokens", 0.0, "none"),
}


def _check_not_negative(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not 0 <= value < math.inf:
            raise ConfigError(f"{name} must be a number and not negative, not {value}")


@dataclass(frozen=True, slots=True)
class EpisodeLimits:
    """What cuts answers and episodes; 0 sets no limit."""

    max_new_tokens: int = 32
    """Longest answer, its end token included."""
    max_turns: int = 0
    """Answers an episode."""
    max_tokens: int = 0
    """Tokens an episode; the model's context is a limit anyway."""
    max_seconds: float = 0.0
    """After so many seconds of a round no episode begins another turn."""
    call_seconds: float = 60.0
    """Longest call of an environment."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens must be at least 1, not {self.max_new_tokens}")
        _check_not_negative(self, "max_turns", "max_tokens", "max_seconds", "call_seconds")


@dataclass(frozen=True, kw_only=True)
class EpisodeOptions:
    """What cuts episodes and answers, and what becomes of failures: of all who play episodes."""

    max_turns: int = 0
    """Most answers an episode; 0: as many as the environment takes."""
    max_tokens: int = 0
    """Most tokens an episode; 0: as many as the model's context holds."""
    max_seconds: float = 0.0
    """After so many seconds of a round no episode begins another turn; 0: no limit."""
    stop: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="TEXT")] = ()
    """A text that ends an answer besides the model's own end; may be repeated."""
    constrained: bool = False
    """Only what the environment lists as an answer can be written, however long it is."""
    env_timeout: float = 60.0
    """Seconds that one call of an environment may take, its making and its list of tasks among
    them; 0: no limit."""
    on_failure: Annotated[str, arg(metavar="stop|skip")] = "stop"
    """When an environment or a reward function fails: stop the run, or go on without that
    episode."""

    def check_failure(self) -> None:
        """Refuse what is no way to go on."""
        if self.on_failure not in ON_FAILURE:
            raise ConfigError(f"on_failure must be stop or skip, not {self.on_failure!r}")


@dataclass(frozen=True, kw_only=True)
class OnlineConfig(EpisodeOptions):
    """How responses are sampled and scored, how often, and how the policy moves."""

    updates: int = 80
    """Rounds of sampling and learning."""
    batch: int = 64
    """Responses or episodes a round."""
    max_new_tokens: int = 32
    """Longest response, in tokens."""
    plain_text: bool = False
    """Give a chat model prompts and the texts of an environment as they stand, not as a user's
    messages."""
    learning_rate: float = 1e-4
    """At the start; it falls to zero."""
    optimizer: Annotated[str, arg(metavar="|".join(OPTIMIZERS))] = "adam"
    """What moves the weights; muon takes the matrices of the layers, and adamw the rest."""
    weight_decay: float = 0.01
    """Of matrices, a step and a unit of learning rate; adam has none."""
    kl_coef: float = 0.1
    """Coefficient of KL to the reference in the reward."""
    kl_estimator: str = "k1"
    """k1 (log-ratio) or k3 (never negative)."""
    temperature: float = 1.0
    """At which responses are sampled, and log-probabilities computed everywhere."""
    missing_end_penalty: Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")] = None
    """Taken from the score for every answer that was cut off; by default 1, and 0 with --env."""
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
        check_optimizer(self.optimizer)
        if not 0 < self.clip < math.inf:
            raise ConfigError(f"clip must be a number above 0, not {self.clip}")
        if self.kl_estimator not in ESTIMATORS:
            raise ConfigError(f"kl_estimator must be k1 or k3, not {self.kl_estimator!r}")
        _check_not_negative(self, "kl_coef", "microbatch")
        if self.missing_end_penalty is not None and not math.isfinite(self.missing_end_penalty):
            raise ConfigError(
                f"missing_end_penalty must be a finite number, not {self.missing_end_penalty}"
            )
        self.check_failure()

    def limits(self) -> EpisodeLimits:
        """What cuts answers and episodes."""
        return EpisodeLimits(
            max_new_tokens=self.max_new_tokens,
            max_turns=self.max_turns,
            max_tokens=self.max_tokens,
            max_seconds=self.max_seconds,
            call_seconds=self.env_timeout,
        )

    def cut_penalty(self, *, in_environment: bool) -> float:
        """What an answer that was cut off costs."""
        if self.missing_end_penalty is None:
            return 0.0 if in_environment else 1.0
        return self.missing_end_penalty

    def ppo_config(self) -> PPOConfig:
        """The settings of `ppo_update`: whole rows, no discount, no value loss."""
        return PPOConfig(
            learning_rate=self.learning_rate,
            optimizer=self.optimizer,
            weight_decay=self.weight_decay,
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
    """Below the value head: shared (the policy), own (a copy), reward (that model, the first of
    several), or auto: the only reward if it is a model that reads the policy's tokens, else
    shared."""
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
        _check_not_negative(self, "kl_target", "kl_horizon", "value_warmup")

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
    variant: Annotated[str, arg(metavar="|".join(VARIANTS))] = "plain"
    """A published way to compare a group's answers; the next five options change parts of it."""
    unscaled: bool = False
    """Do not divide advantages by the group's deviation."""
    baseline: Annotated[str, arg(metavar="|".join(BASELINES), help_behavior_hint="")] = ""
    """What an answer is compared with: the group's mean, that of the others, or learn the best."""
    average: Annotated[str, arg(metavar="|".join(AVERAGES), help_behavior_hint="")] = ""
    """What the loss is a mean of: tokens; sequences (of means over tokens); or, over sequences,
    sums, divided by the longest answer (constant) or as they are."""
    clip_high: float = 0.0
    """How far a token's probability ratio may rise; 0 leaves it to the variant, and to --clip."""
    kl_in: Annotated[str, arg(metavar="|".join(KL_PLACES), help_behavior_hint="")] = ""
    """Where KL to the reference counts, times --kl-coef: in the score, in the loss, or nowhere."""
    resample: int = 0
    """So many times, sample other groups in place of those whose answers all get the same reward,
    from which nothing is learned (DAPO's dynamic sampling); rewards are then asked twice."""
    whole_only: bool = False
    """Learn nothing from episodes with an answer that was cut off; the best of a group is the best
    of its whole ones."""

    def __post_init__(self) -> None:
        OnlineConfig.__post_init__(self)
        for name, known in (
            ("variant", tuple(VARIANTS)),
            ("baseline", ("", *BASELINES)),
            ("average", ("", *AVERAGES)),
            ("kl_in", ("", *KL_PLACES)),
        ):
            if getattr(self, name) not in known:
                listed = ", ".join(filter(None, known))
                raise ConfigError(f"{name} must be one of {listed}, not {getattr(self, name)!r}")
        _check_not_negative(self, "clip_high", "resample")
        if self.group < 2 or self.batch % self.group:
            raise ConfigError(
                f"a group needs at least 2 responses and must divide the batch of {self.batch}, "
                f"not {self.group}"
            )

    @property
    def settled(self) -> Variant:
        """The variant with what other options change of it."""
        known = VARIANTS[self.variant]
        return Variant(
            baseline=self.baseline or known.baseline,
            scaled=known.scaled and not self.unscaled,
            average=self.average or known.average,
            clip_high=self.clip_high or known.clip_high,
            kl_in=self.kl_in or known.kl_in,
        )
