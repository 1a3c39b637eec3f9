"""Ablations: Transformers without some parts, and tables whose sentences follow from numbers."""

import json
import math

import numpy as np
import pytest
import torch
from playout.agents.runs.config import to_dict
from playout.benchmarks.studies import ablations
from playout.benchmarks.studies.training import stacks, transformers
from playout.benchmarks.studies.training.transformers import Case, Parts, Text, ablated, run
from playout.rlhf.data.batches import Corpus
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.transformer import Transformer
from playout.rlhf.supervised.pretrain import PretrainConfig, PretrainTrainer
from playout.rlhf.supervised.trainer import LearnConfig
from scipy import stats


@pytest.fixture(scope="module")
def text():
    rng = np.random.default_rng(0)
    words = ("the film", "a play", "was good", "was bad", "and long", "not short")
    texts = tuple(" ".join(rng.choice(words, 12)) for _ in range(60))
    tokenizer = Tokenizer.train(texts, vocab_size=300)
    told, chosen_by = (Corpus.of(tokenizer, part) for part in (texts[50:], texts[40:50]))
    return Text(tokenizer, texts, told, chosen_by, width=16, length=16, rows=4)


def ids_of(text):
    return torch.from_numpy(text.held_out.tokens[:24].astype(np.int64)).view(2, 12)


def test_a_block_with_all_parts_is_the_librarys(text):
    config = text.shape(3)
    ours, theirs = ablated(config, Parts(), 5), Transformer(config, seed=5)
    with torch.no_grad():
        assert torch.equal(ours(ids_of(text)), theirs(ids_of(text)))


def test_without_residual_connections_a_block_passes_on_what_it_finds_alone(text):
    config = text.shape(1)
    for residual in (True, False):
        model = ablated(config, Parts(residual=residual), 0)
        with torch.no_grad():
            model.blocks[0].down_proj.weight.zero_()
            found = model(ids_of(text))
        assert bool(found.abs().max() > 0) == residual


def test_without_norms_a_block_sees_the_size_of_what_comes_in(text):
    config = text.shape(1)
    x = torch.randn(2, 5, config.hidden_size, generator=torch.Generator().manual_seed(0))
    for norm in (True, False):
        model = ablated(config, Parts(norm=norm, init="careful"), 0)
        with torch.no_grad():
            one, two = (model.blocks[0].feed_forward(size * x) for size in (1.0, 2.0))
        assert torch.allclose(one, two, rtol=1e-3) == norm


def test_dropout_is_drawn_while_a_transformer_learns_alone(text):
    model = ablated(text.shape(2), Parts(dropout=0.5), 0)
    with torch.no_grad():
        assert not torch.equal(model.train()(ids_of(text)), model(ids_of(text)))
        assert torch.equal(model.eval()(ids_of(text)), model(ids_of(text)))


def test_first_weights_are_as_large_as_their_name_says(text):
    config = text.shape(8)
    inputs = config.hidden_size
    for init, residual, wanted in (
        ("small", False, 0.02),
        ("careful", False, inputs**-0.5),
        ("large", False, 2 * inputs**-0.5),
        ("careful", True, inputs**-0.5 / 4),  # a sixteenth of the variance: 2 halves of 8 blocks
    ):
        model = ablated(config, Parts(residual=residual, init=init), 0)
        weights = torch.cat([block.o_proj.weight.flatten() for block in model.blocks])
        assert float(weights.detach().std()) == pytest.approx(wanted, rel=0.1)


def test_gradients_by_block_are_those_of_the_first_step_before_clipping(text):
    learn = {"max_grad_norm": 1e-3}
    found = run(text, Case(Parts(init="careful"), 3, 12, learn), seed=2)
    model = ablated(text.shape(3), Parts(init="careful"), 2)
    plain = LearnConfig(dtype="float32", max_grad_norm=math.inf)
    config = PretrainConfig(steps=12, rows=4, length=16, learn=plain)
    corpus = Corpus.of(text.tokenizer, text.texts)
    PretrainTrainer(model, corpus, text.held_out, config, seed=2).update()
    wanted = [
        float(torch.cat([p.grad.flatten() for p in block.parameters()]).norm())
        for block in model.blocks
    ]
    assert found["norms"] == pytest.approx(wanted, rel=1e-3)
    assert [point[0] for point in found["curve"]] == list(range(13))
    assert not found["diverged"] and found["held_out"] == found["curve"][-1][2]


def test_gradients_vanish_without_remedies_and_reach_the_first_block_with_them(text):
    lost, kept = (
        run(text, Case(transformers.REMEDIES[name], 8, 1), seed=0)["norms"]
        for name in ("nothing, small first weights", "+ both")
    )
    assert lost[0] < 1e-6 * kept[0] and kept[0] > 0.1 * kept[-1]


def test_patience_ends_training_and_keeps_the_best(text):
    learn = {"learning_rate": 0.02, "weight_decay": 0.0}
    found = run(text, Case(Parts(), 2, 200, learn, texts=2, patience=2), seed=0)
    held = [point[2] for point in found["curve"]]
    assert found["curve"][-1][0] < 200 and found["held_out"] in held[:-1]
    assert found["held_out"] < held[-1]
    assert found["train"] < found["held_out"]  # two texts are soon known by heart


def test_a_transformer_that_stops_early_chooses_by_other_text_than_that_it_is_told_of(
    text, monkeypatch
):
    told, chosen = [6.0, 5.5, 2.0, 2.0, 2.0], [5.0, 3.0, 4.0, 4.0, 4.0]
    asked = iter(zip(told, chosen, strict=True))

    def evaluate(self):
        assert self.each["chosen by"] is text.chosen_by and self.heldout is text.held_out
        held, judged = next(asked)
        both = {"learned from": 1.0, "chosen by": judged}
        return {"eval/bits_per_byte": held} | {
            f"eval/bits_per_byte/{name}": value for name, value in both.items()
        }

    monkeypatch.setattr(transformers.PretrainTrainer, "evaluate", evaluate)
    found = run(text, Case(Parts(), 1, 10, patience=3), seed=0)
    assert found["held_out"] == 5.5 and [point[2] for point in found["curve"]] == told


def test_both_sides_are_told_of_the_step_that_counts(text, monkeypatch):
    own = iter([6.0, 2.5, 1.0, 1.0, 1.0])
    chosen = iter([5.0, 3.0, 4.0, 4.0, 4.0])

    def evaluate(self):
        both = {"learned from": next(own), "chosen by": next(chosen)}
        return {"eval/bits_per_byte": 5.0} | {
            f"eval/bits_per_byte/{name}": value for name, value in both.items()
        }

    monkeypatch.setattr(transformers.PretrainTrainer, "evaluate", evaluate)
    assert run(text, Case(Parts(), 1, 10, patience=3), seed=0)["train"] == 2.5


def test_a_run_that_diverges_says_so_and_keeps_its_last_number(text):
    for init, begins in (("careful", True), ("large", False)):
        parts = Parts(norm=False, init=init)
        found = run(text, Case(parts, 8, 40, {"learning_rate": 1e6}), seed=0)
        assert found["diverged"] and math.isfinite(found["held_out"])
        assert found["held_out"] == found["curve"][-1][2] and found["curve"][-1][0] < 40
        # What is no number from the first on counts as a guess among all tokens.
        assert (found["held_out"] == text.even_guess) != begins


def made_up(held, train=None, norms=(1.0, 2.0), diverged=False):
    return {"held_out": held, "train": held if train is None else train, "norms": list(norms),
            "diverged": diverged, "curve": [(1, 0.5, held)]}  # fmt: skip


def test_sentences_of_ablations_follow_from_the_numbers():
    found = {
        ("depth", "nothing", "8 layers"): [made_up(0.1), made_up(0.1)],
        ("depth", "help", "8 layers"): [made_up(0.8), made_up(0.7, diverged=True)],
        ("depth", "nothing", "2 layers"): [made_up(0.6), made_up(0.6)],
        ("depth", "help", "2 layers"): [made_up(0.7), made_up(0.7)],
        ("clipping", "as they are"): [made_up(0.5), made_up(0.4)],
        ("clipping", "clipped to 1"): [made_up(0.5), made_up(0.6)],
        ("overfitting", "nothing"): [made_up(0.6, 1.0), made_up(0.6, 1.0)],
        ("overfitting", "dropout"): [made_up(0.7, 0.8), made_up(0.7, 0.8)],
    }
    rows, gradients, said = ablations.depths(found, ablations.PICTURES)
    assert rows[0] == {"remedy": "nothing", "2 layers": "60 ± 0", "8 layers": "10 ± 0"}
    assert rows[1]["8 layers"].endswith("(1 of 2 diverged)") and gradients[1] == (
        "help",
        [1.0, 2.0],
    )
    assert "Nothing: with 8 layers 50 points worse" in said[0]
    assert "first layer has the norm 1, that of the last the norm 2." in said[0]
    assert "the best is 'help': 65 points better" in said[-1]
    _, said = ablations.clipping(found, ablations.PICTURES)
    assert (
        "Gradients clipped to 1: 10 points better than as they are, which may be chance" in said[0]
    )
    rows, curves, said = ablations.overfitting(found, ablations.PICTURES)
    assert rows[1]["gap"] == pytest.approx(10.0) and set(curves) == {"nothing", "dropout"}
    assert said[0].startswith("Dropout: 10 points better") and "least (10) with dropout" in said[1]
    # Of bits a byte, less is better.
    _, _, said = ablations.overfitting(found, ablations.TEXT)
    assert (
        "Dropout: 0.1 bits a byte worse" in said[0] and "-0.4 bits a byte with nothing" in said[1]
    )


def test_a_remedy_beside_careful_weights_and_a_gradient_that_is_no_number_are_told_in_words():
    found = {
        ("depth", name, "2 layers"): [
            {"held_out": 0.5 + tiny, "norms": [math.nan, 3.0], "diverged": False}
            for tiny in (0.0, 1e-11)
        ]
        for name in ("careful first weights", "+ both")
    }
    rows, _, said = ablations.depths(found, ablations.PICTURES)
    assert said[1].startswith("Careful first weights and both: with 2 layers ")
    assert "first layer has the norm infinity or NaN, that of the last the norm 3." in said[0]
    assert rows[0]["2 layers"] == "50 ± 0"


def test_both_sides_of_ablations_have_the_same_tables():
    for quick in (True, False):
        pictures, text = stacks.all_cases(quick), transformers.all_cases(quick)
        assert {key[0] for key in pictures} == {key[0] for key in text}
        assert {key[1] for key in text if key[0] == "depth"} == set(transformers.REMEDIES)
        for one in [*pictures.values(), *text.values()]:
            assert json.dumps(to_dict(one), allow_nan=False)  # by which a result is found again


def test_the_best_remedy_is_compared_as_the_best_of_several():
    scores = {"nothing": (0.2, 0.24), "a": (0.3, 0.36), "b": (0.5, 0.58), "c": (0.4, 0.4)}
    found = {
        ("depth", name, "2 layers"): [
            {"held_out": score, "norms": [1.0], "diverged": False} for score in of_seeds
        ]
        for name, of_seeds in scores.items()
    }
    *_, said = ablations.depths(found, ablations.PICTURES)[2]
    # Differences of 30 and 34 points: the interval is that of three candidates.
    half = stats.t.ppf(1 - 0.025 / 3, 1) * 2.0
    assert f"(95 % for the best of 3: {32 - half:+.3g} to {32 + half:+.3g})" in said
