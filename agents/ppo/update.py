"""Proximal policy optimisation (Schulman et al. 2017): the one update every policy here learns by.

`ppo_update` takes a policy, an optimiser and a rollout with advantages, and works on single steps
or on whole rows (recurrent policies, language models). The loss and its gradient with respect to
the policy's outputs are loss.py's; the policy takes the gradient on to its parameters. Ranks add up
theirs before each step, and so take the same one. By Adam on a device the update waits for no
number before its last: what ends it early makes the steps after it idle there, to the same result.
Leaves out collection, annealing and evaluation, which are the trainer's business.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import torch
from playout.agents.networks.boards.trunk import freeze
from playout.agents.networks.policy import Minibatch, TrainablePolicy
from playout.agents.optim.chained import AnyOptimizer, make_optimizer
from playout.agents.optim.device_adam import DeviceAdam
from playout.agents.optim.flat import add_together
from playout.agents.ppo.config import PPOConfig
from playout.agents.ppo.gae import describe_bad_value
from playout.agents.ppo.loss import (
    LossVariant,
    Scale,
    measure,
    measure_minibatches,
    no_stats,
    over_rows,
    surrogate,
)
from playout.agents.ppo.rollout import Order, Rollout
from playout.agents.runs import ranks
from playout.agents.runs.devices import fetch
from playout.errors import ConfigError, DivergedError
from torch import Tensor, nn

# With target_kl, a device is asked so often an update whether the remaining passes are idle.
_KL_QUESTIONS = 2
_STATS = ("policy_gradient_loss", "value_loss", "entropy", "approx_kl", "clip_fraction")


def policy_optimizer(policy: TrainablePolicy, config: PPOConfig) -> AnyOptimizer:
    """The optimiser of the settings for what learns of a policy, which is where it is to learn.

    With a `trunk_rate` of 0 its encoders learn no more.

    Raises:
        ConfigError: There are no weights of the kind that a setting is about.
    """
    begun = set() if config.trunk_rate == 1 else set(policy.init_parameters)
    if config.trunk_rate != 1 and not begun:
        raise ConfigError("trunk_rate is an encoder's, and this policy has none that learns")
    if config.trunk_rate == 0:
        for encoder in policy.init_encoders:
            encoder.eval()
        assert isinstance(policy, nn.Module)
        freeze(policy, begun)
    return make_optimizer(
        policy,
        config.optimizer,
        lr=config.learning_rate,
        eps=config.adam_eps,
        weight_decay=config.weight_decay,
        inner=policy.inner_matrices,
        slow=begun,
        share=config.trunk_rate,
    )


def ppo_update(
    policy: TrainablePolicy,
    optimizer: AnyOptimizer | torch.optim.Optimizer,
    rollout: Rollout,
    config: PPOConfig,
    *,
    generator: torch.Generator,
    also: Callable[[], Mapping[str, Tensor | float]] | None = None,
    variant: LossVariant | None = None,
) -> dict[str, float]:
    """Improve `policy` on `rollout` by `config.num_epochs` passes of clipped policy gradient.

    Args:
        policy: The policy that learns; under ranks alike on all.
        optimizer: That of `policy_optimizer`, or any torch optimiser over the policy's parameters.
            Its learning rate is used as it is: the trainer anneals it.
        rollout: Experience with advantages (`compute_gae`); under ranks this rank's rows of it.
        config: Options; sizes are of all ranks together.
        generator: Order of the minibatches (a CPU generator, alike on all ranks).
        also: Further metrics, asked for after the last step and fetched with the update's own.
        variant: What a published variant changes in the loss; the rollout's `ref_logprobs` and
            `weights` count with one only.

    Returns:
        Metrics under stable-baselines3's names.

    Raises:
        DivergedError: A loss or gradient is NaN or infinite. The step that would have spread it is
        not taken.
    """
    assert rollout.advantages is not None and rollout.returns is not None, "call compute_gae first"
    by, size, together = config.batch_by, config.minibatch_size, ranks.world() > 1
    over_rollout, scales = None, None
    by_minibatch = config.norm_adv and config.norm_adv_by == "minibatch"
    if config.norm_adv and not by_minibatch:
        over_rollout = _over_rollout(rollout)
    tally = _tally(policy, optimizer, rollout, config)
    orders = rollout.orders(config.num_epochs, size=size, by=by, generator=generator)
    for epoch, order in enumerate(orders):
        if together:
            by_rows = by == "rows"
            scales = measure_minibatches(rollout, order, by_rows=by_rows, normalize=by_minibatch)
        for number, batch in enumerate(rollout.minibatches(size, by=by, order=order)):
            if scales is None:
                scale = measure(batch.advantages, batch.valid, by_minibatch)
            else:
                scale = scales[number]
            if over_rollout is not None:
                scale = Scale(over_rollout.shift, over_rollout.scale, scale.count)
            if variant is not None and variant.mean_over_rows:
                scale = over_rows(scale, batch.valid)
            optimizer.zero_grad()
            stats: Tensor | None = None if len(batch) else no_stats(rollout)
            parts = [*_parts(batch, config.microbatch_size)]
            spare = policy.spare_parts(len(parts))
            for part in parts:
                outputs = policy.evaluate(part)
                found = surrogate(*outputs, part, config, scale, variant)
                stats = found.stats if stats is None else stats + found.stats
                policy.backward(
                    outputs,
                    found.logprob_grad,
                    found.entropy_grad if config.ent_coef > 0.0 else None,
                    found.value_grad,
                )
            for part in spare:
                outputs = policy.evaluate(part)
                nothing = torch.zeros_like(outputs[0])
                policy.backward(outputs, nothing, None, nothing)
            assert stats is not None
            if not tally.step(stats):
                break
        if tally.stopped_after(epoch):
            break
    return tally.metrics({} if also is None else also())


def _over_rollout(rollout: Rollout) -> Scale:
    """Moments of all advantages of a rollout, of all ranks."""
    assert rollout.advantages is not None
    if ranks.world() == 1:
        return measure(rollout.advantages, rollout.valid, True)
    rows = torch.arange(rollout.num_rows, device=rollout.rewards.device)
    whole = Order(rows, (0, len(rows)))
    return measure_minibatches(rollout, whole, by_rows=True, normalize=True)[0]


def _parts(batch: Minibatch, size: int) -> Iterator[Minibatch]:
    total = len(batch)
    if not total:
        return  # the other ranks have this minibatch's steps
    if size <= 0 or size >= total:
        yield batch
        return
    for begin in range(0, total, size):
        yield batch.slice(begin, min(begin + size, total))


class _Steps(Protocol):
    """What `ppo_update` asks of the steps of one update."""

    def step(self, stats: Tensor) -> bool:
        """Take the step of the gradient that lies in the parameters; False ends the update.

        Args:
            stats: Sums of its minibatch (`Surrogate.stats`).
        """

    def stopped_after(self, epoch: int) -> bool:
        """Whether the passes after this one would change nothing."""

    def metrics(self, also: Mapping[str, Tensor | float]) -> dict[str, float]:
        """Metrics of the update and `also`.

        Raises:
            DivergedError: One of the update's is not finite.
        """


class _Tally(_Steps):
    """Steps on the CPU, or with other optimisers than Adam: checked one by one."""

    def __init__(
        self,
        parameters: list[nn.Parameter],
        optimizer: AnyOptimizer | torch.optim.Optimizer,
        rollout: Rollout,
        config: PPOConfig,
    ) -> None:
        self.parameters, self.optimizer = parameters, optimizer
        self.rollout, self.config, self.together = rollout, config, ranks.world() > 1
        self.sums: Tensor | None = None
        self.norms, self.steps, self.stopped_kl = 0.0, 0, math.nan

    def step(self, stats: Tensor) -> bool:
        """Take it unless its KL is too large."""
        target = self.config.target_kl
        also = [] if target is None else [stats[3]]
        if self.together:
            also = [kl.float().clone() for kl in also]
            if isinstance(self.optimizer, AnyOptimizer):
                self.optimizer.sum_over_ranks(also)
            else:
                add_together([*_all_gradients(self.parameters), *also])
        if target is not None and float(also[0]) > 1.5 * target:
            self.stopped_kl = float(also[0])
            return False
        self.norms += self._take(self.config.max_grad_norm or math.inf)
        self.sums = stats if self.sums is None else self.sums + stats
        self.steps += 1
        return True

    def _take(self, max_grad_norm: float) -> float:
        if isinstance(self.optimizer, AnyOptimizer):
            return self.optimizer.step(max_grad_norm)
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, max_grad_norm))
        if not math.isfinite(norm):
            raise DivergedError(f"the gradient is not finite (norm {norm})")
        self.optimizer.step()
        return norm

    def stopped_after(self, epoch: int) -> bool:
        """Whether a KL was too large."""
        return not math.isnan(self.stopped_kl)

    def metrics(self, also: Mapping[str, Tensor | float]) -> dict[str, float]:
        """Means over the steps."""
        rollout, sums = self.rollout, self.sums
        assert rollout.returns is not None
        returns, values = rollout.returns[rollout.valid], rollout.values[rollout.valid]
        if self.together:
            sums = None if sums is None else ranks.add_(sums.double())
            spread, unexplained = (float(x) for x in _variances(returns, values))
        else:
            spread = float(returns.var(correction=0)) if returns.numel() else 0.0
            unexplained = float((returns - values).var(correction=0)) if returns.numel() else 0.0
        stats = [0.0] * 5 if sums is None else (sums / self.steps).tolist()
        if not math.isnan(self.stopped_kl):
            stats[3] = self.stopped_kl
        norm = self.norms / max(self.steps, 1)
        return _named(self.config, stats, spread, unexplained, norm, self.steps) | fetch(also)


class _DeviceTally(_Steps):
    """Steps on a device, of which nothing is known here before the end."""

    def __init__(self, optimizer: DeviceAdam, rollout: Rollout, config: PPOConfig) -> None:
        self.optimizer, self.rollout, self.config = optimizer, rollout, config
        self.together = ranks.world() > 1
        device = rollout.rewards.device
        self.sums = torch.zeros(len(_STATS), device=device)
        self.norms, self.steps = torch.zeros(2, device=device).unbind()
        self.stopped = torch.zeros((), dtype=torch.bool, device=device)
        self.stopped_kl = torch.full((), math.nan, device=device)
        apart = -(-config.num_epochs // (_KL_QUESTIONS + 1))
        self.questions = {apart * (i + 1) - 1 for i in range(_KL_QUESTIONS)}

    def step(self, stats: Tensor) -> bool:
        """Take it, or let it pass where the update has stopped."""
        target = self.config.target_kl
        also = [] if target is None else [stats[3]]
        if self.together:
            also = [kl.float().clone() for kl in also]
            self.optimizer.sum_over_ranks(also)
        if target is not None:
            over = (also[0] > 1.5 * target) & ~self.stopped
            self.stopped_kl = torch.where(over, also[0], self.stopped_kl)
            self.stopped = self.stopped | over
        norm = self.optimizer.advance(self.config.max_grad_norm or math.inf, skip=self.stopped)
        self.norms = self.norms + norm.masked_fill(self.stopped, 0.0)
        self.sums = self.sums + stats.float().masked_fill(self.stopped, 0.0)
        self.steps = self.steps + (~self.stopped).float()
        self.stopped = self.stopped | ~norm.isfinite()
        return True

    def stopped_after(self, epoch: int) -> bool:
        """Whether it is known to have stopped; asked for a KL only, and not after every pass."""
        asked = self.config.target_kl is not None and epoch in self.questions
        return asked and epoch + 1 < self.config.num_epochs and bool(self.stopped)

    def metrics(self, also: Mapping[str, Tensor | float]) -> dict[str, float]:
        """Means over the steps, all in one crossing."""
        rollout = self.rollout
        assert rollout.returns is not None
        weight = rollout.valid.float()
        if self.together:
            kept = weight.double()
            spread, unexplained = _variances(rollout.returns, rollout.values, kept)
            ranks.add_(self.sums)
        else:
            weight = weight / weight.sum().clamp(min=1.0)
            spread = _variance(rollout.returns, weight)
            unexplained = _variance(rollout.returns - rollout.values, weight)
        found = fetch(
            {
                **dict(zip(_STATS, self.sums.unbind(), strict=True)),
                "spread": spread,
                "unexplained": unexplained,
                "norms": self.norms,
                "steps": self.steps,
                "stopped_kl": self.stopped_kl,
                **also,
            }
        )
        steps = round(found["steps"])
        stats = [found[name] / max(steps, 1) for name in _STATS]
        if not math.isnan(found["stopped_kl"]):
            stats[3] = found["stopped_kl"]
        norm = found["norms"] / max(steps, 1)
        if not math.isfinite(norm):
            assert rollout.advantages is not None
            if not bool(rollout.advantages.isfinite().all()):
                raise DivergedError(describe_bad_value(rollout))
            raise DivergedError(f"the gradient is not finite (norm {norm})")
        named = _named(self.config, stats, found["spread"], found["unexplained"], norm, steps)
        return named | {name: found[name] for name in also}


@torch.no_grad()
def _variances(returns: Tensor, values: Tensor, weight: Tensor | None = None) -> Tensor:
    """Variances `[2]` of returns and of what is left when values are taken off, over all ranks."""
    both = torch.stack([returns, returns - values]).double().flatten(1)
    kept = torch.ones_like(both) if weight is None else weight.flatten().expand_as(both)
    both = both.masked_fill(kept == 0, 0.0)
    sums = torch.stack([kept.sum(1), both.sum(1), both.square().sum(1)])
    count, total, squares = ranks.add_(sums)
    count = count.clamp(min=1.0)
    return (squares / count - (total / count).square()).clamp(min=0.0)


def _all_gradients(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """The gradients; zeros where this rank had nothing to learn from."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [p.grad for p in parameters if p.grad is not None]


def _variance(x: Tensor, weight: Tensor) -> Tensor:
    mean = (x * weight).sum()
    return ((x - mean).square() * weight).sum()


def _named(
    config: PPOConfig,
    stats: list[float],
    spread: float,
    unexplained: float,
    norm: float,
    steps: int,
) -> dict[str, float]:
    policy_loss, value_loss, entropy, approx_kl, clipped = stats
    metrics = {
        "train/policy_gradient_loss": policy_loss,
        "train/value_loss": value_loss,
        "train/entropy_loss": -entropy,
        "train/approx_kl": approx_kl,
        "train/clip_fraction": clipped,
        "train/loss": policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy,
        "train/explained_variance": 1.0 - unexplained / spread if spread > 0 else 0.0,
        "train/grad_norm": norm,
        "train/num_gradient_steps": float(steps),
    }
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise DivergedError(f"{name} is {value}")
    return metrics


def _tally(
    policy: TrainablePolicy,
    optimizer: AnyOptimizer | torch.optim.Optimizer,
    rollout: Rollout,
    config: PPOConfig,
) -> _Steps:
    """The tally that suits the optimiser."""
    if isinstance(optimizer, DeviceAdam):
        return _DeviceTally(optimizer, rollout, config)
    parameters = [p for p in policy.parameters() if p.requires_grad]
    return _Tally(parameters, optimizer, rollout, config)
