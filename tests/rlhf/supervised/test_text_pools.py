"""What a head reads of a text: its last token, or the mean over all of them."""

from pathlib import Path

import numpy as np
import playout
import pytest
import torch
from playout.rlhf.commands.learn import classify
from playout.rlhf.data.datasets import Datasets
from playout.rlhf.model.heads import ScalarHead, mean_token, scores
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.supervised.classify import ClassifyTrainer, pool_of
from small_language import as_before

DECODER = Path(__file__).parents[2] / "fixtures" / "runs" / "pretrain"
SHAPE = TransformerConfig(97, 32, 48, 2, 4, 2, max_position_embeddings=64)
FEW = {"size": "tiny", "dtype": "float32", "quiet": True}
ROWS = [
    {"text": f"the {a} of {n} and {b}", "label": a}
    for n in range(12)
    for a in ("film", "plot")
    for b in ("end", "cast", "song")
]


def encoder(**changes):
    fields = {name: getattr(SHAPE, name) for name in SHAPE.__slots__}
    return Transformer(TransformerConfig(**{**fields, "causal": False, **changes}), seed=2)


def test_the_mean_is_over_real_tokens_whatever_stands_behind_them():
    hidden = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([5, 2, 1])
    wanted = np.stack([hidden[row, :size].numpy().mean(0) for row, size in enumerate(lengths)])
    hidden[1, 2:] = torch.nan
    torch.testing.assert_close(mean_token(hidden, lengths), torch.from_numpy(wanted))


def test_scores_of_the_mean_hear_every_token_and_no_padding():
    model = encoder(num_hidden_layers=1)
    ids = torch.arange(12)[None]
    padded = torch.cat([ids, torch.full((1, 9), 3)], dim=1)
    lengths, head = torch.tensor([12]), ScalarHead(model.config, 2, seed=1, pool="mean")
    found = scores(model, head, ids, lengths)
    torch.testing.assert_close(scores(model, head, padded, lengths), found)
    states = model(ids)[0].mean(0)  # of a linear head the mean of scores is the score of the mean
    torch.testing.assert_close(head(states, model.norm), found[0])
    assert not torch.allclose(
        scores(model, ScalarHead(model.config, 2, seed=1), ids, lengths), found
    )


def test_encoders_are_read_by_the_mean_and_decoders_by_the_last_token():
    assert pool_of("auto", encoder().config) == "mean" and pool_of("auto", SHAPE) == "last"
    assert pool_of("last", encoder().config) == "last" and pool_of("mean", SHAPE) == "mean"


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["auto", "last", "mean"])
def test_a_classifier_reads_texts_as_it_learned_to(tmp_path, pool, monkeypatch):
    measured, raw = [], ClassifyTrainer.predictions

    def noted(self):
        measured.append(raw(self))
        return measured[-1]

    monkeypatch.setattr(ClassifyTrainer, "predictions", noted)
    texts = [row["text"] for row in ROWS] * 4
    base = playout.pretrain(texts, encoder=True, run=tmp_path / "base", steps=2, **FEW)
    run = playout.classify(base, ROWS, run=tmp_path / "run", steps=3, pool=pool, **FEW)
    told = playout.load(run)
    assert told.head.pool == ("last" if pool == "last" else "mean")
    held = [item.text for item in Datasets("files").labelled(ROWS)[1]]
    np.testing.assert_allclose(told.scores(held), measured[-1], rtol=1e-5, atol=1e-5)
    told.head.pool = "mean" if pool == "last" else "last"
    assert not np.allclose(told.scores(held), measured[-1], atol=1e-3)


def test_runs_of_earlier_versions_are_read_by_the_last_token(tmp_path):
    run = playout.classify(DECODER, ROWS, run=tmp_path / "run", steps=1, pool="mean", **FEW)
    assert playout.load(run).head.pool == "mean"
    as_before(run, "pool")
    assert playout.load(run.path).head.pool == "last"
    assert classify.Command.stored_today({"truncate": "left"})["pool"] == "last"
    assert classify.Command.stored_today({"truncate": "left", "pool": "mean"})["pool"] == "mean"
