"""A policy learns to guess a hidden number from "higher" and "lower": an environment of one's own.

Run it with `python -m playout.examples.language_environment`, or train the same class from the
command line: playout rlhf grpo --base RUN --env playout.examples.language_environment:Guess
"""

import tempfile

import playout


class Guess:
    """Guess a digit in at most three turns; the sooner the better."""

    def reset(self, task, seed):
        """The question; `task` is None, since a seed says all."""
        self.number, self.turn = seed % 10, 0
        return "guess:"

    def step(self, answer):
        """Reply, reward and whether the game is over."""
        self.turn += 1
        if answer.strip() == str(self.number):
            return None, 1.5 - 0.25 * self.turn, True
        if not answer.strip().isdigit():
            return None, -0.5, True
        hint = "higher" if int(answer) < self.number else "lower"
        return f" {hint}:", 0.0, self.turn == 3


if __name__ == "__main__":
    games = [
        f"guess: {a} {hint}: {b}"
        for a in range(10)
        for b in range(10)
        for hint in ("higher", "lower")
    ]
    with tempfile.TemporaryDirectory() as folder:
        base = playout.pretrain(
            games * 20, run=f"{folder}/base", size="tiny", steps=150, context=32
        )
        options = {"size": "tiny", "updates": 60, "max_new_tokens": 3, "stop": (":",)}
        run = playout.grpo(base, env=Guess, run=f"{folder}/guess", **options)
        print(run.path)
