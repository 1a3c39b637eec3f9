"""Proximal policy optimisation (Schulman et al. 2017): the one update every policy here learns by.

`ppo_update` takes a policy, an optimiser and a rollout with advantages, and works on single steps
or on whole rows (recurrent policies, language models). The loss and its gradient with respect to
the policy's outputs are loss.py's; the policy takes the gradient on to its parameters. Leaves out
collection, annealing and evaluation, which are the trainer's business.
"""

import math
from collections.abc import Iterator

import torch
from playout.agents.networks.policy import Minibatch, TrainablePolicy
from playout.agents.optim.adam import Adam
from playout.agents.ppo.config import PPOConfig
from playout.agents.ppo.loss import Scale, measure, surrogate
from playout.agents.ppo.rollout import Rollout
from playout.errors import DivergedError
from torch import Tensor, nn


def ppo_update(
    policy: TrainablePolicy,
    optimizer: Adam | torch.optim.Optimizer,
    rollout: Rollout,
    config: PPOConfig,
    *,
    generator: torch.Generator,
) -> dict[str, float]:
    """Improve `policy` on `rollout` by `config.num_epochs` passes of clipped policy gradient.

    Args:
        policy: The policy that learns.
        optimizer: `agents.optim.adam.Adam`, or any torch optimiser over the policy's parameters.
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
    parameters = [p for p in policy.parameters() if p.requires_grad]
    over_rollout = None
    by_minibatch = config.norm_adv and config.norm_adv_by == "minibatch"
    if config.norm_adv and not by_minibatch:
        over_rollout = measure(rollout.advantages, rollout.valid, True)
    sums: Tensor | None = None
    norms, steps, stopped_kl = 0.0, 0, None
    for _ in range(config.num_epochs):
        for batch in rollout.minibatches(
            config.minibatch_size, by=config.batch_by, generator=generator
        ):
            scale = measure(batch.advantages, batch.valid, by_minibatch)
            if over_rollout is not None:
                scale = Scale(over_rollout.shift, over_rollout.scale, scale.count)
            optimizer.zero_grad()
            stats: Tensor | None = None
            for part in _parts(batch, config.microbatch_size):
                outputs = policy.evaluate(part)
                found = surrogate(*outputs, part, config, scale)
                stats = found.stats if stats is None else stats + found.stats
                policy.backward(
                    outputs,
                    found.logprob_grad,
                    found.entropy_grad if config.ent_coef > 0.0 else None,
                    found.value_grad,
                )
            assert stats is not None
            if config.target_kl is not None and float(stats[3]) > 1.5 * config.target_kl:
                stopped_kl = float(stats[3])
                break
            norms += _step(optimizer, parameters, config.max_grad_norm or math.inf)
            sums = stats if sums is None else sums + stats
            steps += 1
        if stopped_kl is not None:
            break
    return _metrics(rollout, config, sums, norms, steps, stopped_kl)


def _parts(batch: Minibatch, size: int) -> Iterator[Minibatch]:
    total = len(batch)
    if size <= 0 or size >= total:
        yield batch
        return
    for begin in range(0, total, size):
        yield batch.slice(begin, min(begin + size, total))


def _step(
    optimizer: Adam | torch.optim.Optimizer, parameters: list[nn.Parameter], max_grad_norm: float
) -> float:
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
    sums: Tensor | None,
    norms: float,
    steps: int,
    stopped_kl: float | None,
) -> dict[str, float]:
    policy_loss, value_loss, entropy, approx_kl, clipped = (
        [0.0] * 5 if sums is None else (sums / steps).tolist()
    )
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
