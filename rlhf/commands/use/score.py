"""Score texts by a reward model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Print or write the score of each line of a file."""

    run: Annotated[Positional[str], arg(metavar="RUN")] = ""
    """A reward stage, a whole pipeline, a model folder, or module:function."""
    texts: Annotated[Path | None, arg(metavar="FILE")] = None
    """A text a line, UTF-8 (required)."""
    json: Annotated[Path | None, arg(metavar="OUT")] = None
    """Write a list of {"text", "score"} here instead of printing."""
    dtype: str = "auto"
    """float32, bfloat16 or auto."""


def main(command: Command) -> int:
    """Run the command."""
    from playout.errors import ConfigError, DataError
    from playout.rlhf.commands.options import write_json
    from playout.rlhf.data.records import read_bytes, to_text
    from playout.rlhf.online.rewards import checked, reward_from

    if not command.run or command.texts is None:
        raise ConfigError("usage: playout rlhf score RUN --texts FILE [--json OUT]")
    text = to_text(read_bytes(command.texts), str(command.texts)).replace("\r\n", "\n")
    if not text.strip():
        raise DataError(f"{command.texts} is empty")
    lines = text.removesuffix("\n").split("\n")
    reward = reward_from(command.run, dtype=command.dtype)
    scores = checked(reward, lines).tolist()
    if command.json is None:
        for line, score in zip(lines, scores, strict=True):
            print(f"{score:8.3f}  {line}")
        return 0
    found = [{"text": t, "score": round(s, 6)} for t, s in zip(lines, scores, strict=True)]
    try:
        write_json(command.json, found)
    except OSError as error:
        raise ConfigError(f"{command.json} cannot be written: {error.strerror}") from None
    return 0
