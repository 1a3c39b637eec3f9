"""Turn a published model (GGUF) or adapters (PEFT) into a folder to start every stage from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Write config.json, weights and tokenizer of a published model in Hugging Face's format."""

    model: Annotated[Positional[str], arg(metavar="MODEL")] = "smollm2-135m"
    """smollm2-135m (fetched, 93 MB), a GGUF file, or a folder of LoRA adapters."""
    out: Path | None = None
    """Folder to write (required)."""
    base: str = ""
    """Of adapters: run or folder of the model below them; by default the one that they name."""
    context: int = 0
    """Longest sequence of the written model; 0 keeps the published one."""


def main(command: Command) -> int:
    """Run the command."""
    from playout.errors import ConfigError
    from playout.rlhf.data.downloads import SOURCES
    from playout.rlhf.model.adapters.peft_folder import is_adapter
    from playout.rlhf.model.checkpoints.gguf import read_gguf
    from playout.rlhf.model.folder import (
        download_hint,
        export_model,
        load_model,
        merged,
        model_folder,
    )
    from playout.rlhf.model.published import read_published
    from playout.rlhf.model.transformer import Transformer

    if command.out is None:
        raise ConfigError("name a folder to write: --out FOLDER")
    if command.out.exists() and any(command.out.iterdir()):
        raise ConfigError(f"{command.out} is not empty")
    folder_given = Path(command.model)
    if command.base and not is_adapter(folder_given):
        raise ConfigError(f"--base belongs to a folder of adapters, which {command.model} is not")
    if is_adapter(folder_given):
        if command.base:
            model, tokenizer = merged(model_folder(command.base), folder_given)
        else:
            model, tokenizer = load_model(folder_given)
    elif command.model in SOURCES:
        model, tokenizer = read_published(command.model)
    elif not folder_given.exists():
        known = "it is neither a file nor smollm2-135m, which is fetched"
        raise ConfigError(f"{command.model} does not exist; {known}{download_hint(folder_given)}")
    else:
        model, tokenizer = read_gguf(folder_given)
    if command.context:
        shorter = Transformer(model.config.with_context(command.context), seed=None)
        shorter.load_state_dict(model.state_dict())
        model = shorter
    command.out.parent.mkdir(parents=True, exist_ok=True)
    if command.out.exists():
        command.out.rmdir()
    export_model(command.out, model, tokenizer)
    count = sum(p.numel() for p in model.parameters())
    ends = ", ".join(str(tokenizer.inner.id_to_token(token)) for token in tokenizer.stop_ids)
    print(
        f"{command.out}: {model.config.model_type}, {count / 1e6:.1f} million parameters, "
        f"{tokenizer.vocab_size} tokens, texts of up to {model.config.max_position_embeddings}, "
        f"which end with {ends}"
    )
    if tokenizer.template is not None:
        print(f"it has a chat template: playout rlhf chat {command.out}")
    return 0
