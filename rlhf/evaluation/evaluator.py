"""How a policy does on held-out prompts: learned reward, independent judge, KL, length, samples.

One measuring serves every stage that improves a policy, so their points lie on the same axes.
The same prompts and random numbers are used each time. Nothing here trains.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from playout.agents.runs.devices import fetch, pack_to_device
from playout.errors import DataError
from playout.rlhf.data.conversations import prompt_text
from playout.rlhf.data.messages import Prompt
from playout.rlhf.evaluation.samples import write_samples
from playout.rlhf.evaluation.wording import distinct_share, repeated_share
from playout.rlhf.generation.conversation import Truncate
from playout.rlhf.generation.responses import Responses, sample_responses
from playout.rlhf.generation.sampling import SamplingConfig
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.reference import Reference, sequence_logprobs
from playout.rlhf.model.transformer import Transformer
from playout.rlhf.online.episode import Episode
from playout.rlhf.online.rewards import (
    RewardFunction,
    RewardInputs,
    checked_rewards,
    faults_of_rewards,
)
from torch import Tensor

__all__ = ["Evaluator", "PolicyEvaluator", "deviation"]

SHOWN = 16
KL_COEF = 0.1  # by which answers of methods without a coefficient of their own are compared


def deviation(values: Tensor) -> Tensor:
    """The standard deviation of [N] numbers; nan of a single one, of which torch would warn."""
    return values.std() if len(values) > 1 else values.new_tensor(float("nan"))


class Evaluator(Protocol):
    """What a trainer asks to measure its policy."""

    def metrics(
        self,
        model: Transformer,
        reference: Reference,
        *,
        folder: Path | None = None,
        step: int = 0,
        kl_coef: float = 0.1,
    ) -> dict[str, float]:
        """Numbers under eval/, the objective among them."""


@dataclass(frozen=True, slots=True)
class PolicyEvaluator:
    """Prompts to answer and the scorers of the answers."""

    tokenizer: Tokenizer
    prompts: Sequence[Prompt]
    reward: RewardFunction
    judge: RewardFunction | None = None
    """An independent scorer that nothing learned from; none if None."""
    max_new_tokens: int = 32
    temperature: float = 1.0
    stop: Sequence[str] = ()
    """Texts that end an answer."""
    seed: int = 1
    dtype: torch.dtype = torch.float32
    tasks: Sequence[Any] | None = None
    """What belongs to each prompt, for reward functions that ask for it."""
    on_failure: str = "stop"
    """With skip, answers to which the reward gives no number are left out of its means."""
    truncate: Truncate = "error"
    """What is cut of a prompt that leaves no room for an answer."""

    def greedy(self, model: Transformer) -> Responses:
        """The likeliest answers to the prompts that are shown."""
        return sample_responses(
            model,
            self.tokenizer,
            self.prompts[:SHOWN],
            max_new_tokens=self.max_new_tokens,
            seed=self.seed,
            dtype=self.dtype,
            sampling=SamplingConfig(0.0),
            stop=self.stop,
        )

    def respond(self, model: Transformer, *, draw: int = 0) -> Responses:
        """Answers to all prompts; `draw` numbers further answers to the same prompts."""
        count = len(self.prompts)
        return sample_responses(
            model,
            self.tokenizer,
            self.prompts,
            max_new_tokens=self.max_new_tokens,
            seed=self.seed,
            dtype=self.dtype,
            sampling=SamplingConfig(self.temperature),
            stop=self.stop,
            streams=range(draw * count, (draw + 1) * count),
            truncate=self.truncate,
        )

    def score(self, responses: Responses) -> dict[str, Tensor]:
        """[N] rewards, NaN where there is none, and what the judge says."""
        tasks = self.tasks if self.tasks is not None else [None] * len(responses.prompts)
        episodes = [
            Episode(task=task, seed=0, prompt=prompt, answers=[response])
            for task, prompt, response in zip(
                tasks, responses.prompts, responses.responses, strict=True
            )
        ]
        found = {"reward": self._rewards(episodes)}
        if self.judge is not None:
            found["judge"] = checked_rewards(self.judge, RewardInputs.of(episodes))
        return found

    def _rewards(self, episodes: Sequence[Episode]) -> Tensor:
        try:
            return checked_rewards(self.reward, RewardInputs.of(episodes))
        except DataError:
            if self.on_failure == "stop":
                raise
            faults = faults_of_rewards(self.reward, episodes)
            if all(faults):
                raise
        found = torch.full((len(episodes),), float("nan"))
        good = [row for row, fault in enumerate(faults) if not fault]
        found[good] = checked_rewards(self.reward, RewardInputs.of([episodes[n] for n in good]))
        return found

    @torch.no_grad()
    def measure(
        self,
        model: Transformer,
        reference: Reference,
        *,
        folder: Path | None = None,
        step: int = 0,
    ) -> dict[str, float]:
        """Means over the prompts; the first answers are written to `folder`/samples.

        Args:
            model: The policy.
            reference: For KL in nats a response.
            folder: Of the run; no table if None.
            step: Names the table.
        """
        answers = self.respond(model)
        scores = self.score(answers)
        parts = [answers.obs, answers.actions, answers.valid]
        obs, actions, valid = pack_to_device(parts, model.device)
        logprobs, entropies, _ = sequence_logprobs(
            model, obs, actions, valid, temperature=self.temperature, dtype=self.dtype
        )
        theirs = reference.logprobs(obs, actions, valid, temperature=self.temperature)
        kl = (logprobs - theirs).sum(1)
        likeliest = self.greedy(model)
        if folder is not None:
            shown = {**scores, "kl": kl.cpu()}
            write_samples(
                folder,
                step,
                [prompt_text(prompt) for prompt in answers.prompts[:SHOWN]],
                answers.responses[:SHOWN],
                {name: column[:SHOWN].tolist() for name, column in shown.items()},
                greedy=likeliest.responses,
            )
        ended = answers.generation.finished.cpu()
        known = ~scores["reward"].isnan()
        found: dict[str, Tensor] = {
            **{name: column[known].mean() for name, column in scores.items()},
            **{f"{name}_std": deviation(column[known]) for name, column in scores.items()},
            "kl": kl.mean(),
            "length": answers.generation.lengths.float().mean(),
            "entropy": entropies[valid].mean(),
            "ended": ended.float().mean(),
        }
        if (ended & known).any():
            found["reward_ended"] = scores["reward"][ended & known].mean()
        return {
            **fetch({name: value.to(model.device) for name, value in found.items()}),
            "distinct_words": distinct_share(answers.responses),
            "greedy_distinct_words": distinct_share(likeliest.responses),
            "greedy_repeated": repeated_share(likeliest.responses),
        }

    def metrics(
        self,
        model: Transformer,
        reference: Reference,
        *,
        folder: Path | None = None,
        step: int = 0,
        kl_coef: float = KL_COEF,
    ) -> dict[str, float]:
        """What `measure` finds under eval/, and the objective: reward less `kl_coef` times KL."""
        found = self.measure(model, reference, folder=folder, step=step)
        found["objective"] = found["reward"] - kl_coef * found["kl"]
        return {f"eval/{name}": value for name, value in found.items()}
