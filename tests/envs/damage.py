"""Damaged bytes and texts of a game's states: refused, or states that keep the game's promises."""

import os

from playout.errors import GameError


def many(quick):
    """How often a test damages something: `quick` times, or 10,000 times with PLAYOUT_LONG=1."""
    return 10_000 if os.environ.get("PLAYOUT_LONG") else quick


def assert_refused_or_proper(game, state, rng, letters, *, changes):
    """Damages a state's bytes and its text in `changes` places each, and reads them.

    Args:
        game: The state's game.
        state: Any of its states.
        rng: A `random.Random`.
        letters: What the text's letters become.
        changes: How many places change.
    """
    data, text = bytearray(state.to_bytes()), list(state.text)
    for _ in range(changes):
        data[rng.randrange(len(data))] ^= rng.choice([1 << rng.randrange(8), rng.randrange(256)])
        text[rng.randrange(len(text))] = rng.choice(letters)
    for read, given in ((game.from_bytes, bytes(data)), (game.from_text, "".join(text))):
        try:
            found = read(given)
        except GameError:
            continue
        assert found.to_play in range(-1, game.num_players)
        assert len(found.legal_actions) <= game.max_legal
        assert game.from_text(found.text) == found
