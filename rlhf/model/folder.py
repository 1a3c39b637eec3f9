"""A model and its tokenizer as one folder in Hugging Face's format: found, read, written.

A stage reads the folder of an earlier one and leaves its own as `model/` in its run. Config and
tensors are huggingface.py's, the vocabulary is generation/tokenizer.py's.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from playout.agents.runs.checkpoint.durable_io import hash_file
from playout.agents.runs.checkpoint.manifest import write_manifest
from playout.agents.runs.devices import device_errors
from playout.agents.runs.directory import RunDir
from playout.errors import CheckpointError, RunError
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.adapters.held import check_codes, hold_weights, is_quantised
from playout.rlhf.model.adapters.lora import merge_adapters
from playout.rlhf.model.adapters.peft_folder import is_adapter, load_adapter, named_base
from playout.rlhf.model.config import TransformerConfig
from playout.rlhf.model.huggingface import (
    architectures,
    from_pretrained,
    is_classifier,
    read_config,
    read_json,
    save_pretrained,
)
from playout.rlhf.model.transformer import Transformer
from torch import nn

__all__ = [
    "FETCHED",
    "IMPROVING",
    "JUDGE",
    "POLICIES",
    "describe_model",
    "download_hint",
    "export_model",
    "is_scorer",
    "load_model",
    "merged",
    "model_digest",
    "model_folder",
    "replaced_folder",
]

MODEL = "model"
IMPROVING = ("rlhf", "grpo", "dpo")
"""Stages that improve a policy, in the order in which they are preferred."""
JUDGE = "judge-reward"
"""The stage that teaches a second reward model, which judges the policies."""
POLICIES = (*IMPROVING, "sft", "pretrain")
"""Where a folder that holds several stages is searched for a policy, best first."""
FETCHED = ("smollm2", "smollm2-135m")
"""What people call the model that import-model fetches; last its name there."""
_WITHOUT = ("rlhf.classify", "rlhf.best-of-n")


def model_folder(path: str | Path, stages: Iterable[str] = POLICIES) -> Path:
    """The Hugging Face folder meant by `path`: itself, a stage's run, or a run of many stages."""
    path = Path(path)
    if (path / "config.json").exists() or is_adapter(path):
        return path
    candidates = [path, *(path / stage for stage in stages)]
    for candidate in candidates:
        if (candidate / MODEL / "config.json").exists():
            return candidate / MODEL
    if not path.exists():
        raise RunError(f"{path} does not exist{download_hint(path)}")
    if path.is_file():
        raise RunError(
            f"{path} is a file, not a folder; a GGUF file becomes one by: playout rlhf "
            f"import-model {path} --out FOLDER"
        )
    if RunDir.is_run(path) and not (kind := RunDir.open(path).kind).startswith("rlhf."):
        raise RunError(f"{path} is a run of {kind}, not of a language model")
    if RunDir.is_run(path) and kind in _WITHOUT:
        raise RunError(f"{path} is a run of {kind[5:]}, which leaves no model that writes text")
    raise RunError(
        f"{path} holds no finished model: neither config.json nor {MODEL}/ is there; let its stage "
        "finish first"
    )


def download_hint(path: Path) -> str:
    """What to do about a name that import-model or the Hugging Face hub has; empty for others."""
    if path.as_posix().lower() in FETCHED:
        return f"; get it first: playout rlhf import-model {FETCHED[-1]} --out FOLDER"
    owner, _, name = path.as_posix().partition("/")
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", f"{owner}/{name}") or Path(owner).exists():
        return ""
    return f"; if the hub has it, get it first: hf download {path} --local-dir FOLDER"


def load_model(
    path: str | Path,
    stages: Iterable[str] = POLICIES,
    *,
    device: torch.device | None = None,
    weights: torch.dtype = torch.float32,
    writes: bool = True,
) -> tuple[Transformer, Tokenizer]:
    """Model and tokenizer behind `path` (see `model_folder`), checked to belong together.

    Args:
        path: Where it is.
        stages: Which are looked for in a folder of many, best first.
        device: Where the model goes; the processor if None.
        weights: Of a model that is only asked, how it is held (see `HELD`); what learns is float32.
        writes: Whether it should write text; an encoder or a reward model is then refused.

    Raises:
        RunError: There is none, or one that cannot be read.
        ConfigError: It is of another kind, or its weights are codes other than `weights`.
    """
    folder = model_folder(path, stages)
    if is_adapter(folder):
        model, tokenizer = _adapted(folder)
    else:
        if writes:
            _check_writes(path, folder)
        model, tokenizer = _plain(folder)
    tokenizer.check_model(model.config)
    if device is not None:
        with device_errors(device):
            model.to(device)
    check_codes(model, weights, path)
    if weights != torch.float32 and not is_quantised(model):
        hold_weights(model.requires_grad_(False), weights)
    return model, tokenizer


def describe_model(path: str | Path) -> tuple[TransformerConfig, Tokenizer]:
    """Shape and tokenizer of the model behind `path`, without its weights."""
    folder = model_folder(path)
    if not is_adapter(folder):
        return read_config(folder), Tokenizer.load(folder)
    base = _adapted_base(folder)
    return read_config(base), _tokenizer_beside(folder, Tokenizer.load(base))


def is_scorer(folder: Path) -> bool:
    """Whether a model's folder says that it gives texts a score, and writes none."""
    found = read_json(folder / "config.json")
    return "playout_reward" in found or any(map(is_classifier, architectures(found)))


def _check_writes(path: str | Path, folder: Path) -> None:
    """Refuse what cannot write: its next token would be gibberish."""
    if is_scorer(folder):
        raise RunError(
            f"{path} is a reward model, which scores texts (playout rlhf score) and writes none"
        )
    if "PlayoutEncoder" in architectures(read_json(folder / "config.json")):
        raise RunError(
            f"{path} is an encoder, which writes no text; start from a run of pretrain without "
            "--encoder"
        )


def _plain(folder: Path) -> tuple[Transformer, Tokenizer]:
    return from_pretrained(folder), Tokenizer.load(folder)


def _adapted(folder: Path) -> tuple[Transformer, Tokenizer]:
    """The model that adapters were made for, with them merged into it."""
    return merged(_adapted_base(folder), folder)


def _adapted_base(folder: Path) -> Path:
    """The folder of the model that adapters were made for."""
    named = named_base(folder)
    base = next((p for p in (Path(named), folder / named) if (p / "config.json").exists()), None)
    if base is None or not named:
        raise CheckpointError(
            f"{folder} holds adapters for {named or 'a model that it does not name'}, which is no "
            "folder here; merge them with: "
            f"playout rlhf import-model {folder} --base FOLDER --out OUT"
        )
    return base


def merged(base: Path, adapter: Path) -> tuple[Transformer, Tokenizer]:
    """A model with the adapters of a folder merged, and the tokenizer that was used with them."""
    model, tokenizer = _plain(base)
    load_adapter(model, adapter)
    merge_adapters(model)
    return model, _tokenizer_beside(adapter, tokenizer)


def _tokenizer_beside(adapter: Path, base: Tokenizer) -> Tokenizer:
    """The tokenizer in a folder of adapters, or the base's if there is none.

    Who learned to talk with adapters left their template and the end of their turns there. Stop
    tokens, padding and a template that it does not name are the base's.
    """
    if not (adapter / "tokenizer.json").exists():
        return base
    own = Tokenizer.load(adapter)
    spelt = own.inner.id_to_token
    stops = [token for token in base.stop_ids if spelt(token) == base.inner.id_to_token(token)]
    keeps_pad = spelt(base.pad_id) == base.pad != own.end
    found = Tokenizer(
        own.inner,
        pad=base.pad if keeps_pad else own.pad,
        end=own.end,
        bos=own.bos,
        writes_bos=own.bos_id >= 0,
        stops=[*own.stop_ids, *stops],
        template=own.template or base.template,
    )
    found.generation = {**base.generation, **own.generation}
    found.overruled = tuple(token for token in base.overruled if token not in found.stop_ids)
    return found


def model_digest(folder: Path) -> str:
    """One sha256 of a model's configuration and weights."""
    found = hashlib.sha256()
    for path in sorted([*folder.glob("*config.json"), *folder.glob("*.safetensors")]):
        if path.name not in ("generation_config.json", "tokenizer_config.json"):
            found.update(f"{path.name} {hash_file(path)[1]}\n".encode())
    return found.hexdigest()


def export_model(
    folder: Path,
    model: Transformer,
    tokenizer: Tokenizer,
    *,
    heads: Mapping[str, nn.Module] | None = None,
    architecture: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a whole model folder, with a manifest, and put it in place at once."""
    with replaced_folder(folder) as aside:
        save_pretrained(model, aside, heads=heads, architecture=architecture, extra=extra)
        tokenizer.save(aside)
        write_manifest(aside)


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """Where to write a folder anew; when that is done, it takes the old one's place at once."""
    aside, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for left in (aside, old):
        shutil.rmtree(left, ignore_errors=True)
    yield aside
    if folder.exists():
        os.rename(folder, old)
    os.rename(aside, folder)
    shutil.rmtree(old, ignore_errors=True)
