"""What a language run has learned as a folder for other programs: `playout export`.

Hugging Face's format, adapters merged or alone, in as many bits as is asked for. Folders of models
are model/folder.py's.
"""

import shutil

from playout.agents.runs.checkpoint.durable_io import describe
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import ExportOptions
from playout.errors import ConfigError, DataError, RunError
from playout.rlhf.model.adapters.held import held_type, hold_weights, is_quantised
from playout.rlhf.model.adapters.peft_folder import is_adapter, read_adapter
from playout.rlhf.model.folder import export_model, load_model, model_folder
from playout.rlhf.model.huggingface import from_pretrained

__all__ = ["export_run"]


def export_run(run: RunDir, options: ExportOptions) -> None:
    """Write the model of a run's model/ or adapter/ to a folder that is empty or new.

    Raises:
        ConfigError: It cannot be written so, or there. RunError: There is no such model.
        DataError: The folder cannot be written.
    """
    if options.format not in (None, "hf", "safetensors", "peft"):
        raise ConfigError(
            f"a language model is exported as hf (safetensors) or peft, not {options.format}"
        )
    source = model_folder(run.path)
    adapters = options.format == "peft"
    if adapters:
        source = source.with_name("adapter")
        if not is_adapter(source):
            raise RunError(f"{run.path} has no adapters: it was trained without --lora-rank")
    target = options.out if options.out is not None else run.path / "export"
    if target.exists() and not target.is_dir():
        raise ConfigError(f"{target} is a file; a model is exported to a folder")
    if target.exists() and any(target.iterdir()):
        raise ConfigError(f"{target} is not empty; choose another --out")
    if options.quantise is not None:
        if adapters:
            raise ConfigError("adapters are written as they are; leave out --quantise")
        model, tokenizer = load_model(source)
        if is_quantised(model):
            raise ConfigError(f"{run.path} is quantised already; leave out --quantise")
        hold_weights(model.requires_grad_(False), held_type(options.quantise))
        if target.exists():
            target.rmdir()
        export_model(target, model, tokenizer)
        print(f"wrote {target} (config.json, model.safetensors with weights in {options.quantise})")
        return
    try:  # contents alone: checkpoints are readable by their owner only, an export need not be
        shutil.copytree(source, target, dirs_exist_ok=True, copy_function=shutil.copyfile)
    except (OSError, shutil.Error) as error:
        reason = describe(error) if isinstance(error, OSError) and error.errno else str(error)
        raise DataError(f"cannot write {target}: {reason}; choose another --out") from error
    if adapters:
        read_adapter(target)
        print(f"wrote {target} (adapter_config.json, adapter_model.safetensors, tokenizer.json)")
        return
    if options.check:
        first, second = from_pretrained(source), from_pretrained(target)
        for (name, ours), theirs in zip(first.named_parameters(), second.parameters(), strict=True):
            if not bool((ours == theirs).all()):
                raise RunError(f"{target}: {name} was not written as it is")
    print(f"wrote {target} (config.json, model.safetensors, tokenizer.json)")
