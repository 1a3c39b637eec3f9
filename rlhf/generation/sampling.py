"""Choosing tokens: temperature, top-k, top-p, penalties, and random numbers of a prompt's own.

The number that decides token t of a prompt is a pure function of (seed, stream of the prompt, t),
so what is sampled for one prompt does not depend on its neighbours. One uniform number a token goes
through the inverse distribution function; no generator has a state to save. Beam search is left
out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from playout.errors import ConfigError
from torch import Tensor

__all__ = ["SamplingConfig", "Seen", "choose", "on_host", "uniforms"]

_WEYL = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """How a token is chosen from the logits."""

    temperature: float = 1.0
    """The logits are divided by it; 0 takes the likeliest token."""
    top_k: int = 0
    """Only the k likeliest tokens may be chosen; 0 allows all."""
    top_p: float = 1.0
    """Only the likeliest tokens that together reach this probability may be chosen."""
    min_p: float = 0.0
    """Only tokens at least this many times as likely as the likeliest one may be chosen."""
    repetition_penalty: float = 1.0
    """Logits of tokens that were read or written are divided by it if positive, else multiplied
    (Keskar et al. 2019, "CTRL", section 4.1); 1 changes nothing."""

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise ConfigError(f"temperature must not be negative: {self.temperature}")
        if self.top_k < 0:
            raise ConfigError(f"top_k must not be negative: {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must be above 0 and at most 1: {self.top_p}")
        if not 0 <= self.min_p <= 1:
            raise ConfigError(f"min_p must be from 0 to 1: {self.min_p}")
        if not 0 < self.repetition_penalty < float("inf"):
            raise ConfigError(f"repetition_penalty must be positive: {self.repetition_penalty}")


class Seen:
    """Which tokens each row has read or written, for the repetition penalty.

    Attributes:
        tokens: bool [B, V]; None where nothing is penalised.
    """

    def __init__(self, logits: Tensor, prompts: Sequence[Sequence[int]], penalty: float) -> None:
        """Begin with the prompts of all rows of `logits` [B, V]."""
        self.penalty = penalty
        self.tokens: Tensor | None = None
        if penalty != 1:
            seen = torch.zeros(logits.shape, dtype=torch.bool)
            for row, prompt in enumerate(prompts):
                seen[row, torch.tensor(prompt)] = True
            self.tokens = seen.to(logits.device)

    def penalise(self, logits: Tensor) -> None:
        """Change `logits` [B, V] of tokens that were seen."""
        if self.tokens is not None:
            less = torch.where(logits > 0, logits / self.penalty, logits * self.penalty)
            torch.where(self.tokens, less, logits, out=logits)

    def add(self, chosen: Tensor) -> None:
        """Note the newest token of each row, [B]."""
        if self.tokens is not None:
            self.tokens.scatter_(1, chosen[:, None], True)

    def keep(self, rows: Tensor) -> None:
        """Only these rows go on."""
        if self.tokens is not None:
            self.tokens = self.tokens[rows]


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniforms(seed: int, streams: np.ndarray, count: int) -> Tensor:
    """Numbers in [0, 1), float64 [B, count]: those of `playout_rng.h` for each (seed, stream).

    Args:
        seed: Of the whole generation.
        streams: int [B], one a prompt.
        count: Numbers a stream.
    """
    with np.errstate(over="ignore"):
        base = _mix(np.array([seed % 2**64], dtype=np.uint64) + _WEYL)
        names = streams.astype(np.uint64) * np.uint64(0xD1342543DE82EF95) + np.uint64(1)
        keys = _mix(base ^ names)
        counters = np.arange(1, count + 1, dtype=np.uint64) * _WEYL
        bits = _mix(keys[:, None] + counters) >> np.uint64(11)
    return torch.from_numpy(bits.astype(np.float64) * 2.0**-53)


def choose(logits: Tensor, u: Tensor, config: SamplingConfig) -> tuple[Tensor, Tensor]:
    """Tokens [B] and their log-probabilities [B] under the whole distribution at the temperature.

    Args:
        logits: float32 [B, V]; overwritten.
        u: [B], in [0, 1), where the logits are.
        config: How to choose.
    """
    if config.temperature not in (0.0, 1.0):
        logits.div_(config.temperature)
    log_p = torch.log_softmax(logits, dim=-1)
    if config.temperature == 0:
        tokens = log_p.argmax(dim=-1)
    elif config.top_k or config.top_p < 1 or config.min_p:
        tokens = _choose_top(log_p, u, config)
    else:
        tokens = _invert(log_p.exp(), u)
    return tokens, log_p.gather(1, tokens[:, None])[:, 0]


def on_host(steps: list[tuple[Tensor, Tensor]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Tokens int64 [B] and log-probabilities float32 [B] of some steps, fetched at once."""
    if steps[0][0].device.type == "cpu":
        return [(tokens.numpy(), logprobs.numpy()) for tokens, logprobs in steps]
    parts = [part.to(torch.int32) for part, _ in steps]
    parts += [part.contiguous().view(torch.int32) for _, part in steps]
    found = torch.stack(parts).cpu()
    count = len(steps)
    tokens = found[:count].long().numpy()
    logprobs = found[count:].view(torch.float32).numpy()
    return list(zip(tokens, logprobs, strict=True))


def _choose_top(log_p: Tensor, u: Tensor, config: SamplingConfig) -> Tensor:
    limit = config.top_k if 0 < config.top_k < log_p.shape[1] else log_p.shape[1]
    values, order = log_p.topk(limit, dim=-1)
    p = torch.softmax(values, dim=-1)
    if config.top_p < 1:
        # A token stays while those before it have not reached top_p; the first always stays.
        p = p.masked_fill(p.cumsum(-1) - p >= config.top_p, 0.0)
    if config.min_p:
        p = p.masked_fill(p < config.min_p * p[:, :1], 0.0)
    return order.gather(1, _invert(p, u)[:, None])[:, 0]


_GROUP = 64


def _invert(p: Tensor, u: Tensor) -> Tensor:
    """The first index whose running sum exceeds `u` times the total; [B, V] and [B] to [B].

    Sums of groups first, then the running sum inside one group: a running sum over the whole
    vocabulary would cost more than the sampling of everything else.
    """
    rows, size = p.shape
    if size % _GROUP:
        p = torch.nn.functional.pad(p, (0, _GROUP - size % _GROUP))
    grouped = p.view(rows, -1, _GROUP)
    sums = torch.nn.functional.pad(grouped.sum(-1).double().cumsum(-1), (1, 0))
    target = u[:, None] * sums[:, -1:]
    last = grouped.shape[1] - 1
    group = torch.searchsorted(sums[:, 1:].contiguous(), target, right=True).clamp_(max=last)
    inner = grouped.gather(1, group[:, :, None].expand(-1, -1, _GROUP))[:, 0].double().cumsum(-1)
    place = torch.searchsorted(inner, target - sums.gather(1, group), right=True)
    place = place.clamp_(max=_GROUP - 1).add_(group, alpha=_GROUP)
    # The two sums may differ in the last bit; a token of probability zero is never the answer.
    chosen, place = p.gather(1, place)[:, 0], place[:, 0]
    if p.device.type == "cpu" and bool((chosen > 0).all()):  # elsewhere to ask is to wait
        return place
    return torch.where(chosen > 0, place, p.argmax(-1))
