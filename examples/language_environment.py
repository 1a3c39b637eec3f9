"""An environment of one's own: a policy learns to guess a digit from "higher" and "lower".

Run it here, or: playout rlhf grpo --base RUN --env language_environment:Guess
"""

import playout


class Guess:
    """At most three guesses; the sooner, the better."""

    def reset(self, task, seed):
        """The first prompt; there are no tasks here, the seed says all."""
        self.number, self.turn = seed % 10, 0
        return "guess"

    def step(self, answer):
        """Reply, reward for this answer, and whether the episode is over."""
        self.turn, guess = self.turn + 1, answer.strip()
        if guess == str(self.number):
            return None, 1.5 - 0.25 * self.turn, True
        if not (guess.isascii() and guess.isdigit()):
            return None, -1.0, True
        return (" higher" if int(guess) < self.number else " lower"), 0.0, self.turn == 3


def main(folder="runs/guess", steps=200, updates=40):
    """Pretrain on how such games look, then learn from playing; returns the finished run."""
    pairs = [(a, b) for a in range(10) for b in range(10)]
    games = [f"guess {a} {hint} {b}" for a, b in pairs for hint in ("higher", "lower")]
    shape = {"size": "tiny", "quiet": True}
    base = playout.pretrain(games * 5, run=f"{folder}/base", steps=steps, length=16, **shape)
    options = {"updates": updates, "max_new_tokens": 2, "kl_coef": 0.01, "eval_episodes": 64}
    return playout.grpo(base.path, env=Guess, run=f"{folder}/learned", **options, **shape)


if __name__ == "__main__":
    print(playout.load(main().path).act(["guess"] * 8))
