"""The errors that playout raises on purpose.

Each message is one line that says what is wrong and what to do.
"""


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
