"""Options of language stages: what means nothing is one line, and no run is made for it."""

import json
import re
from dataclasses import replace
from pathlib import Path

import playout
import pytest
import torch
from playout.cli import main
from playout.errors import ConfigError
from playout.rlhf.commands.learn import classify, dpo, grpo, pretrain, reward, rlhf, sft
from playout.rlhf.commands.options import check_numbers, data_file
from playout.rlhf.stages import sizes
from playout.rlhf.supervised.pretrain import PretrainConfig
from playout.rlhf.supervised.sft import usual_rate

BASE = Path(__file__).parents[2] / "fixtures" / "runs" / "pretrain"
STAGES = {
    m.__name__.rpartition(".")[2]: m for m in (classify, dpo, grpo, pretrain, reward, rlhf, sft)
}


def refused(words, tmp_path, capsys):
    """The one line that a command ends with."""
    assert main(["rlhf", *words, "--run", f"{tmp_path}/run", "--quiet"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and not (tmp_path / "run").exists()
    return error


WRONG = [
    ("steps", -5, "--steps must be at least 0, not -5"),
    ("updates", -1, "--updates must be at least 0, not -1"),
    ("batch", -3, "--batch must be at least"),
    ("rows", 0, "--rows must be at least 1, not 0"),
    ("length", -4, "--length must be at least 0, not -4"),
    ("group", 0, "--group must be at least 1, not 0"),
    ("minibatch", 0, "--minibatch must be at least 1, not 0"),
    ("samples", 0, "--samples must be at least 1, not 0"),
    ("lora_rank", -1, "--lora-rank must be at least 0, not -1"),
    ("learning_rate", 0.0, "--learning-rate must be positive, not 0.0"),
    ("learning_rate", float("nan"), "--learning-rate must be positive, not nan"),
    ("weight_decay", -0.1, "--weight-decay must be 0 or more, not -0.1"),
]


@pytest.mark.parametrize("stage", STAGES)
def test_counts_and_rates_that_mean_nothing_are_named(stage):
    command = STAGES[stage].Command
    known = command.__dataclass_fields__
    wrong = [row for row in WRONG if row[0] in known]
    # A rate of 0 stands for the usual one where that is the default.
    wrong = [row for row in wrong if row[0] != "learning_rate" or known[row[0]].default != 0]
    assert len(wrong) >= 3
    for flag, value, message in wrong:
        with pytest.raises(ConfigError, match=re.escape(message)):
            command(**{flag: value})


def test_every_default_is_allowed_and_zero_where_it_stands_for_the_size():
    for module in STAGES.values():
        check_numbers(module.Command())
    assert rlhf.Command(updates=0, batch=0, value_warmup=0, missing_end_penalty=-1.0, kl_target=0.0)


def test_data_is_a_name_or_a_file_and_not_both(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text("")
    assert data_file("auto") == data_file("synthetic") == ""
    assert data_file("real", "b.jsonl", "--text") == "b.jsonl"
    assert data_file(str(file)) == str(file)
    with pytest.raises(ConfigError, match="not both"):
        data_file(str(file), "b.jsonl", "--text")
    with pytest.raises(ConfigError, match=r"or a file that exists; not 'c\.jsonl'"):
        data_file("c.jsonl")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dpo", "--base", str(BASE)], "name pairs of answers"),
        (["dpo", "--preferences", "{pairs}"], "name the policy to start from"),
        (
            ["dpo", "--base", str(BASE), "--preferences", "{pairs}", "--prompts", "{pairs}"],
            "give --reward, too",
        ),
        (
            [
                "dpo",
                "--base",
                str(BASE),
                "--preferences",
                "{pairs}",
                "--kind",
                "ipo",
                "--label-smoothing",
                "0.3",
            ],
            "--label-smoothing is for --kind dpo",
        ),
        (["pretrain", "--text", "{pairs}", "--pairs"], "give --encoder, too"),
        (["pretrain", "--text", "{pairs}", "--mask", "0.3"], "give --encoder, too"),
        (["pretrain", "--text", "{pairs}", "--encoder", "--mask", "1"], "between 0 and 1, not 1"),
        (["pretrain", "--text", "{pairs}", "--encoder", "--compile"], "--compile is for decoders"),
        (
            ["reward", "--base", str(BASE), "--data", "{pairs}", "--policy", "gone"],
            "gone does not exist",
        ),
        (["sft", "--base", str(BASE), "--data", "{pairs}"], "there is no field 'response'"),
        (["sft", "--base", str(BASE), "--data", "gone.jsonl"], "or a file that exists"),
        (["grpo", "--base", str(BASE), "--prompts", "{pairs}"], "name the reward"),
    ],
)
def test_what_is_missing_is_said_in_one_line(words, message, tmp_path, capsys):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n')
    assert message in refused([word.format(pairs=pairs) for word in words], tmp_path, capsys)


def test_dpo_on_own_pairs_asks_for_no_reward_and_measures_held_out_pairs(tmp_path, capsys):
    rows = [
        {"prompt": f"{a} {b}", "chosen": " good", "rejected": " bad"}
        for a in "abcdefgh"
        for b in "abcdefgh"
    ]
    file, run = tmp_path / "pairs.jsonl", tmp_path / "dpo"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--preferences", str(file), "--run", str(run), "--size", "tiny", "--dtype", "float32"]
    words += ["--steps", "12", "--batch", "16", "--learning-rate", "3e-3", "--quiet"]
    assert main(["rlhf", "dpo", "--base", str(BASE), *words]) == 0
    measured = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    found = [row["eval/accuracies"] for row in measured if "eval/accuracies" in row]
    assert found[-1] == 1.0  # the word is the same in every pair: held-out ones are learned too
    assert (run / "model" / "model.safetensors").exists() and list((run / "samples").iterdir())
    assert main(["eval", str(run)]) == 0
    assert "eval/accuracies: 1" in capsys.readouterr().out


@pytest.mark.parametrize(("given", "longest"), [(0, 24), (5, 5)])
def test_samples_of_dpo_on_own_pairs_are_as_long_as_is_asked_for(given, longest, monkeypatch):
    monkeypatch.setitem(sizes.RECIPES, "tiny", replace(sizes.RECIPES["tiny"], response_length=24))
    command = dpo.Command(size="tiny", max_new_tokens=given)
    assert dpo._config(command).max_new_tokens == longest


def test_where_no_prompt_has_room_scores_are_normalised_on_held_out_texts(tmp_path, capsys):
    pairs = [
        {"prompt": "the film " * 200 + str(n), "chosen": "a", "rejected": "b"} for n in range(4)
    ]
    few = {"size": "tiny", "dtype": "float32", "quiet": True, "steps": 1, "truncate": "left"}
    run = playout.reward(BASE, pairs, policy=str(BASE), run=tmp_path / "run", **few)
    assert run.record["finished"] and (run.path / "table.json").exists()
    assert "no prompt leaves room for an answer of --policy" in capsys.readouterr().err


def test_a_reward_model_or_an_encoder_is_not_asked_to_write(tmp_path, capsys):
    few = ["--size", "tiny", "--dtype", "float32", "--quiet", "--steps", "2"]
    pairs, texts = tmp_path / "pairs.jsonl", tmp_path / "texts.txt"
    pairs.write_text(
        "".join(f'{{"prompt": "p{n}", "chosen": "a", "rejected": "b"}}\n' for n in range(40))
    )
    texts.write_text("\n\n".join(f"the film number {n} was good" for n in range(200)))
    reward, encoder = tmp_path / "reward", tmp_path / "encoder"
    command = ["rlhf", "reward", "--base", str(BASE), "--data", str(pairs)]
    assert main([*command, "--run", str(reward), *few]) == 0
    command = ["rlhf", "pretrain", "--encoder", "--text", str(texts), "--length", "16"]
    assert main([*command, "--run", str(encoder), *few]) == 0
    capsys.readouterr()
    asked = ["--prompts", str(texts)]
    for place in (reward, reward / "model"):
        assert main(["rlhf", "generate", str(place), *asked]) == 2
        assert "is a reward model, which scores texts" in capsys.readouterr().err
    assert main(["rlhf", "generate", str(encoder), *asked]) == 2
    assert "is an encoder, which writes no text" in capsys.readouterr().err
    assert main(["rlhf", "sft", "--base", str(reward), "--data", str(pairs)]) == 2
    capsys.readouterr()
    assert main(["rlhf", "score", str(reward), "--texts", str(texts)]) == 0
    capsys.readouterr()
    assert main(["rlhf", "score", str(BASE / "model"), "--texts", str(texts)]) == 2
    assert "writes text and gives it no score" in capsys.readouterr().err


def test_large_models_are_fine_tuned_more_slowly_and_adapters_are_not():
    def layer(inputs, outputs):
        return torch.nn.Linear(inputs, outputs, bias=False, device="meta")

    large = layer(8192, 16384)  # as many numbers as SmolLM2's smallest
    assert usual_rate(layer(64, 64)) == 5e-4
    assert usual_rate(large) == pytest.approx(1.365e-4, rel=1e-3)
    assert usual_rate(large.requires_grad_(False)) == 5e-4


def test_as_much_is_masked_by_the_command_as_by_the_library():
    """The flag's default stands in a module without torch, by itself."""
    assert pretrain.Command().mask == PretrainConfig().mask
