"""What stages say of their data: where it holds, and once all else is known to be right."""

import json
from pathlib import Path

import pytest
from playout.cli import main
from playout.rlhf.evaluation.suites.material import training_text
from playout.rlhf.model.folder import export_model
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from small_language import chat_tokenizer

BASE = Path(__file__).parents[2] / "fixtures" / "runs" / "pretrain"
FEW = ["--size", "tiny", "--dtype", "float32", "--quiet", "--steps", "1", "--batch", "4"]
SPACE = "a space was put between the prompt and the answer"
HELD = "are held out: all serve for both"
ANSWERED = [{"prompt": f"the {word}", "response": "rests"} for word in ("plot", "cast", "end")]
PAIRS = [{"prompt": f"the {word}", "chosen": "is", "rejected": "was"} for word in ("film", "end")]
ROWS = {"sft": ANSWERED, "dpo": PAIRS, "reward": PAIRS}


@pytest.fixture
def files(tmp_path):
    """A file of rows for each stage."""
    found = {}
    for stage, rows in ROWS.items():
        found[stage] = tmp_path / f"{stage}.jsonl"
        found[stage].write_text("".join(json.dumps(row) + "\n" for row in rows))
    return found


def run_stage(stage, files, tmp_path, *words, base=BASE):
    file, run = str(files[stage]), str(tmp_path / "run")
    return main(["rlhf", stage, "--base", str(base), "--data", file, "--run", run, *words])


@pytest.mark.parametrize("stage", ROWS)
def test_spaces_and_what_is_not_held_out_are_said_once(stage, files, tmp_path, capsys):
    assert run_stage(stage, files, tmp_path, *FEW) == 0
    said = capsys.readouterr().err
    assert said.count(SPACE) == 1 and said.count(HELD) == 1


def test_without_joining_nothing_is_said_of_spaces_nor_where_a_model_is_asked(
    files, tmp_path, capsys
):
    assert run_stage("sft", files, tmp_path, *FEW, "--join", "none") == 0
    assert SPACE not in capsys.readouterr().err
    assert main(["rlhf", "sft", "--resume", str(tmp_path / "run"), "--join", "space"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    words = ["--suite", "pairs", "--episodes", "4", "--dtype", "float32"]
    assert main(["eval", str(tmp_path / "run"), *words]) == 0
    assert HELD not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stage", "words", "message"),
    [
        ("sft", ["--epochs", "1"], "not both"),
        ("sft", ["--pattern", "heads"], "needs --sparsity"),
        ("sft", ["--divergence", "jsd"], "--divergence does nothing without --teacher"),
        ("sft", ["--max-length", "1"], "--max-length 1 leaves nothing of a text"),
        ("sft", ["--max-length", "3", "--truncate", "error"], "longer than 3 tokens"),
        ("sft", ["--lora-dropout", "0.5"], "needs --lora-rank"),
        ("dpo", ["--lora-targets", "nothing", "--lora-rank", "2"], "nothing"),
        ("dpo", ["--max-length", "3", "--truncate", "error"], "longer than 3 tokens"),
        ("dpo", ["--kind", "ppo"], "ppo"),
        ("reward", ["--train-layers", "99"], "99 cannot be trained"),
        ("reward", ["--device", "cuda:77"], "cuda:77"),
    ],
)
def test_a_wrong_call_is_one_line(stage, words, message, files, tmp_path, capsys):
    assert run_stage(stage, files, tmp_path, *FEW, *words) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        (["--near", "0.5", "--dedup", "exact"], "--dedup near"),
        (["--like-share", "0.2"], "--like FILE"),
        (["--router-z", "0.1"], "--experts"),
        (["--pattern", "heads"], "--sparsity"),
        (["--teacher-temperature", "2"], "--teacher"),
    ],
)
def test_of_pretraining_no_option_is_taken_that_does_nothing(words, needed, tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("the cat sat.\n\nthe dog ran.")
    given = ["--text", str(tmp_path / "texts.txt"), "--size", "tiny"]
    assert main(["rlhf", "pretrain", *given, *words, "--run", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {words[0]} ") and needed in said and said.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("stage", ROWS)
def test_a_message_runs_into_no_other(stage, files, tmp_path, capsys):
    tokenizer = chat_tokenizer("chatml")
    shape = TransformerConfig(
        tokenizer.vocab_size, 32, 64, 1, 2, 2, max_position_embeddings=96,
        pad_token_id=tokenizer.pad_id, eos_token_id=tokenizer.end_id,
    )  # fmt: skip
    export_model(tmp_path / "chat", Transformer(shape, seed=1), tokenizer)
    assert run_stage(stage, files, tmp_path, *FEW, base=tmp_path / "chat") == 0
    said = capsys.readouterr().err
    assert SPACE not in said and HELD in said


@pytest.mark.parametrize("option", ["--text", "--data", "--corpus"])
@pytest.mark.parametrize("filters", [[], ["--dedup", "near"]])
def test_a_handful_of_texts_serves_for_both_however_they_are_given(
    option, filters, tmp_path, capsys
):
    file, run = tmp_path / "few.txt", str(tmp_path / "run")
    texts = [
        f"{word} number {n} is told apart here" for n, word in enumerate(("sun", "sea", "oak"))
    ]
    file.write_text("\n\n".join(texts))
    words = ["--size", "tiny", "--dtype", "float32", "--quiet", "--steps", "1", "--length", "16"]
    if option == "--data":
        file = file.with_suffix(".jsonl")
        file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    given = f"{file}:1" if option == "--corpus" else str(file)
    assert main(["rlhf", "pretrain", option, given, "--run", run, *words, *filters]) == 0
    assert capsys.readouterr().err.count(f"none of 3 records {HELD}") == 1
    found = training_text(tmp_path / "run")
    assert found.train == found.heldout == texts
