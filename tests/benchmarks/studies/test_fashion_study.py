"""The study of pictures: its plain autoencoder, the parts that were measured, and what they say."""

import math

import pytest
import torch
from playout.agents.pretraining.objectives.reconstruction import gaussian_kl
from playout.benchmarks.studies.training import fashion
from playout.benchmarks.tools.measuring import Rate

from tests.agents.pretraining.bars import split_of

RATES = {"playout": Rate.of([300.0, 330.0]), fashion.PLAIN: Rate.of([200.0, 220.0])}
FOUND = {
    "supervised": [{"right": 0.938, "minutes": 19.0}, {"right": 0.936, "minutes": 17.0}],
    "alone": [
        {fashion.TAUGHT: 0.85, fashion.FRESH: 0.79, "ARI, trunk": 0.5, "ARI, pixels": 0.3},
        {fashion.TAUGHT: 0.84, fashion.FRESH: 0.80, "ARI, trunk": 0.4, "ARI, pixels": 0.3},
    ],
    "bound": [{"ours": 240.0, fashion.PLAIN: 250.0}, {"ours": 240.0, fashion.PLAIN: 254.0}],
}


def test_the_plain_bound_is_cross_entropy_and_kl():
    torch.manual_seed(1)
    net, x = fashion.PlainAutoencoder(9, 3, hidden=8), torch.rand(5, 9)
    mean, log_variance = net.encode(x).chunk(2, dim=1)
    torch.manual_seed(2)
    found = net.bound(x)
    torch.manual_seed(2)
    logits = net.decode(mean + torch.randn(5, 3) * torch.exp(0.5 * log_variance))
    p = logits.sigmoid()
    drawn = -(x * p.log() + (1 - x) * (1 - p).log()).sum(1)
    torch.testing.assert_close(found, drawn + gaussian_kl(mean, log_variance))
    for weight in net.parameters():
        torch.nn.init.zeros_(weight)
    torch.testing.assert_close(net.bound(x), torch.full((5,), 9 * math.log(2)))


def test_claims_are_of_the_parts_that_were_measured():
    right, more, groups, nats, speed = fashion.claims_of(FOUND, RATES)
    assert right["ours"] == pytest.approx(93.7) and right["target"] == 93.5
    assert "at most 19 minutes" in right["claim"] and "2 seeds" in right["note"]
    assert more["ours"] == pytest.approx(5) and "84.5 and 79.5 %" in more["note"]
    assert groups["ours"] == pytest.approx(0.15)
    assert nats["ratio"] == pytest.approx(252 / 240)
    assert speed["ratio"].median == pytest.approx(1.5)
    assert fashion.claims_of({}, RATES) == [speed]
    some = fashion.claims_of({"bound": FOUND["bound"]}, RATES)
    assert [one["claim"] for one in some] == [nats["claim"], speed["claim"]]
    assert fashion.sentence(nats).endswith(
        "240 nats; fully connected layers in plain PyTorch: 252."
    )


def test_what_was_measured_on_another_processor_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(fashion, "PARTS", {"supervised": lambda *_: {"right": 0.9, "minutes": 1.0}})
    monkeypatch.setattr(fashion, "processor", lambda: "another")
    before = fashion.case("supervised", fashion.QUICK, 0, tmp_path)
    monkeypatch.setattr(fashion, "processor", lambda: "this one")
    now = fashion.case("supervised", fashion.QUICK, 1, tmp_path)
    note = fashion.claims_of({"supervised": [before, now]}, RATES)[0]["note"]
    assert note.endswith("; on another") and "this one" not in note


def test_both_autoencoders_learn_from_as_many_pictures_a_step(monkeypatch, tmp_path):
    seen, trainers, loader, trainer = [], [], fashion.loader, fashion.PretrainTrainer

    def made(*given, **settings):
        trainers.append(trainer(*given, **settings))
        return trainers[-1]

    def batches(data, batch):
        seen.extend(loader(data, batch))
        return iter(seen)

    monkeypatch.setattr(fashion, "data_of", lambda name: split_of(300))
    monkeypatch.setattr(fashion, "PretrainTrainer", made)
    monkeypatch.setattr(fashion, "loader", batches)
    form = fashion.Form("bars", "grid", 0.1, "grid", 1.0, 1, (1, 1))
    found = fashion.bound(form, 0, tmp_path)
    assert found.keys() == {"ours", fashion.PLAIN}
    (ours,) = trainers
    assert {len(pixels) for pixels, _ in seen} == {ours.config.batch}
    assert ours.steps == len(seen)
