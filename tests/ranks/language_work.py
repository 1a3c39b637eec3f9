"""What every rank of a language job does in test_language_ranks.py; alone, the same for itself."""

import hashlib
import sys
from pathlib import Path

import torch
from playout.agents.runs import ranks
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.adapters.lora import LoRAConfig, add_adapters
from playout.rlhf.model.sharding import shard, whole_model

sys.path.insert(0, str(Path(__file__).parents[1] / "rlhf" / "supervised"))
from small_stages import STAGES, TEXTS, make, model_of

CUT = ("masked", "dpo", "adapters")
STEPS = 2


def flat(tensors):
    return torch.cat([tensor.detach().cpu().float().flatten() for tensor in tensors])


def digest(parameters):
    return hashlib.sha256(flat(parameters).numpy().tobytes()).hexdigest()


def supervised(tokenizer):
    """Some steps of every stage: metrics, moments of the gradient, and a digest of the weights."""
    found = {}
    for stage in STAGES:
        trainer = make(stage, tokenizer, 2)
        shown = [trainer.update() for _ in range(STEPS)]
        state = trainer.state_dict()
        found[stage] = {
            "shown": shown,
            "moments": state["optimizer"]["exp_avg"].tolist(),
            "digest": digest(p for part in trainer.parts.values() for p in part.parameters()),
        }
        if stage == "dpo":  # what the reference said is known everywhere
            found[stage]["digest"] += digest(state["reference"].values())
    return found


def cut(tokenizer):
    """The same with weights cut over the ranks, where there are several; the whole is rank 0's."""
    found = {}
    for stage in CUT:
        model = model_of(tokenizer) if stage == "adapters" else None
        if model is not None:
            add_adapters(model, LoRAConfig(rank=2), seed=1)

        def prepare(part):
            return shard(part, torch.device("cpu")) if ranks.world() > 1 else part

        name = "sft" if stage == "adapters" else stage
        trainer = make(name, tokenizer, 2, model=model, prepare=prepare)
        shown = [trainer.update() for _ in range(STEPS)]
        shown[-1] |= trainer.evaluate() if stage != "dpo" else {}
        state = trainer.state_dict()
        parts = [whole_model(part) for part in trainer.parts.values()]
        found[stage] = {"shown": shown}
        if ranks.is_first():
            weights = flat(p for part in parts for p in part.parameters())
            moments = [state["optimizer"][name].tolist() for name in ("exp_avg", "exp_avg_sq")]
            found[stage] |= {"moments": moments[0] + moments[1], "weights": weights.tolist()}
            found[stage]["names"] = sorted(state["model"])
    return found


def work():
    """Everything, by the name of the kind of training."""
    ranks.start("cpu")
    torch.manual_seed(0)
    tokenizer = Tokenizer.train(TEXTS, vocab_size=300)
    return {"supervised": supervised(tokenizer), "cut": cut(tokenizer)}
