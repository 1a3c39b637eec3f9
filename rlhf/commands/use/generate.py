"""Answer the prompts of a file by a policy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from playout.rlhf.commands.options import ModelOptions
from tyro.conf import Positional, arg


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(ModelOptions):
    """Print or write one or more sampled answers to each prompt."""

    run: Annotated[Positional[str], arg(metavar="RUN")] = ""
    """A stage, a whole pipeline (its best policy) or a model folder."""
    prompts: Annotated[Path | None, arg(metavar="FILE")] = None
    """A prompt a line, or .jsonl with `prompt`, UTF-8 (required)."""
    json: Annotated[Path | None, arg(metavar="OUT")] = None
    """Write a list of {"prompt", "response", "logprob", "finished"} here instead of printing."""
    max_new_tokens: int = 48
    """Longest answer in tokens."""
    samples: int = 1
    """Answers a prompt."""
    temperature: float = 1.0
    """0 takes the likeliest token each time."""
    top_k: int = 0
    """Only the k likeliest tokens; 0 allows all."""
    top_p: float = 1.0
    """Only the likeliest tokens that reach this probability together."""
    seed: int = 0
    """An answer depends on it, on the prompt's number and on the model, on nothing else."""


def main(command: Command) -> int:
    """Run the command."""
    from playout.agents.runs.devices import resolve_device
    from playout.agents.runs.reporting import write_json
    from playout.errors import ConfigError
    from playout.rlhf.data.records import read_prompts
    from playout.rlhf.generation.responses import sample_responses
    from playout.rlhf.generation.sampling import SamplingConfig
    from playout.rlhf.model.folder import load_model
    from playout.rlhf.model.transformer import pick_dtype
    from playout.rlhf.stages.threads import use_threads

    if not command.run or command.prompts is None:
        raise ConfigError("usage: playout rlhf generate RUN --prompts FILE [--json OUT]")
    if command.samples < 1:
        raise ConfigError(f"samples must be at least 1, not {command.samples}")
    texts = [p for p in read_prompts(command.prompts) for _ in range(command.samples)]
    device = resolve_device(command.device)
    use_threads(command.threads)
    weights = pick_dtype(command.weights)
    model, tokenizer = load_model(command.run, device=device, weights=weights)
    answers = sample_responses(
        model,
        tokenizer,
        texts,
        max_new_tokens=command.max_new_tokens,
        sampling=SamplingConfig(command.temperature, command.top_k, command.top_p),
        seed=command.seed,
        dtype=pick_dtype(command.dtype, device),
    )
    found = [
        {
            "prompt": text,
            "response": answers.responses[row],
            "logprob": round(float(answers.generation.logprobs[row].sum()), 5),
            "finished": bool(answers.generation.finished[row]),
        }
        for row, text in enumerate(texts)
    ]
    if command.json is not None:
        write_json(command.json, found)
        return 0
    for item in found:
        print(f"{item['prompt']}|{item['response']}")
    return 0
