"""How much of a round of episodes is spent outside the model: 64 episodes of ten turns.

    python -m playout.benchmarks.tools.episodes

A model of the size `tiny` or larger talks with an environment that does next to nothing, so that
what is left beside the model is the engine's own. Prints seconds of the model, of the environments
and of everything else, and the share that is not the model's.
"""

import argparse
import time

import torch
from playout.rlhf.data import synthetic
from playout.rlhf.environments.load import own_environment
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.transformer import Transformer, sized_config
from playout.rlhf.online.config import EpisodeLimits
from playout.rlhf.online.engine import EpisodeEngine, EpisodeRequest

TURNS = 10


class Talk:
    """Says a line of a few words after every answer."""

    def reset(self, task: None, seed: int) -> str:
        """The first line."""
        self.turn = 0
        return f"the film number {seed} began"

    def step(self, answer: str) -> tuple[str, float, bool]:
        """A line, a reward, and whether ten turns are over."""
        self.turn += 1
        return f" and then part {self.turn} was", float(len(answer)), self.turn == TURNS


def measure(size: str, rows: int, new_tokens: int) -> dict[str, float]:
    """Seconds of one round, after a short one to warm up."""
    tokenizer = Tokenizer.train(synthetic.reviews(2000), vocab_size=2048)
    tokens = {"pad_token_id": tokenizer.pad_id, "eos_token_id": tokenizer.end_id}
    shape = sized_config(size, tokenizer.vocab_size, max_position_embeddings=1024, **tokens)
    model = Transformer(shape, seed=0)
    factory = own_environment(Talk)
    found: dict[str, float] = {}
    for count in (8, rows):
        engine = EpisodeEngine(
            model,
            tokenizer,
            limits=EpisodeLimits(max_new_tokens=new_tokens),
            seed=0,
            dtype=torch.float32,
        )
        begun = time.perf_counter()
        episodes = engine.run([EpisodeRequest(factory, None, n, n) for n in range(count)])
        whole = time.perf_counter() - begun
        found = {
            "whole": whole,
            "model": engine.model_seconds,
            "environments": engine.environment_seconds,
            "turns": sum(episode.num_turns for episode in episodes) / count,
            "tokens": sum(sum(episode.mask) for episode in episodes) / count,
        }
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="tiny", help="of the model: tiny, small or base")
    parser.add_argument("--rows", type=int, default=64, help="episodes at once")
    parser.add_argument("--max-new-tokens", type=int, default=16, help="longest answer")
    options = parser.parse_args()
    found = measure(options.size, options.rows, options.max_new_tokens)
    for name, value in found.items():
        print(f"{name}: {value:.3f}")
    share = 1 - found["model"] / found["whole"]
    print(f"not the model's: {100 * share:.1f} % of the round")


if __name__ == "__main__":
    main()
