"""Generation: the cache against the whole forward pass, streams, stopping, sampling."""

import numpy as np
import pytest
import torch
from playout.errors import ConfigError, DivergedError
from playout.rlhf.generation import decoder as decoder_module
from playout.rlhf.generation.decoder import Decoder
from playout.rlhf.generation.generate import generate
from playout.rlhf.generation.sampling import SamplingConfig, choose, uniforms
from playout.rlhf.model.adapters.lora import LoRAConfig, add_adapters
from playout.rlhf.model.layers.lm_head import token_logprobs
from playout.rlhf.model.transformer import Transformer, TransformerConfig, autocast
from small_language import DECODED, uneven_model


@pytest.fixture(scope="module")
def model():
    return uneven_model()


def prompts_of(count, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 211, size=rng.integers(1, 90)).tolist() for _ in range(count)]


def test_cached_steps_equal_the_whole_forward_pass(model):
    ids = torch.arange(3 * 40).view(3, 40) % 211
    lengths = torch.tensor([4, 17, 9])
    decoder = Decoder(model, dtype=torch.float32)
    decoder.allocate(3, 60)
    whole = model.logits(model(ids)).detach()
    rows = torch.arange(3)
    torch.testing.assert_close(decoder.prefill(ids[:, :17], lengths), whole[rows, lengths - 1])
    for step in range(10):
        got = decoder.step(ids[rows, lengths + step])
        torch.testing.assert_close(got, whole[rows, lengths + step], atol=2e-5, rtol=1e-5)
        if step == 4:
            decoder.arrange(torch.tensor([2, 0]), lengths[[2, 0]] + 5, 2)
            rows, lengths = torch.tensor([2, 0]), lengths[torch.tensor([2, 0])]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_repetition_penalty_is_that_of_the_paper_on_prompt_and_answer(model, temperature):
    """Against whole forward passes, token by token."""
    prompts = prompts_of(3)
    sampling = SamplingConfig(temperature, repetition_penalty=8.0)
    options = {"stop": (0,), "pad": 0, "seed": 3, "dtype": torch.float32}
    out = generate(model, prompts, max_new_tokens=12, sampling=sampling, **options)
    plain = generate(
        model, prompts, max_new_tokens=12, sampling=SamplingConfig(temperature), **options
    )
    assert out.responses.tolist() != plain.responses.tolist()
    u = uniforms(3, np.arange(3), 12)
    for row, prompt in enumerate(prompts):
        ids = list(prompt)
        for step, token in enumerate(out.response(row)):
            with torch.no_grad():
                logits = model.logits(model(torch.tensor([ids])))[:, -1].float()
            for seen in set(ids):
                value = logits[0, seen]
                logits[0, seen] = value / 8.0 if value > 0 else value * 8.0
            wanted, _ = choose(logits, u[row : row + 1, step], SamplingConfig(temperature))
            assert int(wanted) == token
            ids.append(token)
    with pytest.raises(ConfigError, match="repetition_penalty"):
        SamplingConfig(repetition_penalty=0.0)


def test_rows_extended_by_different_numbers_of_tokens_equal_the_whole_forward_pass(model):
    ids = torch.arange(4 * 60).view(4, 60) * 7 % 211
    whole = model.logits(model(ids)).detach()
    lengths = torch.tensor([4, 17, 9, 1])  # of the four texts so far
    decoder = Decoder(model, dtype=torch.float32)
    decoder.allocate(6, 60)
    decoder.prefill(ids[:, :17], lengths)

    def go_on(texts, counts):
        """Texts that lie first in the cache get some tokens, and then one more."""
        new = torch.zeros(len(texts), max(counts), dtype=torch.long)
        for row, (text, count) in enumerate(zip(texts, counts, strict=True)):
            new[row, :count] = ids[text, lengths[text] : lengths[text] + count]
        found = [decoder.extend(new, torch.tensor(counts))]
        lengths[texts] += torch.tensor(counts)
        expected = [whole[texts, lengths[texts] - 1]]
        found.append(decoder.step(ids[texts, lengths[texts]]))
        lengths[texts] += 1
        expected.append(whole[texts, lengths[texts] - 1])
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)

    go_on([0, 1, 2, 3], [3, 1, 12, 5])
    # Two texts go on; two places of scratch and the other two wait behind them.
    order, behind = torch.tensor([2, 0, 4, 5, 1, 3]), torch.tensor([1, 1])
    decoder.arrange(order, torch.cat([lengths[[2, 0]], behind, lengths[[1, 3]]]), 2)
    go_on([2, 0], [2, 20])
    decoder.arrange(torch.tensor([5, 0, 4, 1]), lengths[[3, 2, 1, 0]], 4)
    go_on([3, 2, 1, 0], [9, 6, 1, 16])


def test_a_prepared_decoder_gives_the_same_samples_again_and_again(model):
    prompts = prompts_of(5)
    plain = generate(model, prompts, max_new_tokens=8)
    decoder = Decoder(model, dtype=torch.float32)
    generate(decoder, [[1]], max_new_tokens=2)
    for _ in range(2):
        again = generate(decoder, prompts, max_new_tokens=8)
        assert torch.equal(again.responses, plain.responses)
        assert torch.equal(again.logprobs, plain.logprobs)


def test_prompts_are_read_in_parts_without_a_difference(model, monkeypatch):
    whole = generate(model, prompts_of(20), max_new_tokens=4)
    monkeypatch.setattr("playout.rlhf.generation.decoder._SCORES", 40000)
    parts = generate(model, prompts_of(20), max_new_tokens=4)
    assert torch.equal(whole.logprobs, parts.logprobs)


@pytest.mark.parametrize("adapted", [False, True])
def test_log_probabilities_of_generation_are_those_of_training(adapted):
    model = Transformer(DECODED, seed=2)
    if adapted:
        for parameter in add_adapters(model, LoRAConfig(rank=2)):
            parameter.data.add_(0.05)
    out = generate(model, prompts_of(9), max_new_tokens=20, stop=[3], sampling=SamplingConfig(0.7))
    ids, starts, _ = out.sequences(pad=0)
    hidden = model(ids[:, :-1])
    logprobs, _ = token_logprobs(
        hidden, model.head_weight(hidden.dtype), ids[:, 1:], temperature=0.7
    )
    for row in range(9):
        count, start = int(out.lengths[row]), int(starts[row]) - 1
        torch.testing.assert_close(
            out.logprobs[row, :count], logprobs[row, start : start + count], atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sample_does_not_depend_on_the_batch_around_it(model, dtype):
    prompts = prompts_of(40)
    options = {"max_new_tokens": 30, "stop": [5, 6], "seed": 7, "dtype": dtype}
    together = generate(model, prompts, **options)
    turns = generate(model, prompts, max_rows=16, **options)
    assert torch.equal(turns.responses, together.responses)
    for row in (0, 13, 39):
        alone = generate(model, [prompts[row]], streams=[row], **options)
        length = int(together.lengths[row])
        assert int(alone.lengths[0]) == length
        assert torch.equal(alone.responses[0, :length], together.responses[row, :length])
        assert torch.equal(alone.logprobs[0, :length], together.logprobs[row, :length])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_prompt_of_many_rows_is_read_once_and_answered_as_if_each_had_read_it(
    model, dtype, monkeypatch
):
    few = prompts_of(3)
    prompts = [few[row % 3] for row in range(24)]
    options = {"max_new_tokens": 20, "stop": [5], "seed": 7, "dtype": dtype}
    read, plain = [], Decoder._read

    def noting(decoder, ids, lengths, start):
        read.append(len(ids))
        return plain(decoder, ids, lengths, start)

    monkeypatch.setattr(Decoder, "_read", noting)
    once = generate(model, prompts, **options)
    assert read == [8 if dtype == torch.float32 else 3]  # float32 products have eight rows or more
    monkeypatch.setattr(decoder_module, "_distinct", lambda ids, lengths, least: (rows, rows))
    rows = torch.arange(24)
    each = generate(model, prompts, **options)
    assert read[1:] == [24]
    assert torch.equal(once.responses, each.responses)
    assert torch.equal(once.logprobs, each.logprobs)
    assert len(np.unique(once.responses, axis=0)) > 3  # each row draws its own answer


def test_rows_stop_at_a_stop_token_and_are_padded_after_it():
    model = Transformer(DECODED, seed=3)
    out = generate(
        model, prompts_of(30), max_new_tokens=40, stop=list(range(0, 211, 8)), pad=99, seed=1
    )
    assert out.finished.sum() > 20
    for row in range(30):
        length = int(out.lengths[row])
        tokens = out.responses[row]
        assert (tokens[length:] == 99).all()
        assert (out.logprobs[row, length:] == 0).all()
        stops = [int(token) % 8 == 0 for token in tokens[:length]]
        assert not any(stops[:-1]) and stops[-1] == bool(out.finished[row])
        assert out.response(row) == tokens[: length - int(out.finished[row])].tolist()


def test_prompts_of_any_length_are_answered_together_as_each_is_alone(model):
    """One token beside a hundred: padding is neither seen nor counted as a position."""
    prompts = [[5, 6, 7], list(range(40, 140)), [9], [8, 9, 10, 11, 12]]
    options = {"max_new_tokens": 24, "stop": [3], "sampling": SamplingConfig(0.0)}
    together = generate(model, prompts, **options)
    for row, prompt in enumerate(prompts):
        # Without a cache and without a batch: the whole text is read again for every token.
        ids = list(prompt)
        while len(ids) < len(prompt) + 24 and (len(ids) == len(prompt) or ids[-1] != 3):
            ids.append(int(model.logits(model(torch.tensor([ids]))[:, -1]).argmax()))
        assert together.responses[row, : together.lengths[row]].tolist() == ids[len(prompt) :]
        alone = generate(model, [prompt], streams=[row], **options)
        assert torch.equal(alone.logprobs[0], together.logprobs[row, : alone.lengths[0]])


def test_temperature_zero_takes_the_likeliest_token(model):
    out = generate(model, [[1, 2, 3]], max_new_tokens=12, sampling=SamplingConfig(0.0))
    ids, _, _ = out.sequences(0)
    logits = model.logits(model(ids))
    assert torch.equal(logits[0, 2:-1].argmax(-1), ids[0, 3:])


def test_sampling_follows_the_softmax():
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0, -30000.0]).repeat(20000, 1)
    u = uniforms(3, np.arange(20000), 1)[:, 0]
    tokens, logprobs = choose(logits.clone(), u, SamplingConfig(temperature=2.0))
    p = torch.softmax(logits[0] / 2, -1)
    counts = torch.bincount(tokens, minlength=5) / 20000
    assert (counts - p).abs().max() < 0.012
    assert counts[4] == 0
    torch.testing.assert_close(logprobs, p.log()[tokens])


@pytest.mark.parametrize(
    ("config", "allowed"),
    [
        (SamplingConfig(top_k=2), {3, 1}),
        (SamplingConfig(top_p=0.6), {3}),
        (SamplingConfig(top_p=0.7), {3, 1}),
        (SamplingConfig(top_k=3, top_p=0.999), {3, 1, 0}),
        (SamplingConfig(top_k=1), {3}),
    ],
)
def test_truncation_leaves_the_likeliest_tokens(config, allowed):
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0]).repeat(3000, 1)
    tokens, _ = choose(logits, uniforms(1, np.arange(3000), 1)[:, 0], config)
    assert set(tokens.tolist()) == allowed


def test_the_inverse_function_never_lands_on_an_impossible_token():
    p = torch.zeros(3, 200)
    p[:, 70] = 1.0
    logits = p.log().clamp_min(-30000.0)
    u = torch.tensor([0.0, 0.5, 1 - 2.0**-53], dtype=torch.float64)
    assert choose(logits, u, SamplingConfig())[0].tolist() == [70, 70, 70]


def test_random_numbers_are_those_of_the_native_generator():
    def mix(z):
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        return z ^ (z >> 31)

    key = mix(mix(9 + 0x9E3779B97F4A7C15) ^ (4 * 0xD1342543DE82EF95 + 1) % 2**64)
    expected = [(mix((key + 0x9E3779B97F4A7C15 * n) % 2**64) >> 11) * 2.0**-53 for n in (1, 2, 3)]
    assert uniforms(9, np.array([4]), 3)[0].tolist() == expected


@pytest.mark.parametrize(
    ("prompts", "match"),
    [
        ([], "no prompts"),
        ([[]], "prompt 0 is empty"),
        ([[1], [1] * 150], "prompt 1 has 150 tokens"),
        ([[211]], "vocabulary of 211"),
        ([[-1]], "vocabulary of 211"),
    ],
)
def test_unusable_prompts_are_named(model, prompts, match):
    with pytest.raises(ConfigError, match=match):
        generate(model, prompts, max_new_tokens=20)


def test_an_encoder_does_not_generate():
    encoder = Transformer(TransformerConfig(11, 8, 8, 1, 2, 2, causal=False))
    with pytest.raises(ConfigError, match="encoder"):
        generate(encoder, [[1]], max_new_tokens=2)


def test_weights_that_are_not_numbers_are_reported():
    model = Transformer(DECODED)
    model.norm.data[0] = float("nan")
    with pytest.raises(DivergedError):
        generate(model, [[1]], max_new_tokens=2)


def test_bfloat16_logprobs_are_near_those_of_autocast(model):
    out = generate(model, prompts_of(8), max_new_tokens=16, dtype=torch.bfloat16)
    ids, starts, ends = out.sequences(pad=0)
    with torch.no_grad(), autocast(torch.bfloat16):
        hidden = model(ids[:, :-1])
        logprobs, _ = token_logprobs(hidden, model.head_weight(hidden.dtype), ids[:, 1:])
    places = torch.arange(1, ids.shape[1])
    answered = (places >= starts[:, None]) & (places < ends[:, None])
    difference = logprobs[answered] - torch.cat(
        [out.logprobs[row, : out.lengths[row]] for row in range(8)]
    )
    assert difference.abs().mean() < 0.05


def test_a_hook_ends_an_answer_where_it_says_so(model):
    prompts = prompts_of(5)
    plain = generate(model, prompts, max_new_tokens=12, stop=[3])
    cut = generate(
        model, prompts, max_new_tokens=12, stop=[3], ends=lambda row, ids: len(ids) == row + 2
    )
    for row in range(5):
        length = min(int(plain.lengths[row]), row + 2)
        assert cut.response(row, stop=True) == plain.response(row, stop=True)[:length]
        assert bool(cut.finished[row])
        assert bool(cut.stopped[row]) == (cut.responses[row, length - 1] == 3)
        assert cut.response(row) == [i for i in cut.response(row, stop=True) if i != 3]


class Even:
    """Even tokens, and in the third row none but 8."""

    def mask(self, row, written):
        if row == 1:
            return None
        allowed = np.zeros(211, dtype=bool)
        allowed[8 if row == 2 else slice(0, None, 2)] = True
        return allowed


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_only_allowed_tokens_are_written_with_their_share_of_what_is_allowed(model, temperature):
    prompts, sampling = prompts_of(4), SamplingConfig(temperature)
    plain = generate(model, prompts, max_new_tokens=6, sampling=sampling)
    out = generate(model, prompts, max_new_tokens=6, sampling=sampling, allowed=Even(), max_rows=3)
    assert torch.equal(out.responses[1], plain.responses[1])
    assert (out.responses[[0, 3]] % 2 == 0).all()
    assert (out.responses[2] == 8).all()
    assert (out.logprobs[2] == 0).all()
    whole = torch.tensor([[*prompts[0], *out.response(0)]])
    logits = model.logits(model(whole))[0, len(prompts[0]) - 1 : -1].detach()
    logits[:, 1::2] = -torch.inf
    wanted = torch.log_softmax(logits / (temperature or 1.0), -1)
    wanted = wanted.gather(1, out.responses[0][:, None])[:, 0]
    torch.testing.assert_close(out.logprobs[0], wanted, atol=1e-4, rtol=1e-4)


def test_nothing_allowed_is_an_error(model):
    class Nothing:
        def mask(self, row, written):
            return np.zeros(211, dtype=bool)

    with pytest.raises(ConfigError, match="no token is allowed"):
        generate(model, [[1]], max_new_tokens=2, allowed=Nothing())


def test_tokens_are_told_as_they_are_written(model):
    told = [[] for _ in range(4)]
    out = generate(
        model,
        prompts_of(4),
        max_new_tokens=9,
        stop=[3, 50],
        max_rows=3,
        listen=lambda row, token, logprob: told[row].append((token, logprob)),
    )
    for row, pairs in enumerate(told):
        assert [token for token, _ in pairs] == out.response(row, stop=True)
        assert [p for _, p in pairs] == out.logprobs[row, : len(pairs)].tolist()
