"""Run every stage in order, from raw text to a policy that people prefer, with a report."""

import dataclasses
from dataclasses import dataclass

from playout.agents.runs.options import TrainingOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(TrainingOptions):
    """Pretrain, fine-tune, classify, fit a reward, improve by PPO and DPO, judge, report.

    Each stage has its own folder in the run. The same command again continues where it stopped.
    """

    size: str = "small"
    """tiny (minutes), small (about half an hour), base or large."""
    data: str = "auto"
    """real (fetched on demand), synthetic (built in), or auto: real if it can be had."""
    base: str = ""
    """Hugging Face folder of a pretrained model to use instead of pretraining one."""
    grpo: bool = False
    """Also improve the policy by GRPO."""
    skip: tuple[str, ...] = ()
    """Stages to leave out: classify, dpo, best-of-n."""
    dtype: str = "auto"
    """float32, bfloat16 or auto."""


def main(command: Command) -> int:
    """Run the pipeline."""
    from playout.agents.runs.directory import RunDir
    from playout.rlhf.data.splits import resolve
    from playout.rlhf.pipeline import Pipeline
    from playout.rlhf.sizes import recipe
    from playout.rlhf.stage import finish, start

    recipe(command.size)
    if command.run is not None and command.resume is None and RunDir.is_run(command.run):
        # The same command again means: go on.
        command = dataclasses.replace(command, resume=command.run, run=None)
    run = start(command, "all", lambda: {"material": resolve(command.data)})
    material = run.config["material"]
    if not command.quiet:
        words = "built-in made-up reviews" if material == "synthetic" else "fetched real text"
        print(f"size {command.size}, working on {words}, in {run.path}", flush=True)
    pipeline = Pipeline(
        run,
        size=command.size,
        data=material,
        dtype=command.dtype,
        quiet=command.quiet,
        base=command.base,
        skip=command.skip,
        grpo=command.grpo,
        say=(lambda text: None) if command.quiet else _say,
    )
    pipeline()
    finish(run)
    return 0


def _say(text: str) -> None:
    print(text, flush=True)
