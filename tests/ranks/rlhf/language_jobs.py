"""Stages of language as they are typed, and which of them several ranks refuse; every rank imports.

A folder holds the data of all stages and, by their names, the runs that later ones begin with.
"""

import json
from importlib import import_module

from playout.cli import main, parse, stages
from playout.errors import ConfigError
from playout.rlhf.data import synthetic
from playout.rlhf.data.records import Labelled, split_by_text

MACHINE = ("--device", "cpu", "--dtype", "float32", "--size", "tiny")
SHAPE = ("--hidden-size", 32, "--layers", 1, "--heads", 2, "--kv-heads", 2, "--vocab-size", 290)
ROUND = ("--minibatch", 4, "--max-new-tokens", 3, "--updates", 2, "--epochs", 1)
# stage: what it begins with, its data, its options
STAGES = {
    "sft": ("pretrain", "--data", "--steps", 3),
    "classify": ("pretrain", "--labelled", "--steps", 2),
    "reward": ("pretrain", "--preferences", "--steps", 2),
    "dpo": ("sft", "--preferences", "--steps", 2),
    "grpo": ("sft", "--prompts", *ROUND, "--group", 2, "--reward", "reward"),
    "rlhf": ("sft", "--prompts", *ROUND, "--value-warmup", 1, "--reward", "reward"),
}
GAMES = """
import sys
from playout.cli import main
from playout.rlhf.games import recipe
from playout.rlhf.games.data import GameData
from playout.rlhf.stages import sizes

data = GameData(60, 24, 1, 12, 12, sights=40)
recipe.SIZES["tiny"] = recipe.GamesSize(data, 1e-3, 1e-4, 1e-4, 2, ("random",))
numbers = sizes.Recipe(300, "games-tiny", 128, 2, 2, 0, 0, 1, 0, 1, 6, 3, int(sys.argv[1]))
sizes.GAME_RECIPES["games-tiny"] = numbers
sys.exit(main(sys.argv[2:]))
"""
"""`playout rlhf games` with so many answers a round, and next to nothing of all else."""


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def make(folder):
    """Fill a folder with data and a pretrained model."""
    texts = synthetic.reviews(24)
    write(folder / "text.jsonl", [{"text": text} for text in texts])
    write(folder / "prompts.jsonl", [{"prompt": text[:12]} for text in texts])
    answers = [{"prompt": text[:12], "response": text[12:40]} for text in texts]
    write(folder / "data.jsonl", answers)
    pairs = [
        {"prompt": t[:8], "chosen": t[8:30], "rejected": f" no {i}"} for i, t in enumerate(texts)
    ]
    write(folder / "preferences.jsonl", pairs)
    labels = [{"text": text[:60], "label": "ab"[i % 2]} for i, text in enumerate(texts)]
    write(folder / "labelled.jsonl", labels)
    words = ["--text", folder / "text.jsonl", *SHAPE, "--steps", 2, "--rows", 4, "--length", 24]
    words = ["rlhf", "pretrain", *words, *MACHINE, "--quiet", "--run", folder / "pretrain"]
    assert main([*map(str, words)]) == 0
    few = folder / "few"
    few.mkdir()
    write(few / "data.jsonl", answers[:2])
    write(few / "preferences.jsonl", pairs[:1])
    sides = split_by_text([Labelled(**row) for row in labels], 0.2, texts=lambda x: [x.text])
    kept = [*sides[0][:2], sides[1][0]]
    write(
        few / "labelled.jsonl", [{"text": x.text, "label": "ab"[i % 2]} for i, x in enumerate(kept)]
    )


def words_of(folder, stage, run, *more, data=""):
    """The words that train a stage in a run of the folder, with its data or those of `data`."""
    base, kind, *options = STAGES[stage]
    options = [folder / one if one == "reward" else one for one in options]
    words = ["--base", folder / base, kind, folder / data / f"{kind[2:]}.jsonl", *options]
    return ["rlhf", stage, *map(str, [*words, *MACHINE, *more, "--run", folder / run])]


def refused(folder):
    """What each of three ranks is told where a step has two parts, for want of data if "few"."""
    small = dict.fromkeys(STAGES, ("--batch", 2)) | {"grpo": ("--batch", 4)}
    words = {stage: words_of(folder, stage, "refused", *more) for stage, more in small.items()}
    text = ["--text", folder / "text.jsonl", *SHAPE, "--rows", 2, *MACHINE]
    words["pretrain"] = ["rlhf", "pretrain", *map(str, [*text, "--run", folder / "refused"])]
    for stage in ("sft", "classify", "reward", "dpo"):
        words[f"few {stage}"] = words_of(folder, stage, "refused", data="few")
    found = {}
    for name, (_, stage, *options) in words.items():
        module = import_module(stages()[stage])
        try:
            module.main(parse(module.Command, options, f"playout rlhf {stage}"))
        except ConfigError as error:
            found[name] = str(error)
    return found
