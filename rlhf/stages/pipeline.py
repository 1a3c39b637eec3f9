"""The whole pipeline, stage after stage, each in its own folder of one run.

A stage is its command, with the options that follow from the pipeline's; a finished stage is not
run again, an unfinished one is continued. What the stages do is theirs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from playout.agents.runs import ranks
from playout.agents.runs.devices import resolve_device
from playout.agents.runs.directory import RunDir
from playout.agents.runs.options import MachineOptions
from playout.agents.runs.reporting import write_json
from playout.errors import ConfigError
from playout.rlhf.model.folder import IMPROVING, model_folder
from playout.rlhf.stages.commands import new_command, run_stage
from playout.rlhf.stages.run import check_ranks, is_finished

__all__ = ["STAGES", "Pipeline", "check_pipeline"]

STAGES = ("pretrain", "sft", "classify", "reward", "rlhf", "dpo", "best-of-n", "judge", "report")
OPTIONAL = ("classify", "dpo", "best-of-n")


def check_pipeline(*, base: str, skip: tuple[str, ...]) -> None:
    """Refuse, before a run is made, what the pipeline would trip over.

    Args:
        base: Folder or run of a pretrained model; empty for none.
        skip: Stages to leave out.

    Raises:
        PlayoutError: There is no such model, or another stage needs what is skipped.
    """
    _check_skip(skip)
    if base:
        model_folder(base)


def _check_skip(skip: tuple[str, ...]) -> None:
    refused = sorted(set(skip) - set(OPTIONAL))
    if refused:
        raise ConfigError(f"the stage {refused[0]} is needed by others and cannot be skipped")


class Pipeline:
    """The stages of one run, in order.

    Attributes:
        order: The stages that there are.
        commands: Of stages that are another one's command, its name.
    """

    order: ClassVar[tuple[str, ...]] = STAGES
    commands: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        run: RunDir,
        *,
        size: str,
        data: str,
        machine: MachineOptions,
        quiet: bool = False,
        base: str = "",
        skip: tuple[str, ...] = (),
        grpo: bool = False,
    ) -> None:
        """Set up.

        Args:
            run: Of the pipeline.
            size: The dial; see sizes.py.
            data: real or synthetic.
            machine: What computes, and in which type.
            quiet: Show no progress.
            base: Hugging Face folder of a pretrained model in place of the first stage.
            skip: Stages to leave out; only those that no other needs.
            grpo: Also the stage grpo.

        Raises:
            ConfigError: A stage cannot be skipped, or divided among so many ranks.
        """
        _check_skip(skip)
        self.run, self.base, self.quiet = run, base, quiet
        self.machine = machine
        self.common = {
            **{name: getattr(machine, name) for name in ("device", "dtype", "threads", "trust")},
            "size": size,
            "data": data,
            "seed": run.seed,
        }
        self.stages = [stage for stage in self.order if stage not in skip]
        if base and "pretrain" in self.stages:
            self.stages.remove("pretrain")
        if grpo:
            self.stages.insert(self.stages.index("rlhf") + 1, "grpo")
        for stage in self.stages:
            if stage not in ("judge", "report"):
                name = self.commands.get(stage, stage)
                check_ranks(new_command(name, **self.common, **self._options(stage)), name)

    def _say(self, text: str) -> None:
        if not self.quiet and ranks.is_first():
            print(text, flush=True)

    def folder(self, stage: str) -> Path:
        """Where a stage lives."""
        return self.run.subrun(stage)

    def _options(self, stage: str) -> dict[str, Any]:
        """What a stage is told beside the dial."""
        first = self.base or str(self.folder("pretrain"))
        sft, reward = str(self.folder("sft")), str(self.folder("reward"))
        policy = {"base": sft, "reward": reward}
        return {
            "pretrain": {},
            "sft": {"base": first},
            "classify": {"base": first},
            "reward": {"base": first, "policy": sft},
            "rlhf": policy,
            "grpo": policy,
            "dpo": policy,
            "best-of-n": policy,
        }[stage]

    def _train(self, stage: str) -> None:
        name, given = self.commands.get(stage, stage), {**self.common, **self._options(stage)}
        run_stage(name, self.folder(stage), self.machine, quiet=self.quiet, **given)

    def _report(self, name: str) -> None:
        from playout.rlhf.evaluation.report import closing, write_report

        page = write_report(self.run.path)
        self._say(f"{name}: {page}")
        self._say("\n".join(closing(self.run.path)))

    def _judge(self, name: str) -> None:
        if (self.folder("judge") / "table.json").exists():
            return
        self._say(name)
        self.folder("judge").mkdir(exist_ok=True)
        found = {
            stage: self._compare(stage) for stage in IMPROVING if is_finished(self.folder(stage))
        }
        write_json(self.folder("judge") / "table.json", found)

    def _compare(self, stage: str) -> dict[str, Any]:
        """Win rates of what a stage has left against the policy that it began with."""
        from playout.rlhf.evaluation.comparison import comparison_of
        from playout.rlhf.evaluation.judge import compare_policies

        match = comparison_of(
            self.folder(stage),
            seed=self.run.seed,
            device=resolve_device(self.machine.device),
            dtype=self.machine.dtype,
        )
        return compare_policies(match.policy, match.opponent, match.evaluator)

    def __call__(self) -> None:
        """Run what is left to be done."""
        for number, stage in enumerate(self.stages, 1):
            name = f"{stage} ({number} of {len(self.stages)})"
            folder = self.folder(stage)
            if stage == "report":
                ranks.by_first(lambda name=name: self._report(name))  # type: ignore[misc]
            elif stage == "judge":
                ranks.by_first(lambda name=name: self._judge(name))  # type: ignore[misc]
            elif ranks.by_first(lambda folder=folder: is_finished(folder)):  # type: ignore[misc]
                self._say(f"{name}: done before")
            else:
                self._say(name)
                self._train(stage)
