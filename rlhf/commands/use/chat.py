"""Talk with a policy in the terminal."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from playout.rlhf.commands.options import ModelOptions
from tyro.conf import Positional, arg


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(ModelOptions):
    """Write a beginning; the policy goes on."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """A stage, a whole pipeline, or a Hugging Face folder."""
    temperature: float = 0.8
    """Of the sampling: higher is more varied, 0 takes the likeliest token."""
    max_new_tokens: int = 48
    """Longest answer, in tokens."""
    whole: bool = False
    """Keep the conversation as context."""
    seed: int = 0
    """Of the answers."""


def main(command: Command) -> int:
    """Run the command."""
    from playout.agents.runs.devices import resolve_device
    from playout.rlhf.generation.chat import chat
    from playout.rlhf.generation.player import LanguagePlayer
    from playout.rlhf.model.folder import load_model
    from playout.rlhf.model.transformer import pick_dtype
    from playout.rlhf.stages.threads import use_threads

    device = resolve_device(command.device)
    use_threads(command.threads)
    weights = pick_dtype(command.weights)
    model, tokenizer = load_model(command.run, device=device, weights=weights)
    player = LanguagePlayer(
        model,
        tokenizer,
        max_new_tokens=command.max_new_tokens,
        temperature=command.temperature,
        seed=command.seed,
        dtype=pick_dtype(command.dtype, device),
    )
    chat(player, whole=command.whole)
    return 0
