"""Improve a policy from pairs of answers (DPO), given or sampled and ranked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from playout.agents.runs.options import run_options_last
from playout.rlhf.commands.environment_options import EnvironmentOptions, named_environment
from playout.rlhf.commands.memory_options import (
    MicrobatchOptions,
    ShardOptions,
    check_shard,
    spread,
)
from playout.rlhf.commands.online_options import named_reward, written_weights
from playout.rlhf.commands.options import (
    Data,
    OptimizerOptions,
    OptionalFile,
    OptionalRun,
    PolicyOptions,
    TextOptions,
    data_file,
    learn_config,
    stage_command,
)
from playout.rlhf.online.config import EpisodeOptions
from tyro.conf import arg

if TYPE_CHECKING:
    from playout.agents.runs.directory import RunDir
    from playout.rlhf.commands.policy_stage import PolicyStage
    from playout.rlhf.data.records import Preference
    from playout.rlhf.data.rows import Row, Source
    from playout.rlhf.environments.environment import EnvironmentFactory
    from playout.rlhf.online.rewards import RewardFunction
    from playout.rlhf.supervised.dpo import DPOConfig


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(
    EnvironmentOptions,
    EpisodeOptions,
    TextOptions,
    MicrobatchOptions,
    OptimizerOptions,
    ShardOptions,
    PolicyOptions,
):
    """Learn from pairs; the policy is left in RUN/model.

    With --preferences no reward is needed: some pairs are held out and measured. Without, the
    policy's own samples are ranked by the reward, or with --env its own episodes by theirs; these
    pairs are left in RUN/pairs.jsonl.
    """

    preferences: OptionalFile = ""
    """.jsonl, .json, .csv, .parquet or a folder: `prompt`, `chosen`, `rejected`, or `prompt`,
    `left`, `right`, `winner`; or llmfao, as in reward. A `margin` is left aside."""
    reward: OptionalRun = ""
    """Run of a reward stage, or module:function: ranks samples, and measures the policy."""
    data: Data = "auto"
    """Which prompts to answer and which judge; or a file of preferences, as --preferences."""
    samples: int = 4
    """Responses a prompt to rank."""
    num_pairs: int = 0
    """Prompts to make pairs of; 0 leaves it to the size."""
    steps: int = 0
    """Gradient steps; 0 leaves it to the size."""
    batch: int = 32
    """Pairs a step."""
    beta: float = 0.1
    """Weight of the log-ratio to the reference: a larger one stays nearer to it."""
    kind: Annotated[str, arg(metavar="dpo|ipo")] = "dpo"
    """dpo (logistic loss) or ipo (squared)."""
    label_smoothing: float = 0.0
    """Share of labels taken to be wrong; of dpo only."""
    learning_rate: float = 2e-4
    """At its highest."""
    lora_dropout: float = 0.0
    """With --lora-rank: share of the adapters' inputs that a step leaves out."""

    @staticmethod
    def stored_today(config: Mapping[str, Any]) -> Mapping[str, Any]:
        """As rows and as environments go on."""
        return TextOptions.stored_today(EnvironmentOptions.stored_today(config))


def main(command: Command) -> int:
    """Run the stage."""
    train(command)
    return 0


def dpo(
    base: Any = "",
    preferences: Source = "",
    *,
    reward: Any = "",
    reward_fn: RewardFunction | Sequence[RewardFunction] | None = None,
    env: Any = "",
    **options: Any,
) -> RunDir:
    """DPO from Python: `playout.dpo("runs/sft", [{"prompt": p, "chosen": a, "rejected": b}])`.

    Args:
        base: Run or Hugging Face folder of the policy to start from.
        preferences: Rows as dictionaries, or what `--preferences` takes. Rows are kept in the run.
        reward: Run of a reward stage, `module:function` or a function; needed only where no pairs
            are given.
        reward_fn: Any function from a list of texts to a list of numbers, in place of `reward`, or
            a list of such.
        env: What to make pairs in, where none are given: a name as `--env` takes it, or a class
            with `reset` and `step`. Whoever resumes the run gives a function or a class again.
        **options: The command's flags, with underscores.

    Returns:
        The run; `playout.load(run)` answers prompts.
    """
    name, environment = named_environment(env, options.get("env_timeout", 60.0))
    options = written_weights(options)
    scored, function = named_reward(reward, reward_fn, options.get("reward_weights"))
    given = {"base": base, "reward": scored, "env": name, **options}
    command, rows = stage_command(Command, preferences, path_as="preferences", **given)
    return train(command, function, rows, environment)


def train(
    command: Command,
    reward_fn: RewardFunction | None = None,
    rows: list[Row] | None = None,
    environment: EnvironmentFactory | None = None,
) -> RunDir:
    """Learn as the command says; `reward_fn` takes the place of `--reward`, `rows` of pairs."""
    from playout.errors import ConfigError
    from playout.rlhf.data.records import read_preferences
    from playout.rlhf.stages.run import stage_source

    command.check_failure()
    if not command.base:
        raise ConfigError("name the policy to start from: --base RUN")
    # Samples are written by a model that is whole.
    quantised = command.weights in ("int8", "nf4")
    scored = command.reward or reward_fn
    acted = command.env or environment
    check_shard(command, reward=scored, env=acted, weights=quantised)
    if command.kind == "ipo" and command.label_smoothing and command.resume is None:
        raise ConfigError("--label-smoothing is for --kind dpo; ipo takes every label as it is")
    file = data_file(command.data, command.preferences, "--preferences")
    data = command.data if file == command.preferences else "auto"
    command = replace(command, preferences=file, data=data)
    source = stage_source(command, file, rows)
    pairs, notes, join = None, list[str](), command.join == "space"
    if source != "":
        pairs = read_preferences(source, join=join, tell=notes.append)
    if scored or acted:
        return _measured_by_reward(command, pairs, reward_fn, rows, environment, notes)
    if pairs is None:
        raise ConfigError(
            "name pairs of answers (--preferences FILE), the reward that ranks samples "
            "(--reward RUN or --reward module:function), or what to act in (--env NAME)"
        )
    if command.prompts and command.resume is None:
        raise ConfigError("--prompts are answered and scored by a reward; give --reward, too")
    return _measured_on_pairs(command, pairs, rows, notes)


def _config(command: Command) -> DPOConfig:
    from playout.rlhf.stages.sizes import recipe
    from playout.rlhf.supervised.dpo import DPOConfig

    return DPOConfig(
        steps=command.steps or recipe(command.size).dpo_steps,
        batch=command.batch,
        beta=command.beta,
        kind=command.kind,
        label_smoothing=command.label_smoothing,
        max_length=command.max_length,
        truncate=command.truncate,
        max_new_tokens=command.max_new_tokens or recipe(command.size).response_length,
        learn=learn_config(command),
    )


def _measured_on_pairs(
    command: Command, pairs: list[Preference], rows: list[Row] | None, notes: list[str]
) -> RunDir:
    """DPO without any reward: held-out pairs say how well it goes."""
    from playout.agents.runs.devices import resolve_device
    from playout.errors import ConfigError
    from playout.rlhf.commands.policy_stage import BASES, load_policy
    from playout.rlhf.data.datasets import hold_out_pairs
    from playout.rlhf.data.encoding import as_turns
    from playout.rlhf.generation.conversation import conversation_format
    from playout.rlhf.model.adapters.held import held_type
    from playout.rlhf.stages.run import (
        begin_stage,
        discarded_unused,
        export_stage,
        mark_finished,
        say_all,
        train_stage,
    )
    from playout.rlhf.supervised.dpo import DPOTrainer

    config = _config(command)
    model, tokenizer = load_policy(command)
    talk = conversation_format(tokenizer, plain=command.plain)
    if talk.speaks_in_turns:
        pairs, notes = as_turns(pairs), []  # messages run into nothing
    notes += _margins(pairs)
    train, test = hold_out_pairs(pairs, tell=notes.append)
    run = begin_stage(
        command,
        "dpo",
        lambda: {"material": "files", "measured_on": "pairs"},
        model=model,
        base=command.base,
        stages=BASES,
        rows=rows,
    )
    if run.config.get("measured_on") != "pairs":
        raise ConfigError(f"{run.path} was measured by a reward function; give it again")
    with discarded_unused(run, command):
        spread(model, command, resolve_device(command.device))
        trainer = DPOTrainer(
            model,
            tokenizer,
            train,
            config,
            seed=command.seed,
            heldout=test,
            folder=run.path,
            weights=held_type(command.weights),
            talk=talk,
        )
    say_all(notes)
    train_stage(trainer, run, updates=config.steps, evaluations=10, quiet=command.quiet)
    export_stage(run, trainer.model, tokenizer, base=command.base, stages=BASES)
    mark_finished(run, quiet=command.quiet)
    return run


def _measured_by_reward(
    command: Command,
    pairs: list[Preference] | None,
    reward_fn: RewardFunction | None,
    rows: list[Row] | None,
    environment: EnvironmentFactory | None,
    notes: list[str],
) -> RunDir:
    """DPO on given pairs, or on samples that the reward ranks, measured by the reward."""
    from playout.agents.runs import ranks
    from playout.rlhf.commands.policy_stage import open_policy_stage, train_policy
    from playout.rlhf.data.encoding import as_turns
    from playout.rlhf.data.records import read_preferences
    from playout.rlhf.generation.conversation import conversation_format
    from playout.rlhf.online.ranking import write_preferences
    from playout.rlhf.stages.run import discarded_unused, say_all
    from playout.rlhf.stages.sizes import recipe
    from playout.rlhf.supervised.dpo import DPOTrainer

    config = _config(command)
    wanted = command.num_pairs or 24 * recipe(command.size).num_prompts
    known = wanted if pairs is None else len(pairs)
    ranks.share(min(config.batch, known), DPOTrainer.records)
    asked = _asked(command, pairs)
    stage = open_policy_stage(command, "dpo", reward_fn, rows, environment, asked)
    path = stage.run.path / "pairs.jsonl"

    def make_pairs() -> None:
        if pairs is None and not path.exists():
            write_preferences(path, _ranked(command, stage, wanted))

    talk = conversation_format(stage.tokenizer, plain=command.plain)
    if pairs is not None and talk.speaks_in_turns:
        pairs = as_turns(pairs)
    else:
        say_all(notes)
    with discarded_unused(stage.run, command):
        if pairs is not None:
            say_all(_margins(pairs))
            pairs = _not_held_out(stage, pairs)
        ranks.by_first(make_pairs)
    stage.baseline()
    with discarded_unused(stage.run, command):
        trainer = DPOTrainer(
            stage.model,
            stage.tokenizer,
            read_preferences(path) if pairs is None else pairs,
            config,
            seed=command.seed,
            evaluator=stage.evaluator,
            folder=stage.run.path,
            weights=stage.weights,
            talk=talk,
        )
    return train_policy(trainer, stage, updates=config.steps, quiet=command.quiet)


def _margins(pairs: list[Preference]) -> list[str]:
    """What is to be said of margins, which only a reward model learns from."""
    count = sum(pair.margin > 0 for pair in pairs)
    return [f"{count} of {len(pairs)} pairs have a margin: only reward takes it in"] * (count > 0)


def _not_held_out(stage: PolicyStage, pairs: list[Preference]) -> list[Preference]:
    """Pairs without those about prompts that the policy is measured on; how many is said.

    Raises:
        DataError: None is left.
    """
    from playout.agents.runs import ranks
    from playout.errors import DataError
    from playout.rlhf.data.conversations import prompt_text
    from playout.rlhf.data.datasets import Datasets
    from playout.rlhf.data.records import text_key
    from playout.rlhf.evaluation.comparison import own_prompts
    from playout.rlhf.stages.run import say_all

    run = stage.run
    if ranks.by_first(lambda: run.find() is None):
        with run.lock():
            run.complete_config(split="prompt")
    # Runs of earlier versions go on with the same pairs; an environment is not asked about them.
    if "split" not in run.config or run.config["material"] == "environment":
        return pairs
    room = stage.model.config.max_position_embeddings - stage.evaluator.max_new_tokens
    sides = own_prompts(run, stage.tokenizer, room)
    if sides is None:
        train, held = Datasets(str(run.config["material"])).prompts()
        sides = [{"prompt": text} for text in train], [{"prompt": text} for text in held]
    learned, asked = sides
    if learned is asked:
        say_all([f"none of {len(asked)} prompts are held out: all serve for both"])
        return pairs
    texts = {text_key(prompt_text(row["prompt"])) for row in asked}
    kept = [pair for pair in pairs if text_key(prompt_text(pair.prompt)) not in texts]
    if not kept:
        raise DataError("all pairs are about prompts that are held out, on which it is measured")
    say_all([f"{len(pairs) - len(kept)} of {len(pairs)} pairs are about prompts that are held out, "
             "on which it is measured: they are not learned from"])  # fmt: skip
    return kept


def _asked(command: Command, pairs: list[Preference] | None) -> list[Row]:
    """The prompts of given pairs, on which the policy is measured where no others are named."""
    from playout.agents.runs.directory import RunDir
    from playout.rlhf.environments.prompts import prompts_of

    if pairs is None or command.data != "auto":
        return []
    # Runs of earlier versions were measured on beginnings of reviews, and go on with them.
    if command.resume and RunDir.open(command.resume).config.get("material") != "files":
        return []
    return prompts_of(pairs)


def _ranked(command: Command, stage: PolicyStage, wanted: int) -> list[Preference]:
    """Pairs of the policy's own, of prompts or of episodes."""
    from playout.agents.runs.console import progress
    from playout.rlhf.environments.prompts import PROMPTS
    from playout.rlhf.online.episode_evaluator import EpisodeEvaluator
    from playout.rlhf.online.ranking import rank_episodes, rank_samples

    acted, asked, samples = stage.environment, stage.prompts[:wanted], command.samples
    if acted is None:
        wanted = len(asked)
    elif acted.name == PROMPTS:  # each once, as plain prompts are
        wanted = min(wanted, len(acted.tasks("train") or ()))
    unit, seed = "answers" if acted is None else "episodes", command.seed + 5
    with progress("pairs", wanted * samples, unit=unit, quiet=command.quiet) as tell:
        if acted is not None:
            assert isinstance(stage.evaluator, EpisodeEvaluator)
            return rank_episodes(
                *(stage.evaluator.engine(stage.model, temperature=1.0), acted, stage.reward),
                count=wanted,
                samples=samples,
                seed=seed,
                skip=command.on_failure == "skip",
                told=tell,
            )
        assert stage.reward is not None
        return rank_samples(
            *(stage.model, stage.tokenizer, asked, stage.reward),
            samples=samples,
            max_new_tokens=stage.evaluator.max_new_tokens,
            seed=seed,
            dtype=stage.evaluator.dtype,
            tasks=None if stage.tasks is None else stage.tasks[:wanted],
            stop=command.stop,
            told=tell,
        )
