"""Fit a reward model to preferences or ratings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from playout.agents.runs.options import run_options_last
from playout.rlhf.commands.memory_options import (
    MicrobatchOptions,
    ShardOptions,
    adapt,
    check_shard,
    first_device,
    spread,
)
from playout.rlhf.commands.options import (
    AdaptedOptions,
    Data,
    OptimizerOptions,
    OptionalFile,
    OptionalRun,
    RequiredRun,
    StageOptions,
    TextOptions,
    data_file,
    learn_config,
    stage_command,
)
from tyro.conf import arg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from playout.agents.runs.directory import RunDir
    from playout.rlhf.data.comparisons import Comparisons
    from playout.rlhf.data.datasets import Datasets
    from playout.rlhf.data.messages import Prompt
    from playout.rlhf.data.records import Preference, Tell
    from playout.rlhf.data.rows import Row, Source
    from playout.rlhf.generation.tokenizer import Tokenizer


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(
    AdaptedOptions, TextOptions, MicrobatchOptions, ShardOptions, OptimizerOptions, StageOptions
):
    """Learn what people prefer; RUN/model is the model, RUN/table.json says what it is worth.

    It learns from votes between answers (--preferences, as `playout rlhf judge --human` writes
    them) or from rated texts (--rated, files or data sets by name); by default from movie reviews,
    and from tweets, editorials and product reviews beside them.
    """

    base: RequiredRun = ""
    """Run or Hugging Face folder of the model to start from."""
    preferences: OptionalFile = ""
    """.jsonl, .csv: `prompt`, `chosen`, `rejected`, or `prompt`, `left`, `right`, `winner`; or
    llmfao, votes on answers of chat models, which are fetched."""
    rated: Annotated[tuple[str, ...], arg(metavar="FILE", help_behavior_hint="")] = ()
    """.jsonl or .csv with `text` and `rating` or `ratings`; of the first some are held out."""
    policy: OptionalRun = ""
    """On this policy's samples scores get mean 0 and deviation 1; by default on held-out texts."""
    data: Data = "auto"
    """Which data, if no file is named; or a file of preferences or of rated texts."""
    steps: int = 0
    """Gradient steps; 0 leaves it to the size."""
    batch: int = 64
    """Texts a step."""
    learning_rate: float = 5e-4
    """At its highest."""
    weight_decay: float = 0.01
    """As in other stages: of the weights, a step and a unit of learning rate."""
    train_layers: int = 0
    """Train only so many layers at the top; 0 trains all."""


def main(command: Command) -> int:
    """Run the stage."""
    train(command)
    return 0


def reward(base: Any = "", data: Source = "", **options: Any) -> RunDir:
    """Fit a reward model from Python, to preferences or to rated texts.

    Args:
        base: Run or Hugging Face folder of the model to start from.
        data: Rows as dictionaries, or what `--data` takes. Rows are kept in the run.
        **options: The command's flags, with underscores.

    Returns:
        The run; `playout.load(run)` scores texts, and other stages take it as their `reward`.
    """
    return train(*stage_command(Command, data, base=base, **options))


def train(command: Command, rows: list[Row] | None = None) -> RunDir:
    """Fit the model as the command says, to `rows` if they are given."""
    from playout.agents.runs import ranks
    from playout.agents.runs.devices import resolve_device
    from playout.agents.runs.reporting import write_json
    from playout.errors import ConfigError
    from playout.rlhf.data.corpora import RATED
    from playout.rlhf.data.datasets import Datasets, choose_source
    from playout.rlhf.model.folder import load_model, model_folder
    from playout.rlhf.model.sharding import whole_model
    from playout.rlhf.stages.run import (
        begin_stage,
        check_base,
        check_usual_data,
        discarded_unused,
        mark_finished,
        say_all,
        stage_source,
        train_stage,
    )
    from playout.rlhf.stages.sizes import recipe
    from playout.rlhf.supervised.reward import RewardConfig, RewardTrainer

    if not command.base:
        raise ConfigError("name the model to start from: --base RUN")
    if command.preferences and command.rated:
        raise ConfigError("give --preferences or --rated, not both")
    if command.policy:
        model_folder(command.policy, ["sft"])  # it answers when all has been learned
    check_shard(command, weights=command.weights in ("int8", "nf4"))
    device = resolve_device(command.device)
    named = command.preferences or " ".join(command.rated)
    file = data_file(command.data, named, "--preferences or --rated")
    source = "" if command.rated else stage_source(command, file, rows)
    if not command.rated and source == "":
        check_usual_data(
            command, command.data, command.base, what="votes", flag="--preferences FILE or --rated"
        )
    numbers = recipe(command.size)
    model, tokenizer = load_model(
        command.base,
        ["pretrain", "sft"],
        device=first_device(command, device),
        writes=False,
    )
    if command.lora_rank and command.train_layers:
        raise ConfigError("adapters freeze every layer; give --lora-rank or --train-layers")
    adapt(
        model,
        command,
        seed=command.seed,
        weights=command.weights,
        dropout=command.lora_dropout,
    )
    own, notes = None, list[str]()
    if command.rated:
        own = _rated(Datasets("files"), command.rated)
    elif source != "":
        own = _compared(command, tokenizer, source, notes.append)
    run = begin_stage(
        command,
        "reward",
        lambda: {
            "material": "files" if own else choose_source(command.data),
            "split": "pair",
        },
        model=model,
        base=command.base,
        stages=["pretrain", "sft"],
        rows=rows,
    )
    if command.policy:
        check_base(run, command.policy, ["sft"], what="policy")
    config = RewardConfig(
        steps=command.steps or numbers.reward_steps,
        batch=command.batch,
        length=command.max_length or numbers.length,
        stretch=own is not None and not command.max_length,
        truncate=command.truncate,
        train_layers=command.train_layers,
        learn=learn_config(command),
    )
    datasets = Datasets(run.config["material"])
    comparisons, prompts = own or _rated(datasets, RATED if datasets.source == "real" else ("",))
    with discarded_unused(run, command):
        spread(model, command, device)
        trainer = RewardTrainer(model, tokenizer, comparisons, config, seed=command.seed)
    say_all(notes)
    train_stage(trainer, run, updates=config.steps, evaluations=6, quiet=command.quiet)

    whole, head = whole_model(model), whole_model(trainer.reward.head)

    def conclude() -> dict[str, Any]:
        assert whole is not None and head is not None
        trainer.reward.model, trainer.reward.head = whole, head
        samples = _policy_samples(command, prompts) if command.policy else []
        if command.policy and not samples:
            say_all(["no prompt leaves room for an answer of --policy: scores are normalised on "
                     "held-out texts"])  # fmt: skip
        trainer.reward.normalise(samples or trainer.test.texts)
        found = trainer.measure()
        trainer.reward.save(run.path / "model")
        write_json(run.path / "table.json", found)
        return found

    table = ranks.by_first(conclude)
    if not command.quiet and ranks.is_first():
        same = comparisons[0] is comparisons[1]
        where = "the pairs that it learned from" if same else "held-out pairs"
        low, high = table["accuracy_interval"]
        print(
            f"{100 * table['accuracy']:.1f} % of {where} in the order people gave them "
            f"(95 %: {100 * low:.1f} to {100 * high:.1f}), calibration error "
            f"{table['calibration_error']:.3f}"
        )
    mark_finished(run, quiet=command.quiet)
    return run


# Comparisons to learn from and held out, and prompts that a policy could answer.
_Data = tuple[tuple["Comparisons", "Comparisons"], list["Prompt"]]


def _compared(command: Command, tokenizer: Tokenizer, source: Source, tell: Tell) -> _Data:
    """What a file or rows hold: rated texts, or preferences."""
    from playout.agents.runs.directory import RunDir
    from playout.rlhf.data.datasets import Datasets
    from playout.rlhf.data.encoding import as_turns
    from playout.rlhf.data.records import is_vote_folder, read_preferences
    from playout.rlhf.data.rows import read_rows
    from playout.rlhf.generation.conversation import conversation_format

    rows = [] if is_vote_folder(source) else list(read_rows(source))
    if rows and "text" in rows[0][1]:
        return _rated(Datasets("files"), (source,))
    turns = conversation_format(tokenizer, plain=command.plain).speaks_in_turns
    items = read_preferences(source, join=command.join == "space" and not turns, tell=tell)
    # Runs of earlier versions go on with the same pairs.
    old = command.resume is not None and "split" not in RunDir.open(command.resume).config
    return _voted(as_turns(items) if turns else items, tell, old=old)


def _voted(items: list[Preference], tell: Tell, *, old: bool = False) -> _Data:
    """Votes, divided; `old` as earlier versions did it."""
    from playout.rlhf.data.comparisons import VotedPairs

    train, test = _by_both(items) if old else _divided(items)
    if not train or not test:
        tell(f"none of {len(items)} pairs are held out: all serve for both")
        both = VotedPairs(items)
        return (both, both), [item.prompt for item in items]
    left = len(items) - len(train) - len(test)
    if left and not old:
        tell(f"{left} of {len(items)} pairs are neither learned from nor held out: answers of "
             "theirs are on the other side")  # fmt: skip
    return (VotedPairs(train), VotedPairs(test)), [item.prompt for item in train]


def _divided(items: list[Preference]) -> tuple[list[Preference], list[Preference]]:
    """Pairs to learn from and held out, by prompts, or by first answers where those are few.

    No text is learned and judged. Of fewer than 20 pairs none are held out.
    """
    from playout.rlhf.data.datasets import HANDFUL, HELD_OUT
    from playout.rlhf.data.records import prompt_key, split_by_text

    if len(items) < HANDFUL:
        return items, []
    few = len({prompt_key(item.prompt) for item in items}) < HANDFUL

    def side(pair: Preference) -> list[str]:
        return [pair.first if few else prompt_key(pair.prompt) or pair.first]

    def texts(pair: Preference) -> set[tuple[str, str]]:
        return {(prompt_key(pair.prompt), answer) for answer in (pair.first, pair.second)}

    train, test = split_by_text(items, HELD_OUT, texts=side)
    known = {text for pair in train for text in texts(pair)}
    test = [pair for pair in test if not texts(pair) & known]
    # Where the same answers meet again and again, none would be left to judge.
    return (train, test) if test else _by_both(items)


def _by_both(items: list[Preference]) -> tuple[list[Preference], list[Preference]]:
    """Pairs by prompts or by both answers; those whose answers part are in neither list."""
    from playout.rlhf.data.datasets import HELD_OUT
    from playout.rlhf.data.records import prompt_key, split_by_text

    def sides(pair: Preference) -> list[str]:
        key = prompt_key(pair.prompt)
        return [key or pair.first, key or pair.second]

    keys = {prompt_key(item.prompt) for item in items}
    if len(keys) < 20 and keys != {""}:
        # With so few prompts a side could be empty: answers are divided instead.
        return split_by_text(items, 0.35, texts=lambda p: [p.first, p.second])
    return split_by_text(items, HELD_OUT, texts=sides)


def _rated(datasets: Datasets, names: Sequence[Source]) -> _Data:
    """Rated texts; of the first source some are held out."""
    from playout.errors import DataError
    from playout.rlhf.data.comparisons import RatedPairs
    from playout.rlhf.data.datasets import beginnings

    train, test = datasets.rated(names[0])
    prompts: list[Prompt] = [item.prompt for item in beginnings(train)]
    for name in names[1:]:
        train = train + datasets.rated(name)[0]
    if not train or not test:
        raise DataError("there are too few rated texts to hold some out; give at least a few dozen")
    if datasets.source == "synthetic":
        prompts = [item.prompt for item in datasets.demonstrations()[0]]
    return (RatedPairs(train), RatedPairs(test)), prompts


def _policy_samples(command: Command, prompts: list[Prompt]) -> list[Prompt]:
    """Texts that the reference policy writes; none where no prompt leaves room for an answer."""
    from playout.agents.runs.devices import resolve_device
    from playout.rlhf.data.comparisons import answered
    from playout.rlhf.generation.conversation import conversation_format
    from playout.rlhf.generation.generate import generate
    from playout.rlhf.model.folder import load_model
    from playout.rlhf.model.transformer import pick_dtype
    from playout.rlhf.stages.sizes import recipe

    device = resolve_device(command.device)
    policy, tokenizer = load_model(command.policy, ["sft"], device=device)
    talk = conversation_format(tokenizer, plain=command.plain)
    longest = recipe(command.size).response_length
    room = policy.config.max_position_embeddings - longest
    asked = [(prompt, talk.begin(prompt, special=True)) for prompt in prompts[:512]]
    asked = [(prompt, ids) for prompt, ids in asked if len(ids) <= room]
    if not asked:
        return []
    out = generate(
        policy,
        [ids for _, ids in asked],
        max_new_tokens=longest,
        stop=talk.stop_ids,
        pad=tokenizer.pad_id,
        seed=command.seed + 7,
        dtype=pick_dtype(command.dtype, device),
    )
    return [
        answered(prompt, talk.answer(out.response(row))) for row, (prompt, _) in enumerate(asked)
    ]
