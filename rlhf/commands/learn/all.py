"""Run every stage in order, from raw text to a policy that people prefer, with a report."""

from dataclasses import dataclass
from typing import Annotated

from playout.agents.runs.options import TrainingOptions, run_options_last
from playout.rlhf.commands.options import Size
from tyro.conf import arg


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(TrainingOptions):
    """Pretrain, fine-tune, classify, fit a reward, improve by PPO and DPO, judge, report.

    Each stage has its own folder in the run. The same command again continues where it stopped.
    """

    size: Size = "small"
    """Of the model and of every stage; tiny takes minutes, small about a quarter of an hour."""
    data: Annotated[str, arg(metavar="auto|real|synthetic")] = "auto"
    """real (movie reviews, fetched), synthetic (built in), or auto: real if it can be had."""
    base: Annotated[str, arg(metavar="FOLDER", help_behavior_hint="")] = ""
    """Hugging Face folder of a pretrained model to use instead of pretraining one."""
    grpo: bool = False
    """Also improve the policy by GRPO."""
    skip: Annotated[tuple[str, ...], arg(metavar="STAGE", help_behavior_hint="")] = ()
    """Stages to leave out: classify, dpo, best-of-n."""


def main(command: Command) -> int:
    """Run the pipeline."""
    from playout.agents.runs import ranks
    from playout.rlhf.data.datasets import choose_source
    from playout.rlhf.stages.pipeline import Pipeline, check_pipeline
    from playout.rlhf.stages.run import discarded_unused, mark_finished, open_stage, same_again
    from playout.rlhf.stages.sizes import recipe

    recipe(command.size)
    command = same_again(command)
    if command.resume is None:
        check_pipeline(base=command.base, skip=command.skip)
    run = open_stage(command, "all", lambda: {"material": choose_source(command.data)})
    source = run.config["material"]
    if not command.quiet and ranks.is_first():
        words = "built-in made-up reviews" if source == "synthetic" else "fetched real text"
        print(f"size {command.size}, working on {words}, in {run.path}", flush=True)
    with discarded_unused(run, command):
        pipeline = Pipeline(
            run,
            size=command.size,
            data=source,
            machine=command,
            quiet=command.quiet,
            base=command.base,
            skip=command.skip,
            grpo=command.grpo,
        )
    pipeline()
    mark_finished(run, quiet=command.quiet)
    return 0
