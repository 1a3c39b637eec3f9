"""Compare a policy with another: by the reward, by an independent judge, or by you."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from playout.rlhf.commands.options import ModelOptions
from tyro.conf import Positional, arg


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(ModelOptions):
    """Win rates of POLICY against OPPONENT on held-out prompts."""

    policy: Annotated[Positional[Path], arg(metavar="POLICY")]
    """Run of a stage, or of a whole pipeline (its rlhf stage then meets its sft stage)."""
    opponent: Annotated[Positional[Path | None], arg(metavar="OPPONENT")] = None
    """Run of the policy to compare with; by default the one that POLICY started from."""
    reward: str = ""
    """Run of a reward stage, or module:function; by default the one that POLICY learned from."""
    prompts: str = ""
    """File of prompts; by default beginnings of held-out reviews."""
    num_prompts: int = 256
    """At most so many."""
    human: bool = False
    """Ask you instead: two answers without names, in random order."""
    votes: Path | None = None
    """With --human: file of votes, as `reward --preferences` reads them; by default in POLICY."""
    json: Annotated[Path | None, arg(metavar="OUT")] = None
    """Write the result here."""
    seed: int = 0
    """Of the answers and of the order of the sides."""
    max_new_tokens: int = 0
    """Longest response; 0 takes that of the run."""


def main(command: Command) -> int:
    """Run the command."""
    from playout.agents.runs.devices import resolve_device
    from playout.agents.runs.reporting import write_json
    from playout.own_code import trust_modules
    from playout.rlhf.evaluation.comparison import comparison_of
    from playout.rlhf.evaluation.judge import compare_policies, human_votes
    from playout.rlhf.stages.threads import use_threads

    trust_modules(command.reward)  # whoever names a function means it
    use_threads(command.threads)
    found = comparison_of(
        command.policy,
        opponent=command.opponent,
        reward=command.reward,
        prompts=command.prompts,
        num_prompts=command.num_prompts,
        seed=command.seed,
        max_new_tokens=command.max_new_tokens,
        device=resolve_device(command.device),
        dtype=command.dtype,
        weights=command.weights,
    )
    result: dict[str, Any]
    if command.human:
        result = {
            "person": human_votes(
                found.evaluator.prompts,
                found.evaluator.respond(found.policy).responses,
                found.evaluator.respond(found.opponent, draw=1).responses,
                votes=command.votes or found.folder / "votes.jsonl",
                seed=command.seed,
            )
        }
    else:
        result = compare_policies(found.policy, found.opponent, found.evaluator)
    for name, row in result.items():
        if not row["prompts"]:
            print(f"by {name}: no votes yet")
            continue
        low, high = row["interval"]
        means = ""
        if "mean" in row:
            means = f", mean {row['mean']:.3f} against {row['opponent_mean']:.3f}"
        print(
            f"by {name}: wins {100 * row['win_rate']:.1f} % of {row['prompts']} "
            f"(95 %: {100 * low:.1f} to {100 * high:.1f}){means}"
        )
    if command.json is not None:
        write_json(command.json, result)
    return 0
