"""Direct preference optimisation: its gradient by hand, its pairs, learning, bad pairs."""

import json
from pathlib import Path

import numpy as np
import playout
import pytest
import torch
from playout.errors import ConfigError, DataError
from playout.rlhf.data import synthetic
from playout.rlhf.data.records import Preference, read_preferences
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.online.ranking import rank_samples, write_preferences
from playout.rlhf.supervised.dpo import DPOConfig, DPOTrainer, dpo_loss
from playout.rlhf.supervised.trainer import LearnConfig


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(synthetic.reviews(200), vocab_size=300)


def small(tokenizer):
    config = TransformerConfig(tokenizer.vocab_size, 32, 64, 1, 2, 2, max_position_embeddings=48)
    return Transformer(config, seed=0)


PAIRS = [
    Preference("the film", " was good", " was bad"),
    Preference("i", " loved it", " hated it", 3, 1, 0),
    Preference("its", " plot", " cast and script", 0, 2, 2),
]


def config_of(**changes):
    learn = LearnConfig(learning_rate=1e-3, dtype="float32")
    return DPOConfig(**{"steps": 30, "batch": 3, "learn": learn, **changes})


@pytest.mark.parametrize("kind", ["dpo", "ipo"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_has_the_derivative_worked_out_by_hand(kind, smoothing):
    lead = torch.tensor([-2.0, 0.3, 5.0], requires_grad=True)
    target = torch.tensor([1.0, 0.0, 0.7])
    beta = 0.4
    config = config_of(beta=beta, kind=kind, label_smoothing=smoothing)
    dpo_loss(lead, target, config).backward()
    x, y = lead.detach().numpy(), target.numpy()
    if kind == "dpo":
        y = y * (1 - 2 * smoothing) + smoothing
        expected = beta * (1 / (1 + np.exp(-beta * x)) - y) / 3
    else:
        expected = 2 * (x - (2 * y - 1) / (2 * beta)) / 3
    np.testing.assert_allclose(lead.grad.numpy(), expected, atol=1e-6)


def test_the_gradient_of_a_step_is_that_of_the_formula_written_out(tokenizer):
    model, twin = small(tokenizer), small(tokenizer)
    trainer = DPOTrainer(model, tokenizer, PAIRS, config_of(beta=0.3), seed=0)
    with torch.no_grad():
        for a, b in zip(model.parameters(), twin.parameters(), strict=True):
            a.mul_(1.1)
            b.mul_(1.1)
    trainer.learner.optimizer.step = lambda norm: 0.0  # look at the gradient, do not move
    trainer.update()

    def logprob(net, prompt, answer):
        ids = [tokenizer.end_id, *tokenizer.encode(prompt)]
        start = len(ids)
        ids += [*tokenizer.encode(answer), tokenizer.end_id]
        row = torch.tensor([ids])
        log_p = torch.log_softmax(net.logits(net(row[:, :-1])), -1)[0]
        return sum(log_p[i - 1, ids[i]] for i in range(start, len(ids)))

    base = small(tokenizer)
    loss = 0.0
    for pair, share in zip(PAIRS, (1.0, 0.75, 0.25), strict=True):
        ours = [logprob(twin, pair.prompt, a) for a in (pair.first, pair.second)]
        with torch.no_grad():
            theirs = [logprob(base, pair.prompt, a) for a in (pair.first, pair.second)]
        z = 0.3 * ((ours[0] - theirs[0]) - (ours[1] - theirs[1]))
        sigmoid = torch.nn.functional.logsigmoid
        loss = loss - (share * sigmoid(z) + (1 - share) * sigmoid(-z)) / 3
    loss.backward()
    for (name, a), b in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-4, msg=name)


def test_pairs_are_learned_and_a_resumed_run_is_the_same(tokenizer):
    def fresh():
        return DPOTrainer(small(tokenizer), tokenizer, PAIRS, config_of(), seed=0)

    whole = fresh()
    found = [whole.update() for _ in range(30)]
    assert found[0]["train/loss"] == pytest.approx(np.log(2), abs=1e-5)
    assert found[-1]["train/loss"] < 0.6 and found[-1]["rewards/accuracies"] == 1
    assert found[-1]["rewards/margins"] > 0 and whole.finished
    assert {"rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected"} <= set(found[0])
    half, rest = fresh(), fresh()
    for _ in range(10):
        half.update()
    rest.load_state_dict(half.state_dict())
    assert [rest.update() for _ in range(20)] == found[10:]


def test_a_resumed_run_does_not_ask_the_reference_about_a_pair_again(tokenizer):
    pairs = [Preference("the", f" film {n}", f" plot {n} was bad") for n in range(7)]
    half, rest = (
        DPOTrainer(small(tokenizer), tokenizer, pairs, config_of(), seed=0) for _ in range(2)
    )
    asked = []
    ask = rest.reference.logprobs
    rest.reference.logprobs = lambda obs, *a, **k: asked.append(len(obs)) or ask(obs, *a, **k)
    half.update()
    half.update()
    assert int(half.reference_known.sum()) == 6
    rest.load_state_dict(half.state_dict())
    for _ in range(5):
        half.update()
        rest.update()
    assert asked == [2]  # both responses of the seventh pair
    assert torch.equal(half.reference_logprobs, rest.reference_logprobs)
    old = {name: part for name, part in half.state_dict().items() if name != "reference"}
    rest.load_state_dict(old)  # a checkpoint from before it was kept


def test_samples_are_ranked_by_the_reward_and_kept_as_preferences(tokenizer, tmp_path):
    pairs = rank_samples(
        small(tokenizer),
        tokenizer,
        ["the film", "i", "the film"],
        lambda texts: [float(len(text)) for text in texts],
        samples=12,
        max_new_tokens=40,
        seed=0,
        dtype=torch.float32,
    )
    assert 1 <= len(pairs) <= 2
    for pair in pairs:
        assert len(pair.first) - len(pair.second) == pair.margin > 0
    write_preferences(tmp_path / "pairs.jsonl", pairs)
    assert read_preferences(tmp_path / "pairs.jsonl") == pairs
    with pytest.raises(DataError, match="nothing to rank"):
        rank_samples(
            small(tokenizer),
            tokenizer,
            ["i"],
            lambda texts: [0.0] * len(texts),
            samples=2,
            max_new_tokens=4,
            seed=0,
            dtype=torch.float32,
        )


def test_samples_are_ranked_by_what_a_reward_asks_for(tokenizer):
    given = {"samples": 12, "max_new_tokens": 40, "seed": 0, "dtype": torch.float32}
    pairs = rank_samples(
        small(tokenizer),
        tokenizer,
        ["the film", "i"],
        lambda answers, prompts: [len(a) - len(p) for a, p in zip(answers, prompts, strict=True)],
        **given,
    )
    assert pairs
    assert all(len(pair.first) - len(pair.second) == pair.margin > 0 for pair in pairs)


@pytest.mark.slow
def test_a_reward_sees_the_fields_of_the_rows_whose_answers_it_ranks(tmp_path):
    rows = [{"prompt": f"the film {n}", "label": f"e{n}"} for n in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen = set()

    def right(answers, label):
        seen.update(label)
        return [float(len(answer)) for answer in answers]

    few = {
        "steps": 1,
        "batch": 2,
        "samples": 12,
        "max_new_tokens": 40,
        "size": "tiny",
        "dtype": "float32",
        "quiet": True,
    }
    run = playout.dpo(
        Path(__file__).parents[2] / "fixtures" / "runs" / "pretrain", reward_fn=right,
        prompts=tmp_path / "rows.jsonl", run=tmp_path / "run", **few,
    )  # fmt: skip
    assert seen == {row["label"] for row in rows}
    pairs = read_preferences(run.path / "pairs.jsonl")
    assert all(len(pair.first) > len(pair.second) for pair in pairs)
    assert {pair.prompt for pair in pairs} <= {row["prompt"] for row in rows}


def test_pairs_that_say_nothing_are_refused(tokenizer):
    same = [Preference("a", " b", " b"), Preference("a", " b", " c", 0, 0, 0)]
    long = [Preference("film " * 60, " b", " c")]
    for pairs in (same, long):
        with pytest.raises(DataError, match="no pair can be used"):
            DPOTrainer(small(tokenizer), tokenizer, pairs, config_of(), seed=0)
    for bad in ({"kind": "kto"}, {"beta": 0.0}, {"label_smoothing": 0.5}):
        with pytest.raises(ConfigError):
            config_of(**bad)


@pytest.mark.parametrize("microbatch", [0, 2])
def test_ties_count_for_neither_answer_in_what_is_measured(microbatch, tokenizer):
    good = [Preference("the film", f" was good {n}", f" was bad {n}") for n in range(4)]
    learn = LearnConfig(learning_rate=1e-3, dtype="float32", microbatch=microbatch)
    found = []
    for first, second in ((" was good", " was bad"), (" was bad", " was good")):
        ties = [Preference("the film", f"{first} {n}", f"{second} {n}", 0, 0, 1) for n in range(4)]
        config = config_of(batch=8, learn=learn)
        pairs = [*good, *ties]
        trainer = DPOTrainer(small(tokenizer), tokenizer, pairs, config, seed=0, heldout=pairs)
        for _ in range(4):
            trainer.update()
        measured = trainer.evaluate()
        assert measured["eval/accuracies"] == 1 and measured["eval/margins"] > 0
        found.append({**trainer.update(), **measured})
    assert found[0]["rewards/accuracies"] == 1
    assert found[0] == {name: pytest.approx(v, rel=1e-3) for name, v in found[1].items()}
    lone = DPOTrainer(small(tokenizer), tokenizer, ties, config_of(), seed=0, heldout=ties)
    assert lone.update()["rewards/accuracies"] == lone.evaluate()["eval/accuracies"] == 0.5
