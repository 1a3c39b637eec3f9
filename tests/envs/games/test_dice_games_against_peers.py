"""2048 and backgammon beside OpenSpiel and GNU Backgammon, at random, with every choice compared.

Each test takes a number of games, so that the same functions serve for longer runs.
"""

import random

import playout
import pytest


@pytest.mark.peer
def test_openspiel_slides_and_scores_2048_alike(num_games=4):
    pyspiel = pytest.importorskip("pyspiel")
    other, game, rng = pyspiel.load_game("2048"), playout.game("game_2048"), random.Random(31)
    for _ in range(num_games):
        peer, state, score = other.new_initial_state(), game.initial_state(), 0.0
        while not state.is_terminal:
            assert not peer.is_terminal()
            if peer.is_chance_node():
                theirs = peer.chance_outcomes()
                assert dict(theirs) == pytest.approx(
                    {action - 4: prob for action, prob in state.chance_outcomes}
                )
                action = rng.choices(*zip(*theirs, strict=True))[0]
                peer.apply_action(action)
                state = state.apply(action + 4)
            else:
                # It forgets moves that do nothing but merge a tile which the last move has made.
                for move in set(state.legal_actions) ^ set(peer.legal_actions()):
                    assert state.apply(move).returns[0] > score, state.text
                action = rng.choice(peer.legal_actions())
                peer.apply_action(action)
                state = state.apply(action)
                score += peer.rewards()[0]
            tiles = state.text.split()[0].replace("/", ",").split(",")
            theirs = str(peer).split()
            assert [0 if tile == "." else int(tile) for tile in tiles] == list(map(int, theirs))
            assert score == state.returns[0]
        assert peer.is_terminal()


def men_of(state):
    """(men of player 0, men of player 1), each from its own points 1 to 24, the bar, and off."""
    data = state.to_bytes()
    return tuple(
        tuple(data[26 * player + point] for point in (*range(1, 26), 0)) for player in (0, 1)
    )


def ends_of_turn(state):
    """{men: state} of all that the player to move can make of its dice."""
    player, seen, ends, todo = state.to_play, {state}, {}, [state]
    while todo:
        one = todo.pop()
        for action in one.legal_actions:
            after = one.apply(action)
            if after.to_play != player:
                ends[men_of(after)] = after
            elif after not in seen:
                seen.add(after)
                todo.append(after)
    return ends


def men_of_openspiel(peer):
    """The same as `men_of`; its O travels as our player 0 does."""
    tensor = peer.observation_tensor(0)

    def count(first):
        one, two, three, more = tensor[first : first + 4]
        return int(one + 2 * two + 3 * three + (3 + more if more else 0))

    crosses = [count(4 * (24 - point)) for point in range(1, 25)]
    noughts = [count(96 + 4 * (point - 1)) for point in range(1, 25)]
    bar_x, off_x, _, bar_o, off_o = map(int, tensor[192:197])
    return (*noughts, bar_o, off_o), (*crosses, bar_x, off_x)


def ends_of_openspiel(peer):
    """{men: state}; a double is two turns of two moves there."""
    player, ends, todo = peer.current_player(), {}, [peer]
    while todo:
        one = todo.pop()
        for action in one.legal_actions():
            after = one.child(action)
            if after.is_terminal() or after.is_chance_node() or after.current_player() != player:
                ends[men_of_openspiel(after)] = after
            else:
                todo.append(after)
    return ends


@pytest.mark.peer
def test_openspiel_reaches_the_same_positions_with_every_roll(num_games=3):
    pyspiel = pytest.importorskip("pyspiel")
    other = pyspiel.load_game("backgammon(scoring_type=full_scoring)")
    game, rng, turns = playout.game("backgammon"), random.Random(37), 0
    for _ in range(num_games):
        peer, state = other.new_initial_state(), game.initial_state()
        while not peer.is_terminal():
            if peer.is_chance_node():
                action = rng.choice(peer.legal_actions())
                words = peer.action_to_string(-1, action)
                low, high = sorted(words.split()[-1][:2])
                roll = low + high if "X starts" in words else high + low
                peer.apply_action(action)
                state = state.apply(state.read_action(roll))
                continue
            ends = ends_of_openspiel(peer)
            if state.to_play < 0:  # no die can be played: our turn has ended
                assert list(ends) == [men_of(state)]
            else:
                mine = ends_of_turn(state)
                assert mine.keys() == ends.keys(), state.text
                turns += 1
            men = rng.choice(sorted(ends))
            peer = ends[men]
            state = state if state.to_play < 0 else mine[men]
        assert state.is_terminal
        assert [state.returns[1], state.returns[0]] == peer.returns()
    assert turns > 20 * num_games


def men_of_gnubg(key, gnubg):
    """(men of who is not on roll, men of who is), points 1 to 24 and the bar."""
    return tuple(tuple(side) for side in gnubg.board_from_position_key(key))


@pytest.mark.peer
def test_gnu_backgammon_reaches_the_same_positions_with_every_roll(num_games=3):
    gnubg = pytest.importorskip("gnubg_nn")
    game, rng = playout.game("backgammon"), random.Random(41)
    for number in range(num_games):
        state = game.initial_state().resolve_chance(number)
        while not state.is_terminal:
            if state.to_play < 0:
                outcomes, probs = zip(*state.chance_outcomes, strict=True)
                state = state.apply(rng.choices(outcomes, probs)[0])
                continue
            player, data = state.to_play, state.to_bytes()
            sides = [list(data[26 * side + 1 : 26 * side + 26]) for side in (1 - player, player)]
            high, low = data[54], data[55] or data[54]
            theirs = {men_of_gnubg(key, gnubg) for key in gnubg.moves(sides, high, low)}
            ends = ends_of_turn(state)
            mine = {(men[1 - player][:25], men[player][:25]) for men in ends}
            assert mine == theirs, state.text
            state = ends[rng.choice(sorted(ends))]
