"""What a stage costs: said before its first update, measured in the first few.

Before: parameters, those that learn, threads, and the least memory that weights, gradients and
moments take. After `MEASURED` updates, which are updates of the run itself: units and tokens a
second, and the memory in use at most. Nothing that training computes depends on it. Left out: the
time that is left, which the progress line estimates.
"""

import os
import resource
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from playout.agents.optim.sharded_adam import held_rows
from playout.agents.runs.console import Console, short_number
from playout.agents.runs.trainer import Trainer
from playout.rlhf.model.adapters.held import QuantizedProjection
from playout.rlhf.model.transformer import Transformer
from torch import nn

__all__ = ["LanguageTrainer", "Speed", "least_memory", "short_size"]

MEASURED = 3
# A gradient and Adam's two moments, in float32.
BYTES_TO_LEARN = 12


class LanguageTrainer(Trainer, Protocol):
    """A trainer that says which networks it holds."""

    @property
    def networks(self) -> Iterable[nn.Module]:
        """Everything with weights: what learns, references, critics."""


def short_size(count: float) -> str:
    """Bytes as people read them: 37 MB, 1.2 GB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"


def least_memory(networks: Iterable[nn.Module]) -> int:
    """Bytes of all weights, and of gradients and moments of those that learn; shared ones once.

    Of a model that is cut over ranks, what lies on this one.
    """
    tensors = {
        id(tensor): tensor
        for network in networks
        for tensor in (*network.parameters(), *network.buffers())
    }
    here = [(held_rows(tensor), tensor.requires_grad) for tensor in tensors.values()]
    total = sum(tensor.numel() * tensor.element_size() for tensor, _ in here)
    learned = sum(tensor.numel() for tensor, learns in here if learns)
    return total + BYTES_TO_LEARN * learned


def _parameters(networks: Iterable[nn.Module]) -> tuple[int, int]:
    """How many the first network has, codes counted as what they stand for, and how many learn."""
    all_networks = list(networks)
    first = all_networks[0]
    count = sum(p.numel() for p in first.parameters())
    for module in first.modules():
        if isinstance(module, QuantizedProjection):
            count += module.shape[0] * module.shape[1]
    learned = {id(p): p.numel() for n in all_networks for p in n.parameters() if p.requires_grad}
    return count, sum(learned.values())


def _memory(device: torch.device) -> tuple[int, int]:
    """Bytes that were in use at most, and bytes that there are; 0 where that is not known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), torch.cuda.mem_get_info(device)[1]
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    names = os.sysconf_names if hasattr(os, "sysconf_names") else {}
    known = "SC_PAGE_SIZE" in names and "SC_PHYS_PAGES" in names
    return peak, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if known else 0


class Speed:
    """Says what a stage costs, as the loop's console shows it."""

    def __init__(self, trainer: LanguageTrainer, console: Console) -> None:
        self.trainer, self.console = trainer, console
        self.networks = list(trainer.networks)
        self.device = next(self.networks[0].parameters()).device
        self.updates = self.tokens = 0
        self.first = trainer.progress[0]

    def before(self) -> None:
        """Say what is known before the first update."""
        count, learned = _parameters(self.networks)
        least, there = least_memory(self.networks), _memory(self.device)[1]
        threads = torch.get_num_threads()
        where = f"{threads} thread{'s' * (threads > 1)}"
        parts = [
            f"{short_number(count)} parameters"
            + (f", {short_number(learned)} of them learn" if learned < count else ""),
            where if self.device.type == "cpu" else str(self.device),
            f"at least {short_size(least)} of memory",
        ]
        self.console.say("; ".join(parts))
        if 0 < there < least:
            self.console.say(
                f"that is more than the {short_size(there)} of this machine; --lora-rank with "
                "--weights nf4, --microbatch and --checkpoint-activations take less"
            )

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Inside, tokens are counted that pass through a model forward and backward."""

        def count(module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
            if torch.is_grad_enabled() and self.updates < MEASURED:
                self.tokens += inputs[0].numel()

        # A compiled model would be compiled anew for a hook; its stage counts tokens itself.
        counts = self.trainer.unit != "tokens"
        hooks = [
            module.register_forward_hook(count)
            for module in self.networks[0].modules()
            if counts and isinstance(module, Transformer)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def after(self, trainer: object, metrics: Mapping[str, float]) -> None:
        """The loop's callback after every update; speaks once."""
        self.updates += 1
        done, total = self.trainer.progress
        if self.updates != MEASURED and not (self.updates < MEASURED and done >= total):
            return
        rate, unit = metrics["time/fps"], self.trainer.unit
        parts = [f"{short_number(rate)} {unit}/s"]
        written = metrics.get("val/mean_length")
        if written is not None:
            parts.append(f"{short_number(rate * written)} tokens/s written")
        elif self.tokens:
            parts.append(f"{short_number(rate * self.tokens / (done - self.first))} tokens/s")
        parts.append(f"{short_size(_memory(self.device)[0])} of memory at most so far")
        self.console.say(f"measured in {self.updates} updates: {', '.join(parts)}")
