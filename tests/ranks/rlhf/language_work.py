"""What every rank of a language job does in test_language_ranks.py; alone, the same for itself."""

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import torch
from launch import packed
from playout.agents.runs import ranks
from playout.rlhf.data.batches import batch_of
from playout.rlhf.data.comparisons import VotedPairs
from playout.rlhf.environments.load import own_environment
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.adapters.lora import LoRAConfig, add_adapters
from playout.rlhf.model.sharding import shard, whole_model
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.online.config import GRPOConfig, RLHFConfig
from playout.rlhf.online.grpo import GRPOTrainer
from playout.rlhf.online.ppo import RLHFTrainer
from playout.rlhf.supervised.reward import RewardConfig, RewardTrainer
from playout.rlhf.supervised.trainer import LearnConfig
from safetensors.torch import load, save

sys.path.insert(0, str(Path(__file__).parents[2] / "rlhf" / "supervised"))
from small_stages import PAIRS, STAGES, TEXTS, make, model_of

CUT = ("masked", "dpo", "classify", "voted", "adapters")
SUPERVISED = [*STAGES, "few"]
STEPS = 2


def flat(tensors):
    return torch.cat([tensor.detach().cpu().float().flatten() for tensor in tensors])


def digest(parameters):
    return hashlib.sha256(flat(parameters).numpy().tobytes()).hexdigest()


def few_texts(tokenizer):
    """Two pairs a step; of its first two steps one compares the same two texts twice."""
    again = [replace(PAIRS[0], wins=wins) for wins in (1, 2, 3)]
    pairs = VotedPairs([*again, PAIRS[1]])
    learn = LearnConfig(1e-3, dtype="float32")
    config = RewardConfig(steps=5, batch=4, length=48, learn=learn)
    return RewardTrainer(model_of(tokenizer), tokenizer, (pairs, pairs), config, seed=0)


def supervised(tokenizer):
    """Some steps of every stage: metrics, moments of the gradient, and a digest of the weights."""
    found = {}
    for stage in SUPERVISED:
        trainer = few_texts(tokenizer) if stage == "few" else make(stage, tokenizer, 2)
        shown = [trainer.update() for _ in range(STEPS)]
        state = trainer.state_dict()
        found[stage] = {
            "shown": shown,
            "moments": packed(state["optimizer"]["exp_avg"]),
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
            moments = [state["optimizer"][name] for name in ("exp_avg", "exp_avg_sq")]
            found[stage] |= {"moments": packed(torch.cat(moments)), "weights": packed(weights)}
            found[stage]["names"] = sorted(state["model"])
    return found


class Repeats:
    """An environment of two turns that pays for length and knows some tasks only."""

    def __init__(self, unknown):
        self.unknown = unknown

    def reset(self, task, seed):
        if task in self.unknown:
            raise RuntimeError("no such task")
        self.turn = 0
        return f"say {task}"

    def step(self, answer):
        self.turn += 1
        return " more", len(answer) / 8, self.turn > 1

    def tasks(self, split):
        return list(range(6))


def online(tokenizer, *, cut=False):
    """Two rounds of GRPO and of PPO; with weights that are cut over the ranks, or whole ones."""
    shape = TransformerConfig(tokenizer.vocab_size, 32, 64, 1, 2, 2, max_position_embeddings=48)
    common = {"updates": 4, "max_new_tokens": 4, "dtype": "float32", "learning_rate": 1e-3}
    grpo = {"batch": 14, "group": 2, "minibatch": 5, "epochs": 2, "microbatch": 2, **common}
    rlhf = {"batch": 10, "minibatch": 4, "kl_target": 0.01, "whiten_rewards": True, **common}
    # In the first round every task of the first third fails: of three ranks one has nothing.
    unknown = tuple(batch_of(6, 6, 0, seed=0)[:2])
    some_fail = own_environment(Repeats, options={"unknown": unknown})
    own = {**rlhf, "batch": 6, "critic": "own", "value_warmup": 1, "on_failure": "skip"}
    jobs = {
        "dr_grpo": (GRPOTrainer, GRPOConfig(variant="dr_grpo", **grpo), None),
        "rlhf": (RLHFTrainer, RLHFConfig(value_warmup=1, **rlhf), None),
        "failures": (
            GRPOTrainer,
            GRPOConfig(**{**grpo, "batch": 12, "on_failure": "skip"}),
            some_fail,
        ),
        "own_critic": (RLHFTrainer, RLHFConfig(**own), some_fail),
    }

    def made(kind, config, environment):
        model = Transformer(shape, seed=0)
        return kind(
            shard(model, torch.device("cpu")) if cut else model,
            tokenizer,
            [] if environment else [text[:9] for text in TEXTS[:20]],
            lambda texts: [float(len(text)) for text in texts],
            config,
            seed=0,
            environment=environment,
        )

    found = {}
    for name, job in jobs.items():
        trainer = made(*job)
        shown = [trainer.update() for _ in range(2)]
        for row in shown:
            row.pop("time/model", None)
            row.pop("time/environment", None)
        found[name] = {"shown": shown} | state_of(trainer)
        if cut:
            again = made(*job)
            again.load_state_dict(told_to_all(trainer.state_dict()))
            found[name]["again"] = state_of(again)
    return found


def state_of(trainer):
    """What a checkpoint holds of weights and moments; of cut ones rank 0 has the whole."""
    state = trainer.state_dict()
    model, moments = state["model"], state["optimizer"]["exp_avg"]
    return {
        "moments": packed(moments),
        "weights": packed(flat([torch.zeros(0), *(model[name] for name in sorted(model))])),
        "digest": digest([torch.zeros(0), *model.values()]) + str(trainer.kl_coef),
        "names": sorted(model),
    }


def told_to_all(state):
    """A checkpoint of cut weights as every rank reads it."""
    moments = {f"moments/{n}": state["optimizer"][n] for n in ("exp_avg", "exp_avg_sq")}
    whole = load(ranks.first(save(state["model"] | moments)))
    for name in moments:
        state["optimizer"][name.partition("/")[2]] = whole.pop(name)
    return state | {"model": whole}


def work():
    """Everything, by the name of the kind of training."""
    ranks.start("cpu")
    torch.manual_seed(0)
    tokenizer = Tokenizer.train(TEXTS, vocab_size=300)
    found = {"supervised": supervised(tokenizer), "cut": cut(tokenizer)}
    found["online"] = online(tokenizer)
    if ranks.world() > 1:
        found["online cut"] = online(tokenizer, cut=True)
    return found
