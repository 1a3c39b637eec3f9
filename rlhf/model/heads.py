"""What stands on top of a Transformer: a number a token (value, reward), a class, a masked token.

Every head takes the hidden states as `Transformer.forward` returns them, before the gain of the
last norm, and folds that gain into its own weight. The next-token head is `Transformer.logits`.
"""

from typing import Literal

import torch
from playout.rlhf.model.transformer import (
    Projection,
    Transformer,
    TransformerConfig,
    autocast,
)
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["MaskedTokenHead", "Pool", "ScalarHead", "last_token", "mean_token"]

Pool = Literal["last", "mean"]
"""Which state of a text a head reads: that of its last token, or the mean over all of them."""


class ScalarHead(Projection):
    """One number, or `num_outputs` numbers, a token.

    A value head begins at zero, so that untrained values are no advantage to anybody; a reward head
    begins with deviation 1 / sqrt(hidden + 1), as is usual for summaries of text.
    """

    def __init__(
        self,
        config: TransformerConfig,
        num_outputs: int = 1,
        *,
        zero: bool = False,
        seed: int = 0,
        pool: Pool = "last",
    ) -> None:
        super().__init__(config.hidden_size, num_outputs)
        self.pool = pool
        with torch.no_grad():
            if zero:
                self.weight.zero_()
            else:
                generator = torch.Generator().manual_seed(seed)
                std = (config.hidden_size + 1) ** -0.5
                self.weight.normal_(0.0, std, generator=generator)

    def forward(self, hidden: Tensor, gain: Tensor | None = None) -> Tensor:
        """[..., H] to [...] for one output, else [..., num_outputs]; always float32.

        The product is tiny and its result is compared and regressed, so it is never in bfloat16.
        """
        with autocast(torch.float32, hidden.device):
            out = F.linear(hidden.float(), self.effective(gain).float())
        # FSDP2 hooks what a cut head returns, and warns of views.
        return out.squeeze(-1).clone() if out.shape[-1] == 1 else out


class MaskedTokenHead(nn.Module):
    """BERT's prediction head: dense layer, GELU and norm, in front of the output embeddings.

    `pair` is the next-sentence classifier on the first token's state.
    """

    def __init__(self, config: TransformerConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.dense = Projection(config.hidden_size, config.hidden_size)
        self.norm = nn.Parameter(torch.ones(config.hidden_size))
        self.pair = ScalarHead(config, 2, seed=seed + 1)
        self.eps = config.rms_norm_eps
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.dense.weight.normal_(0.0, 0.02, generator=generator)

    def forward(self, hidden: Tensor, gain: Tensor) -> Tensor:
        """[..., H] to states [..., H] that the output embeddings turn into logits."""
        x = F.gelu(self.dense(hidden, gain))
        return F.rms_norm(x.float(), x.shape[-1:], self.norm, self.eps).to(x.dtype)


def last_token(hidden: Tensor, lengths: Tensor) -> Tensor:
    """The state of each row's last real token: [B, L, H] with padding on the right to [B, H]."""
    index = (lengths - 1).clamp(min=0)
    return hidden[torch.arange(hidden.shape[0], device=hidden.device), index]


def mean_token(hidden: Tensor, lengths: Tensor) -> Tensor:
    """The mean over each row's real tokens, float32: [B, L, H], padded on the right, to [B, H]."""
    places = torch.arange(hidden.shape[1], device=hidden.device)
    real = (places < lengths[:, None])[..., None]
    return torch.where(real, hidden.float(), 0.0).sum(1) / lengths.clamp(min=1)[:, None]


def scores(model: Transformer, head: ScalarHead, ids: Tensor, lengths: Tensor) -> Tensor:
    """Scores of rows, [B], or [B, C] of a head of C classes.

    They come from the state that the head's `pool` names; ids are padded on the right.
    """
    mask = None
    if not model.config.causal:
        places = torch.arange(ids.shape[1], device=ids.device)
        mask = (places < lengths[:, None])[:, None, None, :]
    of_text = mean_token if head.pool == "mean" else last_token
    return head(of_text(model(ids, mask=mask), lengths), model.norm)
