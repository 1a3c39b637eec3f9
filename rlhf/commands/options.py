"""What the stages that improve a policy share: their flags, prompts, reward, judge and baseline.

The flags cost no torch; everything else is imported when a stage runs. The stages themselves are
rlhf.py, grpo.py, dpo.py and best_of_n.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playout.agents.runs.options import TrainingOptions

if TYPE_CHECKING:
    from playout.agents.runs.directory import RunDir
    from playout.rlhf.evaluation.prompts import PolicyEvaluator
    from playout.rlhf.generation.tokenizer import Tokenizer
    from playout.rlhf.model.transformer import Transformer
    from playout.rlhf.online.rewards import RewardFunction
    from playout.rlhf.online.trainer import RoundsTrainer

__all__ = [
    "PolicyOptions",
    "RoundsOptions",
    "Task",
    "begin",
    "carry_out",
    "improve",
    "read_prompts",
    "rounds_of",
    "write_json",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOptions(TrainingOptions):
    """Where a policy comes from and what it is for."""

    base: str = ""
    """Run or Hugging Face folder of the policy to start from (required)."""
    reward: str = ""
    """Run of a reward stage, or module:function that takes a list of texts (required)."""
    prompts: str = ""
    """File of prompts (.jsonl with `prompt`, or a line each); by default beginnings of reviews."""
    data: str = "auto"
    """auto, real or synthetic: which prompts and which independent judge."""
    size: str = "small"
    """tiny, small, base or large: sets what is not given."""
    max_new_tokens: int = 0
    """Longest response; 0 leaves it to the size."""
    lora_rank: int = 0
    """Train low-rank adapters of this rank; switched off, they give the reference."""
    dtype: str = "auto"
    """float32, bfloat16 or auto."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundsOptions(PolicyOptions):
    """How responses are sampled and scored, and how often."""

    updates: int = 0
    """Rounds; 0 leaves it to the size."""
    batch: int = 64
    """Responses a round."""
    learning_rate: float = 1e-4
    """At the start; it falls to zero."""
    epochs: int = 1
    """Passes over a round's responses."""
    minibatch: int = 64
    """Responses a gradient step."""
    microbatch: int = 0
    """Responses a forward pass, to save memory; 0 takes the minibatch."""
    temperature: float = 1.0
    """At which responses are sampled."""
    kl_coef: float = 0.1
    """Coefficient of KL in the reward."""
    kl_estimator: str = "k1"
    """k1 or k3."""
    missing_end_penalty: float = 1.0
    """Taken from the score of a response that was cut off."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a stage works on."""

    run: RunDir
    model: Transformer
    tokenizer: Tokenizer
    prompts: list[str]
    reward: RewardFunction
    evaluator: PolicyEvaluator

    def baseline(self) -> dict[str, float]:
        """How the policy did before it learned; measured once a run, kept in baseline.json."""
        from playout.rlhf.model.huggingface import read_json
        from playout.rlhf.online.policy import Reference

        path = self.run.path / "baseline.json"
        if not path.exists():
            reference = Reference(self.model, dtype=self.evaluator.dtype)
            found = self.evaluator.measure(self.model, reference, folder=self.run.path, step=0)
            write_json(path, found)
        return read_json(path)


def begin(command: PolicyOptions, stage: str, reward: RewardFunction | None = None) -> Task:
    """Open the run of a stage and load what it works on.

    Args:
        command: Its command.
        stage: Its name.
        reward: A function in place of the one that the command names.
    """
    from playout.errors import ConfigError
    from playout.rlhf.data.splits import Material, resolve
    from playout.rlhf.evaluation.prompts import PolicyEvaluator
    from playout.rlhf.model.lora import LoRAConfig, add_adapters
    from playout.rlhf.online.rewards import reward_from
    from playout.rlhf.sizes import recipe
    from playout.rlhf.stage import load_model, pick_dtype, start

    if not command.base:
        raise ConfigError("name the policy to start from: --base RUN")
    if not command.reward and reward is None:
        raise ConfigError("name the reward: --reward RUN or --reward module:function")
    numbers = recipe(command.size)
    model, tokenizer = load_model(command.base, ["sft", "pretrain"])
    found = reward if reward is not None else reward_from(command.reward, dtype=command.dtype)
    if command.prompts:
        prompts, heldout = _divided(read_prompts(command.prompts))
        run = start(command, stage, lambda: {"material": "files"})
    else:
        run = start(command, stage, lambda: {"material": resolve(command.data)})
        sides = Material(run.config["material"]).demonstrations()
        prompts, heldout = ([d.prompt for d in side] for side in sides)
    kind = run.config["material"]
    if command.lora_rank:
        add_adapters(model, LoRAConfig(rank=command.lora_rank), seed=command.seed)
    longest = command.max_new_tokens or numbers.response_length
    room = model.config.max_position_embeddings - longest - 1
    if room < 1:
        raise ConfigError(
            f"responses of {longest} tokens leave no room for a prompt in the context of "
            f"{model.config.max_position_embeddings}"
        )
    evaluator = PolicyEvaluator(
        tokenizer,
        heldout[: numbers.num_prompts],
        found,
        None if kind == "files" else Material(kind).judge(),
        max_new_tokens=longest,
        dtype=pick_dtype(command.dtype),
    )
    return Task(run, model, tokenizer, prompts, found, evaluator)


def rounds_of(command: RoundsOptions, task: Task, **ppo: Any) -> dict[str, Any]:
    """The fields of a RoundsConfig but for `updates`; `ppo` are further settings of the update."""
    from playout.rlhf.online.trainer import language_ppo

    return {
        "batch": command.batch,
        "max_new_tokens": task.evaluator.max_new_tokens,
        "temperature": command.temperature,
        "kl_coef": command.kl_coef,
        "kl_estimator": command.kl_estimator,
        "missing_end_penalty": command.missing_end_penalty,
        "dtype": command.dtype,
        "ppo": language_ppo(
            learning_rate=command.learning_rate,
            num_epochs=command.epochs,
            minibatch_size=command.minibatch,
            microbatch_size=command.microbatch,
            **ppo,
        ),
    }


def improve(kind: type[RoundsTrainer], config: Any, task: Task, command: RoundsOptions) -> int:
    """Measure the policy, train it by rounds, and leave it in RUN/model."""
    task.baseline()
    trainer = kind(
        task.model,
        task.tokenizer,
        task.prompts,
        task.reward,
        config,
        seed=command.seed,
        evaluator=task.evaluator,
        folder=task.run.path,
    )
    return carry_out(trainer, task, command, updates=config.updates)


def carry_out(trainer: Any, task: Task, command: PolicyOptions, *, updates: int) -> int:
    """Train, with ten evaluations on the way, and leave the policy in RUN/model."""
    from playout.agents.runs.loop import train
    from playout.rlhf.stage import export_model, finish, interval

    every = interval(updates, 10)
    train(trainer, task.run, eval_every=every, save_every=30.0, console=not command.quiet)
    export_model(task.run.path / "model", trainer.model, task.tokenizer)
    finish(task.run)
    return 0


def read_prompts(path: str | Path) -> list[str]:
    """Prompts of a file: field `prompt` (or `text`) of .jsonl, else one a line."""
    import json

    from playout.errors import DataError
    from playout.rlhf.data.records import read_bytes, to_text

    found = []
    for number, line in enumerate(to_text(read_bytes(path), str(path)).splitlines(), 1):
        if not line.strip():
            continue
        if Path(path).suffix == ".jsonl":
            try:
                row = json.loads(line)
                line = row.get("prompt", row.get("text"))
            except (ValueError, AttributeError):
                line = ""
            if not isinstance(line, str) or not line:
                raise DataError(f"{path}, line {number}: there is no field 'prompt' with text")
        found.append(line)
    if not found:
        raise DataError(f"{path} holds no prompts")
    return found


def _divided(prompts: list[str]) -> tuple[list[str], list[str]]:
    """To learn from and held out; a handful of prompts serves for both."""
    from playout.rlhf.data.records import split_by_text

    train, test = split_by_text(prompts, 0.2, texts=lambda p: [p])
    return (train, test) if len(prompts) >= 40 and train and test else (prompts, prompts)


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    import json

    from playout.rlhf.model.huggingface import write_atomically

    write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False).encode())
