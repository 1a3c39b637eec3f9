"""What moves the weights of a supervised stage, what its rows look at, and how heads are made."""

import pytest
import torch
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
    learn = LearnConfig(5e-3, dtype="float32", optimizer=optimizer)
    config = SFTConfig(steps=12, batch=12, length=64, learn=learn)
    model = model_of(tokenizer) if model is None else model
    return SFTTrainer(model, tokenizer, (ITEMS, ITEMS), config, seed=0)


def test_by_muon_a_model_learns_and_goes_on_from_its_state_to_the_last_bit(tokenizer):
    whole, first, second = (trainer_of(tokenizer, "muon") for _ in range(3))
    before = whole.evaluate()["eval/loss"]
    for number in range(12):
        whole.update()
        (first if number < 6 else second).update()
        if number == 5:
            second.load_state_dict(first.state_dict())
    assert whole.evaluate()["eval/loss"] < 0.75 * before
    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    matrices = {p.data_ptr() for p in whole.model.layers.parameters() if p.dim() == 2}
    assert {p.data_ptr() for p in whole.learner.optimizer.muon.parameters} == matrices


def test_adapters_and_unknown_optimisers_are_refused(tokenizer):
    model = model_of(tokenizer)
    add_adapters(model, LoRAConfig(rank=2), seed=1)
    with pytest.raises(ConfigError, match="leave out --shard, --lora-rank"):
        trainer_of(tokenizer, "muon", model)
    with pytest.raises(ConfigError, match="adam or muon"):
        LearnConfig(optimizer="lion")
    with pytest.raises(SystemExit):
        main(["rlhf", "sft", "--optimizer", "lion"])


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
