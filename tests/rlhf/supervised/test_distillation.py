"""A student imitates a teacher's probabilities: divergences, trainers, commands, refusals."""

import json
import shutil

import pytest
import torch
from playout.agents.runs.metrics import last_measures
from playout.cli import main
from playout.errors import ConfigError
from playout.rlhf.data import synthetic
from playout.rlhf.data.batches import Corpus
from playout.rlhf.data.records import Demonstration
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.adapters.teacher import DistillConfig, Teacher
from playout.rlhf.model.folder import load_model
from playout.rlhf.model.layers import lm_head
from playout.rlhf.model.layers.lm_head import DIVERGENCES, distillation
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.supervised.pretrain import PretrainConfig, PretrainTrainer
from playout.rlhf.supervised.sft import SFTConfig, SFTTrainer
from playout.rlhf.supervised.trainer import LearnConfig
from torch.nn import functional as F

TEXTS = synthetic.reviews(120)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TEXTS, vocab_size=300)


def model_of(tokenizer, seed=0, width=32):
    shape = TransformerConfig(tokenizer.vocab_size, width, 2 * width, 2, 4, 2)
    model = Transformer(shape, seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0 if parameter.dim() > 1 else 1.0)
    return model


def plain(logits, theirs, targets, temperature, label_weight, divergence):
    p, q = (torch.softmax(x / temperature, -1) for x in (theirs, logits))
    middle = (p + q) / 2

    def kl(a, b):
        return (a * (a / b).log()).sum(-1)

    far = {"forward": kl(p, q), "reverse": kl(q, p), "jsd": (kl(p, middle) + kl(q, middle)) / 2}
    nats = F.cross_entropy(logits, targets, reduction="none")
    mixed = (1 - label_weight) * temperature**2 * far[divergence] + label_weight * nats
    return mixed.mean()


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize(("temperature", "label_weight"), [(1.0, 0.0), (2.5, 0.3), (0.7, 1.0)])
def test_the_divergence_in_chunks_and_its_gradient_are_those_of_its_formula(
    divergence, temperature, label_weight, monkeypatch
):
    monkeypatch.setattr(lm_head, "CHUNK_NUMBERS", 50 * 4)  # four rows at once
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(shape, generator=generator, requires_grad=True)

    hidden, weight, theirs, rows = draw(11, 8), draw(50, 8), draw(11, 6), draw(50, 6)
    targets = torch.randint(0, 50, (11,), generator=generator)
    options = {"temperature": temperature, "label_weight": label_weight, "divergence": divergence}
    teacher = (theirs.detach(), rows.detach())
    found, measured = distillation(hidden, weight, teacher, targets, **options)
    logits, others = hidden @ weight.T, theirs.detach() @ rows.detach().T
    expected = plain(logits, others, targets, **options)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    inputs = hidden, weight
    for ours, right in zip(
        torch.autograd.grad(found * 3, inputs), torch.autograd.grad(expected * 3, inputs),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(ours, right, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(measured["label_loss"], F.cross_entropy(logits, targets))
    assert measured["agreement"] == (logits.argmax(-1) == others.argmax(-1)).float().mean()


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_who_is_like_the_teacher_has_nothing_to_learn_from_it(tokenizer, divergence):
    student, teacher = model_of(tokenizer), model_of(tokenizer).requires_grad_(False)
    ids = torch.arange(60).view(2, 30) + 9
    places = torch.arange(0, 60, 7)
    loss, measured = Teacher(teacher, DistillConfig(label_weight=0.0, divergence=divergence)).loss(
        (hidden := student(ids)), student.head_weight(hidden.dtype), ids, places, ids
    )
    loss.backward()
    assert abs(float(loss)) < 1e-5 and float(measured["agreement"]) == 1.0
    assert max(float(p.grad.abs().max()) for p in student.parameters()) < 1e-4


def trainer_of(tokenizer, teacher, microbatch=0):
    learn = LearnConfig(3e-3, dtype="float32", microbatch=microbatch)
    config = PretrainConfig(steps=60, rows=8, length=24, learn=learn)
    train, held = Corpus.of(tokenizer, TEXTS[:100]), Corpus.of(tokenizer, TEXTS[100:])
    student = model_of(tokenizer, seed=5, width=16)
    return PretrainTrainer(student, train, held, config, seed=0, teacher=teacher)


def test_a_student_comes_to_think_as_its_teacher_and_a_batch_in_parts_moves_it_alike(tokenizer):
    """The teacher's weights are drawn: only imitation tells what it thinks."""
    teacher = Teacher(
        model_of(tokenizer, seed=1).requires_grad_(False), DistillConfig(label_weight=0.0)
    )
    trainer, parts = trainer_of(tokenizer, teacher), trainer_of(tokenizer, teacher, microbatch=3)
    first, second = trainer.update(), parts.update()
    for name in ("train/loss", "train/label_loss", "train/agreement", "train/grad_norm"):
        assert first[name] == pytest.approx(second[name], rel=1e-4)
    while not trainer.finished:
        last = trainer.update()
    assert last["train/loss"] < 0.7 * first["train/loss"]
    assert 0 < trainer.evaluate()["eval/teacher_agreement"] <= 1
    assert [network is teacher.model for network in trainer.networks] == [False, True]


def test_fine_tuning_imitates_a_teacher_on_the_answers_alone(tokenizer):
    item = Demonstration("the whole film", " was good .")
    teacher = Teacher(
        model_of(tokenizer, seed=1).requires_grad_(False), DistillConfig(label_weight=0.25)
    )
    trainer = SFTTrainer(
        model_of(tokenizer),
        tokenizer,
        ([item, item], [item]),
        SFTConfig(batch=2, length=48, learn=LearnConfig(dtype="float32")),
        seed=0,
        teacher=teacher,
    )
    (ids, prompt), _ = trainer.texts
    row = torch.tensor([ids])
    with torch.no_grad():
        logits, theirs = (
            model.logits(model(row[:, :-1]))[0, prompt - 1 :]
            for model in (trainer.model, teacher.model)
        )
    expected = plain(logits, theirs, row[0, prompt:], 1.0, 0.25, "forward")
    assert trainer.update()["train/loss"] == pytest.approx(float(expected), rel=1e-4)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    path = tmp_path_factory.mktemp("distillation") / "teacher"
    shape = ["--hidden-size", "32", "--heads", "2", "--layers", "1", "--vocab-size", "300"]
    common = ["--size", "tiny", "--data", "synthetic", "--quiet", "--steps", "3"]
    assert main(["rlhf", "pretrain", "--run", str(path), *shape, *common]) == 0
    return path


SMALL = ["--hidden-size", "16", "--heads", "2", "--layers", "1"]
COMMON = ["--size", "tiny", "--data", "synthetic", "--quiet", "--dtype", "float32"]


@pytest.mark.slow
def test_a_student_has_its_teachers_vocabulary_resumes_exactly_and_is_an_ordinary_model(
    teacher, tmp_path, capsys
):
    command = ["rlhf", "pretrain", "--teacher", str(teacher), *SMALL, *COMMON]
    command += ["--teacher-weights", "int8", "--steps", "4"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main([*command, "--run", str(whole)]) == 0
    shutil.copytree(whole, parts)
    shutil.rmtree(parts / "model")
    assert capsys.readouterr().out == ""
    assert main(["rlhf", "pretrain", "--resume", str(parts), "--from-step", "2"]) == 0
    alike = 100 * last_measures(parts)["eval/teacher_agreement"]
    said = f"taught by {teacher}: both expect the same next token in {alike:.1f} % of held-out"
    assert f"\n{said} places\n" in capsys.readouterr().out
    models = [load_model(path) for path in (whole, parts, teacher)]
    assert models[0][1].inner.get_vocab() == models[2][1].inner.get_vocab()
    for ours, again in zip(*(model.parameters() for model, _ in models[:2]), strict=True):
        assert torch.equal(ours, again)
    record = json.loads((whole / "run.json").read_text())
    assert len(record["teacher_sha256"]) == 64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--teacher", "nowhere"], "nowhere does not exist"),
        (["--teacher", "{teacher}", "--vocab-size", "400"], "the vocabulary is the teacher's"),
        (["--teacher", "{teacher}", "--encoder"], "a teacher predicts next tokens"),
        (["--teacher", "{teacher}", "--teacher-temperature", "0"], "must be above 0"),
        (["--teacher", "{teacher}", "--label-weight", "1.5"], "from 0 to 1, not 1.5"),
        (["--teacher", "{teacher}", "--context", "200", "--length", "160"], "reads 128 tokens"),
    ],
)
def test_teachers_that_cannot_teach_are_refused_in_one_line(
    teacher, options, message, tmp_path, capsys
):
    given = [option.format(teacher=teacher) for option in options]
    command = ["rlhf", "pretrain", *SMALL, *COMMON, "--steps", "2", "--run", f"{tmp_path}/run"]
    assert main([*command, *given]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_teacher_of_another_vocabulary_is_refused_by_name(teacher, tmp_path, capsys):
    other = tmp_path / "other"
    assert main(["rlhf", "pretrain", *SMALL, *COMMON, "--steps", "1", "--vocab-size", "280",
                 "--run", str(other)]) == 0  # fmt: skip
    command = ["rlhf", "sft", "--base", str(other), "--teacher", str(teacher), *COMMON]
    assert main([*command, "--steps", "1", "--run", f"{tmp_path}/sft"]) == 2
    assert "another vocabulary than the student" in capsys.readouterr().err


def test_only_known_divergences_are_taken():
    with pytest.raises(ConfigError, match="one of forward, reverse, jsd, not 'hellinger'"):
        DistillConfig(divergence="hellinger")
