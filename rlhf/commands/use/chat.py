"""Talk with a policy in the terminal."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from playout.rlhf.commands.answer_options import AnswerOptions
from tyro.conf import Positional, arg


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(AnswerOptions):
    """A chat model answers what you write; any other policy goes on from it, word by word."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """A stage, a whole pipeline, or a Hugging Face folder."""
    temperature: float = 0.8
    """Of the sampling: higher is more varied, 0 takes the likeliest token."""
    truncate: Literal["error", "left", "right"] = "error"
    """What is cut of a line that does not fit by itself, once all earlier turns have made room: its
    beginning or its end; error does not answer it."""
    whole: bool = False
    """Keep earlier lines as context; with a chat template they are kept anyway."""


def main(command: Command) -> int:
    """Run the command."""
    from playout.rlhf.commands.answer_options import open_player
    from playout.rlhf.generation.chat.terminal import chat
    from playout.rlhf.model.threads import decoding_threads

    player = open_player(command, command.run)
    with decoding_threads(player.model, 1, command.threads):
        chat(player, whole=command.whole or None, system=command.system)
    return 0
