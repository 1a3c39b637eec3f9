"""Whole games as the environment plays them: are a policy's answers legal in later turns, too?

A player in a match sees one board. In an episode all earlier turns stand before it, and a policy
that has learned first turns alone may read the wrong board. Counted by likeliest and by sampled
answers, against random play, from openings that nothing was learned from.
"""

from typing import Any

from playout.agents.rating.intervals import share_interval
from playout.rlhf.environments.game import make
from playout.rlhf.environments.game_player import LanguageGamePlayer
from playout.rlhf.online.config import EpisodeLimits
from playout.rlhf.online.episode_evaluator import EpisodeEvaluator

__all__ = ["measure_episodes", "told_episodes"]


def measure_episodes(player: LanguageGamePlayer, count: int) -> dict[str, Any]:
    """Shares of legal answers from the second turn on, with 95 % intervals.

    Args:
        player: The policy, how it is shown positions (as a user's messages, or as plain text) and
            how it answers; an illegal answer ends a game.
        count: Games, each by likeliest and by sampled answers.

    Returns:
        `greedy` and `sampled`, each with `answers` (later ones), `legal`, `legal_interval` and
        `result`, the mean of the games from -1 to 1.
    """
    settings = player.settings
    names = ("rules", "goal", "legal_moves", "own", "find")
    shown = {name: getattr(settings, name) for name in names}
    factory = make(str(player.game), {**shown, "mode": "game", "test_positions": count})
    evaluator = EpisodeEvaluator(
        player.tokenizer,
        factory,
        count,
        EpisodeLimits(player.longest),
        stop=settings.stop,
        constrained=settings.constrain,
        as_user=not settings.plain,  # as the policy was asked while it learned
        dtype=player.dtype,
        tasks=factory.tasks("test"),
    )
    found: dict[str, Any] = {}
    for name, temperature in (("greedy", 0.0), ("sampled", 1.0)):
        played = evaluator.play(player.model, temperature=temperature)
        later = sum(max(0, episode.num_turns - 1) for episode in played)
        bad = sum(
            episode.num_turns > 1 and episode.metrics.get("legal", 1.0) < 1.0 for episode in played
        )
        found[name] = {
            "answers": later,
            "legal": 1 - bad / max(1, later),
            "legal_interval": list(share_interval(later - bad, later)) if later else [0.0, 1.0],
            "result": sum(e.metrics.get("result", 0.0) for e in played) / max(1, len(played)),
        }
    return found


def told_episodes(found: dict[str, Any]) -> str:
    """What `measure_episodes` found, in a line."""
    parts = [
        f"{100 * found[name]['legal']:.1f} % {name}" if found[name]["answers"] else f"none {name}"
        for name in ("greedy", "sampled")
    ]
    return f"legal answers in later turns of whole games: {', '.join(parts)}"
