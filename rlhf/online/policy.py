"""A language model as a policy that agents' PPO can improve.

A response is a row, a token an action, and what the policy saw are all tokens before it; a value
head stands on the same Transformer or on one of its own. Log-probabilities are those at the
sampling temperature, everywhere. The loss is agents/ppo/update.py's, sampling generate.py's.
"""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from playout.agents.networks.policy import Minibatch, PolicyStep, TrainablePolicy
from playout.errors import ConfigError
from playout.rlhf.model.heads import ScalarHead
from playout.rlhf.model.lm_head import token_logprobs
from playout.rlhf.model.lora import adapters_off, has_adapters
from playout.rlhf.model.transformer import Transformer, autocast
from torch import Tensor, nn

__all__ = ["LanguagePolicy", "Reference", "logprobs_of"]


def logprobs_of(
    model: Transformer,
    obs: Tensor,
    actions: Tensor,
    valid: Tensor,
    *,
    temperature: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities and entropies [r, T] of tokens, 0 where not valid, and hidden states.

    Args:
        model: A decoder.
        obs: int64 [r, T], tokens padded on the right.
        actions: int64 [r, T], the token after each.
        valid: bool [r, T], which of them count; only those meet the vocabulary.
        temperature: Of the distribution.
        dtype: Of matrix products.

    Returns:
        Log-probabilities, entropies and the hidden states [N, H] of the N valid places.
    """
    # Columns after the last valid one change nothing in a causal model.
    columns = valid.any(0).nonzero()
    width = int(columns[-1]) + 1 if len(columns) else 1
    with autocast(dtype, obs.device.type):
        hidden = model(obs[:, :width])[valid[:, :width]]
        weight = model.head_weight(hidden.dtype)
        found, spread = token_logprobs(hidden, weight, actions[valid], temperature=temperature)
    logprobs = found.new_zeros(valid.shape).index_put((valid,), found)
    entropies = spread.new_zeros(valid.shape).index_put((valid,), spread)
    return logprobs, entropies, hidden


class LanguagePolicy(nn.Module, TrainablePolicy):
    """A Transformer with a value head, as `agents.ppo.ppo_update` asks for.

    Attributes:
        model: The Transformer that speaks.
        value_head: A number a token, zero at first.
        critic: The Transformer below the value head if that has one of its own, else None.
    """

    def __init__(
        self,
        model: Transformer,
        *,
        temperature: float = 1.0,
        critic: Transformer | None = None,
        values: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Wrap a model.

        Args:
            model: A decoder; it is not copied.
            temperature: At which responses are sampled.
            critic: A Transformer for the value head to stand on; None shares the policy's.
            values: False leaves the value head out; values are then 0.
            dtype: Of matrix products.
        """
        super().__init__()
        if not model.config.causal:
            raise ConfigError("an encoder cannot be a language policy")
        if not temperature > 0:
            raise ConfigError(f"a policy is learned at a temperature above 0, not {temperature}")
        self.model, self.temperature, self.dtype = model, temperature, dtype
        self.value_head = ScalarHead(model.config, zero=True) if values else None
        self.critic = critic if values else None

    def evaluate(self, batch: Minibatch) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities of the tokens, entropies, values, all [r, T] and 0 where not valid."""
        valid = batch.valid
        logprobs, entropies, hidden = logprobs_of(
            self.model,
            batch.obs,
            batch.actions,
            valid,
            temperature=self.temperature,
            dtype=self.dtype,
        )
        if self.value_head is None:
            return logprobs, entropies, torch.zeros_like(logprobs.detach())
        values = self._values(hidden, batch.obs, valid)
        return logprobs, entropies, values.new_zeros(valid.shape).index_put((valid,), values)

    def _values(self, hidden: Tensor, obs: Tensor, valid: Tensor) -> Tensor:
        assert self.value_head is not None
        if self.critic is None:
            return self.value_head(hidden, self.model.norm)
        return self.value_head(self.value_features(obs, valid), self.critic.norm)

    def value_features(self, obs: Tensor, valid: Tensor) -> Tensor:
        """Hidden states [N, H] below the value head at the N valid places."""
        trunk = self.model if self.critic is None else self.critic
        with autocast(self.dtype, obs.device.type):
            return trunk(obs)[valid]  # type: ignore[no-any-return]

    @torch.no_grad()
    def assess(
        self, obs: Tensor, actions: Tensor, valid: Tensor, *, rows: int = 64
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`evaluate` of whole tensors without gradients, `rows` at a time."""
        parts = []
        for cut in _cuts(len(obs), rows):
            part = valid[cut]
            nothing = torch.zeros(part.shape)
            batch = Minibatch(
                obs[cut], actions[cut], nothing, nothing, nothing, nothing, valid=part
            )
            parts.append(self.evaluate(batch))
        logprobs, entropies, values = (torch.cat([p[i] for p in parts]) for i in range(3))
        return logprobs, entropies, values

    @torch.no_grad()
    def fit_values(self, obs: Tensor, valid: Tensor, returns: Tensor, ridge: float = 1e-2) -> None:
        """Set the value head to the least-squares fit of `returns` [r, T]: its warm-up."""
        assert self.value_head is not None
        trunk = self.model if self.critic is None else self.critic
        hidden = torch.cat(
            [self.value_features(obs[cut], valid[cut]).float() for cut in _cuts(len(obs), 64)]
        )
        x = (hidden * trunk.norm).double()
        gram = x.T @ x
        gram += ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
        weight = torch.linalg.solve(gram, x.T @ returns[valid].double())
        self.value_head.weight.copy_(weight.float()[None])

    def initial_state(self, num_rows: int) -> None:
        """The tokens are the whole state."""

    @torch.no_grad()
    def step(
        self,
        obs: Tensor,
        state: None = None,
        mask: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        deterministic: bool = False,
    ) -> PolicyStep:
        """The next token after rows of equally many tokens, int64 [N, L]; see generate.py."""
        with autocast(self.dtype, obs.device.type):
            hidden = self.model(obs)[:, -1]
            logits = self.model.logits(hidden) / self.temperature
        if mask is not None:
            logits = logits.masked_fill(~mask.bool(), -torch.inf)
        log_p = torch.log_softmax(logits, dim=-1)
        if deterministic:
            action = log_p.argmax(-1)
        else:
            action = torch.multinomial(log_p.exp(), 1, generator=generator)[:, 0]
        everything = torch.ones_like(obs, dtype=torch.bool)
        value = torch.zeros(len(obs))
        if self.value_head is not None:
            value = self._values(hidden, obs, everything)
            value = value if self.critic is None else value.view(obs.shape)[:, -1]
        return PolicyStep(action, log_p.gather(1, action[:, None])[:, 0], value, None)


class Reference:
    """What a policy was before it learned: a frozen copy, or itself with its adapters off."""

    def __init__(self, model: Transformer, *, dtype: torch.dtype = torch.float32) -> None:
        """Remember `model` as it is now."""
        self.dtype = dtype
        self.own = has_adapters(model)
        self.model = model if self.own else copy.deepcopy(model).requires_grad_(False)

    def off(self) -> AbstractContextManager[None]:
        """Inside, `model` is the reference."""
        return adapters_off(self.model) if self.own else nullcontext()

    @torch.no_grad()
    def logprobs(
        self,
        obs: Tensor,
        actions: Tensor,
        valid: Tensor,
        *,
        temperature: float = 1.0,
        rows: int = 64,
    ) -> Tensor:
        """Log-probabilities [r, T] of tokens, 0 where not valid."""
        with self.off():
            parts = [
                logprobs_of(
                    self.model,
                    obs[cut],
                    actions[cut],
                    valid[cut],
                    temperature=temperature,
                    dtype=self.dtype,
                )[0]
                for cut in _cuts(len(obs), rows)
            ]
        return torch.cat(parts)


def _cuts(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, start + size)
