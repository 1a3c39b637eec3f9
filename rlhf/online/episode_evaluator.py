"""How a policy does in an environment on held-out tasks: reward, how episodes end, KL, whole texts.

Episodes are sampled as in training and, once more, by the likeliest tokens. The same tasks, seeds
and random numbers are used each time. What prompts without an environment need is
evaluation/evaluator.py's.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from playout.agents.runs.checkpoint.durable_io import replace_file
from playout.agents.runs.devices import fetch, pack_to_device, to_device
from playout.errors import ConfigError, DataError, EnvironmentFault
from playout.rlhf.environments.checked import CheckedEnvironment, kept_process
from playout.rlhf.environments.environment import EnvironmentFactory
from playout.rlhf.environments.prompts import episode_seed
from playout.rlhf.evaluation.evaluator import deviation
from playout.rlhf.evaluation.samples import write_samples
from playout.rlhf.generation.decoder import Decoder
from playout.rlhf.generation.sampling import SamplingConfig
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.reference import Reference, row_slices, sequence_logprobs
from playout.rlhf.model.transformer import Transformer
from playout.rlhf.online.config import EpisodeLimits
from playout.rlhf.online.engine import EpisodeEngine, EpisodeRequest, all_failed, describe
from playout.rlhf.online.episode import Episode, environment_metrics
from playout.rlhf.online.episodes import score_or_mark, score_texts
from playout.rlhf.online.rewards import RewardFunction
from playout.rlhf.online.rows import lay_out

__all__ = ["EpisodeEvaluator"]

SHOWN = 16
TRIED = 8  # episodes of which one has to begin, where those that fail are skipped


@dataclass(frozen=True, slots=True)
class EpisodeEvaluator:
    """Tasks to be played, and how."""

    tokenizer: Tokenizer
    factory: EnvironmentFactory
    count: int
    """Episodes a measurement."""
    limits: EpisodeLimits
    reward: RewardFunction | None = None
    """Besides what the environment gives."""
    temperature: float = 1.0
    stop: Sequence[str] = ()
    constrained: bool = False
    as_user: bool = True
    """Plain text is a user's message to a chat model."""
    on_failure: str = "stop"
    seed: int = 1
    dtype: torch.dtype = torch.float32
    tasks: Sequence[Any] | None = field(default=None)
    """Of the held-out side, found by the factory."""

    @property
    def max_new_tokens(self) -> int:
        """Longest answer."""
        return self.limits.max_new_tokens

    def requests(self) -> list[EpisodeRequest]:
        """The episodes of a measurement, the same every time; every held-out task comes in turn."""
        tasks = self.tasks
        return [
            EpisodeRequest(
                self.factory,
                None if tasks is None else tasks[number % len(tasks)],
                episode_seed(self.seed, number, "test"),
                number,
            )
            for number in range(self.count)
        ]

    def play(
        self, model: Transformer | Decoder, *, temperature: float, notes: Path | None = None
    ) -> list[Episode]:
        """The episodes as `model` plays them now.

        Args:
            model: The policy.
            temperature: Of its answers.
            notes: Where each episode's fault is written down if all fail and failures are skipped.

        Raises:
            EnvironmentFault: An environment failed and failures stop the run, or all failed.
        """
        engine = self.engine(model, temperature=temperature)
        found = engine.run(self.requests())
        good = [episode for episode in found if not episode.error]
        if len(good) < len(found) and (self.on_failure == "stop" or not good):
            faults = [describe(episode) for episode in found if episode.error]
            skip = self.on_failure == "skip"
            raise EnvironmentFault(_none_left(faults, notes) if skip else faults[0])
        return good

    def check_constrained(self) -> None:
        """Refuse to hold answers to a list where the environment never gives one.

        It is made for that within the limits that an episode holds it to.

        Raises:
            ConfigError: It has no method `answers`.
            EnvironmentFault: It cannot be made in time, or at all.
        """
        if not self.constrained:
            return
        if not self._lists_answers():
            raise ConfigError(
                f"--constrained needs an environment that lists answers, and "
                f"{self.factory.name} has no method answers"
            )

    def to_be_tried(self) -> list[EpisodeRequest]:
        """Episodes of which one has to begin: one, or some where those that fail are skipped."""
        return self.requests()[: TRIED if self.on_failure == "skip" else 1]

    def _lists_answers(self) -> bool:
        fault: EnvironmentFault | None = None
        for request in self.to_be_tried():
            made = CheckedEnvironment(self.factory, seconds=self.limits.call_seconds)
            with kept_process():
                try:
                    return made.lists_answers(request.seed)
                except EnvironmentFault as error:
                    fault = error
                finally:
                    made.close()
        assert fault is not None
        raise fault

    def engine(self, model: Transformer | Decoder, *, temperature: float) -> EpisodeEngine:
        """What plays with `model` as it is now."""
        return EpisodeEngine(
            model,
            self.tokenizer,
            limits=self.limits,
            seed=self.seed,
            dtype=self.dtype,
            sampling=SamplingConfig(temperature),
            stop=self.stop,
            constrained=self.constrained,
            as_user=self.as_user,
        )

    @torch.no_grad()
    def measure(
        self,
        model: Transformer,
        reference: Reference,
        *,
        folder: Path | None = None,
        step: int = 0,
        kl_coef: float | None = None,
    ) -> dict[str, float]:
        """Means over the episodes; the first of them are written to `folder`/samples.

        Args:
            model: The policy.
            reference: For KL in nats an episode.
            folder: Of the run; no table if None. If all episodes fail and failures are skipped,
                their faults are written to `folder`/failures.
            step: Names the table.
            kl_coef: Of the objective, the reward less so many times KL, which is left out where
                rewards are given by role; no objective if None.
        """
        decoder = Decoder(model, dtype=self.dtype)
        notes = None if folder is None else folder / "failures" / f"evaluation-{step:06d}.txt"
        sampled, reward = self._scored(decoder, self.temperature, notes)
        greedy, greedy_reward = self._scored(decoder, 0.0, notes)
        if folder is not None and step == 0:
            _tell_silent_roles([*sampled, *greedy])
        rows = lay_out(sampled, self.tokenizer.pad_id)
        obs, actions, valid, *few = pack_to_device(
            [
                *(rows.obs, rows.actions, rows.valid),
                *([] if rows.allowed is None else [rows.allowed]),
            ],
            model.device,
        )
        kl, entropy = [], []
        for part in row_slices(len(obs), 64):
            allowed = few[0][part] if few else None
            logprobs, entropies, _ = sequence_logprobs(
                model,
                *(obs[part], actions[part], valid[part]),
                temperature=self.temperature,
                allowed=allowed,
                dtype=self.dtype,
            )
            theirs = reference.logprobs(
                *(obs[part], actions[part], valid[part]),
                temperature=self.temperature,
                allowed=allowed,
            )
            kl.append((logprobs - theirs).sum(1))
            entropy.append(entropies.sum(1))
        # An episode has a row for each role.
        of = to_device(rows.episode, model.device)
        apart = torch.zeros(len(sampled), device=model.device).index_add_(0, of, torch.cat(kl))
        totals = {"reward": reward, "reward_greedy": greedy_reward}
        if folder is not None:
            self._show(folder, step, sampled, greedy, totals["reward"], apart.cpu())
        ends = [ended for episode in sampled for ended in episode.answer_ended]
        means = fetch(
            {
                "kl": apart.mean(),
                "length": float(rows.lengths.sum()) / len(sampled),
                "entropy": torch.cat(entropy).sum() / valid.sum(),
            }
        )
        found = {name: float(column.mean()) for name, column in totals.items()}
        found |= {"reward_std": float(deviation(totals["reward"])), **means}
        found["ended"] = sum(ends) / len(ends)
        for name, value in environment_metrics(sampled).items():
            found.setdefault(name.removeprefix("env/").replace("reward", "env_reward"), value)
        for name, value in environment_metrics(greedy).items():
            if name not in ("env/reward", "env/turns", "env/ended", "env/truncated"):
                found[f"{name.removeprefix('env/')}_greedy"] = value
        # What one role wins another may lose: more reward is then no better policy.
        if kl_coef is not None and not any(episode.by_role for episode in sampled):
            found["objective"] = found["reward"] - kl_coef * found["kl"]
        return found

    def _scored(
        self, model: Decoder, temperature: float, notes: Path | None
    ) -> tuple[list[Episode], torch.Tensor]:
        """Episodes, and what each brought in all, float32 [E]."""
        played = self.play(model, temperature=temperature, notes=notes)
        skip = self.on_failure == "skip"
        given, _ = (score_or_mark if skip else score_texts)(self.reward, played)
        good = [episode for episode in played if not episode.error]
        if not good:
            raise DataError(_none_left([describe(episode) for episode in played], notes))
        return good, given + torch.tensor([episode.total for episode in good])

    def _show(
        self,
        folder: Path,
        step: int,
        episodes: Sequence[Episode],
        greedy: Sequence[Episode],
        totals: torch.Tensor,
        kl: torch.Tensor,
    ) -> None:
        first = episodes[:SHOWN]
        # By their seeds, since an episode that failed is missing on one side only.
        likeliest = {episode.seed: episode.completion for episode in greedy}
        columns = {"reward": totals, "kl": kl}
        columns["turns"] = torch.tensor([float(episode.num_turns) for episode in episodes])
        write_samples(
            folder,
            step,
            [replace(episode, answers=[], replies=[]).text for episode in first],
            [episode.completion for episode in first],
            {name: column[:SHOWN].tolist() for name, column in columns.items()},
            greedy=[likeliest.get(episode.seed, "") for episode in first],
        )

    def metrics(
        self,
        model: Transformer,
        reference: Reference,
        *,
        folder: Path | None = None,
        step: int = 0,
        kl_coef: float = 0.1,
    ) -> dict[str, float]:
        """What `measure` finds, the objective too, under eval/."""
        found = self.measure(model, reference, folder=folder, step=step, kl_coef=kl_coef)
        return {f"eval/{name}": value for name, value in found.items()}


def _tell_silent_roles(episodes: Sequence[Episode]) -> None:
    """Say which roles got rewards and never answered: their names may be misspelt."""
    answered = {role for episode in episodes for role in episode.roles}
    got = {role for episode in episodes for turn in episode.role_rewards for role in turn}
    for role in sorted(got - answered):
        print(
            f"note: the role {role!r} got rewards and answered in none of {len(episodes)} episodes "
            f"({', '.join(map(repr, sorted(answered)))} did): nothing is learned from its rewards",
            file=sys.stderr,
        )


def _none_left(faults: Sequence[str], notes: Path | None) -> str:
    """What is said when all episodes of an evaluation failed, which are written down first."""
    if notes is not None:
        notes.parent.mkdir(exist_ok=True)
        replace_file(notes, "".join(fault + "\n" for fault in faults).encode())
    return all_failed(len(faults), "of an evaluation", faults[0])
