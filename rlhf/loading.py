"""Load what a language stage or a whole pipeline left, as an object that acts.

A policy's `act` answers prompts, a reward model's scores texts. Finished stages are read from
their model/ folder, unfinished ones from a checkpoint on top of the model they started from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from playout.agents.runs.directory import RunDir
from playout.errors import RunError
from playout.rlhf.evaluation.prompts import PolicyEvaluator
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.transformer import Transformer
from playout.rlhf.sizes import RECIPES
from playout.rlhf.stage import is_finished, load_model, model_folder, pick_dtype

__all__ = ["LanguagePlayer", "Meeting", "load", "meeting"]

IMPROVED = ("rlhf", "grpo", "dpo")


@dataclass(slots=True)
class LanguagePlayer:
    """A language policy that answers prompts."""

    model: Transformer
    tokenizer: Tokenizer
    name: str = "policy"
    max_new_tokens: int = 32
    temperature: float = 1.0
    seed: int = 0
    dtype: torch.dtype = torch.float32

    def reset(self, seed: int) -> None:
        """Answer with these random numbers from now on."""
        self.seed = seed

    def act(self, prompts: Sequence[str], *, deterministic: bool = False) -> list[str]:
        """A response to each prompt."""
        from playout.rlhf.online.episodes import respond

        found = respond(
            self.model,
            self.tokenizer,
            list(prompts),
            max_new_tokens=self.max_new_tokens,
            seed=self.seed,
            dtype=self.dtype,
            temperature=0.0 if deterministic else self.temperature,
        )
        return found.responses


def load(run: RunDir, which: str | int = "best") -> Any:
    """What a run of a kind `rlhf.*` has learned; `which` matters while it is unfinished."""
    stage = run.kind.partition(".")[2]
    if stage == "all":
        return _player(load_model(run.path), run)
    if stage == "reward":
        from playout.rlhf.supervised.reward import RewardModel

        return _Scorer(RewardModel.load(run.path))
    if (run.path / "model" / "config.json").exists():
        return _player(load_model(run.path), run)
    return _player(_unfinished(run, which), run)


def _player(loaded: tuple[Transformer, Tokenizer], run: RunDir) -> LanguagePlayer:
    model, tokenizer = loaded
    return LanguagePlayer(
        model, tokenizer, name=run.path.name, max_new_tokens=_response_length(run)
    )


def _unfinished(run: RunDir, which: str | int) -> tuple[Transformer, Tokenizer]:
    base = run.config.get("base")
    if not base:
        raise RunError(f"{run.path} is not finished; continue it with --resume {run.path}")
    model, tokenizer = load_model(str(base))
    if run.config.get("lora_rank"):
        from playout.rlhf.model.lora import LoRAConfig, add_adapters

        add_adapters(model, LoRAConfig(rank=int(run.config["lora_rank"])))
    _, state = run.load(which, only=("model",))
    weights = {name.removeprefix("model."): t for name, t in state["model"].items()}
    names = set(model.state_dict())
    model.load_state_dict({name: t for name, t in weights.items() if name in names})
    return model, tokenizer


@dataclass(slots=True)
class _Scorer:
    reward: Any

    def act(self, texts: Sequence[str]) -> list[float]:
        """A score a text."""
        return list(self.reward(list(texts)))


def _response_length(run: RunDir) -> int:
    given = int(run.config.get("max_new_tokens") or 0)
    size = run.config.get("size")
    return given or (RECIPES[size].response_length if size in RECIPES else 32)


@dataclass(frozen=True, slots=True)
class Meeting:
    """Two policies, and how they are compared."""

    folder: Path
    policy: Transformer
    opponent: Transformer
    evaluator: PolicyEvaluator


def meeting(
    path: Path,
    *,
    opponent: Path | None = None,
    reward: str = "",
    prompts: str = "",
    num_prompts: int = 256,
    seed: int = 0,
    max_new_tokens: int = 0,
) -> Meeting:
    """Everything that a comparison of the policy in `path` needs; what is not given is its run's.

    Args:
        path: A stage that improved a policy, or a whole pipeline.
        opponent: By default the policy that it started from.
        reward: By default the reward that it learned from.
        prompts: File of prompts; by default the held-out ones of its data.
        num_prompts: At most so many.
        seed: Of the answers.
        max_new_tokens: Longest answer; 0 takes the run's.
    """
    from playout.rlhf.commands.options import read_prompts
    from playout.rlhf.data.splits import Material
    from playout.rlhf.online.rewards import reward_from

    run = RunDir.open(path)
    if run.kind == "rlhf.all":
        stages = [path / name for name in IMPROVED if is_finished(path / name)]
        if not stages:
            raise RunError(f"{path} has no finished rlhf, grpo or dpo stage yet")
        run = RunDir.open(stages[0])
    policy, tokenizer = load_model(model_folder(run.path))
    base = opponent if opponent is not None else run.config.get("base")
    if not base:
        raise RunError(f"{run.path} did not start from a policy; name one to compare with")
    other, other_tokenizer = load_model(str(base), ["sft", "pretrain"])
    if other_tokenizer.vocab_size != tokenizer.vocab_size:
        raise RunError(f"{base} and {run.path} do not share a tokenizer")
    named = reward or run.config.get("reward")
    if not named:
        raise RunError(f"{run.path} learned from no reward; name one with --reward")
    file = prompts or run.config.get("prompts")
    kind = run.config.get("material", "files")
    if file:
        asked = read_prompts(str(file))
    else:
        asked = [d.prompt for d in Material(str(kind)).demonstrations()[1]]
    evaluator = PolicyEvaluator(
        tokenizer,
        asked[:num_prompts],
        reward_from(str(named)),
        None if kind == "files" else Material(str(kind)).judge(),
        max_new_tokens=max_new_tokens or _response_length(run),
        seed=seed + 101,
        dtype=pick_dtype("auto"),
    )
    return Meeting(run.path, policy, other, evaluator)
