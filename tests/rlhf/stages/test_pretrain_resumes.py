"""Pretraining goes on from a checkpoint, with data that come with playout and with given ones."""

import shutil

import playout
import pytest
import torch
from playout.rlhf.data import synthetic
from playout.rlhf.model.folder import load_model

OPTIONS = {"size": "tiny", "hidden_size": 16, "heads": 2, "layers": 1, "vocab_size": 300}
OPTIONS |= {"steps": 4, "rows": 3, "dtype": "float32", "quiet": True}


@pytest.mark.slow
@pytest.mark.parametrize("given", [False, True])
def test_a_resumed_pretraining_equals_one_that_was_not_stopped(given, tmp_path):
    texts = synthetic.reviews(80) if given else "synthetic"
    whole = playout.pretrain(texts, run=tmp_path / "whole", **OPTIONS)
    shutil.copytree(whole.path, tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts" / "model")
    parts = playout.pretrain(resume=tmp_path / "parts", from_step=2, quiet=True)
    assert parts.config["rows"] == 3
    first, second = (dict(load_model(run.path)[0].named_parameters()) for run in (whole, parts))
    assert all(torch.equal(first[name], second[name]) for name in first)
