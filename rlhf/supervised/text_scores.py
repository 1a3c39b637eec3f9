"""Numbers read off whole texts, as classifiers and reward models both do it.

A text is encoded between end tokens and cut to a length with its end token kept; a head reads the
state of its last token. Heads are model/heads.py's, losses the stages'.
"""

from collections.abc import Sequence

import torch
from playout.agents.runs.devices import pack_to_device
from playout.rlhf.data.batches import pad_right
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.heads import ScalarHead, scores
from playout.rlhf.model.transformer import Transformer, autocast
from torch import Tensor

__all__ = ["encode_texts", "predict_scores"]


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str], length: int) -> list[list[int]]:
    """Documents of at most `length` tokens: of a longer one, the beginning and the end token."""
    end = tokenizer.end_id
    rows = [[end, *ids, end] for ids in tokenizer.encode_batch(texts)]
    return [row if len(row) <= length else [*row[: length - 1], row[-1]] for row in rows]


@torch.no_grad()
def predict_scores(
    model: Transformer,
    head: ScalarHead,
    rows: Sequence[Sequence[int]],
    *,
    pad: int,
    dtype: torch.dtype,
    batch: int = 64,
) -> Tensor:
    """The head's outputs for encoded texts, [N] or [N, outputs], on the processor.

    Similar lengths go together.
    """
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    found: list[Tensor] = []
    with autocast(dtype, model.device):
        for start in range(0, len(order), batch):
            padded = pad_right([rows[i] for i in order[start : start + batch]], pad)
            ids, lengths = pack_to_device(padded, model.device)
            found.append(scores(model, head, ids, lengths))
    joined = torch.cat(found).cpu()
    out = torch.empty_like(joined)
    out[torch.tensor(order)] = joined
    return out
