"""The recipe `playout rlhf games`: its data, its stages, what is done with the run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from playout.agents.runs.directory import RunDir
from playout.agents.runs.options import DEFAULT_MACHINE
from playout.cli import main
from playout.envs.core.registry import game as find_game
from playout.envs.core.state_batch import StateBatch
from playout.mcts.exact.solver import Solver
from playout.rlhf.environments.game_prompt import GamePrompt
from playout.rlhf.environments.game_sides import is_test
from playout.rlhf.environments.game_tasks import plies_of, read_positions
from playout.rlhf.environments.load import GOAL_TOLD, read_options
from playout.rlhf.games import recipe as recipe_module
from playout.rlhf.games.data import GameData, write_data
from playout.rlhf.games.demonstrations import can_tell, told_outcomes
from playout.rlhf.games.minutes import note_data, plan_steps
from playout.rlhf.games.recipe import GamesRecipe, GamesSize, shown_options
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.folder import export_model
from playout.rlhf.run import folder_player, game_player
from playout.rlhf.stages import sizes
from playout.rlhf.stages.sizes import Recipe
from small_language import chat_tokenizer, small_model

GAME = find_game("tic_tac_toe")


@pytest.fixture
def micro(monkeypatch):
    """The smallest numbers that every stage can have."""
    size = GamesSize(GameData(200, 60, 2, 20, 20, sights=40), 1e-3, 1e-4, 1e-4, 2, ("random",))
    monkeypatch.setitem(recipe_module.SIZES, "tiny", size)
    numbers = Recipe(300, "games-tiny", 128, 2, 2, 0, 0, 1, 0, 1, 12, 3, 8)
    monkeypatch.setitem(sizes.GAME_RECIPES, "games-tiny", numbers)


def board(text):
    """The position that a prompt shows."""
    lines = text.splitlines()
    return GAME.from_text("/".join(line.replace(" ", "") for line in lines[:3]))


def rows_of(path):
    """Every row of a file, as its pairs of prompt and answer."""
    for row in map(json.loads, path.open()):
        turns = row.get("turns") or [row["prompt"], row["response"]]
        yield list(zip(turns[::2], turns[1::2], strict=True))


def test_good_moves_keep_the_outcome_and_no_position_is_on_the_side_that_is_judged_on(tmp_path):
    prompt = GamePrompt(GAME, rules=False, find=True)
    said = []
    write_data(
        tmp_path,
        GAME,
        prompt,
        GameData(100, 80, 3, 30, 40, sights=50),
        seed=1,
        threads=1,
        vocabulary=300,
        tell=said.append,
    )
    tokenizer = Tokenizer.load(tmp_path / "tokenizer")
    for marks in ("=========", "..=+=-..-"):
        assert [tokenizer.decode([one]) for one in tokenizer.encode(marks)] == list(marks)
    assert "demonstrations" in said[-1]
    sights = [turn for row in rows_of(tmp_path / "tactics.jsonl") for turn in row]
    assert len(sights) == 50
    for asked, answer in sights:
        state, (thought, move) = board(asked), answer.split(" ")
        seen = []
        for action in range(9):
            if action not in state.legal_actions:
                seen.append(".")
                continue
            after = state.apply(action)
            if after.is_terminal:
                seen.append("+" if after.returns[state.to_play] > 0 else "=")
                continue
            replies = [after.apply(reply) for reply in after.legal_actions]
            seen.append("-" if any(r.returns[after.to_play] > 0 for r in replies) else "=")
        best = max(seen, key=".-=+".find)
        assert seen[int(move) - 1] == best
        if best == "+":  # then others are not looked into
            thought, seen = ([mark == "+" for mark in marks] for marks in (thought, seen))
        assert list(thought) == seen
        assert not is_test(StateBatch.from_states([state])).any()
    rows = [json.loads(line) for line in (tmp_path / "demonstrations.jsonl").open()]
    solved = read_positions(GAME, str(tmp_path / "tasks.jsonl"))
    assert solved.outcomes is not None and not is_test(solved.states).any()
    solver = Solver(GAME)
    games = apart = single = 0
    for row, turns in zip(rows, rows_of(tmp_path / "demonstrations.jsonl"), strict=True):
        boards, moves = [], []
        for number, (asked, answer) in enumerate(turns):
            thought, move = answer.split(" ")
            boards.append(state := board(asked))
            moves.append(int(move) - 1)
            assert prompt(state) == asked and prompt.read(state, answer) == moves[-1]
            assert not is_test(StateBatch.from_states([state])).any()
            legal = np.isin(np.arange(9), state.legal_actions)
            assert [mark != "." for mark in thought] == legal.tolist()
            if 2 * number >= row.get("learned_from", 0):
                outcomes = np.where(legal, np.sign(solver.scores(state)), -2).astype(np.int8)
                assert thought == told_outcomes(outcomes)
                assert outcomes[moves[-1]] == outcomes.max()
        mine = [before.apply(move) for before, move in zip(boards, moves, strict=True)]
        follows = [
            after.text in {state.apply(reply).text for reply in state.legal_actions}
            for state, after in zip(mine, boards[1:], strict=False)
        ]
        games += bool(follows) and all(follows)
        apart += 0 if all(follows) else len(boards)
        single += not follows
    assert games
    assert 0 <= 7 * (apart + 1) - single <= 14  # every eighth goes behind others
    records = [json.loads(line)["text"] for line in (tmp_path / "records.jsonl").open()]
    assert len(records) == 100
    for record in records:  # what one ply shows, and a move at random
        asked, _, answer = record.partition(" to move:")
        state, (thought, move) = board(asked), answer.split(" ")
        assert int(move) - 1 in state.legal_actions
        wins = [
            action in state.legal_actions
            and state.apply(action).returns[state.to_play] > 0
            and state.apply(action).is_terminal
            for action in range(9)
        ]
        assert [mark == "+" for mark in thought] == wins
        assert [mark == "." for mark in thought] == [a not in state.legal_actions for a in range(9)]
    before = (tmp_path / "demonstrations.jsonl").read_bytes()
    write_data(tmp_path, GAME, prompt, GameData(100, 80, 3, 30, 40), seed=1, threads=1)
    assert (tmp_path / "demonstrations.jsonl").read_bytes() == before


def test_answers_are_moves_alone_where_nothing_is_to_be_found_or_no_solver_tells(tmp_path):
    for name, find in (("tic_tac_toe", False), ("othello(size=6)", True)):
        game = find_game(name)
        prompt = GamePrompt(game, rules=False, find=find)
        folder = tmp_path / f"{find}"
        write_data(folder, game, prompt, GameData(0, 6, 2, 4, 4), seed=1, threads=1)
        for row in rows_of(folder / "demonstrations.jsonl"):
            for _, answer in row:
                assert len(answer.split()) == 1 and answer[0] == " "
        assert can_tell(game) == (name == "tic_tac_toe")


def test_records_of_a_game_without_a_solver_hold_no_position_that_is_judged_on(tmp_path):
    game = find_game("hex(size=11)")
    prompt = GamePrompt(game, rules=False, find=True)
    write_data(tmp_path, game, prompt, GameData(1_000, 1, 1, 1, 0), seed=1, threads=1)
    texts = [json.loads(line)["text"] for line in (tmp_path / "records.jsonl").open()]
    first, _ = plies_of(game, solved=False)
    seen = set()
    for number in range(20):  # the games that the records tell, at the plies before the eighth
        states = game.batch(64)
        for ply in range(8):
            judged = is_test(states) & (ply >= first)
            seen |= {prompt(states[row]) for row in np.flatnonzero(judged)}
            states.apply(states.random_actions(1 + number, counter=(ply << 8) + 77))
    assert len(seen) > 100
    assert not [text for text in texts if text.rpartition(" ")[0] in seen]


@pytest.mark.slow
def test_the_recipe_runs_goes_on_and_its_run_plays(micro, tmp_path, capsys):
    run = str(tmp_path / "run")
    begin = ["rlhf", "games", "--size", "tiny", "--game", "tic_tac_toe", "--run", run]
    assert main(begin) == 0
    said = capsys.readouterr().out
    assert (
        "tactics (2 of 5)" in said
        and "rlhf (5 of 5)" in said
        and "keep the outcome" in said
        and "Elo" in said
    )
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "legal answers in later turns" in said and "later turns, sampled" in page
    assert "Whole games" in page and "nothing was learned from" in page
    found = json.loads((tmp_path / "run" / "report" / "report.json").read_text())
    assert "0 means that what was learned from is what was sampled" in page
    assert set(found["sampling_gap"]) == {"grpo", "rlhf"}
    stages = ["pretrain", "tactics", "sft", "grpo", "rlhf"]
    assert [one["stage"] for one in found["measured"]] == stages
    options = RunDir.open(tmp_path / "run").config["env_options"]
    assert options == "rules=false,own=true,find=true"
    assert main(begin) == 0
    assert "rlhf (5 of 5): done before" in capsys.readouterr().out
    assert main(["match", run, "random", "--games", "4", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "tic_tac_toe" in said and "were no legal moves" in said
    assert main(["play", run, "--opponent", "random", "--episodes", "1"]) == 0


def test_an_opponent_of_any_name_reaches_the_last_stage(tmp_path, monkeypatch, capsys):
    made = []
    monkeypatch.setattr(GamesRecipe, "__call__", lambda self: made.append(self))
    opponent = tmp_path / "it's (one), or =é"
    shutil.copytree(Path(__file__).parents[2] / "fixtures" / "runs" / "tic_tac_toe", opponent)
    words = ["rlhf", "games", "--size", "tiny", "--game", "tic_tac_toe", "--quiet"]
    words += ["--opponent", str(opponent), "--run", str(tmp_path / "run")]
    assert main(words) == 0, capsys.readouterr().err
    assert "tokenizer" not in made[0]._options("pretrain")  # data of earlier versions have none
    given = read_options(made[0]._options("rlhf")["env_options"])
    assert given["opponent"] == str(opponent) and given["find"] is True
    for name in ("123", "runs/x?temperature=1&illegal=loss", 'a "b"'):
        made[0].opponent = name
        assert read_options(made[0]._options("rlhf")["env_options"])["opponent"] == name


def test_a_chat_model_is_measured_by_such_answers_as_it_was_taught(tmp_path):
    tokenizer, base = chat_tokenizer("chatml"), tmp_path / "base"
    export_model(base, small_model(tokenizer), tokenizer)
    shown = shown_options(GAME, rules=False, base=str(base))
    config = {"env": f"game:{GAME}", "env_options": shown, GOAL_TOLD: True}
    run = RunDir.create(tmp_path / "run", kind="rlhf.games", config=config, seed=0)
    made = GamesRecipe(
        run, GAME, size="tiny", base=str(base), opponent="random", machine=DEFAULT_MACHINE
    )
    for folder in (made.folder("sft"), run.path):
        shutil.copytree(base, folder / "model")
    assert made.player("sft").prompt == game_player(run).prompt == made.prompt
    talk = "I think that 5 is best"
    assert made.player("sft").prompt.read(GAME.initial_state(), talk) is None
    # One that has learned no game is taken by its last word that is a move.
    assert folder_player(base, GAME).prompt.read(GAME.initial_state(), talk) == 4


def test_the_name_of_a_run_s_game_is_nobody_s_word_for_its_code(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("playout.own_code._trusted", set())
    text = "os:system(command='touch ran')"
    RunDir.create(tmp_path / "run", kind="rlhf.games", config={"game": text}, seed=1)
    assert main(["rlhf", "games", "--resume", "run"]) == 2
    assert "add --trust os" in capsys.readouterr().err and not (tmp_path / "ran").exists()


def test_the_steps_that_fit_into_some_minutes_are_chosen_once(tmp_path):
    base = Path(__file__).parents[2] / "fixtures" / "runs" / "pretrain"
    last = json.loads((base / "metrics.jsonl").read_text().splitlines()[-1])
    file, plan = tmp_path / "rows.jsonl", tmp_path / "measured" / "plan.json"
    file.write_text(100 * (json.dumps({"turns": ["the film", " is", "and", " good"]}) + "\n"))

    def steps(minutes, *, taken=0.0, **stages):
        plan.unlink(missing_ok=True)
        note_data(plan, taken / 2)
        note_data(plan, taken / 2)
        gone = last["time/elapsed"] / 60  # what is left is as many minutes as a test says
        return plan_steps(minutes + gone, plan, base, stages)

    alone = steps(20.0, sft=(file, 64))
    assert alone == plan_steps(1.0, plan, base, {"sft": (file, 64)})
    half = pytest.approx(alone["sft"] / 2, rel=0.01)
    assert steps(10.0, sft=(file, 64))["sft"] == half
    assert steps(20.0, sft=(file, 128))["sft"] == half
    assert steps(20.0, taken=600.0, sft=(file, 64))["sft"] == half
    assert json.loads(plan.read_text())["seconds_gone"] == pytest.approx(600 + last["time/elapsed"])
    # Whole games stand behind all else, and count as well.
    game = json.dumps({"turns": ["the film", " is"] * 40}) + "\n"
    file.write_text(10 * file.read_text() + 1000 * game)
    assert steps(20.0, sft=(file, 64))["sft"] < alone["sft"] / 5
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:100]))
    # Tactics are shown once, or take their share where there are too many of them.
    both = steps(20.0, sft=(file, 64), tactics=(file, 64))
    assert both == {"tactics": 2, "sft": alone["sft"] - 2}
    file.write_text(100_000 * file.read_text().splitlines(keepends=True)[0])
    few = steps(1.0, sft=(file, 64))["sft"]
    shared = steps(1.0, sft=(file, 64), tactics=(file, 1))
    assert shared["sft"] == pytest.approx(0.7 * few, rel=0.01)
    assert shared["tactics"] == pytest.approx(0.3 * 64 * few, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--size", "huge"], "no size 'huge'"),
        (["--size", "smollm2"], "--base"),
        (["--game", "chequers"], "chequers"),
        (["--skip", "sft"], "cannot be skipped"),
        (["--skip", "pretrain", "--game", "tic_tac_toe"], "begins with a model: --base"),
        (["--opponent", "uct500"], "uct500"),
        (["--size", "smollm2", "--base", "nowhere"], "nowhere does not exist"),
        (["--minutes", "-1"], "--minutes"),
        (["--minutes", "5", "--skip", "pretrain"], "how fast pretraining went"),
    ],
)
def test_what_cannot_be_is_one_line(arguments, word, tmp_path, capsys):
    assert main(["rlhf", "games", *arguments, "--run", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert word in said and len(said.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
