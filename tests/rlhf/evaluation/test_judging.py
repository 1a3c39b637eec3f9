"""Comparing policies: win rates, best of n, a person's votes, a conversation."""

import json
import math
from pathlib import Path

import playout
import pytest
import torch
from playout.agents.runs.directory import RunDir
from playout.cli import main
from playout.errors import ConfigError, DataError, RunError
from playout.rlhf.data.records import read_preferences
from playout.rlhf.data.synthetic import judge, reviews
from playout.rlhf.evaluation.best_of_n import best_of_n, choose_best, kl_bound
from playout.rlhf.evaluation.comparison import comparison_of
from playout.rlhf.evaluation.evaluator import PolicyEvaluator
from playout.rlhf.evaluation.judge import compare_policies, human_votes, win_rate
from playout.rlhf.generation.chat.terminal import chat
from playout.rlhf.generation.player import LanguagePlayer
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.folder import export_model, load_model
from playout.rlhf.model.transformer import Transformer, TransformerConfig


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(reviews(200), vocab_size=300)


def small(tokenizer, seed=0):
    shape = TransformerConfig(tokenizer.vocab_size, 32, 64, 1, 2, 2, max_position_embeddings=32)
    return Transformer(shape, seed=seed)


def test_a_win_rate_counts_ties_half_and_has_an_interval():
    found = win_rate(torch.tensor([1.0, 2, 3, 4]), torch.tensor([0.0, 2, 5, 1]))
    assert found["win_rate"] == 0.625 and found["wins"] == 2 and found["ties"] == 1
    low, high = found["interval"]
    assert 0 < low < 0.625 < high < 1


def stranger(folder):
    """A policy whose vocabulary is as large as the fixtures', of other tokens."""
    base = Path(__file__).parents[2] / "fixtures" / "runs" / "pretrain"
    size = Tokenizer.load(base / "model").vocab_size
    tokenizer = Tokenizer.train([" ".join(map(str, range(10_000)))], vocab_size=size)
    assert tokenizer.vocab_size == size
    export_model(folder, small(tokenizer), tokenizer)
    return folder


def test_policies_of_other_vocabularies_of_the_same_size_are_not_compared(tmp_path):
    base = Path(__file__).parents[2] / "fixtures" / "runs" / "pretrain"
    run = RunDir.create(tmp_path / "run", kind="rlhf.grpo", config={"base": str(base)}, seed=0)
    stranger(run.path / "model")
    with pytest.raises(RunError, match="do not share a tokenizer"):
        comparison_of(run.path, reward="builtins:len")


def test_a_policy_of_an_environment_is_judged_by_what_it_gets_there(tmp_path, capsys):
    base = Path(__file__).parents[2] / "fixtures" / "runs" / "pretrain"
    few = {"updates": 1, "batch": 4, "group": 2, "max_new_tokens": 3, "eval_episodes": 2}
    run = playout.grpo(
        base, env="game:tic_tac_toe", env_options="reward=legal,illegal_reward=-1,goal=false",
        run=tmp_path / "run", size="tiny", dtype="float32", quiet=True, **few,
    )  # fmt: skip
    capsys.readouterr()
    out = tmp_path / "out.json"
    words = ["rlhf", "judge", str(run.path), str(base), "--num-prompts", "6", "--json", str(out)]
    assert main([*words, "--dtype", "float32"]) == 0
    assert "by game:tic_tac_toe: wins" in capsys.readouterr().out
    found = json.loads(out.read_text())["game:tic_tac_toe"]
    assert found["prompts"] == 6 and -1 <= found["mean"] <= 1
    for held in ("int8", "nf4"):
        assert main([*words, "--dtype", "float32", "--weights", held]) == 0
    assert main([*words, "--human"]) == 2
    assert "whose rewards judge it" in capsys.readouterr().err
    words[3] = str(stranger(tmp_path / "stranger"))
    assert main(words) == 2
    assert "do not share a tokenizer" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["asked.jsonl", "asked.txt"])
def test_texts_and_objects_may_stand_in_one_file_as_for_generate(tmp_path, tokenizer, name):
    base, file, out = tmp_path / "base", tmp_path / name, tmp_path / "out.json"
    export_model(base, small(tokenizer), tokenizer)
    run = RunDir.create(tmp_path / "run", kind="rlhf.grpo", config={"base": str(base)}, seed=0)
    export_model(run.path / "model", small(tokenizer, 1), tokenizer)
    file.write_text('the film\n\n{"prompt": "a play", "label": 3}\n')
    found = comparison_of(run.path, reward="builtins:len", prompts=str(file)).evaluator
    assert list(found.prompts) == ["the film", "a play"]
    assert found.tasks[1]["label"] == 3
    if name == "asked.jsonl":  # a file of plain text is one in paragraphs
        words = ["rlhf", "perplexity", str(base), "--texts", str(file), "--json", str(out)]
        assert main(words) == 0
        scored = json.loads(out.read_text())["texts"]
        assert [row.get("text", row.get("prompt")) for row in scored] == ["the film", "a play"]
        file.write_text('the film\n{"prompt": "a play"\n')
        assert main(words) == 2


def test_a_policy_is_measured_and_judged_as_it_was_sampled_in_training(tmp_path):
    base = Path(__file__).parents[2] / "fixtures" / "runs" / "pretrain"
    scored, e_is_out = [], []

    def reward(answers):
        scored.append(len(answers))
        e_is_out.extend("e" not in answer for answer in answers)
        return [float(len(answer)) for answer in answers]

    few = {"updates": 1, "batch": 4, "group": 2, "max_new_tokens": 12, "size": "tiny"}
    run = playout.grpo(
        base, ["the film", "a play"], reward_fn=reward, stop=("e",), temperature=0.5,
        run=tmp_path / "run", dtype="float32", quiet=True, **few,
    )  # fmt: skip
    assert len(scored) == 3  # before, in training, after
    assert all(e_is_out)
    judged = comparison_of(run.path, reward="builtins:len").evaluator
    assert judged.temperature == 0.5 and judged.stop == ("e",)
    answers = judged.respond(load_model(run.path / "model")[0])
    assert not any("e" in text for text in answers.responses)
    # What was sampled still holds the stop text, and is measured whole.
    assert answers.valid.sum(1).tolist() == answers.generation.lengths.tolist()


def test_a_run_is_judged_by_its_rewards_with_their_weights(tmp_path, monkeypatch, capsys):
    (tmp_path / "judged_by_two.py").write_text(
        "def one(texts):\n    return [1.0] * len(texts)\n\n\n"
        "def hundred(texts):\n    return [100.0] * len(texts)\n"
    )
    (tmp_path / "asked.jsonl").write_text('{"prompt": "the film"}\n{"prompt": "a play"}\n')
    monkeypatch.chdir(tmp_path)
    base = Path(__file__).parents[2] / "fixtures" / "runs" / "pretrain"
    words = ["rlhf", "grpo", "--base", str(base), "--updates", "1", "--batch", "4", "--group", "2"]
    words += ["--reward", "judged_by_two:one,judged_by_two:hundred", "--reward-weights", "3,0"]
    words += ["--size", "tiny", "--dtype", "float32", "--quiet", "--max-new-tokens", "3"]
    assert main([*words, "--prompts", "asked.jsonl", "--run", "asked"]) == 0
    match = comparison_of(Path("asked"))
    scores = match.evaluator.score(match.evaluator.respond(match.policy))
    assert set(scores["reward"].tolist()) == {3.0}
    capsys.readouterr()
    Path("long.txt").write_text("the film was " * 90 + "\na play\n")
    judged = ["rlhf", "judge", "asked", "--prompts", "long.txt", "--dtype", "float32"]
    assert main(judged) == 2
    assert main([*judged, "--truncate", "left", "--stop", "e", "--json", "cut.json"]) == 0
    said = capsys.readouterr().err
    assert "4 answers, scored in" in said and "1 prompts were cut to fit" in said
    monkeypatch.setattr("builtins.input", lambda asked: "q")
    assert main([*judged, "--truncate", "left", "--human"]) == 0
    said = capsys.readouterr().err
    assert "1 prompts were cut to fit" in said and "scored in" not in said
    given = [
        "--env",
        "game:tic_tac_toe",
        "--env-options",
        "reward=legal,illegal_reward=0,goal=false",
    ]
    assert main([*words, *given, "--run", "played", "--eval-episodes", "2"]) == 0
    judged = ["rlhf", "judge", "played", "--num-prompts", "4", "--json", "out.json"]
    assert main([*judged, "--dtype", "float32"]) == 0
    assert 3.0 <= json.loads(Path("out.json").read_text())["game:tic_tac_toe"]["mean"] <= 4.0
    capsys.readouterr()


def test_what_was_also_rewarded_by_a_function_from_python_is_judged_with_a_word(tmp_path, capsys):
    base = Path(__file__).parents[2] / "fixtures" / "runs" / "pretrain"
    few = {"updates": 1, "batch": 4, "group": 2, "max_new_tokens": 3, "eval_episodes": 2}
    playout.grpo(
        base, env="game:tic_tac_toe", reward_fn=lambda texts: [1.0] * len(texts),
        env_options="goal=false", run=tmp_path / "run", size="tiny", dtype="float32",
        quiet=True, **few,
    )  # fmt: skip
    capsys.readouterr()
    assert main(["rlhf", "judge", str(tmp_path / "run"), "--num-prompts", "2"]) == 0
    error = capsys.readouterr().err
    assert "a function given from Python, which it does not keep" in error


def test_the_best_of_each_block_is_chosen():
    rewards = torch.tensor([[1.0, 9], [3, 2], [0, 1], [4, 0], [8, 8]])
    assert choose_best(rewards, 2).tolist() == [[1, 0], [3, 2]]
    assert choose_best(rewards, 5).tolist() == [[4, 0]]
    assert kl_bound(1) == 0 and kl_bound(4) == pytest.approx(math.log(4) - 0.75)


def test_more_samples_never_lower_the_reward_of_the_best(tokenizer):
    evaluator = PolicyEvaluator(
        tokenizer,
        ["the film", "a"],
        lambda texts: [float(len(text)) for text in texts],
        judge(),
        max_new_tokens=8,
    )
    table, shown = best_of_n(small(tokenizer), evaluator, (1, 2, 4))
    rewards = [row["reward"] for row in table]
    assert rewards == sorted(rewards) and [row["n"] for row in table] == [1, 2, 4]
    assert shown[0]["reward_best"] >= shown[0]["reward_first"]
    with pytest.raises(ConfigError, match="at least 1"):
        best_of_n(small(tokenizer), evaluator, (0,))


def test_a_comparison_counts_the_prompts_on_which_each_policy_writes_better(tokenizer):
    prompts = [f"the {word}" for word in ("film", "plot", "cast", "hero", "music", "scene")]
    judge_lengths = [float(len(word)) for word in prompts]
    evaluator = PolicyEvaluator(
        tokenizer,
        prompts,
        lambda texts: [float(text.count("e")) for text in texts],
        lambda texts: judge_lengths,
        max_new_tokens=12,
    )
    first, second = small(tokenizer), small(tokenizer, 1)
    found = compare_policies(first, second, evaluator)

    def counted(answers):
        pairs = zip(answers.prompts, answers.responses, strict=True)
        return [(prompt + response).count("e") for prompt, response in pairs]

    ours = counted(evaluator.respond(first))
    theirs = counted(evaluator.respond(second, draw=1))
    wins = sum(a > b for a, b in zip(ours, theirs, strict=True))
    ties = sum(a == b for a, b in zip(ours, theirs, strict=True))
    assert 0 < wins + ties < len(prompts), "the case says nothing; take another seed"
    assert found["reward"]["win_rate"] == (wins + ties / 2) / 6
    assert found["reward"]["mean"] == pytest.approx(sum(ours) / 6)
    assert found["reward"]["opponent_mean"] == pytest.approx(sum(theirs) / 6)
    # A judge to whom all answers are alike calls every prompt a tie.
    assert found["judge"]["win_rate"] == 0.5 and found["judge"]["ties"] == 6


def answers(*lines):
    queue = list(lines)

    def ask(_prompt):
        if not queue:
            raise EOFError
        return queue.pop(0)

    return ask


def test_a_person_votes_without_seeing_names_and_the_votes_are_preferences(tmp_path):
    prompts = ["p1", "p2", "p3 \u2028 goes on", "p4"]
    ours, theirs = [" a1", " a2", " a3", " same"], [" b1", " b2", " b3", " same"]
    shown = []
    votes = tmp_path / "sub" / "votes.jsonl"

    def run(*lines):
        return human_votes(
            prompts, ours, theirs, votes=votes, seed=0, ask=answers(*lines), show=shown.append
        )

    first = run("1", "what?", "t", "q")
    assert first["prompts"] == 2 and first["ties"] == 1
    assert not any("policy" in line or "reference" in line for line in shown)
    # What was judged is not asked again; equal answers never are.
    second = run("2")
    assert second["prompts"] == 3 and run()["prompts"] == 3
    found = read_preferences(votes)
    assert len(found) == 3 and sum(p.ties for p in found) == 1
    # The sides are shuffled: whatever stood left is not always the policy's.
    sides = [line.split('"left": "')[1][1] for line in votes.open()]
    assert set(sides) == {"a", "b"}
    votes.write_text("{}\n")
    with pytest.raises(DataError, match="line 1: not a vote"):
        run("1")


def test_a_conversation_answers_and_obeys_commands(tokenizer):
    player = LanguagePlayer(small(tokenizer), tokenizer, max_new_tokens=4)
    shown = []
    count = chat(
        player,
        ask=answers(
            "the film",
            "/again",
            "/temperature 0",
            "/tokens 2",
            "/tokens x",
            "/whole",
            "",
            "i",
            "the " * 60,
            "/quit",
        ),
        show=shown.append,
        write=shown.append,
    )
    assert count == 3 and player.temperature == 0 and player.max_new_tokens == 2
    assert any("there is room for" in line for line in shown)
    assert chat(player, ask=answers(), show=shown.append) == 0
    # The likeliest token needs no random numbers; at a temperature the seed decides.
    player.max_new_tokens, player.temperature = 8, 1.0
    likeliest = {
        player.reset(seed) or player.act(["a"], deterministic=True)[0] for seed in range(5)
    }
    sampled = {player.reset(seed) or player.act(["a"])[0] for seed in range(5)}
    assert len(likeliest) == 1 and len(sampled) > 1
