"""What a finished run of classify tells apart: the pretrained model with its head.

The run of a classifier holds weights and names of classes; base model and tokenizer are those of
the run that it started from. Learning is classify.py's, learning from reports reports.py's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from playout.agents.runs.directory import RunDir
from playout.errors import RunError
from playout.rlhf.data.messages import check_list
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.adapters.held import load_learned
from playout.rlhf.model.folder import load_model
from playout.rlhf.model.heads import ScalarHead
from playout.rlhf.model.threads import reading_threads
from playout.rlhf.model.transformer import Transformer, pick_dtype
from playout.rlhf.supervised.classify import ClassifyConfig, pool_of
from playout.rlhf.supervised.text_scores import encode_texts, predict_scores

__all__ = ["MODEL_SUFFIX", "Classifier"]

MODEL_SUFFIX = "-pretrained"


@dataclass(frozen=True, slots=True)
class Classifier:
    """Tells texts apart.

    Attributes:
        task: What its run calls the task.
        classes: Names, in the order of the columns of `probabilities`.
        threads: Of torch while `act` reads; 0 leaves them to a rule.
    """

    task: str
    classes: tuple[str, ...]
    model: Transformer = field(repr=False)
    tokenizer: Tokenizer = field(repr=False)
    head: ScalarHead = field(repr=False)
    length: int
    truncate: str
    dtype: torch.dtype
    threads: int = 0

    @classmethod
    def load(
        cls, path: str | Path, *, device: torch.device | None = None, dtype: str = "auto"
    ) -> "Classifier":
        """The classifier of a run of classify that told classes apart.

        Args:
            path: The run.
            device: Where it computes; the processor if None.
            dtype: Of matrix products.

        Raises:
            RunError: No such run, one of ratings, or one that is not finished.
        """
        run = RunDir.open(path)
        if run.kind != "rlhf.classify":
            raise RunError(f"{path} is a run of kind {run.kind}, not of classify")
        if not run.record.get("finished"):
            raise RunError(f"{path} is not finished; continue it with: {run.resume_command}")
        found = [RunDir.open(p) for p in sorted(run.path.glob(f"*{MODEL_SUFFIX}"))]
        told = [one for one in found if one.config.get("classes")]
        if not told:
            raise RunError(
                f"{path} holds no classifier that knows its classes: it learned ratings, or an "
                "earlier version made it"
            )
        config = told[0].config
        model, tokenizer = load_model(str(run.config["base"]), ["pretrain"], writes=False)
        classes = tuple(map(str, config["classes"]))
        # Earlier versions read the last token of every model.
        pool = pool_of(run.config.get("pool", "last"), model.config)
        head = ScalarHead(model.config, len(classes), pool=pool)
        # The last weights, which the run's table measures: those that did best on the held-out
        # texts were chosen by these.
        _, state = told[0].load("latest", only=("model", "head"))
        load_learned(model, state["model"])
        load_learned(head, state["head"])
        where = torch.device("cpu") if device is None else device
        return cls(
            str(config["task"]),
            classes,
            model.to(where),
            tokenizer,
            head.to(where),
            min(_number(config.get("length")), model.config.max_position_embeddings),
            str(config.get("truncate", "right")),
            pick_dtype(dtype, where),
        )

    def scores(self, texts: Sequence[str], sizes: list[int] | None = None) -> NDArray[np.float32]:
        """Logits of the classes, float32 [N, classes]; for `sizes` see `encode_texts`."""
        rows = encode_texts(
            self.tokenizer, list(texts), self.length, truncate=self.truncate, sizes=sizes
        )
        found = predict_scores(
            self.model, self.head, rows, pad=self.tokenizer.pad_id, dtype=self.dtype
        )
        return found.numpy()

    def probabilities(
        self, texts: Sequence[str], sizes: list[int] | None = None
    ) -> NDArray[np.float64]:
        """Of the classes, float64 [N, classes]; for `sizes` see `encode_texts`."""
        logits = self.scores(texts, sizes).astype(np.float64)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def act(self, texts: Sequence[str]) -> list[str]:
        """The name of the likeliest class of each text."""
        check_list(texts)
        if not texts:
            return []
        with reading_threads(self.model, texts, self.threads):
            return [self.classes[n] for n in self.scores(texts).argmax(axis=1)]


def _number(length: object) -> int:
    """The longest text that a run read; earlier versions, which noted none, read so many tokens."""
    return length if isinstance(length, int) and length > 1 else ClassifyConfig().length
