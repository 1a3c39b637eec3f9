"""Every language stage on a device of its own: whole loops, few crossings, resuming, using."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from playout import load
from playout.agents.runs.directory import RunDir
from playout.cli import main
from playout.rlhf.data import datasets
from playout.rlhf.data.batches import Corpus
from playout.rlhf.generation.decoder import Decoder
from playout.rlhf.generation.generate import generate
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.adapters.held import hold_weights
from playout.rlhf.model.adapters.lora import LoRAConfig, add_adapters
from playout.rlhf.model.reference import Reference
from playout.rlhf.model.transformer import Transformer, sized_config
from playout.rlhf.online.config import GRPOConfig, RLHFConfig
from playout.rlhf.online.grpo import GRPOTrainer
from playout.rlhf.online.ppo import RLHFTrainer
from playout.rlhf.stages import sizes
from playout.rlhf.supervised.pretrain import PretrainConfig, PretrainTrainer, bits_per_byte
from playout.rlhf.supervised.trainer import LearnConfig
from small_language import MICRO

TEXTS = ["a fine film .", "a dull film , and slow .", "the acting is good .", "a bad story ."] * 8


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TEXTS, vocab_size=280)


def model_of(tokenizer, **changes):
    config = sized_config("tiny", tokenizer.vocab_size, num_hidden_layers=1, **changes)
    return Transformer(config, seed=3)


def pretrainer(tokenizer, device):
    corpus = Corpus.of(tokenizer, TEXTS)
    config = PretrainConfig(steps=8, rows=4, length=12, learn=LearnConfig(dtype="float32"))
    return PretrainTrainer(model_of(tokenizer).to(device), corpus, corpus, config, seed=1)


def test_a_step_of_pretraining_crosses_three_times_at_most(second, tokenizer):
    import second_device

    theirs, ours = pretrainer(tokenizer, torch.device("cpu")), pretrainer(tokenizer, second)
    for _ in range(3):
        expected = theirs.update()
        with second_device.crossings() as found:
            metrics = ours.update()
        assert found.total <= 3, found
        assert metrics == pytest.approx(expected, rel=1e-4)
    for mine, plain in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        assert mine.device.type == second.type
        torch.testing.assert_close(mine.cpu(), plain, rtol=1e-3, atol=1e-5)
    bits = bits_per_byte(ours.model, ours.heldout, length=12, dtype=torch.float32)
    assert bits == pytest.approx(theirs.evaluate()["eval/bits_per_byte"], rel=1e-4)


def test_generation_is_the_processors_and_looks_at_its_tokens_now_and_then(second, tokenizer):
    import second_device

    model = model_of(tokenizer)
    prompts = [[0, 5, 9], [0, 7], [0, 8, 9, 11, 12]]
    options = {"max_new_tokens": 40, "stop": [tokenizer.end_id], "seed": 4}
    expected = generate(model, prompts, **options)
    decoder = Decoder(model_of(tokenizer).to(second), dtype=torch.float32)
    with second_device.crossings() as found:
        answers = generate(decoder, prompts, **options)
    assert answers.responses.tolist() == expected.responses.tolist()
    torch.testing.assert_close(answers.logprobs, expected.logprobs, rtol=1e-3, atol=1e-4)
    assert answers.finished.tolist() == expected.finished.tolist()
    # Prompts, random numbers, and every sixteen tokens one look with what follows from it.
    assert found.total <= 2 + 3 * (40 // 16 + 1), found


def reward(texts):
    return [float(text.count("a")) for text in texts]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
@pytest.mark.parametrize(("kind", "config"), [(RLHFTrainer, RLHFConfig), (GRPOTrainer, GRPOConfig)])
def test_rounds_of_sampling_and_learning_equal_the_processors(
    second, tokenizer, kind, config, optimizer
):
    settings = config(updates=2, batch=8, max_new_tokens=6, dtype="float32", optimizer=optimizer)
    prompts = ["a", "the", "a fine", "slow"]
    metrics, weights = [], []
    for device in (torch.device("cpu"), second):
        model = model_of(tokenizer).to(device)
        trainer = kind(model, tokenizer, prompts, reward, settings, seed=2)
        metrics.append([trainer.update() for _ in range(2)])
        weights.append([p.detach().cpu() for p in trainer.policy.parameters()])
        assert next(trainer.policy.parameters()).device.type == device.type
    for mine, plain in zip(metrics[1], metrics[0], strict=True):
        assert mine == pytest.approx(plain, rel=2e-3, abs=1e-4)
    for mine, plain in zip(weights[1], weights[0], strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-3, atol=1e-4)


def test_frozen_weights_can_be_held_in_bfloat16_while_those_that_learn_stay_float32(tokenizer):
    model = model_of(tokenizer)
    held = Reference(model, weights=torch.bfloat16).model
    assert {p.dtype for p in held.parameters()} == {torch.bfloat16}
    assert held.cos.dtype == torch.float32
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    ids = torch.tensor([[0, 5, 9, 7]])
    exact, rounded = model.logits(model(ids)), held.logits(held(ids))
    torch.testing.assert_close(rounded, exact, rtol=0.1, atol=0.02)
    add_adapters(model, LoRAConfig(rank=2))
    hold_weights(model, torch.bfloat16)
    kinds = {name.rpartition(".")[2]: p.dtype for name, p in model.named_parameters()}
    assert kinds["lora_a"] == kinds["lora_b"] == torch.float32
    assert kinds["weight"] == torch.bfloat16
    expected = generate(held, [[0, 5]], max_new_tokens=4, seed=1).logprobs
    assert np.isfinite(expected.numpy()).all()


@pytest.fixture(scope="module")
def finished(second, tmp_path_factory):
    """The pipeline of the smallest size, every stage with `--device second`."""
    patch = pytest.MonkeyPatch()
    patch.setitem(sizes.RECIPES, "tiny", replace(MICRO, pretrain_steps=3, sft_steps=2))
    patch.setattr(datasets, "NUM_SYNTHETIC", 80)
    folder = tmp_path_factory.mktemp("second") / "run"
    command = ["rlhf", "all", "--size", "tiny", "--data", "synthetic", "--run", str(folder)]
    machine = ["--dtype", "bfloat16", "--device", "second", "--quiet"]
    assert main([*command, *machine, "--grpo", "--skip", "best-of-n"]) == 0
    yield folder
    patch.undo()


@pytest.mark.slow
def test_the_whole_pipeline_runs_on_a_device_of_its_own(finished):
    for stage in ("pretrain", "sft", "classify", "reward", "rlhf", "grpo", "dpo"):
        run = RunDir.open(finished / stage)
        assert run.record["finished"]
        assert run.config["device"] == "second"


@pytest.mark.slow
def test_a_run_made_on_a_device_is_used_there_and_on_the_processor(finished, tmp_path, capsys):
    prompts, out = tmp_path / "prompts.txt", tmp_path / "out.json"
    prompts.write_text("a\nthe film\n")
    for device in ("second", "cpu"):
        options = ["--device", device, "--json", str(out), "--max-new-tokens", "4"]
        assert main(["rlhf", "generate", str(finished), "--prompts", str(prompts), *options]) == 0
        assert len(json.loads(out.read_text())) == 2
        options = ["--device", device, "--json", str(out)]
        assert main(["rlhf", "score", str(finished), "--texts", str(prompts), *options]) == 0
        assert all(np.isfinite(row["score"]) for row in json.loads(out.read_text()))
        policy = load(finished / "rlhf", device=device)
        assert policy.model.device.type == torch.device(device).type
        assert len(policy.act(["a", "the film"])) == 2
    judge = ["rlhf", "judge", str(finished / "dpo"), "--num-prompts", "4", "--device", "second"]
    assert main(judge) == 0
    assert main(["eval", str(finished / "grpo"), "--episodes", "4", "--device", "second"]) == 0
    capsys.readouterr()


@pytest.mark.slow
def test_an_unfinished_stage_goes_on_elsewhere(finished, tmp_path):
    base = ["--base", str(finished / "pretrain"), "--size", "tiny", "--data", "synthetic"]
    run = tmp_path / "sft"
    begin = ["rlhf", "sft", *base, "--run", str(run), "--dtype", "float32", "--quiet"]
    assert main([*begin, "--device", "second", "--steps", "2"]) == 0
    again = ["rlhf", "sft", "--resume", str(run), "--from-step", "1", "--quiet"]
    assert main([*again, "--device", "cpu"]) == 0
    assert RunDir.open(run).config["device"] == "cpu"


@pytest.mark.slow
def test_an_encoder_is_pretrained_on_a_device(finished, tmp_path):
    small = ["--size", "tiny", "--data", "synthetic", "--steps", "2", "--quiet"]
    command = ["rlhf", "pretrain", "--encoder", "--pairs", *small, "--run", str(tmp_path / "mlm")]
    assert main([*command, "--device", "second", "--dtype", "float32"]) == 0


def test_a_device_that_is_unknown_or_full_is_one_line(second, finished, tmp_path, capsys):
    import second_device

    base = ["rlhf", "sft", "--base", str(finished / "pretrain"), "--size", "tiny"]
    for device, message in (("gpu9", "unknown device"), ("cuda:77", "cannot be used here")):
        assert main([*base, "--run", str(tmp_path / device), "--device", device]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / device).exists()
    with second_device.full():
        assert main([*base, "--run", str(tmp_path / "full"), "--device", "second"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "full").exists()


def test_a_device_without_autocast_learns_in_float32_and_says_that_it_has_no_bfloat16(
    second, finished, tmp_path, capsys
):
    import second_device

    base = ["rlhf", "sft", "--base", str(finished / "pretrain"), "--size", "tiny", "--steps", "1"]
    base += ["--data", "synthetic", "--device", "second", "--quiet"]
    with second_device.plain():
        assert main([*base, "--run", str(tmp_path / "plain")]) == 0
        capsys.readouterr()
        assert main([*base, "--run", str(tmp_path / "b"), "--dtype", "bfloat16"]) == 2
    error = capsys.readouterr().err
    assert "no autocast" in error and error.count("\n") == 1
    assert not (tmp_path / "b").exists()
