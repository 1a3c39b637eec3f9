"""The reward model: Bradley-Terry with ties and margins, comparisons, scores, normalisation."""

import json

import numpy as np
import pytest
import torch
from playout.errors import ConfigError, DataError, RunError
from playout.rlhf.commands.learn.reward import _voted
from playout.rlhf.data import synthetic
from playout.rlhf.data.comparisons import Pairs, RatedPairs, VotedPairs, compare
from playout.rlhf.data.records import Preference, Rated
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.heads import ScalarHead
from playout.rlhf.model.huggingface import save_pretrained
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.online.episode import Episode
from playout.rlhf.online.rewards import RewardInputs, checked_rewards, load_reward
from playout.rlhf.supervised.bradley_terry import preference_loss
from playout.rlhf.supervised.reward import RewardConfig, RewardModel, RewardTrainer
from playout.rlhf.supervised.trainer import LearnConfig
from safetensors.torch import load_file, save_file
from scipy.optimize import minimize
from small_language import chat_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(synthetic.reviews(300), vocab_size=400)


def small(tokenizer, seed=0):
    config = TransformerConfig(
        tokenizer.vocab_size,
        48,
        96,
        2,
        4,
        2,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_id,
        eos_token_id=tokenizer.end_id,
    )
    return Transformer(config, seed=seed)


def votes_among(count, seed=0, *, ties=True):
    rng = np.random.default_rng(seed)
    first, second = np.triu_indices(count, 1)
    votes = rng.integers(1, 9, (len(first), 3)).astype(np.float32)
    if not ties:
        votes[:, 2] = 0
    margins = rng.choice([0.0, 0.5], len(first)).astype(np.float32)
    return Pairs(
        list(range(count)),
        torch.from_numpy(first),
        torch.from_numpy(second),
        torch.from_numpy(votes),
        torch.from_numpy(margins),
    )


def nll(x, pairs, ties):
    """Written out pair by pair, with loops and no tricks."""
    scores, tie = x[:-1], np.exp(x[-1])
    total = 0.0
    for i, j, (win, loss, tied), margin in zip(
        pairs.first.tolist(),
        pairs.second.tolist(),
        pairs.votes.tolist(),
        pairs.margins.tolist(),
        strict=True,
    ):
        lead = scores[i] - scores[j]

        def chances(d):
            up, down = np.exp(d / 2), np.exp(-d / 2)
            weight = tie if ties else 0.0
            return up / (up + down + weight), weight / (up + down + weight)

        total -= win * np.log(chances(lead - margin)[0]) + loss * np.log(chances(-lead - margin)[0])
        if ties:
            total -= tied * np.log(chances(lead)[1])
    return total / float(pairs.votes.sum()) + 0.5e-3 * np.sum(scores**2)


@pytest.mark.parametrize("ties", [True, False])
def test_the_likelihood_has_the_optimum_that_scipy_finds(ties):
    pairs = votes_among(5, ties=ties)
    best = minimize(nll, np.zeros(6), args=(pairs, ties), method="BFGS", tol=1e-10).x
    scores = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    log_tie = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([scores, log_tie], max_iter=300, tolerance_grad=1e-10)

    def closure():
        optimizer.zero_grad()
        loss, _ = preference_loss(scores, pairs, log_tie=log_tie if ties else None)
        loss = loss + 0.5e-3 * scores.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    np.testing.assert_allclose(scores.detach().numpy(), best[:5], atol=2e-3)
    if ties:
        assert float(log_tie.detach()) == pytest.approx(best[5], abs=2e-3)


def test_raters_are_compared_pair_by_pair():
    assert compare([1, 2], [0, 2]) == (0.5, 0.25, 0.25)
    items = [
        Rated("a", (1.0, 2.0)),
        Rated("b", (0.0, 2.0)),
        Rated("c", (-3.0, -1.0, 1.0)),
        Rated("d", (4.0,)),
    ]
    source = RatedPairs(items)
    pairs = source.batch(4, 0, seed=0)
    assert len(pairs.first) == 6
    for i, j, votes in zip(pairs.first, pairs.second, pairs.votes, strict=True):
        a, b = (items[pairs.texts[int(place)]].ratings for place in (i, j))
        assert votes.tolist() == pytest.approx(compare(a, b))
    with pytest.raises(DataError, match="rated alike"):
        RatedPairs([Rated("a", (1.0,)), Rated("b", (1.0,))])


def test_votes_keep_ties_margins_and_every_text_once():
    items = [
        Preference("p ", "x", "y", 3, 1, 1),
        Preference("p ", "y", "z", 0, 2, 0, 0.5),
        Preference("q ", "x", "w", 0, 0, 0),
    ]
    source = VotedPairs(items)
    assert source.texts == ["p x", "p y", "p z"]
    pairs = source.all_pairs()
    assert pairs.votes.tolist() == [[3, 1, 1], [0, 2, 0]]
    assert pairs.margins.tolist() == [0, 0.5] and len(pairs.texts) == 3
    with pytest.raises(DataError, match="no vote"):
        VotedPairs(items[2:])


def votes(prompt, number):
    return Preference(prompt.format(number), f" good {number}", f" bad {number}")


@pytest.mark.parametrize("prompt", ["the plot", "", "the plot {}"])
def test_every_pair_is_learned_or_held_out_and_no_text_is_both(prompt):
    said: list[str] = []
    (train, test), _ = _voted([votes(prompt, n) for n in range(200)], said.append)
    assert len(train.items) + len(test.items) == 200 and not said
    assert 20 < len(test.items) < 60
    assert not set(train.texts) & set(test.texts)
    (train, test), prompts = _voted([votes(prompt, n) for n in range(19)], said.append)
    assert train is test and len(train.items) == len(prompts) == 19
    assert said == ["none of 19 pairs are held out: all serve for both"]


def test_pairs_whose_answers_meet_again_and_again_are_left_out_and_counted():
    answers = [f"answer {number}" for number in range(20)]
    pairs = [Preference("", a, b) for n, a in enumerate(answers) for b in answers[:n]]
    said: list[str] = []
    (train, test), _ = _voted(pairs, said.append)
    assert not set(train.texts) & set(test.texts)
    left = len(pairs) - len(train.items) - len(test.items)
    assert left > 0 and [line.split(" pairs")[0] for line in said] == [f"{left} of 190"]


@pytest.mark.slow
def test_a_model_learns_the_order_of_rated_reviews_and_keeps_its_scores(tokenizer, tmp_path):
    train, test = synthetic.rated(500), synthetic.rated(100, seed=9)
    config = RewardConfig(steps=60, batch=32, length=32, learn=LearnConfig(3e-3, dtype="float32"))
    trainer = RewardTrainer(
        small(tokenizer), tokenizer, (RatedPairs(train), RatedPairs(test)), config, seed=0
    )
    before = trainer.evaluate()["eval/accuracy"]
    while not trainer.finished:
        metrics = trainer.update()
    found = trainer.measure(draws=20)
    assert found["accuracy"] > max(0.72, before) and found["far_accuracy"] > found["accuracy"]
    low, high = found["accuracy_interval"]
    assert low < found["accuracy"] < high and found["calibration_error"] < 0.2
    assert {"train/loss", "rewards/accuracies", "rewards/margins"} <= set(metrics)

    texts = [item.text for item in test]
    trainer.reward.normalise(texts)
    scores = trainer.reward(texts)
    assert np.mean(scores) == pytest.approx(0, abs=1e-5)
    assert np.std(scores) == pytest.approx(1, abs=1e-5)
    folder = tmp_path / "model"
    trainer.reward.save(folder)
    assert json.loads((folder / "config.json").read_text())["architectures"] == [
        "LlamaForSequenceClassification"
    ]
    again = load_reward(str(folder), dtype="float32")
    assert again(texts) == pytest.approx(scores, abs=1e-5)
    # The score is read at a text's own last token, whatever stands beside it.
    assert again(texts[:1]) == pytest.approx(scores[:1], abs=1e-4)
    assert again([]) == []


@pytest.mark.parametrize("style", [None, "headers"])
def test_a_published_reward_model_is_read_as_its_files_are(style, tokenizer, tmp_path):
    """Its output matrix is neither tied nor there; texts begin as others begin them."""
    own = tokenizer if style is None else chat_tokenizer(style)
    shape = TransformerConfig(
        own.vocab_size, 48, 96, 2, 4, 2, max_position_embeddings=64, tie_word_embeddings=False,
        pad_token_id=own.pad_id, eos_token_id=own.end_id,
    )  # fmt: skip
    model, head = Transformer(shape, seed=3), ScalarHead(shape, seed=4)
    folder = tmp_path / "published"
    kind = "LlamaForSequenceClassification"
    save_pretrained(model, folder, heads={"score": head}, architecture=kind)
    own.save(folder)
    tensors = load_file(folder / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors")
    found = load_reward(str(folder), dtype="float32")

    def score(ids):
        with torch.no_grad():
            return float(head(model(torch.tensor([ids]))[0, -1], model.norm))

    texts = ["the film", "a rather dull plot"]
    assert found(texts) == pytest.approx([score(own.encode_prompts([t])[0]) for t in texts])
    # What a judged answer spells is characters: none ends its own turn.
    begins = [own.bos_id] if own.bos_id >= 0 else []
    spelled = f"the film {own.inner.id_to_token(own.stop_ids[-1])} dull"
    assert found([spelled]) == pytest.approx([score([*begins, *own.encode(spelled)])])
    if style is not None:
        talk = [{"role": "user", "content": "the"}, {"role": "assistant", "content": "cat "}]
        whole = own.template.render(
            talk, add_generation_prompt=False, bos_token=own.bos, eos_token=own.end
        )
        assert found([talk]) == pytest.approx([score(own.encode_special(whole))])
        episode = Episode(None, 0, talk[:1], answers=["cat "])
        given = checked_rewards(found, RewardInputs.of([episode]))
        assert given.tolist() == pytest.approx(found([talk]))


def test_a_resumed_reward_run_equals_one_that_was_not_stopped(tokenizer):
    data = (RatedPairs(synthetic.rated(80)), RatedPairs(synthetic.rated(20, seed=1)))
    config = RewardConfig(steps=6, batch=16, length=32, learn=LearnConfig(dtype="float32"))

    def fresh():
        return RewardTrainer(small(tokenizer), tokenizer, data, config, seed=0)

    whole = fresh()
    losses = [whole.update()["train/loss"] for _ in range(6)]
    half = fresh()
    for _ in range(3):
        half.update()
    rest = fresh()
    rest.load_state_dict(half.state_dict())
    assert [rest.update()["train/loss"] for _ in range(3)] == losses[3:]


def test_a_step_of_one_rated_text_is_refused(tokenizer):
    pairs = RatedPairs([Rated(f"text {n}", (float(n),)) for n in range(4)])
    with pytest.raises(ConfigError, match="a step needs two"):
        RewardTrainer(small(tokenizer), tokenizer, (pairs, pairs), RewardConfig(batch=1), seed=0)


def test_only_the_top_layers_are_trained_if_asked(tokenizer):
    data = (RatedPairs(synthetic.rated(40)), RatedPairs(synthetic.rated(20, seed=1)))
    model = small(tokenizer)
    first = model.blocks[0].qkv_proj.weight.detach().clone()
    last = model.blocks[1].qkv_proj.weight.detach().clone()
    config = RewardConfig(steps=2, batch=16, train_layers=1, learn=LearnConfig(dtype="float32"))
    trainer = RewardTrainer(model, tokenizer, data, config, seed=0)
    trainer.update()
    trainer.update()
    assert torch.equal(model.blocks[0].qkv_proj.weight, first)
    assert not torch.equal(model.blocks[1].qkv_proj.weight, last)
    with pytest.raises(ConfigError, match="2 layers"):
        RewardTrainer(small(tokenizer), tokenizer, data, RewardConfig(train_layers=3), seed=0)


def test_scores_that_cannot_be_normalised_are_refused(tokenizer):
    reward = RewardModel(small(tokenizer), ScalarHead(small(tokenizer).config), tokenizer)
    with pytest.raises(ConfigError, match="same one"):
        reward.normalise(["a", "a"])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda texts: [float("nan")] * len(texts), "nan for text 0"),
        (lambda texts: [0.0], "1 numbers for 2"),
        (lambda texts: 3, "one number a text, not 3"),
        (lambda texts: ["x", "y"], "returned 'x' for text 0, not a number"),
        (lambda texts: 1 / 0, "raised ZeroDivisionError"),
    ],
)
def test_a_faulty_reward_function_is_named_with_its_fault(function, message):
    with pytest.raises(DataError, match=message):
        checked_rewards(function, ["a", "b"])


def test_rewards_are_found_by_name_or_refused(tmp_path, monkeypatch, tokenizer):
    (tmp_path / "my_rewards.py").write_text(
        "def long(texts):\n    return [len(t) for t in texts]\nnumber = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    assert checked_rewards(load_reward("my_rewards:long"), ["ab", "c"]).tolist() == [2.0, 1.0]
    for name, message in (
        ("my_rewards:none", "has no"),
        ("my_rewards:number", "not a function"),
        ("absent_module:x", "cannot import"),
        ("my rewards:x", "neither"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_reward(name)
    with pytest.raises(RunError, match="does not exist"):
        load_reward("nowhere")
    # A language model has no score head.
    from playout.rlhf.model.folder import export_model

    export_model(tmp_path / "model", small(tokenizer), tokenizer)
    with pytest.raises(RunError, match="gives it no score"):
        load_reward("model")


def test_ties_count_for_neither_answer_in_what_a_step_shows(tokenizer):
    clear = [Preference(f"film {n}", " was good", " was bad") for n in range(6)]
    shown = []
    for ties in ([], [Preference(f"plot {n}", " so", " thus", 0, 0, 1) for n in range(6)]):
        votes = VotedPairs([*clear, *ties])
        trainer = RewardTrainer(
            small(tokenizer), tokenizer, (votes, votes), RewardConfig(batch=99), seed=0
        )
        found = trainer.update()
        shown.append((found["rewards/accuracies"], found["rewards/margins"]))
    assert shown[0] == pytest.approx(shown[1], rel=1e-3) and shown[0][1] != 0
