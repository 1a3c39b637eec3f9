"""Other programs as players: whole matches, and engines that hang, die, lie or break the rules."""

import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import playout
import pytest
from playout.agents.players.external.gtp import GtpClient
from playout.agents.players.external.player import ExternalPlayer
from playout.agents.players.external.spec import EngineOptions, read_spec
from playout.agents.players.external.uci import UciClient
from playout.agents.players.load import make_player
from playout.agents.players.player import Forfeit, LinePlayer, choose
from playout.agents.rating.arena import play_match
from playout.cli import main
from playout.envs.core.game import StateBatch
from playout.errors import ConfigError, DataError, EngineError

FAKE = Path(__file__).with_name("fake_engine.py")
FAILURES = {
    "hang": "no answer",
    "die": "it ended with status 3 (out of ideas)",
    "nonsense": "no legal move",
    "illegal": "'99', which is no legal move",
    "flood": "answer",  # none in time, or one of too many lines
    "long": "a line of more than",
}


def fake(protocol, behaviour, *more):
    return (
        f"{protocol}:{sys.executable} -S {FAKE} {protocol} {behaviour} {' '.join(map(str, more))}"
    )


@pytest.fixture
def four():
    return playout.game("connect_four")


@pytest.fixture
def start(four):
    """Makes external players, and ends them."""
    made = []

    def make(spec, **options):
        made.append(ExternalPlayer(spec.strip(), four, EngineOptions(**options)))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("protocol", ["gtp", "uci"])
def test_a_match_is_played_by_the_moves_that_the_program_chooses(protocol, four, start):
    player = start(fake(protocol, "good"), processes=2)
    assert isinstance(player, LinePlayer)
    match = play_match(player, make_player("uct:20", four), four, 6, openings=2)
    for game in match.games:
        assert game.forfeit is None
        state, own = four.initial_state(), game.players.index(player.name)
        for ply, action in enumerate(game.moves):
            if ply >= 2 and state.to_play == own:  # the leftmost column that is not full
                assert action == state.legal_actions[0]
            state = state.apply(action)
        assert state.is_terminal and state.returns.tolist() == list(game.returns)


@pytest.mark.parametrize("protocol", ["gtp", "uci"])
@pytest.mark.parametrize("behaviour", FAILURES)
def test_a_program_that_breaks_down_loses_that_game_and_the_match_goes_on(
    protocol, behaviour, four, start, monkeypatch
):
    kind = {"gtp": GtpClient, "uci": UciClient}[protocol]
    genmove = kind.genmove

    def hurried(self, *arguments):
        if behaviour in ("hang", "flood"):  # it may begin as slowly as it likes
            self.timeout = 0.4
        return genmove(self, *arguments)

    monkeypatch.setattr(kind, "genmove", hurried)
    player = start(fake(protocol, behaviour), processes=1)
    match = play_match(player, make_player("random", four), four, 2, openings=0)
    lost = [game for game in match.games if game.forfeit is not None]
    assert len(match.games) == 2 and lost
    for game in lost:
        seat, forfeit = game.forfeit
        assert game.players[seat] == player.name and game.returns[seat] == -1 and forfeit.failed
        assert FAILURES[behaviour] in forfeit.reason
        assert not four.from_moves(list(game.moves)).is_terminal
    assert sum(match.forfeits(player.name).values()) == len(lost)


@pytest.mark.parametrize("protocol", ["gtp", "uci"])
def test_no_answer_takes_more_memory_than_it_may(protocol, four, start, monkeypatch):
    monkeypatch.setattr("playout.agents.players.external.process.MAX_ANSWER", 500_000)
    player = start(fake(protocol, "wordy"), processes=1)
    match = play_match(player, make_player("random", four), four, 2, openings=0)
    (reason,) = {game.forfeit[1].reason for game in match.games if game.forfeit is not None}
    assert "with more than 500000 characters" in reason


def test_a_program_may_have_its_own_word_for_the_swap_of_hex(tmp_path):
    game = playout.game("hex(size=4,swap=1)")
    state = game.initial_state()
    line = [state.read_action("a1")]
    line.append(state.apply(line[0]).read_action("swap"))
    client = GtpClient(
        read_spec(fake("gtp", "hex", log := tmp_path / "log"), EngineOptions()), game
    )
    with pytest.raises(EngineError, match="'1', which is no legal move"):  # it plays another game
        client.genmove(game.from_moves(line), line)
    client.close()
    assert log.read_text().count("play w swap") == 2 and "play w swap-pieces" in log.read_text()


def test_a_program_that_resigns_has_lost_but_not_broken_down(four, start):
    player = start(fake("gtp", "resign"), processes=1)
    match = play_match(player, make_player("random", four), four, 2, openings=0)
    assert any(game.forfeit and game.forfeit[1].reason == "resigned" for game in match.games)
    assert match.forfeits(player.name) == {}


def test_a_match_may_stop_at_the_first_breakdown(four, start):
    player = start(fake("gtp", "illegal"), on_failure="stop", processes=1)
    with pytest.raises(EngineError, match="no legal move"):
        play_match(player, make_player("random", four), four, 2, openings=0)


def test_at_the_first_breakdown_no_further_move_is_asked_for(four, start, tmp_path):
    player = start(fake("gtp", "illegal", log := tmp_path / "log"), on_failure="stop", processes=1)
    line = [3, 3]
    states = StateBatch.from_states([four.from_moves(line)] * 5)
    with pytest.raises(EngineError, match="no legal move"):
        player.act_after(states, [line] * 5)  # "illegal" breaks down at the second
    assert log.read_text().count("genmove") == 2


def test_whoever_stops_a_match_waits_for_no_copy(four, start, monkeypatch):
    player = start(fake("gtp", "good"), processes=2)
    asked, begun = [], threading.Barrier(2)

    def hang(self, state, line):
        asked.append(1)
        if threading.current_thread() is not threading.main_thread():
            begun.wait(10)
        list(self._process.ask("name", 60.0))  # all that it says, and then for a minute more
        raise AssertionError("it should have been ended")

    def interrupted(self, function, rows):
        [self.submit(function, row) for row in rows]
        while begun.n_waiting or len(asked) < 2:
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(GtpClient, "genmove", hang)
    monkeypatch.setattr(ThreadPoolExecutor, "map", interrupted)
    states, clock = four.batch(8), time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        player.act_after(states, [[]] * 8)
    assert time.monotonic() - clock < 10 and len(asked) == 2  # no further row was begun
    monkeypatch.undo()
    actions, lost = player.act_after(four.batch(2), [[]] * 2)  # asked again, it plays
    assert not lost and (actions == 0).all()


def test_a_resignation_instead_of_a_cleanup_is_no_breakdown():
    game = playout.game("go(size=5)")
    player = ExternalPlayer(fake("gtp", "cleanup").strip(), game, EngineOptions(processes=1))
    try:
        line = [12]
        _, lost = player.act_after(StateBatch.from_states([game.from_moves(["C3"])]), [line])
        assert lost[0] == Forfeit("resigned", failed=False)
    finally:
        player.close()


def test_lines_may_change_from_call_to_call(four, start, tmp_path):
    log = tmp_path / "log"
    player = start(fake("gtp", "good", log), processes=1)
    for line in ([3, 3, 2], [3, 3, 2, 0, 1], [3, 3, 4, 4, 4], [], [6] * 6 + [0] * 6):
        states = StateBatch.from_states([four.from_moves(line)])
        actions, forfeits = choose(player, states, [line])
        assert not forfeits and actions[0] == states[0].legal_actions[0]
    told = log.read_text()
    # Set up, and an empty board after six moves; less than that is taken back.
    assert told.count("clear_board") == 2 and told.count("undo") == 5
    assert "play b 4\nplay w 4\nplay b 3\ngenmove w\nplay b 2\n" in told


def test_positions_without_a_line_are_refused_but_for_the_first(four, start):
    player = start(fake("uci", "good"))
    assert player.act(four.batch(2)).tolist() == [0, 0]
    with pytest.raises(DataError, match="all moves"):
        player.act(StateBatch.from_states([four.from_moves("44")]))


@pytest.mark.parametrize(
    ("behaviour", "told"),
    [
        ("kata", ["kata-time_settings byoyomi 0 0.5 1"]),
        ("kata-old", ["kata-time_settings byoyomi 0 0.5 1", "time_settings 0 1 1"]),
        ("good", ["time_settings 0 1 1"]),
    ],
)
def test_a_gtp_program_is_told_its_time_as_exactly_as_it_understands(
    behaviour, told, four, start, tmp_path
):
    start(fake("gtp", behaviour, log := tmp_path / "log"), move_seconds=0.5).act(four.batch(1))
    assert [line for line in log.read_text().splitlines() if "time_settings" in line] == told


def test_a_limit_that_takes_no_time_and_a_longer_timeout_allow_any_move_seconds():
    slow = EngineOptions(move_seconds=120.0)
    assert read_spec("uci:cat?nodes=5", slow).limits == {"nodes": 5}
    assert read_spec("gtp:cat?timeout=130", slow).options.timeout == 130


def test_uci_options_are_set_and_checked(four, start, tmp_path):
    log = tmp_path / "log"
    start(fake("uci", "good", log) + "?UCI_Elo=1400&Skill Level=3&nodes=50").act(four.batch(1))
    told = log.read_text()
    for line in (
        "setoption name UCI_Variant value connect_four",
        "setoption name UCI_LimitStrength value true",
        "setoption name UCI_Elo value 1400",
        "setoption name Skill Level value 3",
        "go nodes 50",
    ):
        assert line in told.splitlines(), line
    for query, message in (
        ("Skil Level=3", "did you mean Skill Level"),
        ("Skill Level=30", "from 0 to 20"),
        ("Skill Level=x", "whole number"),
        ("UCI_LimitStrength=maybe", "true or false"),
    ):
        with pytest.raises(ConfigError, match=message):
            start(fake("uci", "good") + "?" + query)
    with pytest.raises(ConfigError, match="does not offer tic_tac_toe"):
        ExternalPlayer(fake("uci", "good").strip(), playout.game("tic_tac_toe"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gtp:", "write it as gtp:COMMAND"),
        ("gtp:no-such-program-here", "no program"),
        ("gtp:'unclosed", "cannot be read"),
        ("gtp:cat?level=3", "put it into the command"),
        ("uci:cat?nodes=0", "from 1 up"),
        ("uci:cat?timeout=soon", "needs seconds"),
        ("uci:cat?timeout=-1", "timeout must be"),
        ("uci:cat?seconds=2&timeout=1", "told it has 2 s a move is not to be given up after 1 s"),
        ("gtp:cat?seconds=60", "not to be given up after 60 s: allow more by"),
        ("uci:cat?movetime=120000", "told it has 120 s a move"),
        ("uci:cat?on_failure=cry", "lose or stop"),
        (fake("gtp", "mute"), "no licence found"),
        (fake("gtp", "deaf") + "?timeout=0.3", "no answer to protocol_version within 0.3 s"),
    ],
)
def test_what_cannot_be_started_is_said_in_one_line(spec, message, capsys):
    assert main(["match", "random", spec.strip(), "--game", "connect_four"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and message in said[0]


def test_seconds_limit_a_move_beside_nodes():
    spec = read_spec("uci:cat?nodes=1000&seconds=2")
    assert spec.limits == {"nodes": 1000, "movetime": 2000}
    with pytest.raises(ConfigError, match="not to be given up"):
        read_spec("uci:cat?nodes=1000&seconds=60")


def test_text_of_a_spec_is_read_as_documented():
    spec = read_spec("uci:a b?c?d --x=1?Skill Level=3&Name=a%26b&movetime=50&seconds=2&processes=3")
    assert (spec.command, spec.settings) == ("a b?c?d --x=1", {"Skill Level": "3", "Name": "a&b"})
    assert spec.limits == {"movetime": 50} and spec.options.processes == 3
    assert read_spec("gtp:cat what?").command == "cat what?"


def test_processes_are_ended_with_everything_they_have_started(four, tmp_path):
    pid = tmp_path / "pid"
    player = ExternalPlayer(fake("gtp", "stubborn", pid).strip(), four)
    child = int(pid.read_text())
    os.kill(child, 0)
    player.close()
    for _ in range(1000):
        try:  # a zombie whose parent has gone counts as ended
            status = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if status == "Z":
            return
        time.sleep(0.02)
    pytest.fail("a child of the engine still runs")


def test_games_of_more_players_and_with_dice_are_refused():
    from rating_games import Climb, Thirds

    for game in (Climb(), Thirds()):
        with pytest.raises(ConfigError, match="protocol"):
            ExternalPlayer(fake("gtp", "good").strip(), playout.game(game))


def test_the_command_reports_breakdowns_and_stores_how_games_ended(tmp_path, capsys):
    records, results = tmp_path / "games.jsonl", tmp_path / "match.json"
    spec = fake("gtp", "illegal").strip() + "?processes=1"
    words = ["match", "random", spec, "--games", "2", "--game", "connect_four", "--openings", "0"]
    more = ["--records", str(records), "--json", str(results), "--anchor", spec]
    assert main([*words, *more, "--anchor-elo", "1320", "--quiet"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "broke down in" in shown and "= 1320 Elo" in shown
    pairing = json.loads(results.read_text())["pairings"][0]
    assert sum(pairing["failures"][spec].values()) == pairing["wins"]
    stored = [json.loads(line) for line in records.read_text().splitlines()]
    lost = [one for one in stored if one["info"].get("lost_by") == spec]
    assert lost and all("no legal move" in one["info"]["reason"] for one in lost)
    assert main([*words, "--on-failure", "stop", "--quiet"]) == 2
    assert "no legal move" in capsys.readouterr().err


def test_a_breakdown_that_ends_the_match_leaves_the_games_that_were_over(tmp_path, capsys):
    results = tmp_path / "match.json"
    spec = fake("gtp", "illegal").strip() + "?processes=1"
    words = ["match", "random", "greedy", spec, "--games", "4", "--game", "connect_four"]
    more = ["--openings", "0", "--on-failure", "stop", "--quiet", "--json", str(results)]
    assert main([*words, *more]) == 2
    said = capsys.readouterr()
    assert "greedy" in said.out and "no legal move" in said.err.splitlines()[-1]
    players = {one["player"]: one for one in json.loads(results.read_text())["players"]}
    assert players["greedy"]["games"] >= 4


def test_our_own_engine_is_an_opponent_like_any_other(four):
    command = f"gtp:{sys.executable} -m playout engine greedy --game connect_four"
    player = ExternalPlayer(command, four, EngineOptions(processes=1))
    try:
        match = play_match(player, make_player("random", four), four, 6)
    finally:
        player.close()
    assert match.forfeits(command) == {} and match.score(command)[0] >= 4
    assert np.mean([game.returns for game in match.games]) == 0
