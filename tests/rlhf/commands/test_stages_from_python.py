"""Stages from Python: lists in, runs out; what was given is kept, and a run goes on with it."""

import json
from pathlib import Path

import numpy as np
import playout
import pytest
from playout.agents.runs.directory import RunDir
from playout.agents.runs.metrics import read_rows
from playout.cli import main
from playout.errors import ConfigError, DataError, EnvironmentFault, RunError
from playout.rlhf.commands.learn import classify, sft
from playout.rlhf.commands.online_options import named_reward, written_weights
from playout.rlhf.commands.options import stage_command
from playout.rlhf.data.datasets import Datasets
from playout.rlhf.model.folder import load_model
from playout.rlhf.supervised.reward import RewardTrainer
from playout.rlhf.supervised.sft import SFTTrainer
from small_language import as_before

BASE = Path(__file__).parents[2] / "fixtures" / "runs" / "pretrain"
WORDS = ("film", "plot", "cast", "end")
DEMONSTRATIONS = [
    {"prompt": f"the {a} and the {b}", "response": f" was {c} ."}
    for a in WORDS
    for b in WORDS
    for c in ("good", "bad")
]
PAIRS = [
    {"prompt": f"the {a} and {b}", "chosen": " was good .", "rejected": " was bad ."}
    for a in WORDS
    for b in (*WORDS, "i", "we", "you")
]
COMMON = {"size": "tiny", "dtype": "float32", "quiet": True, "seed": 1}


def short(texts):
    return [-float(len(text)) for text in texts]


@pytest.mark.slow
def test_every_stage_takes_lists_and_returns_its_run(tmp_path):
    few = {**COMMON, "steps": 2, "batch": 8}
    texts = [f"the {a} of the {b} was {c} ." for a in WORDS for b in WORDS for c in "abcdefgh"]
    pre = playout.pretrain(texts, run=tmp_path / "pre", rows=4, length=16, steps=2, **COMMON)
    sft = playout.sft(pre, DEMONSTRATIONS, run=tmp_path / "sft", **few)
    reward = playout.reward(sft, PAIRS, run=tmp_path / "reward", **few)
    rated = [{"text": f"{a} {b}", "rating": len(b)} for a in WORDS for b in (*WORDS, "a", "story")]
    again = playout.reward(sft, rated, run=tmp_path / "rated", **few)
    labelled = [{"text": f"{a} {b}", "label": b[0]} for a in WORDS for b in WORDS[:2] * 3]
    classes = playout.classify(pre, labelled, run=tmp_path / "classes", **few)
    dpo = playout.dpo(sft, PAIRS, run=tmp_path / "dpo", **few)
    online = {"updates": 1, "batch": 8, "max_new_tokens": 4, **COMMON}
    prompts = ["the film", {"prompt": "i"}]
    grpo = playout.grpo(sft, prompts, reward_fn=short, run=tmp_path / "grpo", **online)
    ppo = playout.rlhf(sft, prompts, reward=reward, run=tmp_path / "ppo", **online)
    for run in (pre, sft, reward, again, classes, dpo, grpo, ppo):
        assert isinstance(run, RunDir) and run.record["finished"]
    for run in (sft, dpo, grpo, ppo):
        assert isinstance(playout.load(run).act(["the film"])[0], str)
    assert len(playout.load(reward).act(["good", "bad"])) == 2
    assert set(playout.load(classes).act(["film", "plot"])) <= {"f", "p"}
    kept = [json.loads(line) for line in (tmp_path / "sft" / "rows.jsonl").open()]
    assert kept == DEMONSTRATIONS


class Long:
    """The longer the answer, the better."""

    def reset(self, task, seed):
        return f"the {WORDS[seed % 4]} and the plot"

    def step(self, answer):
        return None, float(len(answer)), True


class Unsteady(Long):
    begun = 0

    def reset(self, task, seed):
        Unsteady.begun += 1
        if Unsteady.begun % 4 == 1:
            raise ValueError("a bad day")
        return super().reset(task, seed)

    def step(self, answer):
        return " and then", float(len(answer)), False


@pytest.mark.slow
def test_pairs_are_made_in_a_class_that_is_given(tmp_path):
    learn = {"steps": 60, "batch": 16, "learning_rate": 5e-3}  # answers that end are ranked
    base = playout.sft(BASE, DEMONSTRATIONS, run=tmp_path / "sft", **learn, **COMMON)
    few = {"steps": 2, "batch": 4, "num_pairs": 8, "samples": 6, "max_new_tokens": 24}
    run = playout.dpo(base, env=Long, run=tmp_path / "dpo", eval_episodes=4, **few, **COMMON)
    pairs = [json.loads(line) for line in (run.path / "pairs.jsonl").open()]
    assert pairs and all(len(pair["chosen"]) > len(pair["rejected"]) for pair in pairs)
    assert run.record["finished"]
    # Without an end of its own, and failing at times: its limits are options here as well.
    few |= {"env": Unsteady, "max_turns": 1, "eval_episodes": 6, **COMMON}
    with pytest.raises(EnvironmentFault, match="a bad day"):
        playout.dpo(base, run=tmp_path / "stops", **few)
    run = playout.dpo(base, run=tmp_path / "skips", on_failure="skip", **few)
    assert run.record["finished"] and (run.path / "pairs.jsonl").read_text()
    assert json.loads((run.path / "baseline.json").read_text())["turns"] == 1
    with pytest.raises(ConfigError, match="on_failure must be stop or skip, not 'maybe'"):
        playout.dpo(base, run=tmp_path / "maybe", on_failure="maybe", **few)


def test_a_list_and_a_file_of_the_same_rows_teach_the_same(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in DEMONSTRATIONS))
    few = {"steps": 3, "batch": 8, **COMMON}
    first = playout.sft(BASE, DEMONSTRATIONS, run=tmp_path / "list", **few)
    second = playout.sft(BASE, file, run=tmp_path / "file", **few)
    words = ["--size", "tiny", "--dtype", "float32", "--quiet", "--seed", "1", "--steps", "3"]
    command = ["rlhf", "sft", "--base", str(BASE), "--data", str(file), "--batch", "8", *words]
    assert main([*command, "--run", str(tmp_path / "command")]) == 0
    weights = [
        (Path(run) / "model" / "model.safetensors").read_bytes()
        for run in (first, second, tmp_path / "command")
    ]
    assert weights[0] == weights[1] == weights[2]


def test_a_stopped_run_goes_on_with_the_rows_that_it_was_given(tmp_path, monkeypatch):
    few = {"steps": 4, "batch": 8, **COMMON}
    whole = playout.sft(BASE, DEMONSTRATIONS, run=tmp_path / "whole", **few)
    update, calls = SFTTrainer.update, []

    def stopping(self):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return update(self)

    monkeypatch.setattr(SFTTrainer, "update", stopping)
    with pytest.raises(KeyboardInterrupt):
        playout.sft(BASE, DEMONSTRATIONS, run=tmp_path / "part", **few)
    assert main(["rlhf", "sft", "--resume", str(tmp_path / "part"), "--quiet"]) == 0
    for name in ("model.safetensors", "config.json"):
        first, second = (Path(run) / "model" / name for run in (whole, tmp_path / "part"))
        assert first.read_bytes() == second.read_bytes()
    (tmp_path / "part" / "rows.jsonl").unlink()
    with pytest.raises(RunError, match=r"rows.jsonl is gone"):
        playout.resume(tmp_path / "part", quiet=True)


def test_a_new_model_has_the_shape_that_is_asked_for_and_an_old_one_is_trained_on(tmp_path):
    texts = [f"the {a} of the {b} was {c} ." for a in WORDS for b in WORDS for c in "abcdefgh"]
    shape = {"hidden_size": 48, "layers": 1, "heads": 3, "vocab_size": 270, "context": 24}
    few = {"steps": 2, "rows": 4, **COMMON}
    run = playout.pretrain(texts, run=tmp_path / "new", microbatch=2, **shape, **few)
    model, tokenizer = load_model(run)
    config = model.config
    assert (config.hidden_size, config.intermediate_size, config.head_dim) == (48, 128, 16)
    assert (config.num_hidden_layers, config.num_attention_heads) == (1, 3)
    assert (config.max_position_embeddings, tokenizer.vocab_size) == (24, 270)
    row = json.loads((tmp_path / "new" / "metrics.jsonl").read_text().splitlines()[-1])
    assert row["step"] == 2 * 4 * 24  # rows are as long as the context
    with pytest.raises(ConfigError, match=rf"start a new run with --base {tmp_path}/new"):
        playout.resume(run, steps=4, quiet=True)
    again = playout.pretrain(texts, base=run, run=tmp_path / "on", **few)
    assert load_model(again)[0].config == config
    for wrong, words in [
        ({"heads": 5}, "multiple of 5 heads"),
        ({"kv_heads": 3}, "3 key heads do not divide"),
        ({"vocab_size": 100}, "--vocab-size must be at least 260"),
        ({"length": 999}, "do not fit a context of 128"),
        ({"base": run, "layers": 3}, "--layers shapes a new model"),
        ({"base": run, "encoder": True}, "--encoder shapes a new model"),
    ]:
        with pytest.raises(ConfigError, match=words):
            playout.pretrain(texts, run=tmp_path / "wrong", **wrong, **few)
        assert not (tmp_path / "wrong").exists()


def test_an_answer_that_many_prompts_share_is_learned_and_held_out(tmp_path):
    rows = [{"prompt": f"is {n} even?", "response": " yes" if n % 2 == 0 else " no"}
            for n in range(60)]  # fmt: skip
    train, test = Datasets("files").demonstrations(rows)
    for side in (train, test):
        assert {item.response for item in side} == {" yes", " no"}
    assert not {item.prompt for item in train} & {item.prompt for item in test}


def test_a_handful_of_pairs_is_enough_for_a_reward_model_which_says_so(tmp_path, capsys):
    few = {"steps": 2, "batch": 4, **COMMON, "quiet": False}
    playout.reward(BASE, PAIRS[:1], run=tmp_path / "reward", **few)
    said = capsys.readouterr()
    assert "none of 1 pairs are held out" in said.err
    assert "% of the pairs that it learned from" in said.out


def test_a_reward_run_of_earlier_versions_goes_on_with_the_pairs_that_it_had(tmp_path, monkeypatch):
    rows = [{"prompt": "the plot", "chosen": f" good {n}", "rejected": f" bad {n}"}
            for n in range(60)]  # fmt: skip

    counts = []
    measure = RewardTrainer.measure

    def counted(self, **options):
        counts.append((len(self.train.items), len(self.test.items)))
        return measure(self, **options)

    monkeypatch.setattr(RewardTrainer, "measure", counted)
    run = playout.reward(BASE, rows, run=tmp_path / "run", steps=1, batch=4, **COMMON)
    assert sum(counts[-1]) == 60
    as_before(run, "split")
    playout.resume(run, quiet=True)
    assert sum(counts[-1]) < 60 and min(counts[-1]) > 0


def test_a_table_is_its_rows_and_a_dictionary_is_refused():
    class Table:
        columns = ("prompt", "response")

        def to_dict(self, orient):
            assert orient == "records"
            return DEMONSTRATIONS

    assert stage_command(sft.Command, Table())[1] == DEMONSTRATIONS
    assert stage_command(sft.Command, ["one"])[1] == [{"text": "one"}]
    assert stage_command(sft.Command, Path("a.jsonl"), base="b") == (
        sft.Command(data="a.jsonl", base="b"), None
    )  # fmt: skip
    with pytest.raises(ConfigError, match="list of dictionaries, not one dictionary"):
        stage_command(sft.Command, {"prompt": ["a"]})


def test_what_a_table_lacks_is_null_and_numbers_of_numpy_are_pythons():
    class Table:
        columns = ("text", "label", "rating")

        def to_dict(self, orient):
            return [{"text": "a", "label": float("nan"), "rating": 2.0}]

    found = stage_command(classify.Command, Table())[1]
    assert found == [{"text": "a", "label": None, "rating": 2.0}]
    given = {"text": np.str_("a"), "label": np.int64(3), "ratings": [np.float32(0.5)], "n": (1,)}
    (row,) = stage_command(classify.Command, [given])[1]
    assert json.loads(json.dumps(row)) == {"text": "a", "label": 3, "ratings": [0.5], "n": [1]}
    assert stage_command(classify.Command, [("a", "b")])[1] == [("a", "b")]  # refused by readers


def test_passes_over_the_data_take_the_place_of_steps(tmp_path):
    rows = [{"prompt": f"the plot {n}", "response": " rests"} for n in range(50)]
    given = {"batch": 8, "size": "tiny", "dtype": "float32", "quiet": True}
    run = playout.sft(BASE, rows, epochs=1.5, run=tmp_path / "run", **given)
    learned = len(Datasets("files").demonstrations(rows)[0])
    steps = len((run.path / "metrics.jsonl").read_text().splitlines())
    assert 40 <= learned < 50 and steps == -(-3 * learned // 16)
    with pytest.raises(ConfigError, match="not both"):
        playout.sft(BASE, rows, epochs=1, steps=3, run=tmp_path / "two", **given)


def test_of_fewer_texts_than_a_batch_a_pass_is_a_step_of_all_of_them(tmp_path):
    given = {"size": "tiny", "dtype": "float32", "quiet": True, "epochs": 3}
    run = playout.sft(BASE, DEMONSTRATIONS[:10], run=tmp_path / "run", **given)
    assert [row["step"] for row in read_rows(run.path)] == [10, 20, 30]


def test_a_run_of_earlier_versions_goes_on_for_as_many_steps_of_few_texts(tmp_path, monkeypatch):
    given = {"size": "tiny", "dtype": "float32", "quiet": True, "epochs": 13}
    update = SFTTrainer.update

    def stopping(self):
        if self.learner.steps == 1:
            raise KeyboardInterrupt
        return update(self)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(SFTTrainer, "update", stopping)
        playout.sft(BASE, DEMONSTRATIONS[:10], run=tmp_path / "run", **given)
    run = RunDir.open(tmp_path / "run")
    with run.lock():
        run.update(config={**run.config, "epochs_of": "rows"})
    (run.path / "config.toml").unlink()
    playout.resume(run.path, quiet=True)
    assert len([*read_rows(run.path)]) == 3  # 130 / 64


def test_wrong_rows_leave_no_run_behind(tmp_path):
    rows = [*DEMONSTRATIONS, {"prompt": "x"}]
    with pytest.raises(DataError, match=r"row 33: there is no field 'response'"):
        playout.sft(BASE, rows, run=tmp_path / "new", **COMMON)
    assert not (tmp_path / "new").exists()
    with pytest.raises(ConfigError, match="has no setting 'stepps'; did you mean steps"):
        playout.sft(BASE, DEMONSTRATIONS, stepps=3, run=tmp_path / "new", **COMMON)
    with pytest.raises(ConfigError, match="--steps must be at least 0, not -5"):
        playout.sft(BASE, DEMONSTRATIONS, steps=-5, run=tmp_path / "new", **COMMON)
    with pytest.raises(ConfigError, match="name the pretrained model"):
        playout.sft("", DEMONSTRATIONS, run=tmp_path / "new", **COMMON)


@pytest.mark.parametrize("stage", [playout.grpo, playout.rlhf, playout.dpo])
def test_rewards_are_given_once(tmp_path, stage):
    with pytest.raises(ConfigError, match=r"^give reward or reward_fn, not both: several"):
        stage(BASE, reward="runs/reward", reward_fn=short, run=tmp_path / "run", **COMMON)
    with pytest.raises(ConfigError, match=r"^1 weights were given for 2 rewards$"):
        stage(BASE, reward=[short, short], reward_weights=[1], run=tmp_path / "run", **COMMON)


def test_weights_of_rewards_may_be_a_list():
    given = written_weights({"reward_weights": [1, 0.5], "seed": 3})
    assert given == {"reward_weights": "1,0.5", "seed": 3}
    assert written_weights({"reward_weights": "1,2"}) == {"reward_weights": "1,2"}
    _, reward = named_reward([short, short], None, given["reward_weights"])
    assert reward(["abcd"]) == [-6.0]
