"""Score texts by a reward model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from playout.rlhf.commands.options import ModelOptions
from tyro.conf import Positional, arg


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(ModelOptions):
    """Print or write the score of each line of a file."""

    run: Annotated[Positional[str], arg(metavar="RUN")] = ""
    """A reward stage, a whole pipeline, a model folder, or module:function."""
    texts: Annotated[Path | None, arg(metavar="FILE")] = None
    """A text a line, UTF-8 (required)."""
    json: Annotated[Path | None, arg(metavar="OUT")] = None
    """Write a list of {"text", "score"} here instead of printing."""


def main(command: Command) -> int:
    """Run the command."""
    from playout.agents.runs.devices import resolve_device
    from playout.agents.runs.reporting import write_json
    from playout.errors import ConfigError, DataError
    from playout.own_code import trust_modules
    from playout.rlhf.data.rows import read_bytes, to_text
    from playout.rlhf.model.transformer import pick_dtype
    from playout.rlhf.online.rewards import checked_rewards, load_reward
    from playout.rlhf.stages.threads import use_threads

    if not command.run or command.texts is None:
        raise ConfigError("usage: playout rlhf score RUN --texts FILE [--json OUT]")
    text = to_text(read_bytes(command.texts), str(command.texts)).replace("\r\n", "\n")
    if not text.strip():
        raise DataError(f"{command.texts} is empty")
    lines = text.removesuffix("\n").split("\n")
    trust_modules(command.run)  # whoever names a function means it
    use_threads(command.threads)
    reward = load_reward(
        command.run,
        dtype=command.dtype,
        device=resolve_device(command.device),
        weights=pick_dtype(command.weights),
    )
    scores = checked_rewards(reward, lines).tolist()
    if command.json is not None:
        rows = zip(lines, scores, strict=True)
        write_json(command.json, [{"text": text, "score": round(s, 6)} for text, s in rows])
        return 0
    for line, score in zip(lines, scores, strict=True):
        print(f"{score:8.3f}  {line}")
    return 0
