"""What the stages that improve a policy share: their run, models, prompts, reward, judge, baseline.

The stages themselves are learn/rlhf.py, grpo.py, dpo.py and use/best_of_n.py; flags are
options.py's, learning is online/'s and supervised/dpo.py's.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, TypeVar

import torch
from playout.agents.runs import ranks
from playout.agents.runs.console import counted
from playout.agents.runs.devices import resolve_device
from playout.agents.runs.directory import RunDir
from playout.agents.runs.reporting import write_json
from playout.errors import ConfigError
from playout.own_code import trust_modules
from playout.rlhf.commands.environment_options import episode_evaluator, open_environment
from playout.rlhf.commands.memory_options import adapt, check_shard, spread
from playout.rlhf.commands.online_options import OnlineCommand
from playout.rlhf.commands.options import SOURCES, PolicyOptions, data_file
from playout.rlhf.data.datasets import Datasets, choose_source
from playout.rlhf.data.messages import Prompt, as_messages
from playout.rlhf.data.rows import Row, Source
from playout.rlhf.environments.environment import EnvironmentFactory
from playout.rlhf.environments.load import GOAL_TOLD
from playout.rlhf.environments.prompts import (
    fitting,
    prompt_environment,
    read_prompt_tasks,
    room_check,
    split_prompt_tasks,
)
from playout.rlhf.evaluation.evaluator import PolicyEvaluator
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.adapters.held import held_type
from playout.rlhf.model.folder import load_model
from playout.rlhf.model.huggingface import read_json
from playout.rlhf.model.reference import Reference
from playout.rlhf.model.sharding import gathered, is_sharded
from playout.rlhf.model.transformer import Transformer, pick_dtype
from playout.rlhf.online.config import OnlineConfig
from playout.rlhf.online.episode_evaluator import EpisodeEvaluator
from playout.rlhf.online.rewards import RewardFunction, load_reward, reward_names, trust_reward
from playout.rlhf.online.trainer import OnlineTrainer
from playout.rlhf.stages.rounds import EVALUATIONS, planned_rounds
from playout.rlhf.stages.run import (
    OWN_REWARD,
    begin_stage,
    check_usual_data,
    discarded_unused,
    export_stage,
    mark_finished,
    say_all,
    stage_source,
    train_stage,
)
from playout.rlhf.stages.sizes import recipe
from playout.rlhf.stages.speed import LanguageTrainer

__all__ = [
    "PolicyStage",
    "learn_online",
    "load_policy",
    "online_config",
    "open_policy_stage",
    "train_policy",
]

Rows = Sequence[Mapping[str, Any]]
BASES = ("sft", "pretrain")
# The stage of a whole pipeline that a policy starts from.

T = TypeVar("T", bound=OnlineConfig)


@dataclass(frozen=True, slots=True)
class PolicyStage:
    """What a stage that improves a policy works on."""

    run: RunDir
    model: Transformer
    tokenizer: Tokenizer
    prompts: list[str]
    reward: RewardFunction | None
    evaluator: PolicyEvaluator | EpisodeEvaluator
    weights: torch.dtype
    """Of models that do not learn."""
    environment: EnvironmentFactory | None = None
    """What the policy acts in, in place of prompts."""
    tasks: Rows | None = None
    """The rows of the prompts, where they hold more than a text."""

    @property
    def prompt_evaluator(self) -> PolicyEvaluator:
        """The evaluator of a stage that answers prompts."""
        assert isinstance(self.evaluator, PolicyEvaluator)
        return self.evaluator

    def baseline(self) -> dict[str, float]:
        """How the policy did before it learned; measured once a run, kept in baseline.json."""
        path = self.run.path / "baseline.json"

        def measure() -> None:
            found = self.evaluator.measure(
                self.model, reference or self._reference(), folder=self.run.path, step=0
            )
            write_json(path, found)

        if not ranks.by_first(path.exists):
            # A model that is cut is copied, and lent to the first rank, by all.
            reference = self._reference() if is_sharded(self.model) else None
            with gathered(self.model, None if reference is None else reference.model):
                ranks.by_first(measure)
        return read_json(path)

    def _reference(self) -> Reference:
        return Reference(self.model, dtype=self.evaluator.dtype, weights=self.weights)


def load_policy(command: PolicyOptions) -> tuple[Transformer, Tokenizer]:
    """The policy that a command starts from, with the adapters it asks for.

    Raises:
        ConfigError: It names none.
    """
    if not command.base:
        raise ConfigError("name the policy to start from: --base RUN")
    device: torch.device | None = resolve_device(command.device)
    if getattr(command, "shard", False):  # it is cut later
        device = None
    model, tokenizer = load_model(command.base, BASES, device=device)
    dropout = getattr(command, "lora_dropout", 0.0)
    adapt(model, command, seed=command.seed, weights=command.weights, dropout=dropout, others=True)
    return model, tokenizer


def open_policy_stage(
    command: PolicyOptions,
    name: str,
    reward: RewardFunction | None = None,
    rows: list[Row] | None = None,
    environment: EnvironmentFactory | None = None,
    asked: Rows = (),
) -> PolicyStage:
    """Open the run of a stage and load what it works on.

    Args:
        command: Its command.
        name: Its name.
        reward: A function in place of the one that the command names.
        rows: Prompts, or pairs for dpo, given from Python; kept in the run.
        environment: What the policy acts in, in place of the one that the command names.
        asked: Rows of prompts, where the command names none; those without room for an answer are
            left out.
    """
    factory = open_environment(command) if environment is None else environment
    if not command.reward and reward is None and factory is None:
        raise ConfigError(
            "name the reward: --reward RUN or --reward module:function; or what to act in: --env"
        )
    if command.resume is None:
        _check_asked(command, name, factory, rows)
    source: Source = ""
    if factory is None:
        source = data_file(command.data, command.prompts, "--prompts")
        if name != "dpo":  # whose rows are pairs
            source = stage_source(command, str(source), rows)
        source = asked if asked and source == "" else source
        if source == "" and command.base:
            check_usual_data(command, command.data, command.base, what="prompts", flag="--prompts")
    numbers = recipe(command.size)
    device, weights = resolve_device(command.device), held_type(command.weights)
    model, tokenizer = load_policy(command)
    scorer = reward
    if scorer is None and command.reward:
        if command.resume is None:  # whoever names a function means it
            trust_modules(*reward_names(command.reward))
        trust_reward(command.reward, command.resume)
        scorer = load_reward(
            command.reward,
            weights_of_rewards=getattr(command, "reward_weights", ""),
            dtype=command.dtype,
            device=device,
            weights=weights,
        )

    def begin(derive: Callable[[], dict[str, Any]]) -> RunDir:
        base = command.base
        return begin_stage(command, name, derive, model=model, base=base, stages=BASES, rows=rows)

    if factory is not None:
        measured = episode_evaluator(command, factory, model, tokenizer, scorer)
        unkept = {} if reward is None else {OWN_REWARD: True}
        run = begin(lambda: {"material": "environment", GOAL_TOLD: True, **unkept})
        return PolicyStage(run, model, tokenizer, [], scorer, measured, weights, factory)
    assert scorer is not None
    longest = command.max_new_tokens or numbers.response_length
    context = model.config.max_position_embeddings
    if longest + 1 >= context:
        raise ConfigError(
            f"responses of {longest} tokens leave no room for a prompt in the context of {context}"
        )
    rows_asked: list[dict[str, Any]] | None = None
    heldout_rows: list[dict[str, Any]] | None = None
    if source != "":
        as_user = _asks_as_user(command, tokenizer)
        # Runs of earlier versions began with files whose prompts fit without an answer.
        began = command.resume and source is not asked
        check = room_check(tokenizer, context if began else context - longest, as_user=as_user)
        if source is asked:
            source = _fitting(asked, check)
        tasks, held = split_prompt_tasks(read_prompt_tasks(source, check=check))
        if as_user:
            tasks, held = ([_as_user(task) for task in side] for side in (tasks, held))
        plain = all(set(task) == {"prompt"} and isinstance(task["prompt"], str) for task in tasks)
        if name != "best-of-n" and not plain and (as_user or name in ("grpo", "rlhf")):
            # Conversations, or rows with data of their own that the reward may ask for.
            factory = prompt_environment(tasks, held)
            measured = episode_evaluator(command, factory, model, tokenizer, scorer)
        run = begin(lambda: {"material": "files", "asked": "user" if as_user else "text"})
        if factory is not None:
            return PolicyStage(run, model, tokenizer, [], scorer, measured, weights, factory)
        prompts, heldout = ([task["prompt"] for task in side] for side in (tasks, held))
        if not plain:
            rows_asked, heldout_rows = tasks, held[: numbers.num_prompts]
    else:
        run = begin(lambda: {"material": choose_source(command.data)})
        prompts, heldout = Datasets(run.config["material"]).prompts()
    material = run.config["material"]
    evaluator = PolicyEvaluator(
        tokenizer,
        heldout[: numbers.num_prompts],
        scorer,
        None if material == "files" else Datasets(material).judge(),
        max_new_tokens=longest,
        # As training samples, where there are such options.
        temperature=getattr(command, "temperature", 1.0),
        stop=getattr(command, "stop", ()),
        dtype=pick_dtype(command.dtype, device),
        tasks=heldout_rows,
        on_failure=getattr(command, "on_failure", "stop"),
    )
    return PolicyStage(run, model, tokenizer, prompts, scorer, evaluator, weights, tasks=rows_asked)


def _check_asked(
    command: PolicyOptions, name: str, factory: EnvironmentFactory | None, rows: list[Row] | None
) -> None:
    """Refuse what would be left aside: prompts beside an environment, options of none."""
    pairs = name == "dpo"  # rows and --data are pairs there
    given = command.prompts or (not pairs and (rows is not None or command.data not in SOURCES))
    if factory is not None and given:
        raise ConfigError("give --env or --prompts, not both: an environment asks by itself")
    if getattr(command, "env_options", "") and not getattr(command, "env", ""):
        raise ConfigError("--env-options belong to an environment by its name: --env NAME")
    if factory is None and getattr(command, "constrained", False):
        raise ConfigError("--constrained needs an environment that lists answers: --env NAME")


def _asks_as_user(command: PolicyOptions, tokenizer: Tokenizer) -> bool:
    """Whether plain prompts of one's own are a user's messages; runs go on as they began."""
    if command.resume is not None:
        return bool(RunDir.open(command.resume).config.get("asked") == "user")
    plain = getattr(command, "plain_text", False) or getattr(command, "plain", False)
    return tokenizer.template is not None and not plain


def _fitting(rows: Rows, check: Callable[[Prompt], None]) -> list[Row]:
    """The rows of prompts that `check` does not refuse; how many it does is said."""
    kept = fitting(rows, check)
    if len(kept) < len(rows):
        say_all([f"{len(rows) - len(kept)} of {len(rows)} prompts leave no room for an answer, and "
                 "nothing is measured on them"])  # fmt: skip
    return kept


def _as_user(task: dict[str, Any]) -> dict[str, Any]:
    return {**task, "prompt": as_messages(task["prompt"])}


class PolicyTrainer(LanguageTrainer, Protocol):
    """A trainer whose policy can be exported."""

    @property
    def model(self) -> Transformer:
        """The policy."""


def online_config(kind: type[T], command: OnlineCommand, stage: PolicyStage, updates: int) -> T:
    """The settings of PPO or GRPO among a command's flags, with what 0 leaves to the size.

    Args:
        kind: Their dataclass, from which the command inherits.
        command: The command.
        stage: Knows the longest response.
        updates: Rounds that the command's size stands for.
    """
    given = {field.name: getattr(command, field.name) for field in fields(kind)}
    given["updates"] = command.updates or updates
    given["batch"] = command.batch or recipe(command.size).batch
    given["max_new_tokens"] = stage.evaluator.max_new_tokens
    return kind(**given)


def learn_online(
    kind: type[OnlineTrainer],
    settings: type[OnlineConfig],
    command: OnlineCommand,
    *,
    name: str,
    updates: int,
    reward: RewardFunction | None = None,
    rows: list[Row] | None = None,
    environment: EnvironmentFactory | None = None,
) -> RunDir:
    """Improve a policy by rounds of sampling and learning; it is left in RUN/model.

    Args:
        kind: The trainer.
        settings: Its dataclass; see `online_config`.
        command: The command.
        name: Of the stage.
        updates: Rounds that the command's size stands for.
        reward: In place of the one that the command names.
        rows: In place of its prompts.
        environment: In place of the one that it names.
    """
    check_shard(command, weights=command.weights in ("int8", "nf4"), minutes=command.minutes > 0)
    if command.minutes and command.updates and command.resume is None:
        raise ConfigError("give --updates or --minutes, not both")
    stage = open_policy_stage(command, name, reward, rows, environment)
    with discarded_unused(stage.run, command):
        config = online_config(settings, command, stage, updates)
        spread(stage.model, command, resolve_device(command.device))
        evaluation = _evaluated(stage)

        def make(model: Transformer, config: OnlineConfig, **measured: Any) -> OnlineTrainer:
            return kind(
                model, stage.tokenizer, stage.prompts, stage.reward, config, seed=command.seed,
                environment=stage.environment, weights=stage.weights, **measured,
            )  # fmt: skip

        if command.minutes and not command.updates:
            rounds = planned_rounds(
                stage.run, command.minutes, config, make, stage.model, evaluation=evaluation
            )
            if not command.quiet and ranks.is_first():
                fit = (
                    f"{counted(rounds, 'round')}, as many as fit into {command.minutes:.3g} minutes"
                )
                print(fit, flush=True)
            with stage.run.lock():
                stage.run.complete_config(updates=rounds)
            config = replace(config, updates=rounds)
        trainer = make(stage.model, config, evaluator=stage.evaluator, folder=stage.run.path)
    return train_policy(trainer, stage, updates=config.updates, quiet=command.quiet)


def _evaluated(stage: PolicyStage) -> float:
    """Seconds that measuring the policy before it learns has taken, on all ranks the same."""
    begun = time.monotonic()
    stage.baseline()
    taken = stage.run.record.get("baseline_seconds")
    if taken is None:
        taken = ranks.first(time.monotonic() - begun)
        with stage.run.lock():
            stage.run.update(baseline_seconds=taken)
    return float(taken)


def train_policy(
    trainer: PolicyTrainer, stage: PolicyStage, *, updates: int, quiet: bool
) -> RunDir:
    """Train, with evaluations on the way, and leave the policy in RUN/model."""
    train_stage(trainer, stage.run, updates=updates, evaluations=EVALUATIONS, quiet=quiet)
    export_stage(
        stage.run, trainer.model, stage.tokenizer, base=stage.run.config["base"], stages=BASES
    )
    mark_finished(stage.run, quiet=quiet)
    return stage.run
