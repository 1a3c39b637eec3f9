"""What all language stages share: finding and writing models, number types, the run of a stage.

A stage reads the model of an earlier one as a Hugging Face folder and leaves its own as `model/` in
its run. Loops, checkpoints and metrics are agents/run's; gradient steps are
supervised/trainer.py's.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from playout.agents.runs.directory import RunDir
from playout.agents.runs.options import TrainingOptions, open_run
from playout.errors import ConfigError, RunError
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.huggingface import from_pretrained, save_pretrained
from playout.rlhf.model.transformer import Transformer
from playout.rlhf.threads import settle_threads
from torch import nn

__all__ = [
    "export_model",
    "finish",
    "interval",
    "is_finished",
    "load_model",
    "model_folder",
    "pick_dtype",
    "start",
]

MODEL = "model"
# Where a folder that holds several stages is searched for a policy, best first.
POLICIES = ("rlhf", "grpo", "dpo", "sft", "pretrain")


def pick_dtype(name: str, device: str = "cpu") -> torch.dtype:
    """The type of matrix products behind a name; see `steps.LearnConfig.dtype`."""
    if name == "auto":
        if device != "cpu":
            return torch.bfloat16
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return torch.bfloat16 if fast else torch.float32
    if name not in ("float32", "bfloat16"):
        raise ConfigError(f"dtype must be auto, float32 or bfloat16, not {name!r}")
    return torch.float32 if name == "float32" else torch.bfloat16


def model_folder(path: str | Path, stages: Iterable[str] = POLICIES) -> Path:
    """The Hugging Face folder meant by `path`: itself, a stage's run, or a run of many stages."""
    path = Path(path)
    if (path / "config.json").exists():
        return path
    candidates = [path, *(path / stage for stage in stages)]
    for candidate in candidates:
        if (candidate / MODEL / "config.json").exists():
            return candidate / MODEL
    if not path.exists():
        raise RunError(f"{path} does not exist")
    raise RunError(
        f"{path} holds no finished model: neither config.json nor {MODEL}/ is there; let its stage "
        "finish first"
    )


def load_model(path: str | Path, stages: Iterable[str] = POLICIES) -> tuple[Transformer, Tokenizer]:
    """Model and tokenizer behind `path` (see `model_folder`), checked to belong together."""
    folder = model_folder(path, stages)
    model, tokenizer = from_pretrained(folder), Tokenizer.load(folder)
    tokenizer.check_model(model.config)
    return model, tokenizer


def export_model(
    folder: Path,
    model: Transformer,
    tokenizer: Tokenizer,
    *,
    heads: Mapping[str, nn.Module] | None = None,
    architecture: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a whole model folder aside and put it in place at once."""
    aside, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for left in (aside, old):
        shutil.rmtree(left, ignore_errors=True)
    save_pretrained(model, aside, heads=heads, architecture=architecture, extra=extra)
    tokenizer.save(aside)
    if folder.exists():
        os.rename(folder, old)
    os.rename(aside, folder)
    shutil.rmtree(old, ignore_errors=True)


def start(command: TrainingOptions, stage: str, derive: Callable[[], dict[str, Any]]) -> RunDir:
    """Create or reopen the run of a stage.

    Args:
        command: Its command.
        stage: Its name; the kind of the run is `rlhf.` and this.
        derive: What is chosen once and stored with the run; not called when a run is resumed.
    """
    extra = derive() if command.resume is None else {}
    run = open_run(command, kind=f"rlhf.{stage}", name=stage, extra=extra)
    settle_threads(run)
    return run


def finish(run: RunDir, **fields: Any) -> None:
    """Note in run.json that a stage is complete."""
    with run.lock():
        run.update(finished=True, **fields)


def is_finished(path: Path) -> bool:
    """Whether a stage's run is there and complete."""
    return (path / "run.json").exists() and bool(RunDir.open(path).record.get("finished"))


def interval(steps: int, times: int) -> int:
    """Every how many of `steps` to evaluate about `times` times, the last step included."""
    return next(n for n in range(max(1, -(-steps // times)), steps + 1) if steps % n == 0)


def own_tokenizer(run: RunDir, make: Callable[[], Tokenizer]) -> Tokenizer:
    """The tokenizer of a run, made once."""
    folder = run.path / "tokenizer"
    if not (folder / "tokenizer_config.json").exists():
        make().save(folder)
    return Tokenizer.load(folder)
