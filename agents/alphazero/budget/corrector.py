"""`PlanCorrector`: how many updates fit into the minutes is corrected while they are made.

Every schedule goes by counts, never by the clock: each correction is written into run.json, with
the update from which it counts, before it takes effect, so that a resumed run equals one that was
never stopped. Of several ranks the first decides: its clock and its ratings are what the minutes go
by. Left out: the plan at the start (minutes.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from playout.agents.alphazero.budget.fit import RATING_SHARE
from playout.agents.alphazero.trainer import AlphaZeroTrainer
from playout.agents.runs import ranks
from playout.agents.runs.directory import RunDir

CORRECTIONS = (0.4, 0.7, 0.9)  # shares of the updates after which the plan is corrected, ...
# ... of games whose speed was looked at for a moment only; what was measured by whole updates is
# nearer to the truth from the start.
ADAPTED_CORRECTIONS = (0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98)
MAX_CORRECTION_FACTOR = (
    1.5  # A correction is by so much at most, so that no schedule turns back by much
)
CORRECTED_SHARE = 0.97  # of the minutes are planned for then


def seconds_before(run: RunDir) -> float:
    """Seconds that the loop has taken until the checkpoint from which a run goes on."""
    checkpoint = run.find()
    return 0.0 if checkpoint is None else float(checkpoint.info.get("elapsed", 0.0))


def corrector_for(
    run: RunDir, minutes: float, trainer: AlphaZeroTrainer, eval_every: int, ratings: int
) -> PlanCorrector:
    """The corrector that suits a run's preset, rated as `rating_schedule` says."""
    adapts = run.record.get("preset", {}).get("adapts")
    return PlanCorrector(
        run,
        minutes,
        trainer,
        eval_every=eval_every,
        evaluations=0 if eval_every else ratings,
        corrections=ADAPTED_CORRECTIONS if adapts else CORRECTIONS,
        rating_seconds=RATING_SHARE * 60 * minutes / ratings if ratings else 0.0,
    )


class PlanCorrector:
    """A callback of the loop that corrects how many updates fit into the minutes.

    It also tells the trainer when its training is going to end, for people to see.

    Args:
        run: whose record holds the plan; must have been planned by `updates_for`, and says how much
            of the minutes goes to what is outside of the loop.
        minutes: the budget.
        trainer: gets the corrections that an earlier process made.
        eval_every: updates between evaluations; 0: there are as many as `evaluations` says.
        evaluations: of the whole run, however many updates it becomes; the last one ends it.
        corrections: shares of the updates after which the plan is corrected.
        rating_seconds: what an evaluation is expected to take before one has been seen.
    """

    def __init__(
        self,
        run: RunDir,
        minutes: float,
        trainer: AlphaZeroTrainer,
        *,
        eval_every: int = 0,
        evaluations: int = 0,
        corrections: Sequence[float] = CORRECTIONS,
        rating_seconds: float = 0.0,
    ) -> None:
        self.rating_seconds = rating_seconds
        self.run, self.corrections = run, corrections
        self.eval_every, self.evaluations = eval_every, evaluations
        outside = float(run.record["budget"].get("outside", 0.0))
        self.seconds = minutes * 60.0 * CORRECTED_SHARE - outside
        self._begun: float | None = None  # elapsed time before the first update seen
        self._update_seconds: list[float] = []  # of self-play and learning alone
        trainer.plan += [(int(start), int(total)) for start, total in self._made()]
        trainer.expect_end(self.seconds - seconds_before(run))

    def _made(self) -> list[list[int]]:
        return list(self.run.record["budget"].get("corrections", []))

    def __call__(self, trainer: AlphaZeroTrainer, metrics: dict[str, float]) -> None:
        """After an update: corrects the plan where it is time to."""
        if "time/selfplay_s" not in metrics:  # how long it took says nothing of those to come
            self._make_room(trainer)
            return
        seconds = metrics["time/selfplay_s"] + metrics["time/train_s"]
        elapsed = metrics["time/elapsed"]
        if self._begun is None:
            self._begun = elapsed - seconds - sum(trainer.evaluation_seconds)
        self._update_seconds.append(seconds)
        # Room for self-play (`_make_room`) is made from the beginning, and is no correction.
        made, (done, total) = [one for one in self._made() if one[0] > 0], trainer.progress
        recent = max(4, total // 20)  # updates that tell how long one takes by now
        latest = self._update_seconds[-recent:]
        ratings = trainer.evaluation_seconds
        # With saving, which is spread over all updates.
        overhead = (elapsed - self._begun - sum(ratings)) / sum(self._update_seconds)
        each = sum(latest) / len(latest) * overhead
        rated = ratings[-1] if ratings else self.rating_seconds
        left = max(1, self.evaluations - trainer.evaluation.count) if self.evaluations else 0

        def cost(updates: int) -> float:
            often = -(-updates // self.eval_every) if self.eval_every else left * (updates > 0)
            return updates * each + often * rated

        planned = total
        if len(made) < len(self.corrections):
            more = round((self.seconds - elapsed) / each)
            while more > 1 and cost(more) > self.seconds - elapsed + each / 2:
                more -= 1
            least = round(total / MAX_CORRECTION_FACTOR)
            most = round(total * MAX_CORRECTION_FACTOR)
            planned = max(done + 1, min(max(done + more, least), most))
            due = done >= self.corrections[len(made)] * total and len(latest) == recent
            if due and not trainer.finished:
                planned = ranks.first(planned)
                self._correct(trainer, done, planned)
        trainer.expect_end(cost(planned - done))

    def _make_room(self, trainer: AlphaZeroTrainer) -> None:
        """Plans self-play after the updates of recorded games: what was measured is its alone."""
        if not self._made():
            self._correct(trainer, 0, trainer.progress[1] + trainer.recorded.updates)

    def _correct(self, trainer: AlphaZeroTrainer, done: int, planned: int) -> None:
        """From the update after `done` on there are `planned` in all."""
        record, made = self.run.record["budget"], [*self._made(), [done, planned]]
        self.run.update(budget={**record, "corrections": made})
        trainer.plan.append((done, planned))
