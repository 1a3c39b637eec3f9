"""Language: decoding, pretraining and a step of PPO, GRPO, DPO and reward modelling, by turns.

Same model on both sides (4.2 M parameters, vocabulary 4,096), same batch, random weights. The
peers are Hugging Face generate and TRL's trainers, and a plain GPT of equal size for pretraining.
"""

import argparse
import logging
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from playout.benchmarks.tools.decoding import decode_part, experts_part, published_part
from playout.benchmarks.tools.language_world import ANSWER, PROMPT, TYPES, World, claim
from playout.benchmarks.tools.measuring import measure, peer, timed, write_result
from playout.rlhf.data.comparisons import VotedPairs
from playout.rlhf.data.records import Preference
from playout.rlhf.model.experts.layer import routes_of
from playout.rlhf.model.experts.routing import with_balance
from playout.rlhf.model.layers.lm_head import cross_entropy
from playout.rlhf.model.transformer import Transformer, autocast
from playout.rlhf.online.config import GRPOConfig, RLHFConfig
from playout.rlhf.online.grpo import GRPOTrainer
from playout.rlhf.online.ppo import RLHFTrainer
from playout.rlhf.supervised.dpo import DPOConfig, DPOTrainer
from playout.rlhf.supervised.reward import RewardConfig, RewardTrainer
from playout.rlhf.supervised.trainer import LearnConfig, Learner
from torch import Tensor

BATCH, GROUP = 64, 8
ROWS, LENGTH = 16, 256  # of pretraining
SHARED = "ppo, value head on the policy's own Transformer"


def pretraining(
    model: Transformer,
    window: Callable[[], tuple[Tensor, Tensor]],
    dtype: torch.dtype,
    *,
    compile_it: bool = False,
) -> Callable[[], None]:
    """A whole step on the ids and targets that `window` gives."""
    learner = Learner(model.parameters(), LearnConfig(), total_steps=10**6)
    forward: Any = torch.compile(model) if compile_it else model

    def step() -> None:
        ids, targets = window()
        with autocast(dtype), routes_of(model) as routes:
            hidden = forward(ids)
            loss, _ = cross_entropy(hidden, model.head_weight(hidden.dtype), targets)
        learner.step(*with_balance(loss, routes, model.config))

    return step


def experts_training_part(
    world: World, repeats: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Tokens a second of whole steps: a dense model, and experts of the same work a token.

    Every step has other tokens, so that experts are given other numbers of them.
    """
    steps = 10
    functions = {}
    for name, make in {"dense": world.model, "experts": world.mixture}.items():
        for kind, dtype in TYPES.items():
            step = pretraining(make(), lambda: world.window(ROWS, LENGTH), dtype)
            functions[f"{name} {kind}"] = timed(
                steps * ROWS * LENGTH, lambda step=step: [step() for _ in range(steps)]
            )
    found = measure(functions, repeats=repeats, rates=True)
    rows = [
        claim(
            f"pretraining step, 2 of 8 experts, {kind}",
            found[f"experts {kind}"],
            found[f"dense {kind}"],
            "the dense model of the same work a token",
            "tokens/s",
        )
        for kind in TYPES
    ]
    return {"pretrain experts": found}, rows


def pretrain_part(
    world: World, repeats: int, compiled: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Tokens a second of a whole step on 16 rows of 256 tokens."""
    from playout.benchmarks.tools.peers.gpt_reference import GPT

    ids, targets = world.window(ROWS, LENGTH)

    def ours(dtype: torch.dtype, compile_it: bool) -> Callable[[], None]:
        return pretraining(world.model(), lambda: (ids, targets), dtype, compile_it=compile_it)

    def plain(dtype: torch.dtype, compile_it: bool) -> Callable[[], None]:
        model = GPT(4096, 256, 4, 4, 256)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        forward: Any = torch.compile(model) if compile_it else model

        def step() -> None:
            with autocast(dtype):
                loss = forward(ids, targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

        return step

    functions = {}
    for name, dtype in TYPES.items():
        functions[f"playout {name}"] = timed(ROWS * LENGTH, ours(dtype, False))
        functions[f"plain GPT {name}"] = timed(ROWS * LENGTH, plain(dtype, False))
    if compiled:
        functions["playout compiled"] = timed(ROWS * LENGTH, ours(torch.bfloat16, True))
        functions["plain GPT compiled"] = timed(ROWS * LENGTH, plain(torch.bfloat16, True))
    found = measure(functions, repeats=repeats, rates=True)
    claims = []
    if compiled:  # the headline: what both do at their best
        claims.append(
            claim(
                "pretraining step, both compiled, bfloat16",
                found["playout compiled"],
                found["plain GPT compiled"],
                "plain GPT",
                "tokens/s",
                1.15,
            )
        )
    claims += [
        claim(
            f"pretraining step, neither compiled, {name}",
            found[f"playout {name}"],
            found[f"plain GPT {name}"],
            "plain GPT",
            "tokens/s",
            1.0,
        )
        for name in TYPES
    ]
    return {"pretrain": found}, claims


def step_functions(world: World, dtype: str) -> dict[str, Callable[[], float]]:
    """A whole step of each of our stages, by name."""
    learn = LearnConfig(learning_rate=1e-4, dtype=dtype)
    prompts = [world.text(PROMPT - 1) for _ in range(512)]
    common: dict[str, Any] = {"updates": 10**6, "batch": BATCH, "max_new_tokens": ANSWER}
    common |= {"missing_end_penalty": 0.0, "dtype": dtype}
    scorer = world.scorer(TYPES[dtype])
    ppo, shared = (
        RLHFTrainer(
            world.model(),
            world.tokenizer,
            prompts,
            scorer,
            RLHFConfig(**common, value_warmup=0, critic=critic),
            seed=0,
        )
        for critic in ("reward", "shared")
    )
    grpo = GRPOTrainer(
        world.model(), world.tokenizer, prompts, length_reward, GRPOConfig(**common, group=GROUP),
        seed=0,
    )  # fmt: skip
    # More pairs than steps can use, so that the reference is computed in every step.
    pairs = [Preference(*pair) for pair in world.pairs(64 * 24)]
    dpo = DPOTrainer(
        world.model(),
        world.tokenizer,
        pairs,
        DPOConfig(steps=10**6, batch=BATCH, learn=learn),
        seed=0,
    )
    reward = RewardTrainer(
        world.model(),
        world.tokenizer,
        (VotedPairs(pairs), VotedPairs(pairs[:64])),
        RewardConfig(steps=10**6, batch=2 * BATCH, learn=learn),
        seed=0,
    )
    trainers = {"ppo": ppo, "grpo": grpo, "dpo": dpo, "reward": reward, SHARED: shared}
    return {name: timed(BATCH, trainer.update) for name, trainer in trainers.items()}


def length_reward(texts: list[str]) -> list[float]:
    """A reward that costs nothing."""
    return [float(len(text) % 17) for text in texts]


def steps_part(world: World, repeats: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Samples or pairs a second of whole steps."""
    if peer("trl", "trl==1.12") is None:
        return {}, []
    from playout.benchmarks.tools.peers import trl_steps

    folder = str(world.folder)
    prompts = [world.text(PROMPT - 1) for _ in range(512)]
    ids = [[world.tokenizer.end_id, *world.tokenizer.encode(text)] for text in prompts]
    pairs = world.pairs(64 * 4)
    theirs: dict[str, Callable[[bool], float]] = {
        "ppo": lambda bf16: trl_steps.ppo(folder, ids, bf16=bf16),
        "grpo": lambda bf16: trl_steps.grpo(folder, prompts, length_reward, bf16=bf16),
        "dpo": lambda bf16: trl_steps.dpo(folder, pairs, bf16=bf16),
        "reward": lambda bf16: trl_steps.reward(folder, pairs, bf16=bf16),
    }
    ours = {dtype: step_functions(world, dtype) for dtype in TYPES}
    targets = {"ppo": 3.0, "grpo": 1.7, "dpo": 1.3, "reward": 1.3}
    rates: dict[str, Any] = {}
    claims = []
    for name, run in theirs.items():
        functions: dict[str, Callable[[], float]] = {}
        for dtype in TYPES:
            functions[f"playout {dtype}"] = ours[dtype][name]
            functions[f"TRL {dtype}"] = lambda run=run, dtype=dtype: (
                BATCH / run(dtype == "bfloat16")
            )
            if name == "ppo":
                functions[f"shared {dtype}"] = ours[dtype][SHARED]
        found = measure(functions, repeats=repeats, rates=True)
        rates[name] = found
        best, peer_best = (
            max(TYPES, key=lambda d, who=who: found[f"{who} {d}"].median)  # type: ignore[misc]
            for who in ("playout", "TRL")
        )
        claims.append(
            claim(
                f"{name} step, best type on each side",
                found[f"playout {best}"],
                found[f"TRL {peer_best}"],
                "TRL 1.12",
                "samples/s" if name in ("ppo", "grpo") else "pairs/s",
                targets[name],
                f"ours {best}, theirs {peer_best}",
            )
        )
        if name == "ppo":
            claims.append(
                claim(
                    f"{SHARED} (TRL has a second one for values, as has the row above)",
                    found[f"shared {best}"],
                    found[f"TRL {peer_best}"],
                    "TRL 1.12",
                    "samples/s",
                )
            )
    return rates, claims


PARTS = ("decode", "experts", "pretrain", "steps", "published")


def main() -> int:
    """Measures, prints and writes benchmarks/results/language.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, nothing is written")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this part")
    parser.add_argument(
        "--checkpoint", type=Path, help="a GGUF file of a published model, to be decoded as well"
    )
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    repeats = 2 if arguments.quick else 5
    parts = arguments.part or PARTS
    rates: dict[str, Any] = {}
    claims: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        for name, run in {
            "decode": lambda: decode_part(
                world.model(), world.folder / "policy", targets={1: 2.0, 64: 1.4}, repeats=repeats
            ),
            "experts": lambda: experts_part(world, repeats),
            "experts, training": lambda: experts_training_part(world, repeats),
            "pretrain": lambda: pretrain_part(
                world, repeats, not (arguments.no_compile or arguments.quick)
            ),
            "steps": lambda: steps_part(world, repeats),
            "published": lambda: published_part(
                arguments.checkpoint, Path(folder) / "published", repeats
            ),
        }.items():
            part = name.split(",")[0]
            if part in parts and (part != "published" or arguments.checkpoint is not None):
                found, rows = run()
                rates |= found
                claims += rows
    for subject, part in rates.items():
        for name, rate in part.items():
            print(f"{subject:>16} {name:<22} {rate}")
    if not arguments.quick and set(parts) == set(PARTS):
        settings = {
            "repeats": repeats,
            "threads": torch.get_num_threads(),
            "batch": BATCH,
            "prompt": PROMPT,
            "answer": ANSWER,
        }
        print(write_result("language", {"rates": rates, "claims": claims}, settings=settings))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
