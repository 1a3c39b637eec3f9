"""The names of optimisers, for settings: no torch."""

from playout.errors import ConfigError

OPTIMIZERS = ("sgd", "momentum", "adam", "adamw", "muon")


def check_optimizer(name: str) -> None:
    """Raises ConfigError for a name that is none."""
    if name not in OPTIMIZERS:
        raise ConfigError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, not {name!r}")
