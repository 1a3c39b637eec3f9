"""Tasks of lm_eval (EleutherAI's harness) asked of any language run, without transformers.

Our model stands behind lm_eval's interface, so that runs, adapters and quantised weights are
measured by the harness's own prompts and metrics. A task is named, or is a YAML file of one's own.
Needs `pip install 'playout[evaluation]'`. Nothing is fetched unless the task itself asks for data
that is not here.
"""

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from playout.agents.runs.devices import pack_to_device
from playout.errors import ConfigError, DataError
from playout.rlhf.data.batches import by_tokens, pad_right
from playout.rlhf.data.rows import suffix_of
from playout.rlhf.evaluation.suites.results import calibration, interval, seen_part
from playout.rlhf.evaluation.suites.tasks.harness_samples import Sureness, questions, sureness
from playout.rlhf.generation.conversation import conversation_format
from playout.rlhf.generation.player import LanguagePlayer
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.reference import must_be_finite
from playout.rlhf.model.transformer import Transformer, autocast
from playout.rlhf.supervised.perplexity import as_scored, likelihoods

__all__ = ["Harnessed", "run_task"]

_LONGEST = 256  # tokens of an answer where a task does not say, as lm_eval has it
# The metric that a task is known by, the first of these that it has; the last is to be small.
_HEADLINES = ("exact_match", "acc_norm", "acc", "f1", "bits_per_byte")


@dataclass(frozen=True, slots=True)
class Harnessed:
    """What the harness found of a task.

    Attributes:
        values: float64 [N], the headline's value of each document; empty where it has none, or
            is not their mean.
        metrics: Every metric that is a number; of several ways to read an answer (filters) the
            first one's under the metric's name, others under `METRIC,FILTER`.
        headline: The name of the one that stands for the task.
        questions: N documents' questions with their answers; "" for one that is not told.
        bare: The same without answers and the task's own wording; "" for one that is not told.
        sure: How sure the model is of its choices; None where there are none to choose from.
    """

    values: NDArray[np.float64]
    metrics: dict[str, float]
    headline: str
    questions: list[str] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)
    sure: Sureness | None = None


class _Model:
    """What lm_eval asks a model; a subclass of its LM is made when it is there."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer, dtype: torch.dtype) -> None:
        self.model, self.tokenizer, self.dtype = model, tokenizer, dtype
        self.talk = conversation_format(tokenizer, plain=True)

    def options(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool]]:
        """Log-probability of each continuation, and whether it is the likeliest text."""
        rows: list[tuple[list[int], int]] = []
        longest = self.model.config.max_position_embeddings
        for context, text in pairs:
            if context:
                scored = as_scored(self.talk, context, text, "a request of lm_eval")
            else:
                scored = as_scored(self.talk, text, None, "a request of lm_eval")
            ids, start = scored.rows[0]
            cut = max(0, len(ids) - longest)
            rows.append((ids[cut:], max(1, start - cut)))
        found: dict[int, tuple[float, bool]] = {}
        for now in by_tokens([len(ids) for ids, _ in rows]):
            found |= dict(zip(now, self._scores([rows[n] for n in now]), strict=True))
        return [found[n] for n in range(len(rows))]

    @torch.no_grad()
    def _scores(self, rows: Sequence[tuple[list[int], int]]) -> list[tuple[float, bool]]:
        ids, _ = pad_right([ids for ids, _ in rows], self.tokenizer.pad_id)
        (held,) = pack_to_device([ids], self.model.device)
        found = []
        with autocast(self.dtype, self.model.device):
            hidden = self.model(held)
            for row, (own, start) in enumerate(rows):
                table = self.model.logits(hidden[row, start - 1 : len(own) - 1]).float()
                wanted = held[row, start : len(own)]
                logprobs = torch.log_softmax(table, -1).gather(1, wanted[:, None])
                likeliest = bool((table.argmax(-1) == wanted).all())
                total = float(logprobs.double().sum())
                must_be_finite(total)
                found.append((total, likeliest))
        return found

    def texts(self, texts: Sequence[str]) -> list[float]:
        """Log-probability of whole texts."""
        rows = [as_scored(self.talk, text, None, "a text of lm_eval") for text in texts]
        found = likelihoods(self.model, rows, pad=self.tokenizer.pad_id, dtype=self.dtype)
        return [one.logprob for one in found]

    def written(self, asked: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
        """The likeliest answer to each prompt, up to its end."""
        found = []
        for prompt, settings in asked:
            # None and an empty list are no texts to stop at: the end token alone ends an answer.
            until = settings.get("until", "\n\n") or ()
            player = LanguagePlayer(
                self.model,
                self.tokenizer,
                max_new_tokens=self._room(settings.get("max_gen_toks")),
                dtype=self.dtype,
                truncate="left",
                stop=tuple([until] if isinstance(until, str) else until),
                plain=True,
                special=False,
                threads=torch.get_num_threads(),  # whoever asks has chosen
            )
            found += player.act([prompt], deterministic=True)
        return found

    def _room(self, wanted: Any) -> int:
        half = self.model.config.max_position_embeddings // 2
        return max(1, min(int(wanted) if wanted else _LONGEST, half))


def run_task(
    model: Transformer,
    tokenizer: Tokenizer,
    task: str,
    *,
    shots: int = 0,
    limit: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Harnessed:
    """One task of the harness.

    Args:
        model: A decoder.
        tokenizer: Its own.
        task: A name, or the path of a task's YAML.
        shots: Examples before each question.
        limit: Documents, at most.
        dtype: Of matrix products.

    Raises:
        ConfigError: lm_eval is not installed, or knows no such task. DataError: the task's data
            cannot be had.
    """
    try:
        evaluator, tasks, interface = (
            importlib.import_module(f"lm_eval.{name}")
            for name in ("evaluator", "tasks", "api.model")
        )
    except ImportError:
        raise ConfigError(
            f"the suite lm_eval:{task} needs lm_eval: pip install 'playout[evaluation]'"
        ) from None
    asked = _Model(model, tokenizer, dtype)

    class Ours(interface.LM):  # type: ignore[misc, name-defined]
        def loglikelihood(self, requests: Any) -> list[tuple[float, bool]]:
            return asked.options([one.args for one in requests])

        def loglikelihood_rolling(self, requests: Any) -> list[float]:
            return asked.texts([one.args[0] for one in requests])

        def generate_until(self, requests: Any) -> list[str]:
            return asked.written([one.args for one in requests])

    path = Path(task)
    own = suffix_of(path) in (".yaml", ".yml")
    if own and not path.is_file():
        raise DataError(f"--suite lm_eval:{task}: there is no such file")
    manager = (
        tasks.TaskManager(include_path=str(path.parent), include_defaults=False)
        if own
        else tasks.TaskManager()
    )
    name = _named(path) if own else task
    if name not in manager.all_tasks:
        raise ConfigError(f"lm_eval knows no task {name!r}")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        found = evaluator.simple_evaluate(
            model=Ours(),
            tasks=[name],
            num_fewshot=shots or None,
            limit=limit,
            task_manager=manager,
            bootstrap_iters=0,
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"lm_eval:{task} cannot be measured: {reason}") from error
    return _summary(found, name, shots)


def _named(path: Path) -> str:
    """What a task's file calls it."""
    for line in path.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "task":
            return value.strip().strip("'\"")
    return path.stem


def _summary(found: Any, name: str, shots: int) -> Harnessed:
    metrics: dict[str, float] = {}
    filters: dict[str, str] = {}
    for key, value in found["results"].get(name, {}).items():
        if isinstance(value, bool) or not isinstance(value, int | float) or "stderr" in key:
            continue
        metric, _, chosen = key.partition(",")
        if filters.setdefault(metric, chosen) != chosen:
            metric = key
        metrics[metric] = float(value)
    metrics.pop("sample_len", None)
    headline = next((key for key in _HEADLINES if key in metrics), "")
    headline = headline or next(iter(metrics), "")
    # A task that reads answers in several ways tells of each document once for every way.
    first = filters.get(headline, "")
    samples = found.get("samples", {}).get(name, ())
    samples = [row for row in samples if row.get("filter", first) == first]
    rows = [row.get(headline) for row in samples]
    single = bool(rows) and all(isinstance(value, int | float) for value in rows)
    # Of log-probabilities behind a perplexity neither interval nor part would be in its unit.
    single = single and bool(np.isclose(np.mean(rows), metrics[headline]))
    shown = found.get("n-shot", {}).get(name, shots)  # a task may have examples of its own
    texts, bare = questions(samples, examples=bool(shown))
    values = np.array(rows if single else [], np.float64)
    return Harnessed(values, metrics, headline, texts, bare, sureness(samples))


def summary_of(found: Harnessed, task: str, training: Sequence[str] = ()) -> dict[str, Any]:
    """The task as a row of results, with an interval where each document has a value.

    Args:
        found: What the harness found.
        task: Its name.
        training: Texts that were learned from, in which documents are looked for where the samples
            tell what they ask.
    """
    row: dict[str, Any] = {
        "kind": "lm_eval",
        "task": task,
        "measure": found.headline,
        "value": found.metrics.get(found.headline),
        "metrics": found.metrics,
    }
    if found.questions:
        row["items"] = len(found.questions)
    if len(found.values):
        row["interval"] = list(interval(found.values))
    if found.sure is not None:
        row["calibration"] = calibration(found.sure.confidence, found.sure.right)
    if training and any(found.questions):
        row["contamination"] = seen_part(found.questions, found.bare, training, found.values)
    return row
