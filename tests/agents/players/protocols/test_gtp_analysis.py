"""Analyses over GTP: moves that are avoided or allowed, answers in form, searches that fail."""

import io
import re

import numpy as np
import playout
import pytest
import torch
from playout.agents.networks.boards.registry import new_network
from playout.agents.players.load import make_player
from playout.agents.players.player import Forecast
from playout.agents.players.protocols.gtp import GtpEngine, serve
from playout.agents.players.protocols.gtp_forecast import Outlook
from playout.agents.players.search import SearchPlayer, playing_search
from playout.agents.runs.directory import RunDir
from playout.errors import DivergedError
from playout.mcts.evaluators import UniformEvaluator


def engine_of(spec, game="go(size=5)"):
    game = playout.game(game)
    return GtpEngine(make_player(spec, game), game)


def answers(engine, *lines):
    """Each command's answer; lines that all come at once get as many, each with a head."""
    out = io.StringIO()
    serve(engine, io.StringIO("\n".join(lines) + "\n"), out)
    found = out.getvalue().split("\n\n")
    assert found.pop() == "" and len(found) == len(lines), out.getvalue()
    assert all(re.match("[=?]", one) for one in found), out.getvalue()
    return found


def shown(answer):
    """Moves of an answer's reports, and their visits."""
    return {
        move: int(visits)
        for line in answer.splitlines()
        for move, visits in re.findall(r"info move (\S+) visits (\d+)", line)
    }


@pytest.mark.parametrize("spec", ["uct:40", "greedy", "random", "alphabeta:1"])
@pytest.mark.parametrize("command", ["kata-genmove_analyze", "lz-genmove_analyze"])
def test_an_allowed_move_is_searched_and_played_whoever_plays(spec, command):
    found, board = answers(engine_of(spec), f"{command} b allow b A1,E5 1", "showboard")
    reported = shown(found)
    assert reported and set(reported) <= {"A1", "E5"}
    assert found.splitlines()[-1].split()[1] in reported
    if spec == "uct:40":  # all of the search, and not what an unrestricted one spends there
        assert sum(reported.values()) == 40
    assert board.startswith("=")


def test_avoided_moves_take_nothing_of_an_analysis():
    engine = engine_of("uct:40")
    first, second, last = answers(
        engine, "kata-analyze b 1 avoid b C3,B2,pass 1", "lz-analyze allow b d4 9", "name"
    )
    assert shown(first) and not {"C3", "B2", "pass"} & set(shown(first))
    assert set(shown(second)) == {"D4"} and last == "= playout uct:40"
    # What holds for the other colour, or names taken points too, changes nothing.
    engine.answer("play b C3")
    found, *_ = answers(engine, "kata-search_analyze w avoid b A1 1 allow w C3,E5 1", "name")
    assert set(shown(found)) == {"E5"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("allow b C3 1", "leave no legal move"),  # a stone lies there
        ("allow b A1 1 avoid b a1 1", "leave no legal move"),
        ("avoid b Z99 1", "'Z99' is no move"),
        ("allow b A1,there 1", "'there' is no move"),
    ],
)
def test_moves_that_are_none_and_sets_without_any_are_refused(words, message):
    engine = engine_of("uct:10")
    engine.answer("play b C3")
    for command in ("kata-genmove_analyze", "lz-analyze", "kata-search_analyze"):
        (found,) = answers(engine, f"{command} b {words}")
        assert found.startswith("?") and message in found and len(engine.states) == 2


class Failing(UniformEvaluator):
    """Gives up after some answers."""

    def __init__(self, answers):
        super().__init__()
        self.left = answers

    def evaluate(self, leaves):
        if not self.left:
            raise DivergedError("the network answers NaN")
        self.left -= 1
        return super().evaluate(leaves)


@pytest.mark.parametrize("command", ["kata-genmove_analyze b 0", "kata-search_analyze b 0"])
def test_a_search_that_fails_is_refused_or_ends_what_it_has_said(command, capsys):
    game = playout.game("go(size=5)")
    for possible in (0, 5):
        player = SearchPlayer(game, playing_search(64), Failing(possible))
        found, name = answers(GtpEngine(player, game), f"7 {command}", "8 name")
        assert name.startswith("=8 ")
        if possible:
            assert found.startswith("=7\ninfo move") and "play" not in found
            assert "the network answers NaN" in capsys.readouterr().err
        else:
            assert found == "?7 the network answers NaN"


def run_with(path, **heads):
    """A run on Go 5x5 whose network is untrained, and that network."""
    net = new_network(playout.game("go(size=5)"), "8x1", seed=1, **heads).eval()
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if name.startswith("auxiliary"):
                weight.normal_(generator=torch.Generator().manual_seed(len(name)))
    run = RunDir.create(
        path, kind="alphazero", config={"alphazero": {"game": "go(size=5)"}}, seed=0
    )
    with run.lock():
        run.save(1, {"model": net.state_dict(), "network": net.config.to_dict()})
    return net


def expected(net, state):
    """Who owns what and by how much the side to move is ahead, by the network's own heads."""
    with torch.no_grad():
        obs = torch.from_numpy(state.observe(state.to_play))[None]
        _, _, planes, score = net.all_heads(obs)
    return torch.tanh(planes[0, 0] / 2).ravel().tolist(), 25 * float(score[0])


def numbers(text, name, count=1):
    words = text.split()
    at = words.index(name) + 1
    return pytest.approx([float(one) for one in words[at : at + count]], abs=2e-4)


def test_owners_and_scores_are_told_where_the_network_has_learned_them(tmp_path):
    net = run_with(tmp_path / "run", planes=True, scores=True)
    game = playout.game("go(size=5)")
    engine = GtpEngine(playout.load(tmp_path / "run").with_simulations(40), game)
    wanted = "100 ownership true rootInfo true"
    for colour, sign in (("b", -1), ("w", 1)):  # as the side to move sees it; "white..." as White
        state = engine.state
        owned, lead = expected(net, state)
        raw = engine.answer("kata-raw-nn 0")
        assert [sign * lead] == numbers(raw, "whiteLead")
        assert [sign * one for one in owned] == numbers(raw, "whiteOwnership", 25)
        found, *_ = answers(engine, f"kata-search_analyze {colour} {wanted}", "name")
        said = found.splitlines()[1]
        infos, root = said.split(" rootInfo ")
        assert [lead] == numbers(root, "scoreLead") and owned == numbers(root, "ownership", 25)
        first, *others = infos.split("info ")[1:]
        after = state.apply(state.read_action(first.split()[1]))
        assert [-expected(net, after)[1]] == numbers(first, "scoreLead")
        assert len(re.findall("scoreLead", infos)) == min(10, 1 + len(others))
        engine.answer(f"play {colour} {'C3' if colour == 'b' else 'B2'}")
    found, _ = answers(engine, f"lz-analyze b {wanted}", "name")
    assert "info move" in found and "score" not in found and "ownership" not in found


def test_the_score_after_a_move_that_ends_the_game_is_the_games_own(tmp_path):
    run_with(tmp_path / "run", scores=True)
    engine = GtpEngine(playout.load(tmp_path / "run"), playout.game("go(size=5,komi=7.5)"))
    for move in ("play b C3", "play w pass"):
        engine.answer(move)
    found, *_ = answers(engine, "kata-search_analyze b 100 allow b pass 1 ownership true", "name")
    assert numbers(found, "scoreLead") == [17.5] and "ownership" not in found


@pytest.mark.parametrize("spec", ["run", "uct:20"])
def test_without_such_heads_nothing_is_said_of_owners_and_scores(spec, tmp_path):
    run_with(tmp_path / "run")
    game = playout.game("go(size=5)")
    player = make_player(spec if spec != "run" else str(tmp_path / "run"), game)
    assert getattr(player, "learned", None) is None  # nothing is computed for it
    engine = GtpEngine(player, game)
    said = answers(
        engine, "kata-genmove_analyze b 100 ownership true rootInfo true", "kata-raw-nn 0"
    )
    assert "rootInfo" in said[0] and not re.search("score|[oO]wnership|Lead", "".join(said))


def test_the_scores_after_all_moves_are_asked_for_at_once(tmp_path, monkeypatch):
    net = run_with(tmp_path / "run", planes=True, scores=True)
    player, state = playout.load(tmp_path / "run"), playout.game("go(size=5)").initial_state()
    asked, answer = [], player.forecast
    monkeypatch.setattr(player, "forecast", lambda x: asked.append(len(x)) or answer(x))
    outlook = Outlook(player, state)
    told = outlook.leads(range(4)) | outlook.leads(range(12))
    assert asked == [1, 4, 6] and list(told) == list(range(10))
    for action, lead in told.items():
        assert lead == pytest.approx(-expected(net, state.apply(action))[1], abs=1e-4)


class Seer(SearchPlayer):
    """Sees every position ahead by a point."""

    def forecast(self, states):
        assert (states.to_play() >= 0).all()
        return Forecast(score=np.ones(len(states), np.float32))


def test_no_score_is_told_after_a_move_that_chance_follows():
    game = playout.game("backgammon")
    state = game.initial_state().resolve_chance(0)
    follows = {action: state.apply(action).to_play for action in state.legal_actions[:10]}
    while all(side >= 0 for side in follows.values()):
        state = state.apply(state.legal_actions[0])
        follows = {action: state.apply(action).to_play for action in state.legal_actions[:10]}
    leads = Outlook(Seer(game, playing_search(4), UniformEvaluator()), state).leads(list(follows))
    assert leads == {action: 1.0 for action, side in follows.items() if side >= 0}
