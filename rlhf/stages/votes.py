"""The pipeline of a chat model on votes: from what people prefer to answers that others prefer.

A reward model learns from some votes, PPO (or GRPO) improves the policy by it, and a second reward
model, which other people taught where it is known who voted, judges on prompts that were held out;
answers before and after are kept side by side. All learn by adapters above the same model. How
votes are divided is data/votes.py's.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from playout.agents.runs import ranks
from playout.agents.runs.devices import resolve_device
from playout.agents.runs.directory import RunDir
from playout.agents.runs.options import MachineOptions
from playout.agents.runs.reporting import write_json
from playout.errors import ConfigError
from playout.rlhf.data.conversations import prompt_text
from playout.rlhf.data.corpora import VOTES
from playout.rlhf.data.messages import as_messages
from playout.rlhf.data.records import Tell, prompt_key, read_votes
from playout.rlhf.data.rows import write_rows
from playout.rlhf.data.votes import DIVISION, DividedVotes, divide_votes, vote_rows
from playout.rlhf.environments.prompts import fitting, prompts_of, room_check
from playout.rlhf.model.folder import JUDGE, describe_model
from playout.rlhf.stages.pipeline import Pipeline
from playout.rlhf.stages.sizes import recipe

__all__ = ["MATERIAL", "VotesPipeline", "check_votes", "votes_meant"]

MATERIAL = "votes"
"""What the run of such a pipeline says that it works on."""
ADAPTERS = {"lora_rank": 16, "lora_alpha": 32.0}
# Of a reward model: few texts a step, for 135 million weights on two cores.
TEXTS = {"batch": 16, "microbatch": 8, "learning_rate": 2e-4}
# Pairs of answers that the judge is shown, as a multiple of an evaluation's prompts.
JUDGED = 4


def votes_meant(data: str, base: str) -> str:
    """Which votes a pipeline works on: a file, a folder or a name; empty where it works on reviews.

    Args:
        data: Its `--data`; auto takes votes for a model that speaks in turns.
        base: Folder or run of the model; empty for none.

    Raises:
        ConfigError: Votes are named, and the model does not speak in turns.
    """
    if data in ("real", "synthetic"):
        return ""
    talks = bool(base) and describe_model(base)[1].template is not None
    if data == "auto":
        return VOTES[0] if talks else ""
    if data not in VOTES and not data.startswith("hub:") and not Path(data).exists():
        known = ", ".join(("auto", "real", "synthetic", *VOTES))
        raise ConfigError(
            f"data must be {known}, hub:NAME, or a file of votes that exists; not {data!r}"
        )
    if not talks:
        raise ConfigError(
            "votes are about a chat model's answers: name one with a template, --base FOLDER (or "
            "smollm2, which is fetched)"
        )
    return data


def check_votes(name: str, *, base: str, size: str) -> None:
    """Refuse votes, before a run is made, that cannot be had, read or divided.

    Args:
        name: A file, a folder, or the name of a data set.
        base: Folder or run of the model.
        size: The dial; see sizes.py.

    Raises:
        DataError: Says why.
    """
    _divided(name, base, recipe(f"votes-{size}").response_length)


def _divided(name: str, base: str, longest: int, tell: Tell = lambda text: None) -> DividedVotes:
    """The votes on prompts to which a model can answer `longest` tokens, divided."""
    votes = read_votes(name)
    shape, tokenizer = describe_model(base)
    check = room_check(tokenizer, shape.max_position_embeddings - longest, as_user=True)
    asked = prompts_of(votes)
    kept = {prompt_key(row["prompt"]) for row in fitting(asked, check)}
    if len(kept) < len(asked):
        tell(f"{len(asked) - len(kept)} of {len(asked)} prompts leave no room for an answer; the "
             "votes on them are left out")  # fmt: skip
        votes = [vote for vote in votes if prompt_key(vote.prompt) in kept]
    return divide_votes(votes, tell=tell)


class VotesPipeline(Pipeline):
    """The stages of one run on votes, in order."""

    order: ClassVar[tuple[str, ...]] = ("reward", JUDGE, "rlhf", "judge", "report")
    commands: ClassVar[Mapping[str, str]] = {JUDGE: "reward"}

    def __init__(
        self,
        run: RunDir,
        *,
        size: str,
        votes: str,
        machine: MachineOptions,
        base: str,
        quiet: bool = False,
        grpo: bool = False,
    ) -> None:
        """Set up.

        Args:
            run: Of the pipeline.
            size: The dial; see sizes.py.
            votes: A file, a folder, or the name of a data set.
            machine: What computes, and in which type.
            base: Folder or run of a model with a chat template.
            quiet: Show no progress.
            grpo: Also the stage grpo.

        Raises:
            ConfigError: A stage cannot be divided among so many ranks.
        """
        self.votes, self.numbers = votes, recipe(f"votes-{size}")
        super().__init__(
            run,
            size=f"votes-{size}",
            data="auto",
            machine=machine,
            quiet=quiet,
            base=base,
            grpo=grpo,
        )

    def _file(self, name: str) -> Path:
        return self.run.path / "data" / f"{name}.jsonl"

    def _options(self, stage: str) -> dict[str, Any]:
        """What a stage is told beside the dial."""
        begun = {**ADAPTERS, "base": self.base}
        if stage in ("reward", JUDGE):
            file = str(self._file("votes" if stage == "reward" else "judge"))
            return {**begun, **TEXTS, "preferences": file, "max_length": self.numbers.length}
        asked = {"reward": str(self.folder("reward")), "prompts": str(self._file("prompts"))}
        return {**begun, **asked, "critic": "shared", "epochs": 2 if stage == "rlhf" else 1}

    def _write_data(self) -> None:
        if self._file("heldout").exists():
            return
        found = _divided(self.votes, self.base, self.numbers.response_length, self._say)
        self._file("votes").parent.mkdir(exist_ok=True)
        write_rows(self._file("votes"), vote_rows(found.reward))
        write_rows(self._file("judge"), vote_rows(found.judge))
        write_json(self.run.path / DIVISION, {"by_voters": found.by_voters})
        for name, prompts in (("prompts", found.prompts), ("heldout", found.heldout)):
            rows = [{"prompt": list(as_messages(prompt))} for prompt in prompts]
            write_rows(self._file(name), rows)

    def _compare(self, stage: str) -> dict[str, Any]:
        """Win rates on held-out prompts, several answers each; the answers are kept as well."""
        from playout.rlhf.evaluation.comparison import comparison_of
        from playout.rlhf.evaluation.judge import answer_both, win_rates
        from playout.rlhf.evaluation.samples import write_pairs
        from playout.rlhf.supervised.reward import RewardModel

        device = resolve_device(self.machine.device)
        dtype = self.machine.dtype
        match = comparison_of(
            self.folder(stage),
            prompts=str(self._file("heldout")),
            seed=self.run.seed,
            device=device,
            dtype=dtype,
        )
        asked = match.evaluator.prompts
        times = -(-JUDGED * self.numbers.num_prompts // len(asked))
        evaluator = replace(
            match.evaluator,
            prompts=[prompt for _ in range(times) for prompt in asked],
            tasks=None,
            judge=RewardModel.load(self.folder(JUDGE), dtype=dtype, device=device),
        )
        after, before = answer_both(match.policy, match.opponent, evaluator)
        prompts = [prompt_text(prompt) for prompt in evaluator.prompts]
        write_pairs(self.folder("judge") / f"{stage}.json", prompts, before, after)
        found = win_rates(after, before)
        return {by: {**row, "distinct_prompts": len(asked)} for by, row in found.items()}

    def __call__(self) -> None:
        """Run what is left to be done."""
        ranks.by_first(self._write_data)
        super().__call__()
