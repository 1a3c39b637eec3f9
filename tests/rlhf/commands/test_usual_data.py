"""Movie reviews are nobody's data by accident; stages measure on the prompts that they were given.

A published or a chat model is not trained on what comes with playout because a flag was forgotten.
"""

import json
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import playout
import pytest
import torch
from playout.cli import main
from playout.errors import ConfigError, DataError
from playout.rlhf.commands import policy_stage
from playout.rlhf.commands.learn import dpo
from playout.rlhf.data.conversations import prompt_text
from playout.rlhf.evaluation.comparison import comparison_of, own_prompts
from playout.rlhf.evaluation.suites.material import training_text
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.folder import export_model
from playout.rlhf.supervised.dpo import DPOTrainer
from small_language import chat_tokenizer, small_model

BASE = Path(__file__).parents[2] / "fixtures" / "runs" / "pretrain"
FEW = {"size": "tiny", "dtype": "float32", "quiet": True, "lora_rank": 1}
PAIRS = [
    {"prompt": f"the {word}", "chosen": " sat", "rejected": " cat"} for word in ("cat", "user")
]


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    """The folder of an untrained chat model."""
    folder = tmp_path_factory.mktemp("chat") / "model"
    tokenizer = chat_tokenizer("chatml")
    export_model(folder, small_model(tokenizer), tokenizer)
    return folder


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["sft"], "name demonstrations: --data FILE"),
        (["reward"], "name votes: --preferences FILE or --rated FILE"),
        (["classify"], "name labelled texts: --data FILE"),
        (["pretrain"], "name texts: --text FILE"),
        (["grpo", "--reward", "builtins:len"], "name prompts: --prompts FILE"),
        (["rlhf", "--reward", "builtins:len"], "name prompts: --prompts FILE"),
        (["dpo", "--reward", "builtins:len"], "name prompts: --prompts FILE"),
        (["best-of-n", "--reward", "builtins:len"], "name prompts: --prompts FILE"),
    ],
)
def test_a_chat_model_learns_from_reviews_by_their_name_only(words, flag, chat, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["rlhf", *words, "--base", str(chat), "--run", str(run)]) == 2
    error = capsys.readouterr().err
    assert flag in error and "--data real" in error and error.count("\n") == 1
    assert not run.exists()


@pytest.mark.slow
def test_a_model_of_playouts_goes_on_with_reviews_and_any_model_where_they_are_named(
    chat, tmp_path
):
    few = ["--size", "tiny", "--steps", "1", "--batch", "2", "--dtype", "float32", "--quiet"]
    few += ["--data", "synthetic"]
    assert main(["rlhf", "sft", "--base", str(chat), "--run", f"{tmp_path}/a", *few]) == 0
    assert main(["rlhf", "sft", "--base", str(BASE), "--run", f"{tmp_path}/b", *few]) == 0
    assert main(["rlhf", "sft", "--resume", f"{tmp_path}/a", "--quiet"]) == 0
    # A folder that no run holds is somebody else's, and so is one that a stage made of it.
    bare = tmp_path / "bare"
    bare.symlink_to(BASE / "model")
    assert main(["rlhf", "sft", "--base", str(bare), "--run", f"{tmp_path}/c"]) == 2
    assert main(["rlhf", "sft", "--base", f"{tmp_path}/a", "--run", f"{tmp_path}/c"]) == 2
    assert not (tmp_path / "c").exists()


def test_a_text_too_short_for_a_row_leaves_no_run(tmp_path):
    with pytest.raises(DataError, match="fewer than a row of 97; give more text or a smaller"):
        playout.pretrain(["a b c"] * 3, size="tiny", steps=1, quiet=True, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_dpo_with_a_reward_is_measured_on_the_prompts_of_its_pairs(chat, tmp_path):
    seen = []

    def reward(prompts):
        seen.extend(prompt[-1]["content"] for prompt in prompts)
        return [float(len(prompt)) for prompt in prompts]

    few = {"steps": 1, "batch": 2, "max_new_tokens": 3, **FEW}
    run = playout.dpo(chat, PAIRS, reward_fn=reward, run=tmp_path / "run", **few)
    assert set(seen) == {"the cat", "the user"} and run.config["material"] == "files"


MANY = [{**PAIRS[0], "prompt": f"the {a} {b}"} for a in "cats" for b in "abcdefghijklmno"]


@pytest.fixture
def learned(monkeypatch):
    """The prompts of the pairs that each trainer of DPO is given, as texts."""
    found, init = [], DPOTrainer.__init__

    def noted(self, model, tokenizer, pairs, config, **named):
        found.append([prompt_text(pair.prompt) for pair in pairs])
        init(self, model, tokenizer, pairs, config, **named)

    monkeypatch.setattr(DPOTrainer, "__init__", noted)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("named", ["pairs", "prompts"])
def test_dpo_learns_from_no_pair_about_a_prompt_that_it_is_measured_on(
    named, chat, learned, tmp_path, capsys
):
    few = {"steps": 1, "batch": 2, "max_new_tokens": 3, **FEW}
    if named == "prompts":
        few["prompts"] = tmp_path / "asked.jsonl"
        few["prompts"].write_text("".join(json.dumps({"prompt": r["prompt"]}) + "\n" for r in MANY))
    rows = [*MANY, {**PAIRS[1], "prompt": "cat " * 200}, {**PAIRS[1], "prompt": "THE  c a"}]
    few["reward_fn"] = reward = lambda texts: [float(len(text)) for text in texts]
    run = playout.dpo(chat, rows, run=tmp_path / "run", **few)
    judged = comparison_of(run.path, reward="builtins:len", num_prompts=999).evaluator
    asked = {prompt_text(prompt) for prompt in judged.prompts}
    assert 5 < len(asked) < 20 and asked.isdisjoint(learned[0])
    assert {row["prompt"] for row in rows} - asked <= {*learned[0], "THE  c a"}
    assert ("the c a" in asked) == ("THE  c a" not in learned[0])
    said = capsys.readouterr().err
    assert f"{len(rows) - len(learned[0])} of {len(rows)} pairs are about prompts that are" in said
    playout.dpo(resume=run.path, reward_fn=reward, quiet=True)
    assert learned[1] == learned[0]


@pytest.mark.slow
def test_a_run_of_dpo_of_earlier_versions_goes_on_with_all_its_pairs(
    chat, learned, tmp_path, monkeypatch, capsys
):
    few = {"steps": 1, "batch": 2, "max_new_tokens": 3, **FEW}
    few["reward_fn"] = reward = lambda texts: [float(len(text)) for text in texts]
    with monkeypatch.context() as patched:
        patched.setattr(dpo, "_not_held_out", lambda stage, pairs: pairs)
        run = playout.dpo(chat, MANY, run=tmp_path / "run", **few)
    playout.dpo(resume=run.path, reward_fn=reward, quiet=True)
    assert [len(texts) for texts in learned] == [len(MANY)] * 2
    playout.dpo(chat, MANY[:30], run=tmp_path / "handful", **few)
    assert len(learned[-1]) == 30
    assert "none of 30 prompts are held out: all serve for both" in capsys.readouterr().err
    held = learned[0], tmp_path / "asked.txt"
    held[1].write_text("\n".join(held[0]))
    asked = own_prompts(run, Tokenizer.load(run.path / "model"), 99)[1]
    with pytest.raises(DataError, match="all pairs are about prompts that are held out"):
        rows = [{**PAIRS[0], "prompt": row["prompt"]} for row in asked]
        playout.dpo(chat, rows, prompts=held[1], run=tmp_path / "none", **few)
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_a_policy_of_pairs_alone_is_judged_on_those_that_it_held_out(
    chat, learned, tmp_path, capsys
):
    few = {"steps": 1, "batch": 2, "max_new_tokens": 3, **FEW}
    run = playout.dpo(chat, [{**row, "margin": 0.5} for row in MANY], run=tmp_path / "run", **few)
    assert "60 of 60 pairs have a margin: only reward takes it in" in capsys.readouterr().err
    judged = comparison_of(run.path, reward="builtins:len", num_prompts=999).evaluator
    asked = {prompt_text(prompt) for prompt in judged.prompts}
    assert asked and asked == {row["prompt"] for row in MANY} - set(learned[0])
    assert all(not isinstance(prompt, str) for prompt in judged.prompts)  # as in training
    texts = training_text(run.path).train
    assert len(texts) == 2 * len(learned[0])


@pytest.mark.parametrize("stage", ["grpo", "dpo"])
def test_policies_are_compared_on_prompts_of_their_own(stage, chat, tmp_path, monkeypatch):
    rows = [
        *PAIRS,
        *({**PAIRS[0], "prompt": f"the {a} {b}"} for a in "cats" for b in "abcdefghijklm"),
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "lengths_of_texts.py").write_text(
        "def size(texts):\n    return [*map(len, texts)]\n"
    )
    monkeypatch.chdir(tmp_path)
    words = ["--data", str(file), "--reward", "lengths_of_texts:size", "--run", "run", "--quiet"]
    words += ["--size", "tiny", "--dtype", "float32", "--max-new-tokens", "3", "--lora-rank", "1"]
    words += ["--updates", "1"] if stage == "grpo" else ["--steps", "1"]
    words += ["--batch", "2"] if stage == "dpo" else ["--batch", "4", "--group", "2"]
    assert main(["rlhf", stage, "--base", str(chat), *words]) == 0
    asked = comparison_of(Path("run")).evaluator.prompts
    texts = {prompt[-1]["content"] for prompt in asked}
    assert texts < {row["prompt"] for row in rows} and 0 < len(texts) < len(rows) / 2


def test_a_pair_whose_prompt_has_no_room_is_learned_and_not_measured(chat, tmp_path, capsys):
    rows = [*PAIRS, {**PAIRS[0], "prompt": "cat " * 200}]
    few = {
        "steps": 1,
        "batch": 2,
        "max_new_tokens": 3,
        "reward_fn": lambda texts: [1.0] * len(texts),
    }
    playout.dpo(chat, rows, run=tmp_path / "run", **few, **FEW)
    assert "1 of 3 prompts leave no room for an answer" in capsys.readouterr().err


@pytest.mark.slow
def test_of_pairs_the_same_prompts_are_measured_in_training_on_resume_and_later(
    chat, tmp_path, monkeypatch, capsys
):
    (tmp_path / "lengths_of_answers.py").write_text(
        "def size(texts):\n    return [*map(len, texts)]\n"
    )
    monkeypatch.chdir(tmp_path)
    # Of some the prompt fits, but no answer behind it.
    rows = [{**PAIRS[0], "prompt": "cat " * number} for number in range(1, 117, 3)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--data", "rows.jsonl", "--reward", "lengths_of_answers:size", "--run", "run"]
    words += ["--size", "tiny", "--dtype", "float32", "--max-new-tokens", "30", "--lora-rank", "1"]
    words += ["--steps", "1", "--batch", "2", "--quiet"]
    assert main(["rlhf", "dpo", "--base", str(chat), *words]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "leave no room" in line]
    assert len(said) == 1
    assert main(["rlhf", "dpo", "--resume", "run", "--quiet"]) == 0
    assert said[0] in capsys.readouterr().err
    asked = comparison_of(Path("run")).evaluator.prompts
    assert f"{39 - len(asked)} of 39 prompts" in said[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--env", "game:tic_tac_toe", "--prompts", __file__], "not both: an environment asks"),
        (["--env", "game:tic_tac_toe", "--data", __file__], "not both: an environment asks"),
        (["--prompts", __file__, "--env-options", "size=3"], "--env-options belong to an"),
        (
            ["--env", "game:tic_tac_toe", "--env-options", "rules=false", "--temperature", "0"],
            "a temperature above 0",
        ),
    ],
)
def test_what_a_stage_would_leave_aside_is_refused(words, message, chat, tmp_path, capsys):
    given = ["--base", str(chat), "--reward", "statistics:mean", "--run", f"{tmp_path}/run"]
    few = ["--size", "tiny", "--quiet", "--eval-episodes", "1", "--max-new-tokens", "2"]
    reward = [] if "--temperature" in words else given[2:4]
    assert main(["rlhf", "grpo", *given[:2], *reward, *given[4:], *few, *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "run").exists()


def test_a_cut_policy_is_not_copied_for_a_baseline_that_is_there(tmp_path, monkeypatch):
    (tmp_path / "baseline.json").write_text('{"reward": 2.5}')
    monkeypatch.setattr(policy_stage, "is_sharded", lambda model: True)
    stage = policy_stage.PolicyStage(
        SimpleNamespace(path=tmp_path), None, None, [], None, None, torch.float32
    )
    assert stage.baseline() == {"reward": 2.5}


def test_a_single_prompt_is_measured_without_a_word_of_the_library(tmp_path):
    few = {"batch": 2, "max_new_tokens": 1, "updates": 1, **FEW}
    given = {"reward_fn": lambda texts: [1.0] * len(texts), "run": tmp_path / "run"}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        run = playout.grpo(BASE, ["the plot"], group=2, **given, **few)
    assert json.loads((run.path / "baseline.json").read_text())["reward"] == 1.0


def test_functions_and_conversations_are_given_from_python_as_they_are(chat, tmp_path):
    asked = []

    def ones(texts):
        return [1.0] * len(texts)

    def seen(prompts):
        asked.extend(prompts)
        return [2.0] * len(prompts)

    talk = [{"role": "system", "content": "sat"}, {"role": "user", "content": "the"}]
    few = {"batch": 2, "group": 2, "max_new_tokens": 1, "updates": 1, **FEW}
    several = playout.grpo(
        chat, [talk], reward=[ones, seen], reward_weights="1,0.25", run=tmp_path / "a", **few
    )
    assert json.loads((several.path / "baseline.json").read_text())["reward"] == 1.5
    assert [dict(message) for message in asked[0]] == talk
    one = playout.grpo(chat, ["the"], reward=ones, run=tmp_path / "b", **few)
    assert json.loads((one.path / "baseline.json").read_text())["reward"] == 1.0
    for given, message in (
        ({"reward_fn": 5}, "a reward is a function or a list of functions, not 5"),
        ({"reward": [ones, "a:b"]}, "a reward is a function or a list of functions, not list"),
        ({"prompts": 5, "reward_fn": ones}, "a list of rows, not int"),
        ({"env": object(), "reward_fn": ones}, "give what makes them"),
    ):
        with pytest.raises(ConfigError, match=message):
            playout.grpo(chat, run=tmp_path / "c", **{"prompts": ["the"], **given}, **few)
    assert not (tmp_path / "c").exists()


def test_the_folder_of_a_model_is_loaded_as_a_run_is(chat, tmp_path):
    player = playout.load(chat, device="cpu")
    (answer,) = player.answer([[{"role": "user", "content": "the cat"}]])
    assert player.name == "model" and 0 < len(answer.tokens) <= 64 == player.max_new_tokens
    few = {"steps": 1, "batch": 2, **FEW}
    scorer = playout.load(playout.reward(chat, PAIRS, run=tmp_path / "r", **few).path / "model")
    assert len(scorer.act(["the cat", "sat"])) == 2
    for act in (player.act, scorer.act):
        with pytest.raises(ConfigError, match="a list of texts or conversations, not a single"):
            act("the cat")
    for wrong, message in (
        ([3], "prompt 0 is neither a text nor a list of messages but int"),
        ([{"role": "user", "content": "x"}], "prompt 0 is neither a text nor .* but dict"),
        ([[{"role": "human", "content": "x"}]], "prompt 0: message 1 has the role 'human'"),
    ):
        with pytest.raises(DataError, match=message):
            player.act(wrong)
    sft = playout.sft(chat, [{"prompt": "a", "response": "b"}], run=tmp_path / "s", **few)
    adapters, merged = (playout.load(sft.path / name) for name in ("adapter", "model"))
    asked = ["the cat"]
    assert adapters.act(asked) == merged.act(asked)


@pytest.mark.parametrize("stage", ["grpo", "rlhf", "dpo"])
@pytest.mark.parametrize("base", ["chat", "plain"])
def test_every_prompt_without_room_is_found_at_the_start_by_its_line(
    stage, base, chat, tmp_path, capsys
):
    file = tmp_path / "asked.jsonl"
    lines = [{"prompt": "the cat"}] * 3 + [{"prompt": "cat " * 200}]
    file.write_text("\n\n".join(json.dumps(line) for line in lines))
    words = ["--base", str(chat if base == "chat" else BASE), "--prompts", str(file)]
    words += ["--reward", "statistics:mean", "--max-new-tokens", "3", "--run", f"{tmp_path}/run"]
    assert main(["rlhf", stage, *words, "--size", "tiny"]) == 2
    error = capsys.readouterr().err
    assert f"{file}, line 7: the prompt has" in error and "there is room for 125" in error
    assert error.count("\n") == 1 and not (tmp_path / "run").exists()


def test_a_row_that_the_template_refuses_is_named(chat, tmp_path, capsys):
    folder = tmp_path / "strict"
    shutil.copytree(chat, folder, ignore=shutil.ignore_patterns("MANIFEST.json"))
    rule = "{% if messages[0].content == 'b' %}{{ raise_exception('no b') }}{% endif %}x"
    (folder / "chat_template.jinja").write_text(rule)
    rows = [
        {"prompt": word, "chosen": "sat", "rejected": "cat", "response": "sat"} for word in "ab"
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = ["--run", f"{tmp_path}/run"]
    for words in (["sft", "--data"], ["dpo", "--preferences"], ["grpo", "--prompts"]):
        extra = ["--reward", "statistics:mean"] if words[0] == "grpo" else []
        assert main(["rlhf", *words, str(file), "--base", str(folder), *extra, *run]) == 2
        error = capsys.readouterr().err
        assert "no b (the conversation that ends in 'b')" in error and error.count("\n") == 1
    assert f"{file}, line 2: the chat template" in error and not (tmp_path / "run").exists()
