"""Run every stage in order, from raw text to a policy that people prefer, with a report."""

from dataclasses import dataclass
from typing import Annotated

from playout.agents.runs.options import TrainingOptions, run_options_last
from playout.rlhf.commands.options import Size
from playout.rlhf.stages.paths import located, whole
from tyro.conf import arg


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(TrainingOptions):
    """Pretrain, fine-tune, classify, fit a reward, improve by PPO and DPO, judge, report.

    A chat model (--base) goes by votes instead: a reward model of what people prefer, PPO, and a
    judge that other people's votes taught. Each stage has its own folder in the run. The same
    command again continues where it stopped.
    """

    size: Size = "small"
    """Of the model and of every stage; tiny takes minutes, small about a quarter of an hour."""
    data: Annotated[str, arg(metavar="auto|real|synthetic|llmfao|hub:NAME|FILE")] = "auto"
    """real (movie reviews, fetched), synthetic (built in), llmfao (votes on answers of chat models,
    fetched), hub:NAME (such as hub:HuggingFaceH4/ultrafeedback_binarized:train_prefs) or a file of
    votes; auto: llmfao for a chat model, else real if it can be had."""
    base: Annotated[str, arg(metavar="FOLDER", help_behavior_hint="")] = ""
    """Hugging Face folder of a pretrained model to use instead of pretraining one; smollm2 is
    fetched."""
    grpo: bool = False
    """Also improve the policy by GRPO."""
    skip: Annotated[tuple[str, ...], arg(metavar="STAGE", help_behavior_hint="")] = ()
    """Stages to leave out: classify, dpo, best-of-n."""

    kept, found = staticmethod(whole), staticmethod(located)


def main(command: Command) -> int:
    """Run the pipeline."""
    from typing import Any

    from playout.agents.runs import ranks
    from playout.errors import ConfigError
    from playout.rlhf.data.datasets import choose_source
    from playout.rlhf.model.published import named_base
    from playout.rlhf.stages.pipeline import Pipeline, check_pipeline
    from playout.rlhf.stages.run import discarded_unused, mark_finished, open_stage, same_again
    from playout.rlhf.stages.sizes import recipe
    from playout.rlhf.stages.votes import MATERIAL, VotesPipeline, check_votes, votes_meant

    recipe(command.size)
    command = same_again(command)
    base = named_base(command.base)
    if command.resume is None:
        check_pipeline(base=base, skip=command.skip)

    def derive() -> dict[str, Any]:
        votes = votes_meant(command.data, base)
        if not votes:
            return {"material": choose_source(command.data)}
        if command.skip:
            raise ConfigError(f"--skip {command.skip[0]}: on votes there is no such stage")
        check_votes(votes, base=base, size=command.size)
        return {"material": MATERIAL, "votes": votes}

    run = open_stage(command, "all", derive)
    source = run.config["material"]
    words = {MATERIAL: "votes of people", "synthetic": "built-in made-up reviews"}
    if not command.quiet and ranks.is_first():
        on = words.get(source, "fetched real text")
        print(f"size {command.size}, working on {on}, in {run.path}", flush=True)
    common: dict[str, Any] = {"machine": command, "quiet": command.quiet, "grpo": command.grpo}
    common |= {"size": command.size, "base": base}
    with discarded_unused(run, command):
        pipeline = (
            VotesPipeline(run, votes=run.config["votes"], **common)
            if source == MATERIAL
            else Pipeline(run, data=source, skip=command.skip, **common)
        )
    pipeline()
    mark_finished(run, quiet=command.quiet)
    return 0
