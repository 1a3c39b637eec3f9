"""Flags of pretraining that make an encoder, which sees both sides of what it guesses.

They cost no torch. What is hidden, and what is learned from it, is supervised/masked.py's.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EncoderOptions", "check_encoder"]

_MASK = 0.15


@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """Which tokens are guessed, and from what."""

    encoder: bool = False
    """Pretrain an encoder by masked tokens."""
    pairs: bool = False
    """With --encoder: also predict whether the second half of a row follows the first."""
    mask: float = _MASK
    """With --encoder: share of the tokens that is guessed. A small encoder learns sooner from
    more of them, such as 0.3."""


def check_encoder(command: EncoderOptions, *, earlier: bool = False) -> None:
    """Refuses what only encoders do, of another model.

    Args:
        command: What is asked for.
        earlier: A run goes on that may be of an earlier version, which took `--pairs` in silence.

    Raises:
        ConfigError: It names the flag.
    """
    from playout.errors import ConfigError

    if not 0 < command.mask < 1:
        raise ConfigError(f"--mask is a share of the tokens, between 0 and 1, not {command.mask:g}")
    if command.mask != _MASK and not command.encoder:
        raise ConfigError("--mask is what encoders guess; give --encoder, too")
    if command.pairs and not command.encoder and not earlier:
        raise ConfigError("--pairs is a task of encoders; give --encoder, too")
