"""A language policy improved by a reward that is a Python function of texts.

A small model is pretrained on made-up reviews, then PPO teaches it to write about the music, at a
price for drifting away from where it began. Takes about two minutes on two cores.

    python examples/language_reward.py
"""

from playout.rlhf.data import synthetic
from playout.rlhf.data.batches import Corpus
from playout.rlhf.generation.responses import sample_responses
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.transformer import Transformer, sized_config
from playout.rlhf.online.config import RLHFConfig
from playout.rlhf.online.ppo import RLHFTrainer
from playout.rlhf.supervised.pretrain import PretrainConfig, PretrainTrainer
from playout.rlhf.supervised.trainer import LearnConfig

PROMPTS = ["i loved", "the whole", "this film was", "their story", "its ending"]


def reward(texts: list[str]) -> list[float]:
    """One point for the music, another for one sentence more."""
    return [float("music" in text) + 0.5 * float(" and " in text) for text in texts]


def main(pretrain_steps: int = 300, updates: int = 30) -> list[float]:
    """Returns the mean reward of each round."""
    texts = synthetic.reviews(4000)
    tokenizer = Tokenizer.train(texts, vocab_size=512)
    tokens = {"pad_token_id": tokenizer.pad_id, "eos_token_id": tokenizer.end_id}
    model = Transformer(sized_config("tiny", tokenizer.vocab_size, **tokens))
    corpora = Corpus.of(tokenizer, texts[:3900]), Corpus.of(tokenizer, texts[3900:])
    learn = LearnConfig(learning_rate=3e-3)
    size = PretrainConfig(steps=pretrain_steps, rows=16, length=64, learn=learn)
    pretraining = PretrainTrainer(model, *corpora, size, seed=0)
    while not pretraining.finished:
        pretraining.update()
    print(f"pretrained: {pretraining.evaluate()['eval/bits_per_byte']:.2f} bits a byte")

    config = RLHFConfig(updates=updates, batch=64, max_new_tokens=24, kl_target=0.0)
    trainer = RLHFTrainer(model, tokenizer, PROMPTS, reward, config, seed=0)
    found = []
    while not trainer.finished:
        metrics = trainer.update()
        found.append(metrics["objective/scores"])
        print(f"reward {found[-1]:.2f} at a KL of {metrics['objective/kl']:.2f} nats")
    answers = sample_responses(
        trainer.model, tokenizer, PROMPTS, max_new_tokens=24, seed=0, dtype=trainer.dtype
    )
    for prompt, answer in zip(PROMPTS, answers.responses, strict=True):
        print(f"{prompt}|{answer}")
    return found


if __name__ == "__main__":
    main()
