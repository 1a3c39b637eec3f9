"""Proximal policy optimisation (Schulman et al. 2017): the one update every policy here learns by.

`ppo_update` takes a policy, an optimiser and a rollout with advantages, and works on single steps
or on whole rows (recurrent policies, language models). The surrogate's gradient with respect to
log-probabilities, values and entropy has a closed form; it is written down here and handed to
autograd, which only differentiates the policy. Collection, annealing and evaluation are the
trainer's business.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, Protocol

import torch
from playout.agents.adam import Adam
from playout.agents.rollout import Minibatch, Rollout, Tree
from playout.errors import ConfigError, DivergedError
from torch import Tensor


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
    """Cut minibatches from single steps, or from whole rows as recurrent and language policies
    need."""
    microbatch_size: int = 0
    """Rows a forward pass, to bound memory; gradients of a minibatch are summed. 0: the whole
    minibatch."""
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
        for name in ("learning_rate", "adam_eps", "clip_coef", "vf_clip_coef"):
            _require(getattr(self, name) > 0, f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("ent_coef", "vf_coef", "max_grad_norm"):
            value = getattr(self, name)
            _require(0 <= value < math.inf, f"{name} must be 0 or more, not {value}")
        for name in ("gamma", "gae_lambda"):
            _require(0 <= getattr(self, name) <= 1, f"{name} must lie in [0, 1]")
        for name in ("num_epochs", "minibatch_size"):
            _require(
                getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}"
            )
        _require(self.batch_by in ("steps", "rows"), 'batch_by must be "steps" or "rows"')
        _require(
            self.norm_adv_by in ("minibatch", "batch"), 'norm_adv_by must be "minibatch" or "batch"'
        )
        _require(
            self.target_kl is None or self.target_kl > 0, "target_kl must be above 0 (or left out)"
        )


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


class Policy(Protocol):
    """What collection and learning ask of a policy; an nn.Module with these three methods."""

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
    ) -> PolicyStep:
        """Act in `[N]` environments."""

    def evaluate(self, batch: Minibatch) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities of the actions, entropies, values, all shaped like `logprobs`."""


@dataclass(slots=True)
class Surrogate:
    """Sums over a minibatch and the gradient of its loss with respect to what the policy returned.

    The loss is `pg + vf_coef * v - ent_coef * entropy`, each a mean over the valid steps.
    """

    logprob_grad: Tensor
    value_grad: Tensor
    entropy_grad: Tensor
    stats: Tensor
    """Policy loss, value loss, entropy, approximate KL, clipped share, summed with weight 1 /
    number of valid steps."""


def surrogate(
    logprobs: Tensor,
    entropy: Tensor,
    values: Tensor,
    batch: Minibatch,
    config: PPOConfig,
    *,
    advantages: Tensor,
    weight: Tensor,
) -> Surrogate:
    """The clipped surrogate with value loss and entropy bonus, and its gradient in closed form.

    All tensors are shaped alike, `[N]` or `[r, T]`.

    Args:
        logprobs: Log-probabilities of the batch's actions under the policy now.
        entropy: Its entropies.
        values: Its values.
        batch: Old log-probabilities, old values and returns.
        config: Coefficients.
        advantages: Advantages, normalised already.
        weight: 1 / (number of valid steps) at valid steps, 0 elsewhere.
    """
    # Padding may hold anything; a masked ratio of exactly 1 keeps infinities out of the sums.
    log_ratio = (logprobs - batch.logprobs).masked_fill_(weight == 0, 0.0)
    ratio = log_ratio.exp()
    plain = -advantages * ratio
    clipped = -advantages * ratio.clamp(1.0 - config.clip_coef, 1.0 + config.clip_coef)
    policy_loss = torch.maximum(plain, clipped)
    # Where the clipped branch is strictly larger the loss is flat; elsewhere d(ratio)/d(logprob) =
    # ratio.
    logprob_grad = torch.where(plain >= clipped, plain, 0.0) * weight

    error = values - batch.returns
    value_loss = error * error
    value_grad = error * (weight * config.vf_coef)
    if config.clip_vloss:
        change = (values - batch.values).clamp(-config.vf_clip_coef, config.vf_clip_coef)
        far = batch.values + change - batch.returns
        worse = far * far
        # The clipped value depends on the new one only inside the range.
        inside = (values - batch.values).abs() <= config.vf_clip_coef
        value_grad = torch.where((value_loss >= worse) | inside, value_grad, 0.0)
        value_loss = torch.maximum(value_loss, worse)

    approx_kl = (ratio - 1.0) - log_ratio
    outside = ((ratio - 1.0).abs() > config.clip_coef).to(ratio.dtype)
    rows = torch.stack([policy_loss, value_loss * 0.5, entropy.detach(), approx_kl, outside])
    rows = rows.masked_fill(weight == 0, 0.0)
    return Surrogate(
        logprob_grad=logprob_grad,
        value_grad=value_grad,
        entropy_grad=weight * -config.ent_coef,
        stats=(rows * weight).flatten(1).sum(1),
    )


def ppo_update(
    policy: Policy,
    optimizer: Any,
    rollout: Rollout,
    config: PPOConfig,
    *,
    generator: torch.Generator,
) -> dict[str, float]:
    """Improve `policy` on `rollout` by `config.num_epochs` passes of clipped policy gradient.

    Args:
        policy: An nn.Module that follows `Policy`.
        optimizer: `playout.agents.adam.Adam`, or any torch optimiser over the policy's parameters.
            Its learning rate is used as it is: the trainer anneals it.
        rollout: Experience with advantages (`compute_gae`).
        config: Options.
        generator: Order of the minibatches (a CPU generator).

    Returns:
        Metrics under stable-baselines3's names.

    Raises:
        DivergedError: A loss or gradient is NaN or infinite. The step that would have spread it is
        not taken.
    """
    assert rollout.advantages is not None and rollout.returns is not None, "call compute_gae first"
    parameters = [p for p in policy.parameters() if p.requires_grad]  # type: ignore[attr-defined]
    shift, scale = 0.0, 1.0
    if config.norm_adv and config.norm_adv_by == "batch":
        chosen = rollout.advantages[rollout.valid]
        shift, scale = float(chosen.mean()), float(chosen.std(correction=0)) + 1e-8
    sums = torch.zeros(5, dtype=torch.float32, device=rollout.rewards.device)
    norms, steps, stop, kl = 0.0, 0, False, 0.0
    for _ in range(config.num_epochs):
        for batch in rollout.minibatches(
            config.minibatch_size, by=config.batch_by, generator=generator
        ):
            valid = batch.valid.to(batch.advantages.dtype)
            weight = valid / valid.sum().clamp(min=1.0)
            if config.norm_adv and config.norm_adv_by == "minibatch":
                advantages = _normalised(batch.advantages, weight)
            else:
                advantages = (batch.advantages - shift) / scale
            optimizer.zero_grad()
            stats = torch.zeros_like(sums)
            for part, begin, end in _parts(batch, config.microbatch_size):
                logprobs, entropy, values = policy.evaluate(part)
                with torch.no_grad():
                    found = surrogate(
                        logprobs,
                        entropy,
                        values,
                        part,
                        config,
                        advantages=advantages[begin:end],
                        weight=weight[begin:end],
                    )
                stats += found.stats
                if config.target_kl is not None:
                    kl = float(stats[3])
                    if kl > 1.5 * config.target_kl:
                        stop = True
                        break
                _backward(
                    [logprobs, values, entropy],
                    [found.logprob_grad, found.value_grad, found.entropy_grad],
                    config,
                )
            if stop:
                break
            norms += _step(optimizer, parameters, config.max_grad_norm or math.inf)
            sums += stats
            steps += 1
        if stop:
            break
    return _metrics(rollout, config, sums, norms, steps, kl if stop else None)


def _backward(outputs: list[Tensor], grads: list[Tensor], config: PPOConfig) -> None:
    if config.ent_coef == 0.0:
        outputs, grads = outputs[:2], grads[:2]
    chosen = [(out, grad) for out, grad in zip(outputs, grads, strict=True) if out.requires_grad]
    torch.autograd.backward([out for out, _ in chosen], [grad for _, grad in chosen])


def _normalised(advantages: Tensor, weight: Tensor) -> Tensor:
    """Mean 0 and deviation 1 over the weighted steps; a single step is only centred."""
    centred = advantages - (advantages * weight).sum()
    deviation = (centred * centred * weight).sum().sqrt()
    return centred / (deviation + 1e-8)


def _parts(batch: Minibatch, size: int) -> Iterator[tuple[Minibatch, int, int]]:
    total = len(batch)
    if size <= 0 or size >= total:
        yield batch, 0, total
        return
    for begin in range(0, total, size):
        end = min(begin + size, total)
        yield batch.slice(begin, end), begin, end


def _step(optimizer: Any, parameters: list[Tensor], max_grad_norm: float) -> float:
    if isinstance(optimizer, Adam):
        return optimizer.step(max_grad_norm)
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm))
    if not math.isfinite(norm):
        raise DivergedError(f"the gradient is not finite (norm {norm})")
    optimizer.step()
    return norm


def _metrics(
    rollout: Rollout,
    config: PPOConfig,
    sums: Tensor,
    norms: float,
    steps: int,
    stopped_kl: float | None,
) -> dict[str, float]:
    policy_loss, value_loss, entropy, approx_kl, clipped = (sums / max(steps, 1)).tolist()
    valid = rollout.valid
    assert rollout.returns is not None
    returns, values = rollout.returns[valid], rollout.values[valid]
    spread = float(returns.var(correction=0)) if returns.numel() else 0.0
    unexplained = float((returns - values).var(correction=0)) if returns.numel() else 0.0
    metrics = {
        "train/policy_gradient_loss": policy_loss,
        "train/value_loss": value_loss,
        "train/entropy_loss": -entropy,
        "train/approx_kl": approx_kl if stopped_kl is None else stopped_kl,
        "train/clip_fraction": clipped,
        "train/loss": policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy,
        "train/explained_variance": 1.0 - unexplained / spread if spread > 0 else 0.0,
        "train/grad_norm": norms / max(steps, 1),
        "train/num_gradient_steps": float(steps),
    }
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise DivergedError(f"{name} is {value}")
    return metrics


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def config_from(options: dict[str, Any]) -> PPOConfig:
    """A PPOConfig from a table of options; an unknown one is an error that lists the known ones."""
    known = [field.name for field in fields(PPOConfig)]
    for name in options:
        if name not in known:
            raise ConfigError(f"unknown PPO option {name!r}; known are {', '.join(sorted(known))}")
    return PPOConfig(**options)
