"""Tokens a second of text generation beside Hugging Face's generate and llama.cpp.

One function serves the benchmark's own small model and a published checkpoint (SmolLM2-135M, say),
read once by our own reader and written as a Hugging Face folder for the peer. llama.cpp reads the
GGUF file itself, so its weights are of the file's type, and it writes one answer at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from playout.benchmarks.tools.language_world import ANSWER, PROMPT, TYPES, World, claim
from playout.benchmarks.tools.measuring import measure, peer, timed
from playout.rlhf.generation.decoder import Decoder
from playout.rlhf.generation.generate import generate
from playout.rlhf.model.adapters.held import hold_weights
from playout.rlhf.model.checkpoints.gguf import read_gguf
from playout.rlhf.model.folder import export_model
from playout.rlhf.model.transformer import Transformer

LLAMA = "llama-cpp-python"


def decode_part(
    model: Transformer,
    folder: Path,
    *,
    of: str = "",
    gguf: Path | None = None,
    batches: Sequence[int] = (1, 16, 64),
    targets: Mapping[int, float],
    repeats: int,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Tokens a second at several batches: rates by subject, and claims.

    Args:
        model: Ours.
        folder: The same model as a Hugging Face folder.
        of: What the model is called, for the rows; "" for the benchmark's own.
        gguf: The same model for llama.cpp.
        batches: How many prompts at once.
        targets: What is promised beside Hugging Face, by batch.
        repeats: Rounds that count.
    """
    theirs = _transformers(folder)
    llama = None if gguf is None else _llama(gguf)
    # Prepared once, as commands that generate do.
    decoders = {name: Decoder(model, dtype=dtype) for name, dtype in TYPES.items()}
    rng = np.random.default_rng(0)
    rates: dict[str, Any] = {}
    claims = []
    for batch in batches:
        ids = rng.integers(4, min(4096, model.config.vocab_size), (batch, PROMPT))
        functions, tensor = {}, torch.from_numpy(ids)
        for name, decoder in decoders.items():
            functions[f"playout {name}"] = timed(
                batch * ANSWER,
                lambda ids=ids, decoder=decoder: generate(
                    decoder, ids.tolist(), max_new_tokens=ANSWER, exact=False
                ),
            )
            if name in theirs:
                from playout.benchmarks.tools.peers.trl_steps import decode

                functions[f"transformers {name}"] = timed(
                    batch * ANSWER,
                    lambda ids=tensor, other=theirs[name]: decode(other, ids, ANSWER),
                )
        if llama is not None and batch == 1:
            functions[LLAMA] = timed(ANSWER, lambda ids=ids: _llama_decode(llama, ids[0].tolist()))
        found = measure(functions, repeats=repeats, rates=True)
        rates[f"{of} decode, batch {batch}".strip()] = found
        what = f"decode{f' of {of}' if of else ''}, batch {batch}, best type on each side"
        best = max(TYPES, key=lambda n: found[f"playout {n}"].median)
        ours = found[f"playout {best}"]
        if theirs:
            other = max(TYPES, key=lambda n: found[f"transformers {n}"].median)
            note, peer_name = f"ours {best}, theirs {other}", "Hugging Face generate"
            rate = found[f"transformers {other}"]
            claims.append(claim(what, ours, rate, peer_name, "tokens/s", targets.get(batch), note))
        if LLAMA in found:
            assert gguf is not None
            note = f"ours {best}, theirs {gguf.name}"
            claims.append(claim(what, ours, found[LLAMA], "llama.cpp", "tokens/s", None, note))
    return rates, claims


def experts_part(world: World, repeats: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Tokens a second of one answer: a dense model, and experts of the same work a token."""
    models = {"dense": world.model(), "experts": world.mixture()}
    prompts = torch.from_numpy(world.rng.integers(4, 4096, (1, PROMPT))).tolist()
    functions = {
        f"{name}, {step}": timed(
            ANSWER,
            lambda model=model, exact=step == "torch": generate(
                model, prompts, max_new_tokens=ANSWER, dtype=torch.float32, exact=exact
            ),
        )
        for name, model in models.items()
        for step in ("compiled", "torch")
    }
    found = measure(functions, repeats=repeats, rates=True)
    row = claim(
        "decode, batch 1, 2 of 8 experts",
        found["experts, compiled"],
        found["dense, compiled"],
        "the dense model of the same work a token",
        "tokens/s",
    )
    return {"decode experts": found}, [row]


def published_part(
    gguf: Path, folder: Path, repeats: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The same of a published checkpoint in a GGUF file; `folder` takes its Hugging Face form.

    And one prompt by its weights in int8, beside the same model in bfloat16.
    """
    model, tokenizer = read_gguf(gguf)
    export_model(folder, model, tokenizer)
    rates, claims = decode_part(
        model,
        folder,
        of=gguf.stem,
        gguf=gguf,
        batches=(1, 16),
        targets={1: 1.5, 16: 1.5},
        repeats=repeats,
    )
    ids = np.random.default_rng(0).integers(4, model.config.vocab_size, (1, PROMPT)).tolist()
    decoders = {"bfloat16": Decoder(model, dtype=torch.bfloat16)}
    held = hold_weights(model.requires_grad_(False), torch.int8)  # the same object from now on
    decoders["int8"] = Decoder(held, dtype=torch.bfloat16)
    functions = {
        name: timed(
            ANSWER,
            lambda decoder=decoder: generate(decoder, ids, max_new_tokens=ANSWER, exact=False),
        )
        for name, decoder in decoders.items()
    }
    found = measure(functions, repeats=repeats, rates=True)
    what = f"decode of {gguf.stem} held in int8, batch 1"
    row = claim(what, found["int8"], found["bfloat16"], "the same in bfloat16", "tokens/s")
    return {**rates, f"{gguf.stem} decode, int8": found}, [*claims, row]


def _transformers(folder: Path) -> dict[str, Any]:
    """The peer's model in every type; empty where it is not installed."""
    transformers = peer("transformers", "transformers")
    found: dict[str, Any] = {}
    if transformers is not None:
        for name, dtype in TYPES.items():
            model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
            model.generation_config.eos_token_id = None
            found[name] = model.eval()
    return found


def _llama(gguf: Path) -> Any:
    package = peer("llama_cpp", LLAMA)
    if package is None:
        return None
    threads = torch.get_num_threads()
    return package.Llama(
        str(gguf), n_ctx=PROMPT + ANSWER, n_threads=threads, n_threads_batch=threads, verbose=False
    )


def _llama_decode(model: Any, ids: list[int]) -> None:
    """Tokens drawn from the whole distribution, as on the other sides."""
    tokens = model.generate(ids, temp=1.0, top_k=0, top_p=1.0, min_p=0.0)
    for _ in itertools.islice(tokens, ANSWER):
        pass
