"""Stages of language killed in the middle end in the same bytes as stages that were left alone.

Each is a real process of the command line, killed after its first checkpoint was seen and before
its end; the resumed run and the undisturbed one are compared file by file.
"""

import json
import signal
import time
from pathlib import Path

import forked
import pytest
import torch
from playout.agents.runs.directory import RunDir
from playout.cli import main
from playout.rlhf.data import synthetic

HELD = Path(__file__).with_name("held.py")
COMMON = ["--size", "tiny", "--dtype", "float32", "--quiet"]
BASE = ["--base", "pretrain"]
REWARD = ["--reward", "killed_stage_reward:count", "--max-new-tokens", "6"]
STAGES = {
    "pretrain": ["--text", "texts.txt", "--steps", "24", "--rows", "2", "--length", "32"],
    "sft": [*BASE, "--demonstrations", "demonstrations.jsonl", "--steps", "24", "--batch", "6"],
    "classify": [
        *BASE,
        *("--labelled", "labelled.jsonl", "--rated", "rated.jsonl", "--data", "synthetic"),
        *("--steps", "24", "--batch", "5"),
    ],
    # 23 pairs in batches of three: every pass puts others together, and the reference of DPO, asked
    # again in another batch, would answer in other bits.
    "dpo": [
        *BASE,
        *REWARD,
        *("--preferences", "pairs.jsonl", "--prompts", "prompts.txt"),
        *("--steps", "60", "--batch", "3"),
    ],
    "grpo": [
        *BASE,
        *REWARD,
        *("--prompts", "prompts.txt", "--updates", "12", "--batch", "16", "--group", "4"),
    ],
}


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working folder with small files of every kind and a pretrained model."""
    folder = tmp_path_factory.mktemp("language")
    (folder / "texts.txt").write_text("\n\n".join(synthetic.reviews(120)))
    items = synthetic.demonstrations(60)
    write_rows(
        folder / "demonstrations.jsonl",
        [{"prompt": item.prompt, "response": item.response} for item in items],
    )
    (folder / "prompts.txt").write_text("\n".join(sorted({item.prompt for item in items})))
    write_rows(
        folder / "labelled.jsonl",
        [{"text": item.text, "label": item.label} for item in synthetic.labelled(60)],
    )
    write_rows(
        folder / "rated.jsonl",
        [{"text": item.text, "ratings": item.ratings} for item in synthetic.rated(60)],
    )
    reviews = synthetic.reviews(46, seed=5)
    write_rows(
        folder / "pairs.jsonl",
        [
            {"prompt": f"number {n} :", "chosen": f" {first}", "rejected": f" {second}"}
            for n, (first, second) in enumerate(zip(reviews[::2], reviews[1::2], strict=True))
        ],
    )
    (folder / "killed_stage_reward.py").write_text(
        "def count(texts):\n    return [float(text.count('e')) for text in texts]\n"
    )
    return folder


@pytest.fixture
def working(place, monkeypatch):
    """In that folder, with one thread: sums may differ in their last bit with their number."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    if not (place / "pretrain").exists():
        assert main(["rlhf", "pretrain", *STAGES["pretrain"], *COMMON, "--run", "pretrain"]) == 0
    yield place
    torch.set_num_threads(threads)


def kill_in_the_middle(words, run):
    """Start a stage and kill it as soon as one of its runs has a checkpoint.

    None of its runs comes to its end, of twelve updates at least, before that.
    """
    process = forked.start(HELD, 11, *words, "--run", run.name)
    try:
        deadline = time.monotonic() + 300
        while not list(run.rglob("LATEST")):
            assert process.poll() is None and time.monotonic() < deadline, process.err
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    finally:
        process.kill()
    assert not json.loads((run / "run.json").read_text()).get("finished")
    done = [RunDir.open(path.parent).find().step for path in run.rglob("LATEST")]
    assert done and all(step > 0 for step in done)


def contents(run):
    """Everything that a stage leaves, by its place: metrics without clocks, files as bytes."""
    found = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.name == "LATEST":
            entry = RunDir.open(path.parent).find()
            found[f"{name} files"] = {file: digest for file, (_, digest) in entry.files.items()}
        elif path.name == "metrics.jsonl":
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [
                {key: value for key, value in row.items() if not key.startswith("time/")}
                for row in rows
            ]
        elif {"checkpoints", "tb"}.intersection(path.parts) or path.name == "run.json":
            continue  # digests stand for the first; the others tell of clocks
        elif path.suffix in (".json", ".safetensors"):
            found[name] = path.read_bytes()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_killed_in_the_middle_ends_as_one_that_was_not(stage, working):
    words = ["rlhf", stage, *STAGES[stage], *COMMON]
    whole, killed = working / f"{stage}-whole", working / f"{stage}-killed"
    assert main([*words, "--run", whole.name]) == 0
    kill_in_the_middle(words, killed)
    assert main(["rlhf", stage, "--resume", killed.name, "--quiet"]) == 0
    expected, found = contents(whole), contents(killed)
    assert expected.keys() == found.keys()
    assert any("model.safetensors" in key or "LATEST" in key for key in expected)
    for name, value in expected.items():
        assert found[name] == value, name
