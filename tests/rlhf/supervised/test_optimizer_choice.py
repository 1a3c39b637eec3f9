"""What moves the weights of a supervised stage, what its rows look at, and how heads are made."""

import pytest
import torch
from playout.agents.optim.muon import Muon
from playout.agents.optim.names import OPTIMIZERS
from playout.cli import main
from playout.errors import ConfigError
from playout.rlhf.data.batches import pack
from playout.rlhf.data.records import Demonstration
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.adapters.lora import LoRAConfig, add_adapters
from playout.rlhf.model.folder import load_model
from playout.rlhf.supervised.sft import SFTConfig, SFTTrainer
from playout.rlhf.supervised.trainer import LearnConfig
from small_stages import TEXTS, model_of

ITEMS = [Demonstration("abc"[i % 3], " " + "xyz"[i % 3] * 3) for i in range(24)]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TEXTS, vocab_size=300)


def trainer_of(tokenizer, optimizer, model=None):
    rate = {"sgd": 0.5, "momentum": 0.1}.get(optimizer, 5e-3)
    learn = LearnConfig(rate, dtype="float32", optimizer=optimizer, weight_decay=0.01)
    config = SFTConfig(steps=12, batch=12, length=64, learn=learn)
    model = model_of(tokenizer) if model is None else model
    return SFTTrainer(model, tokenizer, (ITEMS, ITEMS), config, seed=0)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_by_every_optimiser_a_model_learns_and_goes_on_to_the_last_bit(tokenizer, optimizer):
    whole, first, second = (trainer_of(tokenizer, optimizer) for _ in range(3))
    before = whole.evaluate()["eval/loss"]
    for number in range(12):
        whole.update()
        (first if number < 6 else second).update()
        if number == 5:
            second.load_state_dict(first.state_dict())
    share = 0.75 if optimizer == "muon" else 0.95
    assert whole.evaluate()["eval/loss"] < share * before
    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    if optimizer == "muon":
        matrices = {p.data_ptr() for p in whole.model.layers.parameters() if p.dim() == 2}
        (muon,) = [p for _, p in whole.learner.optimizer.parts if isinstance(p, Muon)]
        assert {p.data_ptr() for p in muon.parameters} == matrices


def test_adapters_and_unknown_optimisers_are_refused(tokenizer):
    model = model_of(tokenizer)
    add_adapters(model, LoRAConfig(rank=2), seed=1)
    with pytest.raises(ConfigError, match="leave out --lora-rank"):
        trainer_of(tokenizer, "muon", model)
    trainer = trainer_of(tokenizer, "momentum", model)
    trainer.update()
    with pytest.raises(ConfigError, match="must be one of sgd"):
        LearnConfig(optimizer="lion")


@pytest.mark.parametrize("stage", ["pretrain", "sft", "reward", "dpo", "classify", "rlhf", "grpo"])
def test_every_stage_says_in_one_line_which_optimisers_there_are(stage, tmp_path, capsys):
    words = ["rlhf", stage, "--optimizer", "lion", "--run", str(tmp_path / "run")]
    assert main(words) == 2
    said = capsys.readouterr().err
    wanted = "optimizer must be one of sgd, momentum, adam, adamw, muon, not 'lion'"
    assert said == f"error: {wanted}\n" and not (tmp_path / "run").exists()


def test_texts_alone_in_their_rows_learn_without_a_mask_what_they_learn_with_one(tokenizer):
    rows = [([7, 8, 9, 10, 11], 2), ([9, 8, 7], 1)]
    apart = pack(rows, length=5, pad=tokenizer.pad_id)
    joined = pack(rows, length=8, pad=tokenizer.pad_id)
    assert not apart.shares_rows and joined.shares_rows
    trainer = trainer_of(tokenizer, "adam")
    _, seen = trainer._placed(apart)
    assert seen["mask"] is None and trainer._placed(joined)[1]["mask"] is not None
    first, second = (trainer._loss(packed) for packed in (apart, joined))
    assert first[1] == second[1] == 5
    torch.testing.assert_close(first[0], second[0], rtol=1e-5, atol=1e-6)


def test_heads_may_be_normalised_and_wavelengths_shorter_and_the_model_knows_it(tmp_path, capsys):
    shape = ["--hidden-size", "32", "--heads", "2", "--layers", "1", "--vocab-size", "300"]
    command = [
        "rlhf",
        "pretrain",
        "--size",
        "tiny",
        "--data",
        "synthetic",
        "--quiet",
        "--rows",
        "2",
    ]
    command += [*shape, "--steps", "2", "--qk-norm", "--optimizer", "muon"]
    assert main([*command, "--rope-theta", "500", "--run", f"{tmp_path}/run"]) == 0
    model, _ = load_model(tmp_path / "run")
    config = model.config
    assert (config.model_type, config.qk_norm, config.rope_theta) == ("qwen3", True, 500.0)
    assert model.blocks[0].q_norm is not None
    assert main([*command, "--encoder", "--run", f"{tmp_path}/other"]) == 2
    assert "--qk-norm is for decoders" in capsys.readouterr().err
