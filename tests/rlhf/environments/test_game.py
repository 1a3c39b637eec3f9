"""Games as text environments, against brute force and against the games' own rules."""

import json
import random
import sys
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from playout.envs.core.registry import game as find_game
from playout.errors import ConfigError, DataError
from playout.mcts.exact.solver import Solver
from playout.own_code import trust_modules
from playout.rlhf.commands.learn import dpo, grpo
from playout.rlhf.environments.game import make
from playout.rlhf.environments.game_prompt import GamePrompt, marks
from playout.rlhf.environments.game_sides import find_openings, is_test
from playout.rlhf.environments.game_tasks import read_positions
from playout.rlhf.environments.load import GOAL_TOLD, load_environment, stored_options

TIC_TAC_TOE = find_game("tic_tac_toe")


@cache
def value(state):
    """The outcome for the side to move by trying everything."""
    if state.is_terminal:
        return 0  # asked through `worth` only
    return max(worth(state, action) for action in state.legal_actions)


def worth(state, action):
    """The outcome of an action for the side that plays it, by trying everything."""
    after = state.apply(action)
    return int(after.returns[state.to_play]) if after.is_terminal else -value(after)


def test_a_file_of_positions_teaches_no_image_of_one_that_is_judged_on(tmp_path, capsys):
    found = make("tic_tac_toe", {"positions": 60, "open": True})
    learned, judged = ([t["position"] for t in found.tasks(split)] for split in ("train", "test"))
    file = tmp_path / "all.jsonl"
    file.write_text("".join(json.dumps({"position": p}) + "\n" for p in [*learned, *judged]))
    own = make("tic_tac_toe", {"file": str(file), "open": True})
    assert [task["position"] for task in own.tasks("train")] == learned
    total = len(learned) + len(judged)
    assert f"{len(judged)} of {total} positions are images of those" in capsys.readouterr().err
    file.write_text(json.dumps({"position": judged[0]}))
    with pytest.raises(DataError, match="every position is an image of one that is kept"):
        own.tasks("train")


def played(env, choose, most=400):
    """Rewards of a whole episode; `choose` picks among the legal answers."""
    rewards = []
    while len(rewards) < most:
        step = env.step(f" {choose(env)}")
        rewards.append(step.reward)
        if step.done:
            return rewards
        assert step.reply
    raise AssertionError("the episode does not end")


def anything(seed):
    draw = random.Random(seed)
    return lambda env: draw.choice(env.answers())


def test_the_outcome_reward_is_what_brute_force_finds_on_every_task_and_move():
    factory = make("tic_tac_toe", {"positions": 40, "open": True})
    for task in factory.tasks("train"):
        state = TIC_TAC_TOE.from_text(task["position"])
        best = value(state)
        for action in state.legal_actions:
            env = factory()
            env.reset(task, 0)
            step = env.step(state.action_text(action))
            assert step.done and step.reward == float(worth(state, action) == best)
            assert env.metrics() == {"legal": 1.0, "kept": step.reward}


def test_regret_orders_moves_as_the_solver_does_and_minds_outcomes_most():
    game, solver = find_game("connect_four"), Solver("connect_four")
    factory = make(
        "connect_four",
        {"reward": "regret", "plies": (22, 30), "positions": 12, "test_positions": 1},
    )
    for task in factory.tasks("train"):
        state = game.from_text(task["position"])
        scores, rewards = solver.scores(state), {}
        for action in state.legal_actions:
            env = factory()
            env.reset(task, 0)
            rewards[action] = env.step(state.action_text(action)).reward
        order = sorted(rewards, key=lambda action: scores[action])
        for low, high in pairwise(order):
            assert (rewards[low] < rewards[high]) == (scores[low] < scores[high])
            if np.sign(scores[low]) < np.sign(scores[high]):
                assert rewards[high] - rewards[low] >= 0.25
        assert rewards[order[-1]] == 1.0


def test_no_task_of_the_test_side_is_an_image_of_one_that_is_learned_from():
    factory = make("connect_four", {"positions": 60, "test_positions": 30, "reward": "legal"})
    game = find_game("connect_four")
    sides = {}
    for split in ("train", "test"):
        states = [game.from_text(task["position"]) for task in factory.tasks(split)]
        sides[split] = {
            min(state.symmetry(k).hash for k in range(game.num_symmetries)) for state in states
        }
        assert len(sides[split]) == len(states), "two images of one position"
    assert not sides["train"] & sides["test"]


def test_positions_on_which_runs_are_rated_are_never_learned_from():
    from playout.agents.rating.positions import load_scored_positions

    states = load_scored_positions("connect_four").states
    assert is_test(states).all() and is_test(states.symmetry(1)).all()


@pytest.mark.parametrize(
    "name", ["hex(size=4)", "kuhn_poker", "chess", "backgammon", "game_2048", "go(size=5)"]
)
@pytest.mark.parametrize("mode", ["move", "game"])
def test_any_game_can_be_asked_about_and_played_to_its_end(name, mode):
    options = {"mode": mode, "positions": 4, "test_positions": 2, "simulations": 8}
    if mode == "game" and name == "chess":
        options["illegal"] = "random"
    factory = make(name, options)
    tasks = factory.tasks("train")
    assert tasks
    env = factory()
    prompt = env.reset(tasks[0], 3)
    assert prompt.startswith(name.partition("(")[0]) and prompt.endswith(":")
    rewards = played(env, anything(1))
    assert np.isfinite(rewards).all() and env.metrics()["legal"] == 1.0
    again = factory()
    assert again.reset(tasks[0], 3) == prompt
    assert played(again, anything(1)) == rewards


def test_a_prompt_shows_what_the_player_sees_and_names_moves_on_request_only():
    game = find_game("kuhn_poker")
    state = game.initial_state().resolve_chance(5)
    prompt = GamePrompt(game)(state)
    hidden = state.view(1).splitlines()[1]
    assert "Player 1 to move:" in prompt and hidden not in prompt
    assert "Legal moves" not in prompt
    assert "\nLegal moves: p b\n" in GamePrompt(game, legal_moves=True)(state)
    assert GamePrompt(game, rules=False)(state).startswith("player 1:")


def test_a_prompt_says_what_wins_in_the_games_own_words_unless_it_is_to_be_silent():
    state = find_game("connect_four(run=3)").initial_state()
    prompt = GamePrompt(state.game)(state)
    assert f"player 2 is O. {state.game.goal} A move is written like" in prompt.splitlines()[0]
    assert "has 3 in a row" in prompt
    assert state.game.goal not in GamePrompt(state.game, goal=False)(state)
    assert state.game.goal not in GamePrompt(state.game, rules=False)(state)
    env = make("connect_four(run=3)", {"goal": False})()
    assert "in a row" not in env.reset({"position": state.text}, 0)


def test_a_run_from_before_goals_is_shown_the_prompts_that_it_learned_from():
    old = {"env": "game:hex", "env_options": "mode=game"}
    assert stored_options(old) == "mode=game,goal=false"
    assert stored_options({**old, "env_options": ""}) == "goal=false"
    for new in ({**old, GOAL_TOLD: True}, {**old, "env_options": "goal=true"}):
        assert stored_options(new) == new["env_options"]
    assert stored_options({"env": "own:Class", "env_options": "digits=3"}) == "digits=3"
    assert stored_options({}) == ""
    assert grpo.Command.stored_today(old)["env_options"] == "mode=game,goal=false"
    assert dpo.Command.stored_today({**old, "beta": 0.1})["max_length"] == 0


def test_marks_are_found_by_looking_at_the_boards_alone():
    assert marks(TIC_TAC_TOE) == ("X", "O")
    assert marks(find_game("hex(size=3)")) == ("X", "O")
    assert marks(find_game("chess")) is None and marks(find_game("kuhn_poker")) is None


def test_each_player_may_be_shown_its_own_stones_as_the_first_players():
    shown = GamePrompt(TIC_TAC_TOE, rules=False, own=True)
    first, second = (TIC_TAC_TOE.from_text(text) for text in ("X.O/.../...", "X.O/.../..X"))
    assert shown(first) == "X . O\n. . .\n. . .\nPlayer 1 to move:"
    assert shown(second) == "O . X\n. . .\n. . O\nPlayer 2 to move:"
    assert "The side to move is shown as X." in GamePrompt(TIC_TAC_TOE, own=True)(first)
    assert GamePrompt(TIC_TAC_TOE, rules=False)(second).startswith("X . O")
    chess = find_game("chess").initial_state()  # letters for kinds of pieces: nothing to exchange
    assert GamePrompt(chess.game, own=True)(chess) == GamePrompt(chess.game)(chess)
    env = make("tic_tac_toe", {"own": True, "rules": False})()
    assert env.reset({"position": "X.O/.../..X"}, 0) == shown(second)


@pytest.mark.parametrize(
    "text", ["", " ", "0", "12", "\0", "5\n5", "x" * 10_000, "５", "nan", "-1"]
)
def test_an_answer_that_is_no_move_is_counted_and_ends_the_episode(text):
    env = make("tic_tac_toe", {})()
    env.reset({"position": ".../.X./..."}, 0)
    step = env.step(text)
    assert step.done and step.reward == -1.0 and step.reply is None
    assert env.metrics() == {"legal": 0.0}


@pytest.mark.parametrize("text", ["1", " 1", "1.", "[1]", "**1**", ' "1"\n'])
def test_marks_around_a_move_do_not_matter(text):
    env = make("tic_tac_toe", {"reward": "legal"})()
    env.reset({"position": ".../.X./..."}, 0)
    assert env.step(text).reward == 1.0


def test_a_policy_that_talks_is_understood_where_that_is_asked_for():
    state = TIC_TAC_TOE.from_text(".../.X./...")
    talk = "The centre (5) is taken, so I play 3."
    assert GamePrompt(TIC_TAC_TOE).read(state, talk) is None
    assert GamePrompt(TIC_TAC_TOE, find=True).read(state, talk) == 2


def test_resample_asks_again_and_random_goes_on():
    env = make("tic_tac_toe", {"illegal": "resample", "retries": 1, "reward": "legal"})()
    env.reset({"position": ".../.X./..."}, 0)
    step = env.step("5")
    assert not step.done and step.reward == -1.0 and "'5' is no legal move" in step.reply
    assert env.step("1") == (None, 1.0, True, False)
    env.reset({"position": ".../.X./..."}, 0)
    env.step("5")
    assert env.step("5").done
    whole = make("tic_tac_toe", {"mode": "game", "illegal": "random", "illegal_reward": -0.5})()
    whole.reset({"opening": "", "seat": 0}, 1)
    first = whole.step("no move")
    assert first.reward == -0.5 and not first.done


def test_against_itself_every_player_has_a_role_and_the_rewards_add_up_to_nothing():
    env = make("tic_tac_toe", {"mode": "game", "opponent": "self"})()
    env.reset({"opening": "", "seat": 0}, 0)
    roles, total = [], {"player 1": 0.0, "player 2": 0.0}
    for move in "14253":  # X takes the upper row
        roles.append(env.role())
        step = env.step(move)
        for role, reward in step.reward.items():
            total[role] += reward
    assert step.done and roles == ["player 1", "player 2"] * 2 + ["player 1"]
    assert total == {"player 1": 1.0, "player 2": -1.0}
    assert not hasattr(make("tic_tac_toe", {"mode": "game"})(), "role")


def test_the_policy_has_its_seat_and_the_opponent_moves_in_between():
    env = make("tic_tac_toe", {"mode": "game", "opponent": "perfect"})()
    for seat in (0, 1):
        env.reset({"opening": "", "seat": seat}, 7)
        assert env.state.to_play == seat
        assert played(env, anything(3))[-1] <= 0.0, "nobody beats a perfect player"


def test_openings_of_the_two_sides_share_no_position():
    game = find_game("connect_four")
    train, test = (find_openings(game, 50, side, plies=4, seed=0) for side in ("train", "test"))
    assert len(train) == len(test) == 50
    images = [
        {min(game.from_moves(m).symmetry(k).hash for k in range(2)) for m in side}
        for side in (train, test)
    ]
    assert not images[0] & images[1]


def test_a_game_of_ones_own_in_python_is_text_as_well(tmp_path, monkeypatch):
    (tmp_path / "my_nim.py").write_text(
        "class Nim:\n"
        "    name, num_players, num_actions, max_plies = 'nim', 2, 3, 7\n"
        "    obs_shape = (1, 1, 1)\n"
        "    def initial_state(self): return (7, 0)\n"
        "    def to_play(self, state): return -1 if state[0] == 0 else state[1]\n"
        "    def legal_actions(self, state): return range(min(3, state[0]))\n"
        "    def apply(self, state, action): return (state[0] - action - 1, 1 - state[1])\n"
        "    def returns(self, state): return [1, -1] if state[1] == 1 else [-1, 1]\n"
        "    def observe(self, state, player): return [[[state[0]]]]\n"
        "    def encode(self, state): return bytes(state)\n"
        "    def decode(self, data): return tuple(data)\n"
        "    def action_text(self, state, action): return f'take{action + 1}'\n"
        "    def read_action(self, state, text): return int(text[4:]) - 1\n"
        "    def board_text(self, state): return f'{state[0]} stones'\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_nim", raising=False)
    trust_modules("my_nim")
    factory = load_environment("game:my_nim:Nim", {"open": True})
    env = factory()
    prompt = env.reset({}, 0)
    assert "7 stones" in prompt and "take1 or take3" in prompt
    assert env.step("take3").reward == 1.0, "four are left, which lose"
    env.reset({}, 0)
    assert env.step("take1").reward == 0.0
    env.reset({}, 0)
    assert env.step("give me").reward == -1.0


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"mode": "both"}, "mode"),
        ({"reward": "money"}, "no reward 'money'"),
        ({"rewards": "legal"}, "no option 'rewards'"),
        ({"positions": "many"}, "positions='many'"),
        ({"positions": "many"}, "give a whole number$"),
        ({"rules": 0}, "rules=0: give true or false$"),
        ({"mode": None}, "mode=None: give a text$"),
        ({"positions": 0}, "at least 1"),
        ({"plies": (9, 3)}, "plies"),
        ({"plies": ("a", "b")}, "whole numbers"),
        ({"plies": (1.5, 3)}, "whole numbers"),
        ({"opponent": "gtp:gnugo", "mode": "game"}, "cannot train"),
        ({"opponent": "nobody", "mode": "game"}, "nobody"),
    ],
)
def test_options_that_cannot_be_are_told_in_one_line(options, word):
    with pytest.raises(ConfigError, match=word) as caught:
        make("tic_tac_toe", options).tasks("train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "outcomes",
    [3, [[1]] * 9, "abcdefghi", [1] * 8, [2] * 9, [1] * 4 + [-2] + [1] * 4, [0] * 8 + [-2]],
)
def test_a_file_of_positions_with_outcomes_that_cannot_be_is_refused(outcomes, tmp_path):
    file, game = tmp_path / "positions.jsonl", find_game("tic_tac_toe")
    row = {"position": game.from_moves("1").text, "outcomes": [-2] + [0] * 8}
    file.write_text(json.dumps(row) + "\n" + json.dumps({**row, "outcomes": outcomes}) + "\n")
    with pytest.raises(DataError, match="line 2: outcomes "):
        read_positions(game, str(file))
    file.write_text(json.dumps(row) + "\n")
    assert read_positions(game, str(file)).outcomes.tolist() == [row["outcomes"]]


def test_who_writes_an_illegal_move_has_lost_to_the_others():
    for wrong, result in ((0, -1.0), (1, 1.0)):
        env = make("tic_tac_toe", {"mode": "game", "opponent": "self", "illegal_reward": -1.0})()
        env.reset({"seat": 0, "opening": ""}, 0)
        assert all(not env.step(move).done for move in ("5", "1")[:wrong])
        last = env.step("none")
        assert last.done
        assert last.reward == {f"player {wrong + 1}": -1.0, f"player {2 - wrong}": 1.0}
        found = env.metrics()
        assert (found["result"], found["won"], found["lost"]) == (
            result, float(result > 0), float(result < 0)
        )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "options", "others"),
    [
        ("tic_tac_toe", {"reward": "legal"}, {}),  # no result is learned from
        ("tic_tac_toe", {"reward": "legal+result"}, {"player 2": 1.0}),
        ("tic_tac_toe", {"illegal_reward": -0.25}, {"player 2": 1.0}),
        ("tic_tac_toe", {"illegal": "resample", "retries": 0}, {"player 2": 1.0}),
        ("kuhn_poker(players=5)", {}, {f"player {n}": 0.25 for n in (2, 3, 4, 5)}),
        ("game_2048", {}, {}),
    ],
)
def test_a_role_wins_by_another_s_illegal_move_where_results_are_learned_from(
    name, options, others
):
    env = make(name, {"mode": "game", "opponent": "self", **options})()
    env.reset({"seat": 0, "opening": ""}, 0)
    last = env.step("none")
    assert last.done
    assert last.reward == {"player 1": options.get("illegal_reward", -1.0), **others}


def test_against_an_opponent_an_illegal_move_costs_its_reward_alone():
    against = make("tic_tac_toe", {"mode": "game"})()
    against.reset({"seat": 1, "opening": ""}, 0)
    assert against.step("none") == (None, -1.0, True, False)


def test_the_solver_is_not_asked_where_it_cannot_answer():
    with pytest.raises(ConfigError, match="search"):
        make("chess", {"reward": "outcome"})
    with pytest.raises(ConfigError, match="search"):
        make("kuhn_poker", {"reward": "regret"})
