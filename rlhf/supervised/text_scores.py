"""Numbers read off whole texts, as classifiers and reward models both do it.

A text is encoded between end tokens, a conversation by the model's chat template, and cut to a
length with its last token kept; a head reads the state of that token. Heads are model/heads.py's,
losses the stages'.
"""

from collections.abc import Iterator, Sequence
from itertools import zip_longest

import torch
from playout.agents.runs.devices import pack_to_device
from playout.rlhf.data.batches import pad_right
from playout.rlhf.data.messages import Prompt
from playout.rlhf.data.rows import at_row
from playout.rlhf.generation.conversation import ConversationFormat, conversation_format
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.heads import ScalarHead, scores
from playout.rlhf.model.transformer import Transformer, autocast
from torch import Tensor

__all__ = ["encode_texts", "predict_scores"]

BATCH = 64


def encode_texts(
    tokenizer: Tokenizer,
    texts: Sequence[Prompt],
    length: int,
    *,
    truncate: str = "right",
    published: bool = False,
    sizes: list[int] | None = None,
    where: Sequence[str] = (),
) -> list[list[int]]:
    """Documents of at most `length` tokens.

    Args:
        tokenizer: Of the model.
        texts: Plain texts, or conversations.
        length: Tokens; 0 for no limit.
        truncate: Of a longer text "left" keeps the first token and the end, anything else the
            beginning and the last token.
        published: For a model that others trained: no end token is put around a text, and nothing
            is taken from the end of a conversation.
        sizes: Gets how many tokens each text has before it is cut.
        where: File and line of each text, for errors.
    """
    end = tokenizer.end_id
    texts_alone = [text for text in texts if isinstance(text, str)]
    plain: Iterator[list[int]]
    if published:
        plain = iter(tokenizer.encode_prompts(texts_alone))
    else:
        plain = ([end, *ids, end] for ids in tokenizer.encode_batch(texts_alone))
    rows = []
    talk: ConversationFormat | None = None  # one renders the template as it is made
    for text, place in zip_longest(texts, where, fillvalue=""):
        if isinstance(text, str):
            rows.append(next(plain))
        else:
            talk = talk or conversation_format(tokenizer)
            with at_row(place):
                whole = talk.write(text, ends=False)
            rows.append(talk.tokens(whole if published else whole.rstrip()))
    if sizes is not None:
        sizes += map(len, rows)
    return [_cut(row, length, truncate) if 0 < length < len(row) else row for row in rows]


def _cut(row: list[int], length: int, truncate: str) -> list[int]:
    if truncate == "left":
        return [row[0], *row[1 - length :]] if length > 1 else row[-1:]
    return [*row[: length - 1], row[-1]]


@torch.no_grad()
def predict_scores(
    model: Transformer,
    head: ScalarHead,
    rows: Sequence[Sequence[int]],
    *,
    pad: int,
    dtype: torch.dtype,
) -> Tensor:
    """The head's outputs for encoded texts, [N] or [N, outputs], on the processor.

    Similar lengths go together.
    """
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    found: list[Tensor] = []
    with autocast(dtype, model.device):
        for start in range(0, len(order), BATCH):
            padded = pad_right([rows[i] for i in order[start : start + BATCH]], pad)
            ids, lengths = pack_to_device(padded, model.device)
            found.append(scores(model, head, ids, lengths))
    joined = torch.cat(found).cpu()
    out = torch.empty_like(joined)
    out[torch.tensor(order)] = joined
    return out
