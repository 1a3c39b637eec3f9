"""Go, dice and cards beside other implementations, where a list of legal moves is not enough.

Every function plays one random game on both and compares all that it can: moves, the odds of
chance, positions that a roll allows, scores, results, what each player knows. See rules.py beside
this for games whose moves are compared as text.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import playout
from playout.benchmarks.tools.measuring import peer
from playout.envs.core.game import State

Men = tuple[tuple[int, ...], tuple[int, ...]]
WITHIN = 1e-5  # of chips and odds, which are floats of 32 bits there


def agree(here: Any, there: Any, state: State, what: str) -> None:
    """Raises AssertionError where two are not equal; it names the position."""
    if here != there:
        raise AssertionError(f"{state.game}: {state.text}: {what}: {here}, there {there}")


def near(here: Iterable[float], there: Iterable[float], state: State, what: str) -> None:
    """Raises AssertionError where numbers differ by more than rounding."""
    ours, theirs = list(here), list(there)
    close = len(ours) == len(theirs) and all(
        abs(one - other) <= WITHIN for one, other in zip(ours, theirs, strict=True)
    )
    if not close:
        agree(ours, theirs, state, what)


def spiel(name: str, params: dict[str, Any] | None = None) -> Any:
    """A new game of OpenSpiel."""
    pyspiel = peer("pyspiel", "open-spiel")
    assert pyspiel is not None
    return pyspiel.load_game(name, params or {}).new_initial_state()


def go(name: str, rng: random.Random) -> int:
    """Go of OpenSpiel, by area and positional superko.

    There a move that repeats a position is legal and ends the game: so it must be one that is
    forbidden here.
    """
    game = playout.game(name)
    size, komi = game.params["size"], game.params["komi"]
    other, state, compared = (
        spiel("go", {"board_size": size, "komi": komi}),
        game.initial_state(),
        0,
    )
    while not state.is_terminal:
        theirs = {other.action_to_string(a).split()[1].lower(): a for a in other.legal_actions()}
        mine = {state.action_text(action).lower(): action for action in state.legal_actions}
        agree(sorted(mine.keys() - theirs.keys()), [], state, "only legal here")
        for word in sorted(theirs.keys() - mine.keys()):
            agree(True, other.child(theirs[word]).is_terminal(), state, f"{word} repeats")
        word = rng.choice(sorted(mine))
        other.apply_action(theirs[word])
        state, compared = state.apply(mine[word]), compared + 1
    agree(True, other.is_terminal(), state, "the game is over")
    near(state.returns, other.returns(), state, "results")
    return compared


def game_2048(name: str, rng: random.Random) -> int:
    """2048 of OpenSpiel: odds of new tiles, all tiles and the score after every move.

    It forgets moves that do nothing but merge a tile which the last move has made: these have to
    score here, and are not played.
    """
    other, state, score, compared = spiel("2048"), playout.game(name).initial_state(), 0.0, 0
    while not state.is_terminal:
        agree(False, other.is_terminal(), state, "the game is over")
        if other.is_chance_node():
            theirs, mine = other.chance_outcomes(), state.chance_outcomes
            agree([a for a, _ in mine], [a + 4 for a, _ in theirs], state, "new tiles")
            near((p for _, p in mine), (p for _, p in theirs), state, "odds of new tiles")
            action = rng.choices(*zip(*theirs, strict=True))[0]
            other.apply_action(action)
            state = state.apply(action + 4)
        else:
            legal = other.legal_actions()
            agree(sorted(set(legal) - set(state.legal_actions)), [], state, "only legal there")
            for move in set(state.legal_actions) - set(legal):
                agree(True, state.apply(move).returns[0] > score, state, f"move {move} merges")
            action = rng.choice(legal)
            other.apply_action(action)
            state, score = state.apply(action), score + other.rewards()[0]
        tiles = state.text.split()[0].replace("/", ",").split(",")
        shown = [0 if tile == "." else int(tile) for tile in tiles]
        agree(shown, [int(tile) for tile in str(other).split()], state, "tiles")
        agree(float(state.returns[0]), score, state, "score")
        compared += 1
    agree(True, other.is_terminal(), state, "the game is over")
    return compared


def cards(name: str, rng: random.Random, known: dict[Any, Any] | None = None) -> int:
    """Kuhn poker, Leduc poker and liar's dice of OpenSpiel: turns, odds, moves, results.

    Args:
        name: The game.
        rng: What moves and cards are drawn from.
        known: What players knew in earlier games: whatever one cannot tell apart here, it cannot
            tell apart there, and the other way round.
    """
    game, compared = playout.game(name), 0
    known = {} if known is None else known
    other, state = spiel(game.name, cards_there(game.params)), game.initial_state()
    while not state.is_terminal:
        agree(False, other.is_terminal(), state, "the game is over")
        actions = state.legal_actions
        agree(actions, other.legal_actions(), state, "legal")
        if other.is_chance_node():
            agree(True, state.to_play < 0, state, "a turn of chance")
            odds = [prob for _, prob in state.chance_outcomes]
            near(odds, (prob for _, prob in other.chance_outcomes()), state, "odds")
        else:
            player, key, told = state.to_play, state.info_key(), other.information_state_string()
            agree(player, other.current_player(), state, "the player to move")
            agree(
                key, known.setdefault(("there", player, told), key), state, "told apart only here"
            )
            agree(
                told, known.setdefault(("here", player, key), told), state, "told apart only there"
            )
        action = rng.choice(actions)
        other.apply_action(action)
        state, compared = state.apply(action), compared + 1
    agree(True, other.is_terminal(), state, "the game is over")
    near(state.returns, other.returns(), state, "results")
    return compared


def cards_there(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters of a card game by OpenSpiel's names."""
    names = {"dice": "numdice", "sides": "dice_sides"}
    return {names.get(key, key): value for key, value in params.items()}


def men_of(state: State) -> Men:
    """Men of players 0 and 1 in backgammon, each from its own points 1 to 24, the bar, and off."""
    data = state.to_bytes()
    mine, other = (
        tuple(data[26 * player + point] for point in (*range(1, 26), 0)) for player in (0, 1)
    )
    return mine, other


def ends_of_turn(state: State) -> dict[Men, State]:
    """{men: state} of all that the player to move can make of its dice."""
    player, seen, todo = state.to_play, {state}, [state]
    ends: dict[Men, State] = {}
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


def men_of_openspiel(other: Any) -> Men:
    """The same as `men_of`; its O travels as player 0 does here."""
    tensor = other.observation_tensor(0)

    def count(first: int) -> int:
        one, two, three, more = tensor[first : first + 4]
        return int(one + 2 * two + 3 * three + (3 + more if more else 0))

    crosses = [count(4 * (24 - point)) for point in range(1, 25)]
    noughts = [count(96 + 4 * (point - 1)) for point in range(1, 25)]
    bar_x, off_x, _, bar_o, off_o = map(int, tensor[192:197])
    return (*noughts, bar_o, off_o), (*crosses, bar_x, off_x)


def ends_of_openspiel(other: Any) -> dict[Men, Any]:
    """{men: state}; a double is two turns of two moves there."""
    player, todo = other.current_player(), [other]
    ends: dict[Men, Any] = {}
    while todo:
        one = todo.pop()
        for action in one.legal_actions():
            after = one.child(action)
            if after.is_terminal() or after.is_chance_node() or after.current_player() != player:
                ends[men_of_openspiel(after)] = after
            else:
                todo.append(after)
    return ends


def backgammon(name: str, rng: random.Random) -> int:
    """Backgammon of OpenSpiel: all positions that each roll allows, and what the end is worth."""
    state = playout.game(name).initial_state()
    other, compared = spiel("backgammon", {"scoring_type": "full_scoring"}), 0
    while not other.is_terminal():
        if other.is_chance_node():
            action = rng.choice(other.legal_actions())
            words = other.action_to_string(-1, action)
            low, high = sorted(words.split()[-1][:2])
            roll = low + high if "X starts" in words else high + low
            other.apply_action(action)
            state = state.apply(state.read_action(roll))
            continue
        ends = ends_of_openspiel(other)
        if state.to_play < 0:  # no die can be played: the turn has ended here
            agree([men_of(state)], list(ends), state, "no man can move")
        else:
            mine = ends_of_turn(state)
            agree(sorted(mine), sorted(ends), state, "positions of the roll")
        compared += 1
        men = rng.choice(sorted(ends))
        other = ends[men]
        state = state if state.to_play < 0 else mine[men]
    agree(True, state.is_terminal, state, "the game is over")
    agree([float(state.returns[1]), float(state.returns[0])], other.returns(), state, "results")
    return compared


def backgammon_of_gnu(name: str, rng: random.Random) -> int:
    """GNU Backgammon's moves: all positions that each roll allows."""
    gnubg = peer("gnubg_nn", "gnubg-nn")
    assert gnubg is not None
    state, compared = playout.game(name).initial_state().resolve_chance(rng.getrandbits(62)), 0
    while not state.is_terminal:
        if state.to_play < 0:
            outcomes, probs = zip(*state.chance_outcomes, strict=True)
            state = state.apply(rng.choices(outcomes, probs)[0])
            continue
        player, data = state.to_play, state.to_bytes()
        sides = [list(data[26 * side + 1 : 26 * side + 26]) for side in (1 - player, player)]
        high, low = data[54], data[55] or data[54]
        boards = (gnubg.board_from_position_key(key) for key in gnubg.moves(sides, high, low))
        theirs = {tuple(tuple(side) for side in board) for board in boards}
        ends = ends_of_turn(state)
        mine = {(men[1 - player][:25], men[player][:25]) for men in ends}
        agree(sorted(mine), sorted(theirs), state, "positions of the roll")
        state, compared = ends[rng.choice(sorted(ends))], compared + 1
    return compared


CARDS = (
    "kuhn_poker",
    "kuhn_poker(players=5)",
    "leduc_poker",
    "leduc_poker(players=3)",
    "leduc_poker(players=6)",
    "liars_dice",
    "liars_dice(dice=2, sides=5)",
)

# By game and peer's package, what plays one game on both; it returns the positions compared.
GAMES: dict[tuple[str, str], Callable[[str, random.Random], int]] = {
    ("go(size=5)", "pyspiel"): go,
    ("go(size=9)", "pyspiel"): go,
    ("go(size=19)", "pyspiel"): go,
    ("backgammon", "pyspiel"): backgammon,
    ("backgammon", "gnubg_nn"): backgammon_of_gnu,
    ("game_2048", "pyspiel"): game_2048,
    # What players know is compared over all games of a process.
    **{(name, "pyspiel"): partial(cards, known={}) for name in CARDS},
}
