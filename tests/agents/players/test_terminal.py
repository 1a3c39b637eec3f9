"""Games in the terminal: words, undo, hints, leaving; two players watched; the commands."""

import io
import json

import numpy as np
import playout
import pytest
from playout.agents.players.human import HumanPlayer
from playout.agents.players.player import Forfeit
from playout.agents.players.search import uct_player
from playout.agents.players.terminal import painted, play_games, play_one
from playout.agents.runs.kinds import PlayOptions
from playout.cli import main
from playout.envs.core.game import StateBatch
from playout.envs.records.json_lines import load
from playout.errors import ConfigError


def play(monkeypatch, capsys, words, **changed):
    """What the terminal shows when a person types these words against uct."""
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(word + "\n" for word in words)))
    play_games(uct_player("connect_four", 100, seed=1), PlayOptions(**changed))
    return capsys.readouterr().out


def test_a_person_plays_until_the_end_and_the_game_is_kept(monkeypatch, capsys, tmp_path):
    out = tmp_path / "games.jsonl"
    words = ["1", "2", "3", "4", "5", "6", "7"] * 30  # refused where they are not legal
    text = play(monkeypatch, capsys, words[:60], out=out)
    assert "uct:100 plays" in text
    assert "wins." in text or "You win!" in text or "A draw." in text
    record = load(out)[0]
    assert record.players == ("you", "uct:100") and record.result is not None


def test_words_that_are_no_moves_are_explained(monkeypatch, capsys):
    text = play(monkeypatch, capsys, ["9", "help", "hello", "", "quit"])
    assert text.count("is not a move") == 2 and "Or: hint, undo, quit" in text
    assert text.rstrip().endswith("Bye.")


@pytest.mark.parametrize(
    ("name", "typed"),
    [("othello", "D3"), ("hex", "A1"), ("gomoku", "H8"), ("chess", "E2E4"), ("go", "Pass")],
)
def test_moves_may_be_typed_in_any_case(name, typed):
    state = playout.game(name).initial_state()
    shown = []
    player = HumanPlayer(ask=lambda text: typed if not shown else "quit", show=shown.append)
    (action,) = player.act(StateBatch.from_states([state]))
    assert state.action_text(int(action)).lower() == typed.lower() and not shown


def test_full_columns_are_refused():
    shown, answers = [], iter(["4", "1"])
    person = HumanPlayer(ask=lambda text: next(answers), show=shown.append)
    game = playout.game("connect_four")
    state = game.from_moves("444444")
    assert person.act(StateBatch.from_states([state])).tolist() == [0]
    assert shown == ["4 cannot be played now; possible are 1 2 3 5 6 7."]


class Script:
    """Plays the lowest free cell."""

    name = "script"

    def reset(self, seed):
        pass

    def act(self, states):
        return states.legal_mask().argmax(axis=1).astype(np.int32)

    def observe(self, states, actions):
        pass


def test_undo_goes_back_to_the_persons_own_move():
    shown, words = [], iter(["undo", "9", "undo", "8", "7", "undo", "9", "7"])
    person = HumanPlayer(ask=lambda text: next(words), show=shown.append)
    game = playout.game("tic_tac_toe")
    # 9 is taken back; then 8 1 7 2 with 7 (and its answer) taken back, and 9 in its place.
    played = play_one(game, (person, Script()), show=shown.append)
    assert played.actions == [7, 0, 8, 1, 6] and shown.count("There is nothing to take back.") == 1
    words = iter(["undo", "5", "quit"])
    person = HumanPlayer(ask=lambda text: next(words), show=shown.append)
    assert play_one(game, (Script(), person), show=shown.append) is None
    assert shown.count("There is nothing to take back.") == 2


def test_the_board_is_shown_after_a_move_of_ones_own():
    shown, words = [], iter(["5", "quit"])
    person = HumanPlayer(ask=lambda text: next(words), show=shown.append)
    game = playout.game("tic_tac_toe")
    assert play_one(game, (person, Script()), show=shown.append) is None
    mine = str(game.from_moves("5"))
    assert [text.strip("\n") for text in shown[:3]] == [
        str(game.initial_state()),
        mine,
        "script plays 1",
    ]


def test_a_hint_names_a_move_and_the_end_of_input_leaves(monkeypatch, capsys):
    text = play(monkeypatch, capsys, ["hint"])
    assert "uct:100 would play" in text and "Bye." in text


def test_two_players_can_be_watched(capsys, tmp_path):
    out = tmp_path / "g.jsonl"
    player = uct_player("connect_four", 50, seed=1)
    play_games(player, PlayOptions(opponent="greedy", episodes=2, out=out))
    text = capsys.readouterr().out
    assert "uct:50 (X) against greedy (O)" in text and "greedy (X) against uct:50 (O)" in text
    assert len(load(out)) == 2


def test_play_refuses_what_cannot_be(tmp_path):
    player = uct_player("connect_four", 10)
    with pytest.raises(ConfigError, match="episodes"):
        play_games(player, PlayOptions(episodes=0))
    with pytest.raises(ConfigError, match="no player"):
        play_games(player, PlayOptions(opponent="nobody"))


def test_options_that_do_nothing_for_a_game_are_refused(tmp_path):
    player, picture = uct_player("connect_four", 10), tmp_path / "game.gif"
    with pytest.raises(ConfigError, match="--episodes does nothing where you play yourself"):
        play_games(player, PlayOptions(episodes=2))
    with pytest.raises(ConfigError, match="as moves, not as pictures"):
        play_games(player, PlayOptions(opponent="random", out=picture))
    assert not picture.exists()
    alone = uct_player("game_2048", 1)
    with pytest.raises(ConfigError, match="--opponent does nothing in a game of one player"):
        play_games(alone, PlayOptions(opponent="random"))
    with pytest.raises(ConfigError, match="--second does nothing in a game of one player"):
        play_games(alone, PlayOptions(second=True))


def test_a_human_player_alone_asks_with_the_functions_it_is_given():
    shown = []
    answers = iter(["hint", "7"])
    person = HumanPlayer(ask=lambda text: next(answers), show=shown.append)
    assert person.act(playout.game("connect_four").batch(1)).tolist() == [6]
    assert shown == ["There is nobody to ask."]
    assert painted("X O") == "X O"  # no colours where output is no terminal


def test_a_person_plays_against_a_player_that_is_no_run(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    for player, words in (("uct:9", "hint\n5\nquit\n"), ("random", "5\nhint\nquit\n")):
        monkeypatch.setattr("sys.stdin", io.StringIO(words))
        assert main(["play", player, "--game", "tic_tac_toe", "--seed", "1"]) == 0
        text = capsys.readouterr().out
        assert f"You play tic_tac_toe against {player}" in text and f"{player} plays" in text
        assert ("would play" if player == "uct:9" else "nobody to ask") in text
    for arguments, message in (
        (["random"], "random needs a game: add --game"),
        (["human", "--game", "hex"], "name who plays against you"),
        (["uct:9", "--game", "hex", "--simulations", "3"], "are for runs; uct:9 is none"),
        (["greedy", "--game", "leduc_poker"], "would look at what"),
        (["nobody", "--game", "hex"], "nobody does not exist"),
    ):
        assert main(["play", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_the_commands_play_and_eval_reach_a_run(monkeypatch, capsys, untrained_run, tmp_path):
    monkeypatch.setattr("sys.stdin", io.StringIO("4\nquit\n"))
    assert main(["play", str(untrained_run), "--simulations", "4"]) == 0
    assert "You play connect_four" in capsys.readouterr().out
    monkeypatch.setattr("playout.agents.rating.evaluation.judge_positions", lambda player: [])
    out = tmp_path / "e.json"
    arguments = ["eval", str(untrained_run), "--simulations", "4", "--episodes", "2"]
    assert main([*arguments, "--opponents", "random", "--json", str(out)]) == 0
    assert json.loads(out.read_text())["matches"][0]["games"] == 2
    assert main(["eval", str(untrained_run), "--opponents", "nobody"]) == 2
    assert "no player" in capsys.readouterr().err


class Resigner(Script):
    """Gives up its second move, as other programs do."""

    name = "resigner"

    def act_after(self, states, lines):
        if len(lines[0]) < 2:
            return self.act(states), {}
        return np.full(1, -1, np.int32), {0: Forfeit("resigned", failed=False)}

    def close(self):
        pass


def test_a_game_that_a_program_resigns_is_kept_as_lost_and_the_next_one_begins(capsys, tmp_path):
    game, out = playout.game("tic_tac_toe"), tmp_path / "games.jsonl"
    options = PlayOptions(episodes=2, opponent="random", out=out)
    play_games(Resigner(), options, game)
    text = capsys.readouterr().out
    assert text.count("resigner resigns.\nrandom wins.\n") == 2
    for record, lost in zip(load(out), (0, 1), strict=True):
        assert record.result is None and record.info["lost_by"] == "resigner"
        assert record.info["returns"][lost] == -1 and record.info["reason"] == "resigned"
