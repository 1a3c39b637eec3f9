"""The errors that playout raises on purpose, and the names that a misspelt one may have meant.

Each message is one line that says what is wrong and what to do.
"""

import difflib
from collections.abc import Iterable


class PlayoutError(Exception):
    """Base of all deliberate errors; the command line prints it as one line without a traceback."""


class ConfigError(PlayoutError, ValueError):
    """An option, parameter or configuration file that cannot be used."""


class GameError(PlayoutError):
    """A game that breaks its own contract, or text and bytes that are not one of its states."""


class IllegalActionError(GameError, ValueError):
    """An action that the position does not allow."""


class SearchError(PlayoutError):
    """Calls to a search out of order: tell() without ask(), a result before an evaluation."""


class EnvironmentFault(PlayoutError):
    """An environment that breaks its own spaces, raises, or whose worker died."""


class SharedFault(EnvironmentFault):
    """A fault that all ranks of a job have heard of: each raises it at the same point of work."""


class RunError(PlayoutError):
    """A run directory that cannot be created, opened, locked or written."""


class CheckpointError(RunError):
    """A checkpoint that is corrupt, truncated, hostile or belongs to something else."""


class DivergedError(PlayoutError):
    """NaN or infinity in rewards, observations, losses or a network's answers."""


class DataError(PlayoutError, ValueError):
    """Text, pairs, records or downloads that cannot be used."""


class StoppedError(PlayoutError):
    """Work that was asked to stop before its end; nothing of it counts."""


class EngineError(PlayoutError):
    """Another program that plays games cannot be asked, or gave no proper answer."""


class PeerError(PlayoutError):
    """Another process of the job that died, hangs or cannot be reached."""


def likely_names(
    name: str, names: Iterable[str], *, count: int = 1, least: float = 0.6
) -> list[str]:
    """The known names that an unknown one may have meant, likeliest first.

    Those that it begins (two letters at least) come before those that are spelled alike, since a
    longer name is a poor match of what begins it, letter by letter.

    Args:
        name: What was given.
        names: What there is.
        count: How many, at most.
        least: How alike others must be, as `difflib.get_close_matches` counts it, 0 to 1.
    """
    known = list(names)
    begun = [one for one in known if len(name) > 1 and one.startswith(name)]
    found = difflib.get_close_matches(name, begun, n=max(1, len(begun)), cutoff=0.0)
    found += difflib.get_close_matches(name, known, n=count, cutoff=least)
    return list(dict.fromkeys(found))[:count]
