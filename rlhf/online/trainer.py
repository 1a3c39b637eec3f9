"""What PPO and GRPO on language share: rounds of episodes, scoring and `ppo_update`.

Which tasks a round has, and its random numbers, depend on its number alone; prompts are the
environment of one turn. In a job of several ranks each plays and learns from whole groups of a
round. Where advantages come from is what ppo.py and grpo.py add; settings are config.py's, episodes
engine.py's, the rollout is episodes.py's, the update agents/ppo/update.py's.
"""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from playout.agents.ppo.loss import LossVariant
from playout.agents.ppo.update import policy_optimizer, ppo_update
from playout.agents.runs import ranks
from playout.agents.runs.checkpoint.durable_io import replace_file
from playout.agents.runs.trainer import Trainer
from playout.errors import ConfigError, DataError, SharedFault
from playout.rlhf.data.batches import batch_of
from playout.rlhf.environments.environment import EnvironmentFactory
from playout.rlhf.environments.prompts import PROMPTS, PromptTask, episode_seed, prompt_environment
from playout.rlhf.evaluation.evaluator import Evaluator
from playout.rlhf.generation.conversation import conversation_format
from playout.rlhf.generation.sampling import SamplingConfig
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.adapters.held import learned_state, load_learned
from playout.rlhf.model.reference import Reference
from playout.rlhf.model.sharding import gathered
from playout.rlhf.model.transformer import Transformer, pick_dtype
from playout.rlhf.online.config import OnlineConfig
from playout.rlhf.online.engine import EpisodeEngine, EpisodeRequest, all_failed, describe
from playout.rlhf.online.episode import Episode, environment_metrics
from playout.rlhf.online.episodes import (
    Episodes,
    episode_metrics,
    no_episodes,
    score_episodes,
    score_or_mark,
)
from playout.rlhf.online.policy import LanguagePolicy
from playout.rlhf.online.rewards import RewardFunction, WeightedRewards
from playout.rlhf.supervised.reward import RewardModel
from torch import nn

__all__ = ["OnlineTrainer", "reward_models"]

GROUPS = "groups of answers a round (--batch)"


def reward_models(reward: RewardFunction | None) -> list[RewardModel]:
    """The models in a reward, of one or of several functions."""
    parts = reward.functions if isinstance(reward, WeightedRewards) else [reward]
    return [part for part in parts if isinstance(part, RewardModel)]


class OnlineTrainer(Trainer):
    """Rounds of sampling, scoring and `ppo_update`; `update` is a subclass's."""

    unit, best_metric = "responses", "eval/objective"

    survives_faults = True

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        prompts: Sequence[PromptTask],
        reward: RewardFunction | None,
        config: OnlineConfig,
        *,
        seed: int,
        environment: EnvironmentFactory | None = None,
        evaluator: Evaluator | None = None,
        folder: Path | None = None,
        weights: torch.dtype = torch.float32,
    ) -> None:
        """Set up.

        Args:
            model: The fine-tuned policy to improve; with adapters, only these learn, and switching
                them off gives the reference. It may be cut over ranks (`shard`).
            tokenizer: Its tokenizer.
            prompts: To answer in training: texts, conversations, or rows with a `prompt` whose
                other fields reward functions can ask for. Not used with an environment.
            reward: Of whole texts, or of what its parameters name; None only with an environment.
            config: Settings.
            seed: Of all sampling.
            environment: What the policy acts in, in place of prompts.
            evaluator: Measures on held-out prompts or tasks; no evaluation if None.
            folder: The run, for tables of samples; none if None.
            weights: Of the reference's copy, float32 or bfloat16.
        """
        if environment is None and not prompts:
            raise DataError("there are no prompts to answer")
        self.in_environment = environment is not None and environment.name != PROMPTS
        if reward is None and not self.in_environment:
            raise ConfigError("a policy that answers prompts needs a reward")
        self.environment = prompt_environment(prompts) if environment is None else environment
        self.tasks = self.environment.tasks("train")
        self.tokenizer, self.reward = tokenizer, reward
        self.config, self.seed, self.evaluator, self.folder = config, seed, evaluator, folder
        ranks.share(self._groups, GROUPS)
        self.ppo = config.ppo_config()
        self.dtype = pick_dtype(config.dtype, model.device)
        self.reference = Reference(model, dtype=self.dtype, weights=weights)
        self.policy = self.make_policy(model)
        self.optimizer = policy_optimizer(self.policy, self.ppo)
        self.evaluates_together = self.policy.sharded
        self.updates, self.kl_coef, self.failures = 0, config.kl_coef, 0
        if not self.in_environment:
            self._check_room()

    def _check_room(self) -> None:
        """Refuse prompts that leave no room for an answer before anything is computed."""
        form, longest = conversation_format(self.tokenizer), self.config.max_new_tokens
        context = self.model.config.max_position_embeddings
        for number, task in enumerate(self.tasks or ()):
            count = len(form.begin(task["prompt"], special=True))
            if count + longest > context:
                raise ConfigError(
                    f"prompt {number} has {count} tokens; with {longest} new ones it does not fit "
                    f"the context of {context}"
                )

    @abstractmethod
    def make_policy(self, model: Transformer) -> LanguagePolicy:
        """The model with what else learns."""

    @property
    def model(self) -> Transformer:
        """The policy's Transformer."""
        return self.policy.model

    @property
    def networks(self) -> list[nn.Module]:
        """The policy, what learns beside it, its reference and the reward models."""
        asked = [one.model for one in reward_models(self.reward)]
        return [self.policy.model, self.policy, self.reference.model, *asked]

    @property
    def progress(self) -> tuple[int, int]:
        """Responses made and planned."""
        return self.updates * self.config.batch, self.config.updates * self.config.batch

    @property
    def group(self) -> int:
        """Episodes of one task and seed."""
        return 1

    @property
    def _groups(self) -> int:
        """Groups a round, of all ranks."""
        return self.config.batch // self.group

    @property
    def score_kl_coef(self) -> float:
        """What KL costs in the score."""
        return self.kl_coef

    @property
    def cut_penalty(self) -> float:
        """What an answer that was cut off costs."""
        return self.config.cut_penalty(in_environment=self.in_environment)

    @property
    def loss_variant(self) -> LossVariant | None:
        """What is changed in the loss of the update; None where nothing."""
        return None

    def collect(self, number: int, *, whiten: bool = False) -> Episodes:
        """Round `number`'s episodes, scored: `group` consecutive ones of a task and seed.

        Raises:
            SharedFault: An environment failed, and failures stop the run or nothing is left.
            DataError: The reward function failed, and failures stop the run.
        """
        config, group = self.config, self.group
        with gathered(self.model):
            engine = self._engine()
            played = self._play(engine, number)
        skip = config.on_failure == "skip"
        given = score_or_mark(self.reward, played) if skip else None
        kept = self._without_failures(played, number)
        if not kept:  # all failed here, and other ranks go on
            return no_episodes(
                self.policy, self.reference, whiten=whiten, pad=self.tokenizer.pad_id
            )
        found = score_episodes(
            self.policy,
            self.reference,
            [played[index] for index in kept],
            self.reward,
            given=given,
            kl_coef=self.score_kl_coef,
            estimator=config.kl_estimator,
            missing_end=self.cut_penalty,
            whiten=whiten,
            pad=self.tokenizer.pad_id,
        )
        of_task = torch.tensor(kept)[found.rows.episode] // group
        # A role is compared with the same role of the same task.
        found.groups = of_task * found.rows.num_roles + found.rows.role
        found.seconds = {"model": engine.model_seconds, "environment": engine.environment_seconds}
        return found

    def _play(self, engine: EpisodeEngine, number: int) -> list[Episode]:
        """This rank's episodes of a round, whole groups; behind them may be some that failed."""
        return engine.run(self._requests(number))

    def _engine(self) -> EpisodeEngine:
        config = self.config
        return EpisodeEngine(
            self.model,
            self.tokenizer,
            limits=config.limits(),
            seed=self.seed,
            dtype=self.dtype,
            sampling=SamplingConfig(config.temperature),
            stop=config.stop,
            constrained=config.constrained,
            as_user=self.in_environment and not config.plain_text,
        )

    def _requests(self, number: int) -> list[EpisodeRequest]:
        """This rank's episodes of a round: tasks and seeds by group, a stream for each episode."""
        config, group, groups = self.config, self.group, self._groups
        tasks: list[Any] = [None] * groups
        if self.tasks is not None:
            chosen = batch_of(len(self.tasks), groups, number, seed=self.seed)
            # With few tasks a round has each several times; every answer has its own stream.
            chosen = (chosen * -(-groups // len(chosen)))[:groups]
            tasks = [self.tasks[i] for i in chosen]
        own = ranks.share(groups, GROUPS)
        seeds = [episode_seed(self.seed, number * groups + place) for place in range(groups)]
        return [
            EpisodeRequest(
                self.environment,
                tasks[row // group],
                seeds[row // group],
                number * config.batch + row,
            )
            for row in range(own.start * group, own.stop * group)
        ]

    def _without_failures(self, played: Sequence[Episode], number: int) -> list[int]:
        """Which episodes can be learned from; the others are written down or stop the run.

        On all ranks alike: one that fails stops them all.
        """
        failed = [episode for episode in played if episode.error]
        total, of = map(round, ranks.sums([len(failed), len(played)]))
        self.failures = total
        if total:
            text = "".join(describe(episode) + "\n" for episode in failed)
            told = b"".join(ranks.everybody(text.encode()))
            fault = told.decode().split("\n", 1)[0]
            if self.config.on_failure == "stop":
                raise SharedFault(fault)
            if self.folder is not None and ranks.is_first():
                folder = self.folder / "failures"
                folder.mkdir(exist_ok=True)
                replace_file(folder / f"{number:06d}.txt", told)
            if total == of:
                raise SharedFault(all_failed(of, f"of round {number}", fault))
        return [index for index, episode in enumerate(played) if not episode.error]

    def learn(self, episodes: Episodes) -> dict[str, float]:
        """Gradient steps on a round whose advantages are known; ends the round."""
        config, ppo = self.config, self.ppo
        left = 1.0 - self.updates / config.updates if ppo.anneal_lr else 1.0
        self.optimizer.lr = ppo.learning_rate * left
        # A generator's seed has 64 bits: what does not fit above comes in below.
        order = ((self.seed << 32) ^ (self.seed >> 32)) + self.updates
        generator = torch.Generator().manual_seed(order % 2**64)
        learned = ppo_update(
            self.policy,
            self.optimizer,
            episodes.rollout,
            ppo,
            generator=generator,
            variant=self.loss_variant,
        )
        self.updates += 1
        return {
            **episode_metrics(episodes, self.score_kl_coef),
            **(self._in_environment(episodes) if self.in_environment else {}),
            **{_TRL_NAMES[name]: value for name, value in learned.items() if name in _TRL_NAMES},
            "objective/kl_coef": self.kl_coef,
            "lr": self.optimizer.lr,
            "episode": float(self.updates * config.batch),
        }

    def _in_environment(self, found: Episodes) -> dict[str, float]:
        """What happened in the environments of a round."""
        return {
            **ranks.merge_metrics(
                environment_metrics(found.episodes) if found.episodes else {},
                weight=len(found.episodes),
            ),
            "env/failures": float(self.failures),
            **ranks.merge_metrics({f"time/{name}": t for name, t in found.seconds.items()}),
        }

    def evaluate(self) -> dict[str, float]:
        """Reward, judge and KL on held-out prompts, and a table of samples."""
        evaluator = self.evaluator
        if evaluator is None:
            return {}

        def measured() -> dict[str, float]:
            # The coefficient at the start, so that evaluations of one run can be compared.
            return evaluator.metrics(
                self.model,
                self.reference,
                folder=self.folder,
                step=self.updates,
                kl_coef=self.config.kl_coef,
            )

        if not self.policy.sharded:
            return measured()
        with gathered(self.model), self.reference.whole():
            return ranks.by_first(measured)

    def digest(self) -> str:
        """What ranks must begin with alike; of rows that each has for itself there is nothing."""
        return f"round {self.updates}" if self.policy.sharded else super().digest()

    def weights_digest(self, state: dict[str, Any]) -> str:
        """What ranks must save alike; of rows that each has for itself there is nothing."""
        return "" if self.policy.sharded else super().weights_digest(state)

    def headline(self, metrics: dict[str, float]) -> dict[str, str]:
        """Score, KL, judge or turns."""
        names = {"objective/scores": "score", "objective/kl": "KL", "eval/judge": "judge"}
        if metrics.get("env/turns", 1.0) != 1.0:
            names["env/turns"] = "turns"
        return {name: f"{metrics[key]:.2f}" for key, name in names.items() if key in metrics}

    def state_dict(self) -> dict[str, Any]:
        """Weights, moments, rounds; the reference is the model that was given."""
        return {
            "model": learned_state(self.policy),
            "optimizer": self.optimizer.state_dict(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        load_learned(self.policy, state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.updates = int(state["updates"])


# The update's metrics under TRL's names.
_TRL_NAMES = {
    "train/approx_kl": "policy/approxkl_avg",
    "train/clip_fraction": "policy/clipfrac_avg",
    "train/policy_gradient_loss": "loss/policy_avg",
    "train/value_loss": "loss/value_avg",
    "train/explained_variance": "val/explained_variance",
    "train/grad_norm": "train/grad_norm",
}
