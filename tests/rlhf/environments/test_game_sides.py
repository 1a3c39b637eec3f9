"""What games learn from and are judged on: views of hidden games, openings, files, forfeits."""

import json

import numpy as np
import pytest
from playout.agents.players.player import Forfeit
from playout.agents.players.simple import RandomPlayer
from playout.envs.core.registry import game as find_game
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError
from playout.rlhf.environments import game as games
from playout.rlhf.environments import game_sides
from playout.rlhf.environments.game import make
from playout.rlhf.environments.game_prompt import GamePrompt
from playout.rlhf.environments.game_sides import is_test, position_classes
from playout.rlhf.games.data import GameData, write_data


def prompts(factory, split):
    found = []
    for task in factory.tasks(split):
        found.append(factory().reset(task, 1))
    return found


@pytest.mark.parametrize("name", ["leduc_poker", "liars_dice"])
def test_what_a_player_is_judged_on_was_never_shown_to_one_that_learned(name):
    options = {"reward": "legal", "positions": 200, "test_positions": 60}
    factory = make(name, options)
    learned, judged = (prompts(factory, split) for split in ("train", "test"))
    assert not {*learned} & {*judged}
    for side in (learned, judged):
        assert len(side) >= 50 and len({*side}) == len(side)


def test_positions_that_look_alike_to_who_is_to_move_are_one():
    game = find_game("leduc_poker")
    states = game.batch(400)
    states.resolve_chance(3)
    classes = position_classes(states)
    shown = [state.view() for state in states]
    assert len({*classes.tolist()}) == len({*shown}) < len({state.text for state in states})
    for text in {*shown}:
        assert (
            len({int(one) for one, seen in zip(classes, shown, strict=True) if seen == text}) == 1
        )


def test_where_players_see_few_positions_all_serve_for_both_and_that_is_said(capsys):
    game_sides._all_serve.cache_clear()
    game_sides._say.cache_clear()
    factory = make("kuhn_poker", {"reward": "legal", "open": True, "positions": 9})
    learned, judged = (prompts(factory, split) for split in ("train", "test"))
    assert sorted(learned) == sorted(judged)
    assert capsys.readouterr().err.count("none are held out: all serve for both") == 1


@pytest.mark.slow
def test_the_recipe_shows_no_view_of_a_hidden_game_that_is_judged_on(tmp_path):
    game = find_game("leduc_poker")
    prompt = GamePrompt(game)
    size = GameData(records=200, demonstrations=60, copies=1, tasks=20, games=10)
    write_data(tmp_path, game, prompt, size, seed=1, threads=1, tell=lambda line: None)
    states = game.batch(3000)
    states.random_plies(np.arange(3000) % game.max_plies, 5)
    states.resolve_chance(5)
    states = states[np.flatnonzero(~states.is_terminal())]
    judged = {prompt(state) for state in states[np.flatnonzero(is_test(states))]}
    assert len(judged) > 20
    told = "".join(
        (tmp_path / f"{name}.jsonl").read_text() for name in ("records", "demonstrations")
    )
    assert not [one for one in judged if json.dumps(one)[1:-1] in told]
    tasks = [json.loads(line)["position"] for line in (tmp_path / "tasks.jsonl").open()]
    assert not is_test(StateBatch.from_states([game.from_text(text) for text in tasks])).any()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param(
            "mnk", "too few openings to hold any out: all serve for both", marks=pytest.mark.slow
        ),
        ("backgammon", "no openings to hold out: all serve for both"),
        ("leduc_poker", "no openings to hold out: all serve for both"),
        ("connect_four", ""),
    ],
)
def test_openings_that_serve_for_both_sides_are_told(name, said, capsys):
    game_sides._say.cache_clear()
    factory = make(name, {"mode": "game", "positions": 40, "test_positions": 20})
    learned, judged = ({str(t) for t in factory.tasks(split)} for split in ("train", "test"))
    heard = capsys.readouterr().err
    assert bool(learned & judged) == bool(said)
    assert said in heard and bool(heard) == bool(said)


def test_of_a_file_of_positions_as_many_are_learned_from_as_are_asked_for(tmp_path):
    found = make("tic_tac_toe", {"positions": 30, "open": True}).tasks("train")
    file = tmp_path / "positions.jsonl"
    file.write_text("".join(json.dumps(task) + "\n" for task in found))
    for given, count in (({}, 30), ({"positions": 7}, 7), ({"positions": 4096}, 30)):
        own = make("tic_tac_toe", {"file": str(file), "open": True, **given})
        assert own.tasks("train") == found[:count]


@pytest.mark.parametrize("reward", [float("nan"), float("inf")])
def test_a_reward_of_illegal_moves_is_a_finite_number(reward):
    with pytest.raises(ConfigError, match="illegal_reward must be finite"):
        make("tic_tac_toe", {"illegal_reward": reward})


class GivesUp(RandomPlayer):
    """Gives every game up, where it may."""

    def act_after(self, states, lines):
        return np.full(len(states), -1, np.int32), {row: Forfeit("enough") for row in range(99)}

    def close(self):
        """Nothing was started."""


def test_an_opponent_that_gives_up_has_lost(monkeypatch):
    monkeypatch.setattr(games, "make_player", lambda spec, game: GivesUp())
    for seat in (0, 1):
        env = make("tic_tac_toe", {"mode": "game", "opponent": "any"})()
        prompt = env.reset({"opening": "", "seat": seat}, 3)
        assert env.state.to_play == seat and prompt, "before it is asked, nobody gives up"
        step = env.step(env.answers()[0])
        assert step == (None, 1.0, True, False)
        found = env.metrics()
        assert (found["result"], found["won"], found["lost"]) == (1.0, 1.0, 0.0)
    env = make("tic_tac_toe", {"reward": "result", "opponent": "any"})()
    env.reset({"position": ".../.X./..."}, 0)
    assert env.step("1").reward == 1.0, "of a single move, too"
