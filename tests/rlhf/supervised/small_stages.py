"""The smallest trainer of every supervised stage, for tests of how a batch is cut."""

import torch
from playout.rlhf.data import synthetic
from playout.rlhf.data.batches import Corpus
from playout.rlhf.data.comparisons import RatedPairs, VotedPairs
from playout.rlhf.data.records import Demonstration, Labelled, Preference, Rated
from playout.rlhf.model.heads import MaskedTokenHead
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.supervised.classify import ClassifyConfig, ClassifyTrainer, make_task
from playout.rlhf.supervised.dpo import DPOConfig, DPOTrainer
from playout.rlhf.supervised.pretrain import MaskedTrainer, PretrainConfig, PretrainTrainer
from playout.rlhf.supervised.reward import RewardConfig, RewardTrainer
from playout.rlhf.supervised.sft import SFTConfig, SFTTrainer
from playout.rlhf.supervised.trainer import LearnConfig

TEXTS = synthetic.reviews(60)
PAIRS = [
    Preference(text[:20], text[20:50], text[50:90], wins=1 + i % 2, losses=i % 3, ties=i % 2)
    for i, text in enumerate(TEXTS)
    if len(text) > 90
]


def model_of(tokenizer, **changes):
    shape = TransformerConfig(tokenizer.vocab_size, 32, 64, 2, 4, 2, max_position_embeddings=128)
    fields = {name: getattr(shape, name) for name in shape.__slots__}
    return Transformer(TransformerConfig(**{**fields, **changes}))


def make(stage, tokenizer, microbatch, *, model=None, prepare=lambda part: part):
    """A trainer; `prepare` is given what learns before the trainer is."""
    learn = LearnConfig(1e-3, dtype="float32", microbatch=microbatch)
    if stage != "masked":
        model = prepare(model_of(tokenizer) if model is None else model)
    if stage == "sft":
        items = [Demonstration(text[:15], text[15 : 30 + 3 * (i % 9)])
                 for i, text in enumerate(TEXTS)]  # fmt: skip
        config = SFTConfig(steps=5, batch=12, length=64, learn=learn)
        return SFTTrainer(model, tokenizer, (items, items), config, seed=0)
    if stage == "pretrain":
        corpus = Corpus.of(tokenizer, TEXTS)
        config = PretrainConfig(steps=5, rows=8, length=24, learn=learn)
        return PretrainTrainer(model, corpus, corpus, config, seed=0)
    if stage == "masked":
        model = prepare(model_of(tokenizer, causal=False))
        config = PretrainConfig(steps=5, rows=8, length=24, learn=learn)
        head = prepare(MaskedTokenHead(model.config))
        texts = TEXTS, TEXTS
        return MaskedTrainer(model, head, tokenizer, texts, config, pairs=True, seed=0)
    if stage == "dpo":
        config = DPOConfig(steps=5, batch=8, learn=learn)
        return DPOTrainer(model, tokenizer, PAIRS, config, seed=0)
    if stage == "classify":
        items = [Labelled(text, "ab"[i % 2]) for i, text in enumerate(TEXTS)]
        return ClassifyTrainer(
            model, tokenizer, make_task(items, items), ClassifyConfig(5, 12, 32, learn), seed=0
        )
    config = RewardConfig(steps=5, batch=12, length=48, learn=learn)
    if stage == "rated":
        rated = RatedPairs([Rated(t, (float(i % 5), float(i % 3))) for i, t in enumerate(TEXTS)])
        return RewardTrainer(model, tokenizer, (rated, rated), config, seed=0)
    return RewardTrainer(model, tokenizer, (VotedPairs(PAIRS),) * 2, config, seed=0)


def gradient_of(trainer):
    """The gradient of the next step, all parameters in a row."""
    optimizer, found = trainer.learner.optimizer, []

    def look(norm):
        found.extend(p.grad.detach().clone().flatten() for p in optimizer.parameters)
        return 0.0

    optimizer.step = look
    metrics = trainer.update()
    return torch.cat(found), metrics


STAGES = ["sft", "pretrain", "masked", "dpo", "classify", "rated", "voted"]
