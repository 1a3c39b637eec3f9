"""Pretraining, fine-tuning and classification: losses, masks, learning, resumption."""

import json

import numpy as np
import pytest
import torch
from playout.errors import ConfigError, DataError, RunError
from playout.rlhf.data import synthetic
from playout.rlhf.data.batches import Corpus
from playout.rlhf.data.records import Demonstration, Labelled
from playout.rlhf.evaluation.statistics import bootstrap, calibration_error, pair_accuracy, wilson
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.folder import load_model
from playout.rlhf.model.heads import MaskedTokenHead
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.stages.run import evaluation_interval
from playout.rlhf.supervised.classify import (
    ClassifyConfig,
    ClassifyTrainer,
    linear_baseline,
    make_task,
    measure_predictions,
)
from playout.rlhf.supervised.masked import MaskedBatches, mask_tokens, masked_loss
from playout.rlhf.supervised.pretrain import (
    MaskedTrainer,
    PretrainConfig,
    PretrainTrainer,
    bits_per_byte,
)
from playout.rlhf.supervised.sft import SFTConfig, SFTTrainer
from playout.rlhf.supervised.trainer import LearnConfig, Learner

TEXTS = synthetic.reviews(300)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TEXTS, vocab_size=400)


def small(tokenizer, **changes):
    fields = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    fields |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
    return TransformerConfig(tokenizer.vocab_size, **{**fields, **changes})


def run_updates(trainer, count):
    return [trainer.update()["train/loss"] for _ in range(count)]


@pytest.mark.parametrize("share", [None, 0.4])
def test_masks_are_chosen_as_bert_chooses_them(tokenizer, share):
    ids = np.full((400, 500), 77)
    ids[:, ::10] = tokenizer.end_id
    maskable = ids != tokenizer.end_id
    given = {} if share is None else {"share": share}
    hidden, targets = mask_tokens(ids, maskable, tokenizer, np.random.default_rng(0), **given)
    chosen = targets != -100
    assert not chosen[~maskable].any()
    assert (hidden[~chosen] == ids[~chosen]).all() and (targets[chosen] == 77).all()
    assert chosen[maskable].mean() == pytest.approx(share or 0.15, abs=0.003)
    masked, same = hidden[chosen] == tokenizer.mask_id, hidden[chosen] == 77
    assert masked.mean() == pytest.approx(0.8, abs=0.01)
    assert same.mean() == pytest.approx(0.1, abs=0.01)
    random = hidden[chosen][~masked & ~same]
    assert random.min() > tokenizer.separator_id and len(np.unique(random)) > 300


def test_sentence_pairs_follow_half_of_the_time(tokenizer):
    batches = MaskedBatches(tokenizer, TEXTS, length=32, pairs=True)
    batch = batches.batch(0, rows=400, seed=0)
    assert batch.follows.float().mean() == pytest.approx(0.5, abs=0.1)
    assert (batch.ids[:, 0] == tokenizer.end_id).all()
    assert (batch.ids == tokenizer.separator_id).sum(1).eq(2).all()
    again = batches.batch(0, rows=400, seed=0)
    assert torch.equal(batch.ids, again.ids) and torch.equal(batch.follows, again.follows)


@pytest.mark.slow
def test_an_encoder_learns_masked_tokens_and_resumes_exactly(tokenizer):
    def fresh():
        config = small(tokenizer, causal=False)
        return MaskedTrainer(
            Transformer(config),
            MaskedTokenHead(config),
            tokenizer,
            (TEXTS[:250], TEXTS[250:]),
            PretrainConfig(steps=60, rows=16, length=32, learn=LearnConfig(3e-3, dtype="float32")),
            pairs=True,
            seed=0,
        )

    trainer = fresh()
    losses = run_updates(trainer, 20)
    state = {k: (dict(v) if k != "optimizer" else v) for k, v in trainer.state_dict().items()}
    state = {k: {n: t.clone() if torch.is_tensor(t) else t for n, t in v.items()}
             for k, v in state.items()}  # fmt: skip
    losses += run_updates(trainer, 40)
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    again = fresh()
    again.load_state_dict(state)
    assert run_updates(again, 40) == losses[20:]


@pytest.mark.slow
def test_an_encoder_learns_which_sentence_follows():
    """Each text says one word again and again: what follows says the same word."""
    words = ("film", "plot", "cast", "hero", "music", "scene", "story", "ending")
    texts = [" ".join([word] * 40) for _ in range(12) for word in words]
    tokenizer = Tokenizer.train(texts, vocab_size=300)
    config = small(tokenizer, causal=False)
    learn = LearnConfig(3e-3, dtype="float32")
    trainer = MaskedTrainer(
        Transformer(config),
        MaskedTokenHead(config),
        tokenizer,
        (texts, texts),
        PretrainConfig(steps=200, rows=16, length=15, learn=learn),
        pairs=True,
        seed=0,
    )
    before = trainer.evaluate()
    run_updates(trainer, 200)
    after = trainer.evaluate()
    # 128 pairs are judged: 0.65 would be three deviations above a coin.
    assert before["eval/pair_accuracy"] < 0.65 and after["eval/pair_accuracy"] > 0.75
    assert before["eval/masked_accuracy"] < 0.2 and after["eval/masked_accuracy"] > 0.8


def test_masked_loss_reads_the_chosen_tokens_only(tokenizer):
    config = small(tokenizer, causal=False)
    model, head = Transformer(config), MaskedTokenHead(config)
    batch = MaskedBatches(tokenizer, TEXTS, length=32).batch(0, rows=4, seed=0)
    loss, metrics = masked_loss(model, head, batch)
    states = head(model(batch.ids), model.norm)
    logits = states @ model.output_embeddings.T
    plain = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
    torch.testing.assert_close(loss, plain)
    assert set(metrics) == {"masked_loss", "masked_accuracy"}


def test_bits_per_byte_of_an_untrained_model_are_those_of_a_uniform_guess(tokenizer):
    corpus = Corpus.of(tokenizer, TEXTS[:50])
    model = Transformer(small(tokenizer))
    bits = bits_per_byte(model, corpus, length=64, dtype=torch.float32)
    uniform = np.log2(tokenizer.vocab_size) * (len(corpus.tokens) - 1) / corpus.num_bytes
    assert bits == pytest.approx(uniform, rel=0.01)


@pytest.mark.slow
def test_a_decoder_learns_and_writes_demonstrations(tokenizer, tmp_path):
    model = Transformer(small(tokenizer))
    config = PretrainConfig(steps=80, rows=16, length=32, learn=LearnConfig(5e-3))
    trainer = PretrainTrainer(
        model, Corpus.of(tokenizer, TEXTS[:250]), Corpus.of(tokenizer, TEXTS[250:]), config, seed=0
    )
    before = trainer.evaluate()["eval/bits_per_byte"]
    run_updates(trainer, 80)
    assert trainer.finished and trainer.progress == (80 * 512, 80 * 512)
    assert trainer.evaluate()["eval/bits_per_byte"] < 0.5 * before

    items = synthetic.demonstrations(300)
    tuned = SFTTrainer(
        model,
        tokenizer,
        (items[:250], items[250:]),
        SFTConfig(steps=30, batch=16, length=48, learn=LearnConfig(1e-3)),
        seed=0,
        folder=tmp_path,
    )
    first = tuned.evaluate()["eval/loss"]
    run_updates(tuned, 30)
    assert tuned.evaluate()["eval/loss"] < first
    table = json.loads((tmp_path / "samples" / "000030.json").read_text())
    assert len(table) == 16 and set(table[0]) == {"prompt", "response"}


def test_fine_tuning_learns_answers_and_not_prompts(tokenizer):
    """The gradient of a prompt's prediction is nothing, that of the answer is what it should be."""
    item = Demonstration("the whole film", " was good .")
    trainer = SFTTrainer(
        Transformer(small(tokenizer)),
        tokenizer,
        ([item], [item]),
        SFTConfig(batch=1, length=48, learn=LearnConfig(dtype="float32")),
        seed=0,
    )
    ((ids, prompt),) = trainer.texts
    (packed,) = trainer._packs(trainer.texts)
    loss, count = trainer._loss(packed)
    assert count == len(ids) - prompt and ids[-1] == tokenizer.end_id
    row = torch.tensor([ids])
    model = trainer.model
    log_p = model.logits(model(row[:, :-1])).log_softmax(-1)
    plain = -log_p[0].gather(1, row[0, 1:, None])[prompt - 1 :].mean()
    torch.testing.assert_close(loss, plain)


def test_a_prompt_longer_than_the_context_is_an_error(tokenizer):
    item = Demonstration("film " * 300, " good")
    with pytest.raises(DataError, match=r"has room for an answer in 48 tokens$"):
        SFTTrainer(
            Transformer(small(tokenizer)), tokenizer, ([item], [item]), SFTConfig(length=48), seed=0
        )


@pytest.mark.slow
def test_a_classifier_and_the_linear_baseline_learn_both_tasks(tokenizer):
    for items in (synthetic.labelled(400), synthetic.rated(400)):
        task = make_task(items[:300], items[300:])
        linear = measure_predictions(linear_baseline(task), task)
        trainer = ClassifyTrainer(
            Transformer(small(tokenizer)),
            tokenizer,
            task,
            ClassifyConfig(steps=60, learn=LearnConfig(2e-3)),
            seed=0,
        )
        run_updates(trainer, 60)
        found = trainer.evaluate()
        if task.classes:
            assert linear["accuracy"] > 0.9 and found["eval/accuracy"] > 0.85
        else:
            assert linear["pair_accuracy"] > 0.7 and found["eval/pair_accuracy"] > 0.65


def test_tasks_that_cannot_be_learned_are_named():
    with pytest.raises(DataError, match="every text has the label 'a'"):
        make_task([Labelled("x", "a")], [Labelled("y", "a")])
    with pytest.raises(DataError, match="label 'c' occurs among the held-out texts only"):
        make_task([Labelled("x", "a"), Labelled("z", "b")], [Labelled("y", "c")])


def test_pair_accuracy_and_intervals_are_right_on_small_cases():
    assert pair_accuracy([1, 2, 3], [1, 2, 3]) == 1.0
    assert pair_accuracy([3, 2, 1], [1, 2, 3]) == 0.0
    assert pair_accuracy([1, 1, 1], [1, 2, 3]) == 0.5
    assert pair_accuracy([0, 5, 1], [0, 0.5, 3], gap=1.0) == 0.5
    rng = np.random.default_rng(0)
    truth = rng.normal(size=300)
    scores = truth + rng.normal(size=300)
    low, high = bootstrap(scores.tolist(), truth.tolist())
    assert low < pair_accuracy(scores, truth) < high < low + 0.1
    assert wilson(8, 10) == pytest.approx((0.490, 0.943), abs=1e-3)
    assert calibration_error([0.2] * 10, [1, 1] + [0] * 8) == pytest.approx(0.0)
    assert calibration_error([0.9] * 10, [0] * 10) == pytest.approx(0.9)


def test_the_learning_rate_rises_and_falls_and_any_number_of_steps_has_its_evaluations():
    learner = Learner(
        [torch.nn.Parameter(torch.zeros(3))], LearnConfig(1.0, warmup=0.1), total_steps=100
    )
    rates = [learner.learning_rate(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == 1.0 == rates[10]
    assert rates[100] == pytest.approx(0.1) and rates[10:] == sorted(rates[10:], reverse=True)
    assert [-(-n // evaluation_interval(n, 10)) for n in (5, 100, 358, 997)] == [5, 10, 10, 10]


def test_models_that_are_not_there_are_named(tmp_path):
    with pytest.raises(RunError, match="does not exist"):
        load_model(tmp_path / "nothing")
    with pytest.raises(RunError, match="holds no finished model"):
        load_model(tmp_path)


def test_an_encoder_needs_its_special_tokens(tmp_path):
    from tokenizers import AddedToken, models
    from tokenizers import Tokenizer as Inner

    inner = Inner(models.BPE(vocab={"a": 0}, merges=[]))
    inner.add_special_tokens([AddedToken("<|pad|>"), AddedToken("<|endoftext|>")])
    with pytest.raises(ConfigError, match="no mask or separator"):
        MaskedBatches(Tokenizer(inner), ["a"], length=8)
