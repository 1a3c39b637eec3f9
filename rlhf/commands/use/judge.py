"""Compare a policy with another: by the reward, by an independent judge, or by you."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from playout.rlhf.commands.options import ModelOptions, check_numbers
from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from playout.agents.runs.directory import RunDir
    from playout.rlhf.evaluation.comparison import Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(ModelOptions):
    """Win rates of POLICY against OPPONENT on held-out prompts, or on test tasks with --env.

    A policy that learned in an environment is judged there, by the rewards of the same tasks.
    """

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
    stop: Annotated[tuple[str, ...], arg(metavar="TEXT ...")] = ()
    """Texts that end an answer; by default those of the run."""
    truncate: Literal["error", "left", "right"] = "error"
    """What is cut of a prompt that leaves no room for an answer; error stops before any is
    written."""


def main(command: Command) -> int:
    """Run the command."""
    import time

    from playout.agents.runs.devices import resolve_device
    from playout.agents.runs.reporting import must_be_writable
    from playout.own_code import trust_modules
    from playout.rlhf.evaluation.comparison import comparison_of
    from playout.rlhf.evaluation.judge import compare_policies, human_votes
    from playout.rlhf.model.threads import decoding_threads

    check_numbers(command)
    for path in (command.json, command.votes):
        if path is not None:
            must_be_writable(path)
    trust_modules(command.reward)  # whoever names a function means it
    env_run = _environment_run(command)
    if env_run is not None:
        _show({env_run.config["env"]: _in_environment(command, env_run)}, command.json)
        return 0
    found = comparison_of(
        command.policy,
        opponent=command.opponent,
        reward=command.reward,
        prompts=command.prompts,
        num_prompts=command.num_prompts,
        seed=command.seed,
        max_new_tokens=command.max_new_tokens,
        stop=command.stop,
        truncate=command.truncate,
        device=resolve_device(command.device),
        dtype=command.dtype,
        weights=command.weights,
    )
    result: dict[str, Any]
    begun = time.perf_counter()
    with decoding_threads(found.policy, len(found.evaluator.prompts), command.threads):
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
    _report(found, None if command.human else time.perf_counter() - begun)
    _show(result, command.json)
    return 0


def _report(found: Comparison, seconds: float | None) -> None:
    """How long the answers took, if that is known, and how many prompts were cut."""
    from playout.rlhf.generation.responses import encode_prompts
    from playout.rlhf.stages.run import say_all

    asked, told = found.evaluator, []
    if seconds is not None:
        told.append(f"{2 * len(asked.prompts)} answers, scored in {seconds:.1f} s")
    if asked.truncate != "error":  # else none was cut
        room = found.policy.config.max_position_embeddings - asked.max_new_tokens
        cut = sum(len(ids) > room for ids in encode_prompts(asked.tokenizer, asked.prompts))
        told += [f"{cut} prompts were cut to fit"] if cut else []
    if told:
        say_all(["; ".join(told)])


def _show(result: dict[str, Any], file: Path | None) -> None:
    """Print win rates, and write them if a file is named."""
    from playout.agents.runs.reporting import write_json

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
    if file is not None:
        write_json(file, result)


def _environment_run(command: Command) -> RunDir | None:
    """The run if its policy learned in an environment and nothing else is asked for."""
    from playout.agents.runs.directory import RunDir
    from playout.errors import ConfigError

    run = RunDir.open(command.policy)
    if not run.config.get("env") or command.reward or command.prompts:
        return None
    if command.human:
        raise ConfigError(f"{run.path} acted in {run.config['env']}, whose rewards judge it; leave "
                          "--human out, or name --prompts")  # fmt: skip
    return run


def _in_environment(command: Command, run: RunDir) -> dict[str, Any]:
    """Both policies on the same test tasks with the same seeds, by what they get there."""
    from dataclasses import replace
    from importlib import import_module

    import torch
    from playout.agents.runs.devices import resolve_device
    from playout.agents.runs.options import resumed
    from playout.agents.runs.reporting import as_word
    from playout.cli import stages
    from playout.errors import RunError
    from playout.rlhf.commands.environment_options import episode_evaluator, open_environment
    from playout.rlhf.evaluation.judge import win_rate
    from playout.rlhf.model.adapters.held import held_type
    from playout.rlhf.model.folder import load_model, model_folder
    from playout.rlhf.model.threads import decoding_threads
    from playout.rlhf.online.episodes import score_texts
    from playout.rlhf.online.rewards import load_reward, trust_reward
    from playout.rlhf.stages.bases import own_base, own_reward_models
    from playout.rlhf.stages.run import OWN_REWARD, say_all

    module = import_module(stages()[run.kind.removeprefix("rlhf.")])
    settings = resumed(module.Command, run.path, device=command.device, dtype=command.dtype)
    changes = {"max_new_tokens": command.max_new_tokens, "stop": command.stop}
    settings = replace(settings, **{name: value for name, value in changes.items() if value})
    factory = open_environment(settings)
    device, weights = resolve_device(command.device), held_type(command.weights)
    reward = None
    if settings.reward:
        trust_reward(settings.reward, run.path)
        reward = load_reward(
            own_reward_models(run, settings.reward, instead="judge where that is"),
            weights_of_rewards=settings.reward_weights,
            dtype=command.dtype,
            device=device,
            weights=weights,
        )
    elif run.config.get(OWN_REWARD):
        say_all([f"{run.path} was also rewarded by a function given from Python, which it does not "
                 "keep: judged by the environment's rewards alone"])  # fmt: skip
    policy, tokenizer = load_model(model_folder(run.path), device=device, weights=weights)
    base = str(command.opponent or "") or own_base(
        run,
        settings.base,
        ["sft", "pretrain"],
        instead=f"name another: playout rlhf judge {as_word(run.path)} OPPONENT",
    )
    other, others = load_model(base, ["sft", "pretrain"], device=device, weights=weights)
    if factory is None or not others.same_vocabulary(tokenizer):
        raise RunError(f"{base} and {run.path} do not share a tokenizer")
    totals = []
    with decoding_threads(policy, command.num_prompts, command.threads):
        evaluator = replace(
            episode_evaluator(settings, factory, policy, tokenizer, reward),
            count=command.num_prompts,
            seed=command.seed + 101,
            on_failure="stop",
        )
        for model in (policy, other):
            played = evaluator.play(model, temperature=evaluator.temperature)
            given = score_texts(reward, played)[0]
            totals.append(given + torch.tensor([episode.total for episode in played]))
    ours, theirs = totals
    means = {"mean": float(ours.mean()), "opponent_mean": float(theirs.mean())}
    return {**win_rate(ours, theirs), **means}
