"""What Sabaki, Lizzie and KGS send to KataGo, in their order, and what our engine makes of it."""

import io
import json
import re

import playout
import pytest
from namesake import Namesake
from playout.agents.alphazero.evaluator import NetworkEvaluator
from playout.agents.alphazero.player import AlphaZeroPlayer
from playout.agents.networks.boards.registry import new_network
from playout.agents.players.load import make_player
from playout.agents.players.protocols.gtp import GtpEngine, serve


@pytest.fixture
def engine():
    game = playout.game("go(size=5)")
    return GtpEngine(make_player("uct:40", game), game)


def rules(engine):
    return json.loads(engine.answer("kata-get-rules")[2:])


def talk(engine, *lines):
    """Answers to lines that all come at once, as far as they are not analyses' own."""
    out = io.StringIO()
    serve(engine, io.StringIO("\n".join(lines) + "\n"), out)
    return out.getvalue().split("\n\n")[:-1]


@pytest.mark.parametrize(
    ("name", "ko", "suicide"),
    [
        ("tromp-taylor", "POSITIONAL", True),
        ("chinese", "SIMPLE", False),
        ("Chinese-OGS", "POSITIONAL", False),
        ("aga", "SITUATIONAL", False),
        ("new_zealand", "SITUATIONAL", True),
    ],
)
def test_rule_sets_that_count_area_are_taken_by_their_names(engine, name, ko, suicide):
    assert engine.answer("play b C3") == "=\n\n"
    assert engine.answer(f"kata-set-rules {name}") == "=\n\n"
    assert rules(engine) == {
        "friendlyPassOk": False, "hasButton": False, "ko": ko, "scoring": "AREA",
        "suicide": suicide, "tax": "NONE", "whiteHandicapBonus": "0",
    }  # fmt: skip
    params = engine.game.params
    assert (params["ko"], params["suicide"], params["komi"]) == (ko.lower(), int(suicide), 7.5)
    assert len(engine.states) == 2 and engine.state.game is engine.game
    assert engine.answer(f"kata-set-rules {json.dumps(rules(engine))}") == "=\n\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("kata-set-rules japanese", "japanese rules are not known"),
        ("kgs-rules japanese", "japanese rules are not known"),
        ("kata-set-rules", "syntax error"),
        ("kata-set-rules golden", "tromp-taylor, chinese"),
        ("kata-set-rules {", "no JSON"),
        ("kata-set-rules " + 2000 * '{"a":', "no JSON"),
        ('kata-set-rules {"scoring":"TERRITORY"}', 'scoring can only be "AREA"'),
        ('kata-set-rules {"ko":"SIMPLE","hasButton":true}', "hasButton can only be false"),
        ('kata-set-rules {"ko":7}', "no rule 'ko'"),
        ('kata-set-rules {"komi":"many"}', "komi"),
        ("kata-set-rule suicide perhaps", "no rule 'suicide'"),
        ("kata-set-rule ko", "syntax error"),
        ("kgs-rules tromp-taylor", "syntax error"),
        ("kata-set-param maxVisits 0", "must be from 1"),
        ("kata-set-param playoutDoublingAdvantage 0", "no such parameter"),
        ("kata-get-param", "no such parameter"),
        ("kata-time_settings hourglass 5", "none, absolute"),
        ("kata-time_settings byoyomi 60 5", "syntax error"),
        ("kgs-time_settings canadian 60 5 0", "needs seconds and a count"),
        ("kgs-time_settings absolute -5", "times must be"),
        ("printsgf game.sgf", "not written"),
        ("set_position b C3 w", "colours and vertices"),
        ("set_position b C3 w C3", "no stone at C3"),
        ("set_position b pass", "no stone at pass"),
        ("set_position b A1 w A2 w B1", "not a position"),
        ("kata-raw-nn 0", "has no network"),
        ("kata-analyze avoid b C3", "needs a colour, vertices and a depth"),
        ("kata-analyze allow green C3 1", "needs a colour"),
    ],
)  # fmt: skip
def test_what_cannot_hold_is_refused_in_one_line_and_nothing_changes(engine, line, message):
    engine.answer("play b C3")
    before = (rules(engine), engine.states, engine.clocks, engine.thinker.simulations)
    answer = engine.answer(line)
    assert answer.startswith("?") and message in answer and answer.count("\n") == 2
    assert (rules(engine), engine.states, engine.clocks, engine.thinker.simulations) == before


def test_rules_that_the_moves_have_broken_are_refused(engine):
    engine.answer("kata-set-rule suicide true")
    moves = zip("bwbwbwb", ("A2", "A3", "E5", "B2", "E4", "B1", "A1"), strict=True)
    for colour, vertex in moves:  # the last one takes two stones of its own
        assert engine.answer(f"play {colour} {vertex}") == "=\n\n"
    refused = engine.answer("kata-set-rule suicide false")
    assert refused == "? the moves so far break these rules\n\n"
    assert rules(engine)["suicide"] is True


def test_sabaki_attaches_an_engine_and_puts_its_position_on_it(engine):
    names = engine.answer("list_commands").split()
    assert "loadsgf" not in names  # without --files: Sabaki then sends the moves
    assert engine.answer("known_command loadsgf") == "= false\n\n"
    said = talk(
        engine, "1 name", "2 version", "3 protocol_version", "4 list_commands", "5 boardsize 5",
        "6 clear_board", "7 komi 6.5", "8 play B C3", "9 play W pass", "10 play B D3", "11 undo",
        "12 kata-analyze B 50", "13 genmove_analyze B interval 50", "14 clear_board",
    )  # fmt: skip
    assert [re.match(r"=(\d+)", one)[1] for one in said] == [str(n) for n in range(1, 15)]
    assert "info move" in said[11] and said[12].splitlines()[-1].startswith("play ")


def test_lizzie_avoids_and_allows_moves_and_sets_visits(engine):
    said = talk(
        engine, "kata-get-rules", "kata-set-param maxVisits 25", "kata-get-param maxVisits",
        "komi 5.5", "kata-get-params", "rectangular_boardsize 5 5", "clear_cache",
        "kata-search_analyze b 100 avoid b C3,B2 1 avoid w A1 1",
        "kata-search_analyze b 100 allow b A1,E5 1 rootInfo true",
        "kata-genmove_analyze b allow b A1 10", "kata-search w",
    )  # fmt: skip
    assert said[2] == "= 25" and said[4] == '= {"maxVisits": 25}'
    moves = re.findall(r"info move (\S+)", said[7])
    assert len(moves) > 5 and not {"C3", "B2"} & set(moves) and "A1" in moves
    assert said[7].splitlines()[-1].split()[1] not in ("C3", "B2")
    assert set(re.findall(r"info move (\S+)", said[8])) <= {"A1", "E5"}
    assert said[9].splitlines()[-1] == "play A1" and len(engine.states) == 2
    assert said[10].startswith("= ") and len(engine.states) == 2


def test_a_server_names_its_clock(engine):
    assert (
        engine.answer("kata-list_time_settings") == "= none absolute byoyomi canadian fischer\n\n"
    )
    assert engine.answer("kgs-rules chinese") == "=\n\n" and rules(engine)["ko"] == "POSITIONAL"
    assert engine.answer("kgs-time_settings byoyomi 0 9 5") == "=\n\n"
    clock = engine.clocks[0]
    assert 8.5 < clock.seconds() < 9
    assert engine.answer("time_left b 4 3") == "=\n\n"  # three periods, not stones, are left
    assert 3.5 < clock.seconds() < 4
    clock.begin()
    clock.end()
    assert 8.5 < clock.seconds() < 9  # in time: the period begins anew
    engine.answer("kata-time_settings fischer 300 10")
    clock = engine.clocks[1]
    assert 15 < clock.seconds() < 20
    clock.begin()
    clock.end()
    assert clock.main == pytest.approx(310, abs=1)
    assert engine.answer("kata-time_settings canadian 60 30 10") == "=\n\n"
    assert engine.answer("kata-time_settings none") == "=\n\n" and engine.clocks == [None, None]


def test_a_move_that_is_played_takes_its_time_off_the_clock(engine):
    engine.answer("time_settings 10 0 0")
    for command in ("reg_genmove b", "kata-search b", "kata-search_analyze b 100"):
        assert not engine.answer(command).startswith("?") and engine.clocks[0].main == 10
    talk(engine, "kata-genmove_analyze b 100", "lz-genmove_analyze w 100")
    assert engine.clocks[0].main < 10 and engine.clocks[1].main < 10
    left = engine.clocks[0].main
    assert engine.answer("genmove b").startswith("= ") and engine.clocks[0].main < left


def test_a_position_is_set_shown_as_sgf_and_kept_when_komi_changes(engine):
    assert engine.answer("set_position b C3 w D4 b A1") == "=\n\n"
    assert engine.state.text == "...../...O./..X../...../X.... b"
    engine.answer("play b B2")
    assert engine.answer("komi 3.5") == "=\n\n"
    assert engine.state.text.startswith("...../...O./..X../...../X.... b") and engine.moves
    assert engine.game.params["komi"] == 3.5
    sgf = engine.answer("printsgf")[2:].strip()
    assert "KM[3.5]" in sgf and "AB[cc][ae]" in sgf and "\n\n" not in sgf
    assert engine.answer("undo") == "=\n\n" and engine.answer("undo").startswith("?")


def test_the_bare_network_says_what_it_thinks():
    game = playout.game("go(size=5)")
    network = NetworkEvaluator(new_network(game, "4x1", seed=1), device="cpu", dtype="float32")
    engine = GtpEngine(AlphaZeroPlayer(game, network, simulations=4), game)
    engine.answer("play b C3")
    said = engine.answer("kata-raw-nn 0")
    words = said.replace("=", " ").split()
    chances = [float(one) for one in words[words.index("policy") + 1 :][:25]]
    passing = float(words[words.index("policyPass") + 1])
    assert chances[12] != chances[12]  # a stone lies there
    assert sum(one for one in chances if one == one) + passing == pytest.approx(1, abs=1e-4)
    won, lost = (float(words[words.index(name) + 1]) for name in ("whiteWin", "whiteLoss"))
    value = float(network.evaluate_obs(engine.state.observe(1)[None])[1][0])
    assert [won, lost] == pytest.approx([(1 + value) / 2, (1 - value) / 2], abs=1e-4)
    engine.answer("play w pass")  # the other side sees the same network, whose word is turned
    words = engine.answer("kata-raw-nn 0").split()
    value = float(network.evaluate_obs(engine.state.observe(0)[None])[1][0])
    won = float(words[words.index("whiteWin") + 1])
    assert won == pytest.approx((1 - value) / 2, abs=1e-4)


def test_other_games_have_no_rules_of_go():
    game = playout.game("hex(size=4)")
    engine = GtpEngine(make_player("uct:10", game), game)
    names = engine.answer("list_commands").split()
    assert "kata-set-rules" not in names and "kata-set-param" in names
    assert engine.answer("kata-get-rules") == "? unknown command\n\n"


def test_a_game_that_is_only_called_go_has_no_rules_and_stones_of_go():
    game = playout.game(Namesake("go"))
    engine = GtpEngine(make_player("uct:4", game), game)
    assert "kata-get-rules" not in engine.answer("list_commands").split()
    for asked in ("kata-get-rules", "final_status_list alive", "fixed_handicap 2"):
        assert engine.answer(asked).startswith("?"), asked


def test_a_search_that_is_cancelled_names_no_move(engine):
    shown = []
    engine.emit = shown.append
    assert engine.answer("kata-set-param maxVisits 50000") == "=\n\n"
    engine.interrupted = lambda: True
    assert engine.answer("kata-search_analyze_cancellable b 100") == "play cancelled\n\n"
    assert "info move" in shown[-1]
    engine.answer("kata-set-param maxVisits 100")
    engine.interrupted = lambda: False
    whole = engine.answer("kata-search_analyze_cancellable b 100")
    assert whole.split()[0] == "play" and "cancelled" not in whole


def test_komi_is_a_rule_like_others(engine):
    assert engine.answer("kata-set-rule komi 6.5") == "=\n\n"
    assert engine.answer("get_komi") == "= 6.5\n\n"
    assert engine.answer("kata-set-rule komi much").startswith("? syntax error")


def test_visits_are_refused_for_players_that_do_not_search():
    game = playout.game("go(size=5)")
    engine = GtpEngine(make_player("greedy", game), game)
    assert engine.answer("kata-set-param maxVisits 10").startswith("? greedy does not search")
