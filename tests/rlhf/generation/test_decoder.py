"""The compiled decoding step: against torch's, its threads, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from playout.rlhf.generation import decoder as room
from playout.rlhf.generation.decoder import Decoder
from playout.rlhf.model.adapters.held import hold_weights
from playout.rlhf.model.transformer import Transformer
from small_language import DECODED, uneven_model


@pytest.fixture(scope="module")
def model():
    return uneven_model()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_compiled_step_of_a_few_rows_equals_that_of_torch(model, dtype, monkeypatch):
    """Whatever the threads; and alone a row has the bits that it has among others."""
    ids, lengths = torch.arange(176).view(16, 11) % 211, torch.arange(16) % 10 + 2
    following = torch.arange(128).view(8, 16) % 211
    found = []
    for compiled in (False, True):
        decoder = Decoder(model, dtype=dtype)
        decoder.allocate(16, 40)
        decoder.compiled = compiled
        logits = [decoder.prefill(ids, lengths), *(decoder.step(row) for row in following)]
        found.append(torch.stack(logits))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    shared = Decoder(model, dtype=dtype)
    shared.allocate(16, 40)
    shared.compiled = True
    assert torch.equal(shared.prefill(ids, lengths), found[1][0])
    for row, logits in zip(following, found[1][1:], strict=True):
        assert torch.equal(shared.step(row), logits)
    allowed = 1e-4 if dtype == torch.float32 else 0.05
    assert (found[0] - found[1]).abs().max() < allowed * found[0].abs().max()
    # The prompts are read together, since torch may end in other bits when it reads one alone.
    alone = Decoder(model, dtype=dtype)
    alone.allocate(16, 40)
    alone.compiled = True
    alone.prefill(ids, lengths)
    alone.arrange(torch.tensor([0]), lengths[:1], 1)
    for row, logits in zip(following, found[1][1:], strict=True):
        assert torch.equal(alone.step(row[:1])[0], logits[0])


@pytest.mark.parametrize("norms", [False, True])
def test_a_model_held_in_int8_is_read_as_it_is_held(norms):
    """The compiled step multiplies integers; torch the numbers that they stand for."""
    config = replace(DECODED, attention_bias=True, qk_norm=norms)
    held = Transformer(config, seed=1)
    with torch.no_grad():
        for name, parameter in held.named_parameters():
            if parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(len(name)))
    held = hold_weights(held.requires_grad_(False), torch.int8)
    ids, following = torch.arange(6).view(2, 3), torch.arange(16).view(8, 2)
    found = []
    for compiled in (False, True):
        decoder = Decoder(held, dtype=torch.float32)
        decoder.allocate(2, 20)
        decoder.compiled = compiled
        logits = [decoder.prefill(ids, torch.tensor([3, 2]))]
        found.append(torch.stack(logits + [decoder.step(row) for row in following]))
    assert all(weights.integers is not None for weights in decoder._layers)
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
    codes = decoder._layers[0].integers["qkv"]
    codes.zero_()  # what the step reads are those codes
    before = found[1][-1]
    assert not torch.allclose(decoder.step(following[0]), before, rtol=1e-2)


def test_the_compiled_step_refuses_what_does_not_fit(model):
    decoder = Decoder(model, dtype=torch.float32)
    decoder.allocate(2, 10)
    decoder.compiled = True
    decoder.prefill(torch.tensor([[1, 2]]), torch.tensor([2]))
    decoder.step(torch.tensor([3]))
    with pytest.raises(ValueError, match="token 211 is outside"):
        decoder.step(torch.tensor([211]))
    decoder.lengths = torch.tensor([10])
    with pytest.raises(ValueError, match="place 10 is outside the cache of 10"):
        decoder.step(torch.tensor([3]))
    small = decoder._compiled()
    with pytest.raises(ValueError, match="cannot be decoded"):
        small.step(np.zeros(3, np.int64), np.zeros(3, np.int64), np.zeros((3, 211), np.float32), 1)
    with pytest.raises(ValueError, match="logits have the wrong shape"):
        small.step(np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros((1, 210), np.float32), 1)
    with pytest.raises(ValueError, match="does not fit the model"):
        small.attach([np.zeros((2, 2, 3, 10, 16), np.float32)] * 2)


def test_a_compiled_step_takes_the_threads_that_were_faster(monkeypatch):
    """Two steps with all threads, two with one, then whichever was faster, again and again."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    clock, taken = [0.0], []
    monkeypatch.setattr(room.time, "perf_counter", lambda: clock[0])
    steps, cost = room.StepThreads(), {1: 2.0, 4: 1.0}

    def step(threads):
        taken.append(threads)
        clock[0] += cost[threads]

    for _ in range(room.StepThreads.PERIOD):
        steps.run(step)
    cost[4] = 9.0  # the machine is busy now
    for _ in range(10):
        steps.run(step)
    assert taken[:8] == [4, 4, 1, 1, 4, 4, 4, 4]
    assert taken[room.StepThreads.PERIOD :] == [4, 4, 1, 1, 1, 1, 1, 1, 1, 1]
