"""Load what a language stage or a whole pipeline left, as an object that acts.

A policy's `act` answers prompts, a reward model's scores texts. Finished stages are read from
their model/ folder, unfinished ones from a checkpoint on top of the model they started from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from playout.agents.runs.directory import RunDir
from playout.errors import RunError
from playout.rlhf.generation.player import LanguagePlayer
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.folder import load_model
from playout.rlhf.model.lora import LoRAConfig, add_adapters
from playout.rlhf.model.transformer import Transformer
from playout.rlhf.stages.sizes import response_length
from playout.rlhf.supervised.reward import RewardModel

__all__ = ["RewardPlayer", "load"]


@dataclass(frozen=True, slots=True)
class RewardPlayer:
    """A reward model that scores texts."""

    reward: RewardModel

    def act(self, texts: Sequence[str]) -> list[float]:
        """A score a text."""
        return self.reward(list(texts))


def load(run: RunDir, which: str | int = "best") -> LanguagePlayer | RewardPlayer:
    """What a run of a kind `rlhf.*` has learned; `which` matters while it is unfinished."""
    stage = run.kind.partition(".")[2]
    if stage == "reward":
        return RewardPlayer(RewardModel.load(run.path))
    finished = stage == "all" or (run.path / "model" / "config.json").exists()
    model, tokenizer = load_model(run.path) if finished else _unfinished(run, which)
    return LanguagePlayer(
        model, tokenizer, name=run.path.name, max_new_tokens=response_length(run.config)
    )


def _unfinished(run: RunDir, which: str | int) -> tuple[Transformer, Tokenizer]:
    base = run.config.get("base")
    if not base:
        raise RunError(f"{run.path} is not finished; continue it with --resume {run.path}")
    model, tokenizer = load_model(str(base))
    if run.config.get("lora_rank"):
        add_adapters(model, LoRAConfig(rank=int(run.config["lora_rank"])))
    _, state = run.load(which, only=("model",))
    weights = {name.removeprefix("model."): t for name, t in state["model"].items()}
    names = set(model.state_dict())
    model.load_state_dict({name: t for name, t in weights.items() if name in names})
    return model, tokenizer
