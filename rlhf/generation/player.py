"""A policy that answers prompts, with the settings of its answers: what `playout.load` returns.

Talking with it is chat.py's; where it comes from is run.py's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from playout.rlhf.generation.decoder import Decoder
from playout.rlhf.generation.responses import sample_responses
from playout.rlhf.generation.sampling import SamplingConfig
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.transformer import Transformer

__all__ = ["LanguagePlayer"]


@dataclass(slots=True)
class LanguagePlayer:
    """A language policy that answers prompts."""

    model: Transformer
    tokenizer: Tokenizer
    name: str = "policy"
    max_new_tokens: int = 32
    temperature: float = 1.0
    seed: int = 0
    dtype: torch.dtype = torch.float32
    _decoder: Decoder | None = field(default=None, init=False, repr=False)

    def reset(self, seed: int) -> None:
        """Answer with these random numbers from now on."""
        self.seed = seed

    def act(self, prompts: Sequence[str], *, deterministic: bool = False) -> list[str]:
        """A response to each prompt.

        One prompt alone goes through the compiled step, which is several times faster. Among
        others its answer may differ, since the last bits of the logits do.
        """
        if self._decoder is None or self._decoder.dtype != self.dtype:
            self._decoder = Decoder(self.model, dtype=self.dtype)
        return sample_responses(
            self._decoder,
            self.tokenizer,
            list(prompts),
            max_new_tokens=self.max_new_tokens,
            seed=self.seed,
            dtype=self.dtype,
            sampling=SamplingConfig(0.0 if deterministic else self.temperature),
            exact=len(prompts) != 1,
        ).responses
