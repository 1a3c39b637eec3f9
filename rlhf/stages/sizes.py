"""One dial for the whole pipeline: how large each stage is at each size.

Numbers only; they were chosen for two processor cores: `tiny` takes a few minutes in all, `small`
about a quarter of an hour.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from playout.errors import ConfigError

__all__ = ["RECIPES", "Recipe", "recipe", "response_length"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a size stands for."""

    vocab_size: int
    model: str
    length: int
    """Tokens a row in pretraining."""
    pretrain_steps: int
    sft_steps: int
    classify_steps: int
    reward_steps: int
    rlhf_steps: int
    dpo_steps: int
    grpo_steps: int
    num_prompts: int
    """Prompts an evaluation."""
    response_length: int
    batch: int
    """Responses a round of PPO and GRPO."""


# In the order of the fields: vocabulary, model, length; steps of pretrain, sft, classify, reward,
# rlhf, dpo, grpo; prompts, response, batch.
RECIPES = {
    "tiny": Recipe(2048, "tiny", 96, 1500, 300, 200, 300, 40, 60, 24, 128, 32, 64),
    "small": Recipe(4096, "small", 128, 1800, 300, 250, 500, 80, 120, 50, 128, 32, 64),
    "base": Recipe(8192, "base", 256, 8000, 800, 500, 800, 200, 300, 150, 256, 48, 64),
    "large": Recipe(16384, "large", 512, 20000, 2000, 1000, 2000, 400, 600, 300, 512, 64, 128),
}


# The same for `playout rlhf games`, whose models read boards: a small vocabulary, long contexts.
GAME_RECIPES = {
    "games-tiny": Recipe(384, "games-tiny", 256, 250, 1000, 0, 0, 12, 0, 40, 256, 12, 64),
    "games-small": Recipe(384, "games-small", 256, 300, 3600, 0, 0, 15, 0, 200, 1000, 12, 128),
    "games-smollm2": Recipe(0, "", 256, 0, 300, 0, 0, 20, 0, 60, 128, 12, 32),
}

# The same for `playout rlhf all` on votes, where a published model learns by adapters.
VOTE_RECIPES = {
    "votes-tiny": Recipe(0, "", 256, 0, 0, 0, 30, 6, 0, 6, 16, 64, 16),
    "votes-small": Recipe(0, "", 384, 0, 0, 0, 150, 30, 0, 30, 24, 128, 32),
    "votes-base": Recipe(0, "", 512, 0, 0, 0, 500, 80, 0, 80, 48, 192, 64),
    "votes-large": Recipe(0, "", 512, 0, 0, 0, 1000, 200, 0, 200, 64, 384, 128),
}


def _all_recipes() -> dict[str, Recipe]:
    return RECIPES | GAME_RECIPES | VOTE_RECIPES


def recipe(size: str) -> Recipe:
    """The recipe of a size."""
    found = _all_recipes().get(size)
    if found is None:
        raise ConfigError(f"there is no size {size!r}; choose from {', '.join(RECIPES)}")
    return found


def response_length(config: Mapping[str, Any]) -> int:
    """The longest response of a run: what its configuration says, or what its size stands for."""
    size = config.get("size")
    given = int(config.get("max_new_tokens") or 0)
    known = _all_recipes()
    return given or (known[size].response_length if size in known else 32)
