"""A language model as a policy that agents' PPO can improve.

A response is a row, a token an action, and what the policy saw are all tokens before it; a value
head stands on the same Transformer or on one of its own. Log-probabilities are those at the
sampling temperature, everywhere. The loss is agents/ppo/update.py's, sampling generate.py's.
"""

from contextlib import AbstractContextManager

import torch
from playout.agents.networks.policy import Minibatch, TrainablePolicy
from playout.agents.runs import ranks
from playout.errors import ConfigError
from playout.rlhf.model.adapters.lora import layer_matrices
from playout.rlhf.model.heads import ScalarHead
from playout.rlhf.model.reference import hidden_states, row_slices, sequence_logprobs
from playout.rlhf.model.sharding import gathered, is_sharded, place_beside, take_state
from playout.rlhf.model.transformer import Transformer, autocast
from torch import Tensor, nn

__all__ = ["LanguagePolicy"]


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
            model: A decoder; it is not copied. It may be cut over ranks, and so is then the rest.
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
        self.value_head = (
            place_beside(ScalarHead(model.config, zero=True), model) if values else None
        )
        self.critic = critic if values else None

    @property
    def sharded(self) -> bool:
        """Whether its weights are cut over ranks."""
        return is_sharded(self.model)

    def whole(self) -> AbstractContextManager[None]:
        """Inside, every rank asks it without the others; all enter, where it is cut over them."""
        return gathered(self.model, self.critic, self.value_head)

    def spare_parts(self, own: int) -> list[Minibatch]:
        """As many as another rank has more, where every pass gathers weights from all.

        Each is a token that does not count.
        """
        if not self.sharded:
            return []
        device = self.model.device
        ids = torch.zeros(1, 1, dtype=torch.long, device=device)
        unused = torch.zeros(1, 1, device=device)
        valid = torch.zeros(1, 1, dtype=torch.bool, device=device)
        one = Minibatch(ids, ids, unused, unused, unused, unused, valid=valid)
        return [one] * (round(ranks.largest([own])[0]) - own)

    @property
    def inner_matrices(self) -> list[str]:
        """Those of the layers of both Transformers."""
        found = [f"model.{name}" for name in layer_matrices(self.model)]
        if self.critic is not None:
            found += [f"critic.{name}" for name in layer_matrices(self.critic)]
        return found

    def evaluate(self, batch: Minibatch) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities of the tokens, entropies, values, all [r, T] and 0 where not valid."""
        valid = batch.valid
        logprobs, entropies, hidden = sequence_logprobs(
            self.model,
            batch.obs,
            batch.actions,
            valid,
            temperature=self.temperature,
            allowed=batch.allowed,
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
        with autocast(self.dtype, obs.device):
            return hidden_states(trunk, obs, valid)

    @torch.no_grad()
    def assess(
        self,
        obs: Tensor,
        actions: Tensor,
        valid: Tensor,
        *,
        allowed: Tensor | None = None,
        rows: int = 64,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`evaluate` of whole tensors without gradients, `rows` at a time."""
        parts = []
        for rows_now in row_slices(len(obs), rows):
            counted = valid[rows_now]
            unused = torch.zeros(counted.shape, device=counted.device)
            batch = Minibatch(
                obs[rows_now],
                actions[rows_now],
                *(unused, unused, unused, unused),
                valid=counted,
                allowed=None if allowed is None else allowed[rows_now],
            )
            parts.append(self.evaluate(batch))
        logprobs, entropies, values = (torch.cat([p[i] for p in parts]) for i in range(3))
        return logprobs, entropies, values

    @torch.no_grad()
    def fit_values(self, obs: Tensor, valid: Tensor, returns: Tensor, ridge: float = 1e-2) -> None:
        """Set the value head to the least-squares fit of `returns` [r, T]: its warm-up.

        Of the rows of all ranks; every rank calls it.
        """
        assert self.value_head is not None
        trunk = self.model if self.critic is None else self.critic
        with self.whole():
            hidden = torch.cat(
                [
                    obs.new_zeros(0, trunk.config.hidden_size, dtype=torch.float32),
                    *(
                        self.value_features(obs[part], valid[part]).float()
                        for part in row_slices(len(obs), 64)
                    ),
                ]
            )
            # In double precision, which not every device has.
            x = (hidden * trunk.norm).cpu().double()
        wanted = returns[valid].cpu().double()
        gram = ranks.add_(x.T @ x)
        # Of no rows at all the fit is 0.
        scale = gram.diagonal().mean().clamp(min=1e-30)
        gram += ridge * scale * torch.eye(len(gram), dtype=torch.float64)
        weight = torch.linalg.solve(gram, ranks.add_(x.T @ wanted))
        weight = weight.float()[None]
        if self.sharded:
            take_state(self.value_head, {"weight": weight})
        else:
            self.value_head.weight.copy_(weight)
