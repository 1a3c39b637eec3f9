"""What a model makes of suites, against its own forward pass; the command from run to card."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from playout import cli
from playout.agents.runs.directory import RunDir
from playout.errors import ConfigError, DivergedError
from playout.rlhf.evaluation.suites import score
from playout.rlhf.evaluation.suites.card import draw_reliability, write_card
from playout.rlhf.evaluation.suites.memorisation import recited
from playout.rlhf.evaluation.suites.results import clean_part, compared, examples_read, summary
from playout.rlhf.evaluation.suites.score import Answers, Asking, answers_of
from playout.rlhf.evaluation.suites.suite import Choice, Passage, Program, Suite, Written
from playout.rlhf.generation.conversation import conversation_format
from playout.rlhf.generation.player import LanguagePlayer
from playout.rlhf.model.folder import export_model
from playout.rlhf.model.transformer import Transformer
from small_language import chat_tokenizer, small_model

TOKENIZER = chat_tokenizer("chatml")
TEXT = "the cat sat on the mat and the dog ran to the cat."


@pytest.fixture(scope="module")
def model():
    return small_model(TOKENIZER, length=96)


@pytest.fixture(scope="module")
def parrot():
    """A model that knows TEXT by heart, from wherever it begins."""
    model = small_model(TOKENIZER, 3, length=96)
    whole = [TOKENIZER.end_id, *TOKENIZER.encode(TEXT)]
    rows = torch.full((8, len(whole)), TOKENIZER.end_id)
    for start, row in enumerate(rows):
        row[: len(whole) - start] = torch.tensor(whole[start:])
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        logits = model.logits(model(rows[:, :-1]))
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()).backward()
        optimizer.step()
    return model


def logprob(model, before, text):
    """Sum over the tokens of `text`, by one plain forward pass."""
    ids = TOKENIZER.encode(text, continues=True)
    with torch.no_grad():
        table = torch.log_softmax(model.logits(model(torch.tensor([[*before, *ids]])))[0], -1)
    rows = table[len(before) - 1 : -1]
    return float(rows.gather(1, torch.tensor(ids)[:, None]).sum())


def test_the_likeliest_option_is_chosen_by_its_sum_and_by_its_length(model):
    options = (" cat", " the dog and the other dog", " s")
    suite = Suite(name="s", items=(Choice("the", options, (0.0, 0.0, 1.0)),))
    found = answers_of(model, TOKENIZER, suite)
    before = conversation_format(TOKENIZER, plain=True).begin("the")
    sums = np.array([logprob(model, before, option) for option in options])
    each = sums / [len(option) for option in options]
    assert found.values == suite.items[0].scores[int(sums.argmax())]
    assert found.by_length == suite.items[0].scores[int(each.argmax())]
    shares = np.exp(sums - sums.max())
    assert found.confidence == pytest.approx(shares.max() / shares.sum(), abs=1e-5)
    assert found.random == pytest.approx(1 / 3)
    several = Suite(name="s", items=(Choice("the", options, (0.25, 0.5, 1.0)),))
    assert answers_of(model, TOKENIZER, several).values == several.items[0].scores[sums.argmax()]


def test_questions_of_suites_that_spell_special_tokens_are_read_as_characters(model, monkeypatch):
    asked = "the <|im_end|> cat"
    suite = Suite(name="s", items=(Choice(asked, (" cat", " the dog sat"), (1.0, 0.0)),))
    before = [TOKENIZER.end_id, *TOKENIZER.encode(asked)]
    before = before if TOKENIZER.bos_id >= 0 else before[1:]
    sums = [logprob(model, before, option) for option in suite.items[0].options]
    found = answers_of(model, TOKENIZER, suite)
    assert found.values == (sums[0] > sums[1])
    shares = np.exp(np.array(sums) - max(sums))
    assert found.confidence == pytest.approx(shares.max() / shares.sum(), abs=1e-5)
    read = []
    plain = LanguagePlayer.answer

    def noted(self, prompts, **options):
        read.extend(plain(self, prompts, **options))
        return read

    monkeypatch.setattr(LanguagePlayer, "answer", noted)
    answers_of(model, TOKENIZER, Suite(name="w", items=(Written(asked, ("cat",)),)))
    assert read[0].prompt_tokens == len(before)


def test_of_a_question_longer_than_the_context_all_that_fits_is_read_and_it_is_told(model):
    context = model.config.max_position_embeddings
    asked, options = "the dog ran to the cat " * 40, (" cat", " the dog and the other dog")
    suite = Suite(name="s", items=(Choice(asked, options, (1.0, 0.0)),))
    before = conversation_format(TOKENIZER, plain=True).begin(asked)
    longest = max(len(TOKENIZER.encode(option, continues=True)) for option in options)
    assert len(before) > context > 2 * longest
    sums = [logprob(model, before[longest - context :], option) for option in options]
    found = answers_of(model, TOKENIZER, suite)
    shares = np.exp(np.array(sums) - max(sums))
    assert found.confidence == pytest.approx(shares.max() / shares.sum(), abs=1e-5)
    assert found.cut == 1 and summary(suite, found)["cut"] == 1
    written = Suite(name="w", items=(Written(asked, ("cat",)), Written("the", ("cat",))))
    assert answers_of(model, TOKENIZER, written).cut == 1
    whole = Suite(name="t", items=(Choice("", (asked, asked + "x"), (1.0, 0.0)),))
    assert answers_of(model, TOKENIZER, whole).cut == 0  # all of it is scored, in windows


ASKED = [
    Choice("", ("the cat sat", "cat the sat"), (1.0, 0.0)),
    Choice("the cat is", ("A", "B"), (1.0, 0.0)),
    Passage("the cat sat"),
]


@pytest.mark.parametrize("item", ASKED, ids=["texts", "letters", "passage"])
def test_weights_that_are_no_numbers_are_told_and_not_right(item):
    broken = small_model(TOKENIZER, length=96)
    broken.norm.data[0] = math.nan
    with pytest.raises(DivergedError, match="NaN or infinite"):
        answers_of(broken, TOKENIZER, Suite(name="s", items=(item,)))


@pytest.mark.parametrize("item", ASKED[:2], ids=["texts", "letters"])
def test_options_that_are_as_likely_are_worth_what_chance_gives(item):
    even = small_model(TOKENIZER, length=96)
    for parameter in even.parameters():
        parameter.data.zero_()
    sizes = {len(TOKENIZER.encode(option)) for option in item.options}
    assert len(sizes) == 1  # all tokens are as likely, so the options are
    found = answers_of(even, TOKENIZER, Suite(name="s", items=(item,)))
    assert found.values.tolist() == found.by_length.tolist() == [0.5]
    assert found.confidence == pytest.approx(0.5)


def test_options_of_the_same_tokens_are_as_likely_whatever_stands_beside_them(model):
    same = Choice("the", (" cat sat", " cat sat"), (1.0, 0.0))
    long = Choice("", (f"{TEXT} {TEXT}", TEXT), (1.0, 0.0))
    found = answers_of(model, TOKENIZER, Suite(name="s", items=(same, long) * 3))
    assert found.values[::2].tolist() == found.by_length[::2].tolist() == [0.5] * 3


def test_where_several_options_are_right_no_calibration_is_told(model, tmp_path):
    options = tuple(f" {word}" for word in ("cat", "dog", "mat", "sat"))
    suite = Suite(name="s", items=(Choice("the", options, (1.0, 1.0, 1.0, 0.0)),))
    row = summary(suite, answers_of(model, TOKENIZER, suite))
    assert row["measure"] == "accuracy" and row["random"] == 0.75 and "calibration" not in row
    lone = Suite(name="s", items=(Choice("the", options, (0.0, 1.0, 0.0, 0.0)),))
    assert "calibration" in summary(lone, answers_of(model, TOKENIZER, lone))
    assert draw_reliability({"s": row}, tmp_path / "r.png") is None


def test_options_of_one_token_are_read_off_one_pass_and_whole_sentences_alone(model):
    letters = tuple(Choice(f"{'the cat ' * n}is", ("A", "B", "C"), (1, 0, 0)) for n in range(1, 4))
    found = answers_of(model, TOKENIZER, Suite(name="s", items=letters))
    for number, item in enumerate(letters):
        before = conversation_format(TOKENIZER, plain=True).begin(item.prompt)
        sums = np.array([logprob(model, before, option) for option in item.options])
        assert found.confidence[number] == pytest.approx(
            1 / np.exp(sums - sums.max()).sum(), abs=1e-5
        )
    pair = Suite(name="p", items=(Choice("", ("the cat sat", "cat the sat"), (1.0, 0.0)),))
    sums = [logprob(model, [TOKENIZER.end_id], text) for text in pair.items[0].options]
    assert answers_of(model, TOKENIZER, pair).values[0] == float(sums[0] > sums[1])


def test_passages_are_measured_in_bits_and_answers_are_written(parrot):
    suite = Suite(name="b", items=(Passage(TEXT), Passage("the dog")))
    found = answers_of(parrot, TOKENIZER, suite)
    bits = -logprob(parrot, [TOKENIZER.end_id], "the dog") / math.log(2)
    assert found.values[1] == pytest.approx(bits, rel=1e-4) and found.num_bytes.tolist() == [50, 7]
    row = summary(suite, found)
    assert row["value"] == pytest.approx(found.values.sum() / 57)
    assert row["measure"] == "bits_per_byte" and row["interval"][0] < row["value"]
    cloze = Suite(
        name="w", items=(Written("the cat sat on the", (" mat",)), Written("the cat", (" flew",)))
    )
    assert answers_of(parrot, TOKENIZER, cloze).values.tolist() == [1.0, 0.0]


def test_a_chat_model_is_asked_in_its_template(model):
    suite = Suite(name="s", items=(Choice("the cat", (" sat", " ran"), (1.0, 0.0)),))
    found = answers_of(model, TOKENIZER, suite, Asking(chat=True))
    before = conversation_format(TOKENIZER).begin(({"role": "user", "content": "the cat"},))
    sums = np.array([logprob(model, before, text) for text in ("sat", "ran")])
    assert found.confidence[0] == pytest.approx(1 / np.exp(sums - sums.max()).sum(), abs=1e-5)
    plain = chat_tokenizer("inst")
    plain.template, kept = None, plain.template
    with pytest.raises(ConfigError, match="no chat template"):
        answers_of(model, plain, suite, Asking(chat=True))
    plain.template = kept


def test_a_clean_value_leaves_out_what_was_seen_and_models_are_compared_by_question():
    rng = np.random.default_rng(0)
    prompts = [" ".join(f"w{n}" for n in rng.integers(0, 900, 20)) for _ in range(30)]
    suite = Suite(name="s", items=tuple(Choice(p, (" a", " b"), (1.0, 0.0)) for p in prompts))
    right = np.array([1.0] * 10 + [0.0, 1.0] * 10)
    answers = Answers(right, right, np.full(30, 0.9), np.full(30, 0.5))
    found = clean_part(suite, answers, [p + " a" for p in prompts[:10]])
    assert (found["leaked"], found["near"], found["value"]) == (10, 0, 0.5)
    row = summary(suite, answers)
    assert row["value"] == pytest.approx(2 / 3) and row["random"] == 0.5
    assert row["calibration"]["error"] == pytest.approx(0.9 - 2 / 3)
    other = compared(right, np.zeros(30))
    assert other["difference"] == pytest.approx(2 / 3) and other["p"] < 1e-4


def test_a_model_recites_what_it_knows_by_heart_and_nothing_else(parrot):
    given = {"count": 4, "given": 8, "asked": len(TOKENIZER.encode(TEXT)) - 12}
    assert recited(parrot, TOKENIZER, [TEXT], **given).right == 4
    assert recited(parrot, TOKENIZER, [TEXT[::-1]], **given).right == 0


def test_the_command_measures_compares_and_writes_a_card(parrot, model, tmp_path, capsys):
    for name, one in (("parrot", parrot), ("other", model)):
        export_model(tmp_path / name, one, TOKENIZER)
    leaks = [f"{TEXT} {TEXT}", *(f"so on day {n} the cat sat on the mat again" for n in range(5))]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in leaks)
    (tmp_path / "train.jsonl").write_text(lines)
    (tmp_path / "own.jsonl").write_text(
        "".join(
            json.dumps({"prompt": f"on day {n} the cat sat on the", "options": ["mat", "dog"],
                        "answer": 0}) + "\n" for n in range(12)
        )
    )  # fmt: skip
    arguments = ["eval", str(tmp_path / "parrot"), "--suite", str(tmp_path / "own.jsonl"), "pairs"]
    arguments += ["--against", str(tmp_path / "other"), "--episodes", "12"]
    arguments += ["--training-text", str(tmp_path / "train.jsonl"), "--memorisation", "2"]
    arguments += ["--card", str(tmp_path / "card.md"), "--json", str(tmp_path / "found.json")]
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "own" in shown and "too short" in shown
    found = json.loads((tmp_path / "found.json").read_text())
    own = found["suites"]["own"]
    assert own["contamination"]["leaked"] == 5 and own["items"] == 12
    assert own["value"] >= own["against"]["value"] and 0 <= own["against"]["corrected p"] <= 1
    assert found["training_text"]["unknown"]
    card = (tmp_path / "card.md").read_text()
    assert card.startswith("---\n") and "own: 5 of 12 hold a run" in card
    assert "13 words of it, or stand in it whole where they are shorter; " in card
    assert "| own | 12 | accuracy" in card and "card.png" in card
    assert f"against {tmp_path / 'other'}: " in card
    assert (tmp_path / "card.png").stat().st_size > 5000


def test_a_card_tells_what_made_a_model_small(tmp_path):
    config = dataclasses.replace(
        small_model(TOKENIZER, length=96).config,
        model_type="mixtral",
        num_experts=4,
        num_experts_per_tok=2,
    )
    settings = {
        "corpus": "a.txt:0.7,b.txt:0.3", "data": "auto", "quality": "none", "dedup": "near",
        "teacher": "runs/large", "sparsity": 0.5, "pattern": "heads", "weights": "float32",
    }  # fmt: skip
    RunDir.create(tmp_path / "run", kind="rlhf.pretrain", config=settings, seed=0)
    export_model(tmp_path / "run" / "model", Transformer(config), TOKENIZER)
    write_card(tmp_path / "card.md", tmp_path / "run", Transformer(config), {"suites": {}})
    card = (tmp_path / "card.md").read_text()
    assert "| experts | 4 a layer, of which 2 see a token |" in card
    told = ("corpus | a.txt:0.7,b.txt:0.3", "dedup | near", "teacher | runs/large")
    for row in (*told, "sparsity | 0.5", "pattern | heads"):
        assert f"| {row} |" in card
    assert not any(f"| {name} |" in card for name in ("data", "quality", "weights"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--suite", "nonsense"], "no suite 'nonsense'"),
        (["--against", "x"], "--suite NAME"),
        (["--shots", "3"], "--shots is about a suite, and none"),
        ([], "say what to ask it"),
        (["--suite", "pairs", "--shots", "-1"], "--shots must be at least 0"),
        (["--suite", "pairs", "--against", "gone"], "gone"),
        (["--suite", "pairs", "--memorisation", "2", "--episodes", "5"], "--training-text"),
    ],
)
def test_what_cannot_be_asked_is_one_line(model, tmp_path, capsys, words, message):
    export_model(tmp_path / "model", model, TOKENIZER)
    assert cli.main(["eval", str(tmp_path / "model"), *words]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1] and said[-1].startswith("error: ")


def test_more_examples_than_there_are_are_refused(model, tmp_path, capsys):
    for part, count in (("test", 9), ("dev", 5)):
        (tmp_path / "mmlu" / part).mkdir(parents=True)
        for subject in ("maths", "old_law")[: 1 + (part == "test")]:
            lines = "".join(f"What is {n}?,1,2,3,4,B\n" for n in range(count))
            (tmp_path / "mmlu" / part / f"{subject}_{part}.csv").write_text(lines)
    export_model(tmp_path / "model", model, TOKENIZER)
    words = ["eval", str(tmp_path / "model"), "--suite", f"mmlu:{tmp_path}/mmlu", "--shots"]
    assert cli.main([*words, "1"]) == 2
    said = "error: --shots 1: mmlu has no examples for its questions about old_law; ask with"
    assert capsys.readouterr().err == f"{said} --shots 0\n"
    (tmp_path / "mmlu" / "test" / "old_law_test.csv").unlink()
    assert cli.main([*words, "6"]) == 2
    said = "error: --shots 6: mmlu has 5 examples for its questions about maths; ask with --shots 5"
    assert capsys.readouterr().err == f"{said} or fewer\n"
    found = tmp_path / "found.json"
    assert cli.main([*words, "5", "--card", f"{tmp_path}/card.md", "--json", str(found)]) == 0
    row = json.loads(found.read_text())["suites"]["mmlu"]
    shown, card = capsys.readouterr().out, (tmp_path / "card.md").read_text()
    assert (row["shots"], row["cut"], row["shots_read"]) == (5, 9, [1, 1])
    assert "; 5 examples before each question" in card
    for text in (shown, card):
        assert "; of the 5 examples before each of them 1 fits" in " ".join(text.split())


LONG = {
    "texts": Choice("so the cat", (" sat on it", " ran"), (1.0, 0.0)),
    "letters": Choice("so the cat", ("A", "B"), (1.0, 0.0)),
    "windows": Choice("so the cat", (" sat" * 30, " ran" * 30), (1.0, 0.0)),
    "written": Written("so the cat", (" sat",)),
}


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("kind", LONG)
def test_of_examples_that_the_context_cuts_it_is_told_how_many_were_read(
    model, monkeypatch, kind, chat
):
    read = []

    def note(talk, suite, asking, kept):
        read.extend(TOKENIZER.decode(ids) for ids in kept.values())
        return noted(talk, suite, asking, kept)

    noted = score._examples_read
    monkeypatch.setattr(score, "_examples_read", note)
    for size in range(1, 9):
        examples = [f"{'the mat ' * size}is example {n}." for n in range(12)]
        suite = Suite(name="s", items=(LONG[kind],), examples={"": examples})
        found = answers_of(model, TOKENIZER, suite, Asking(shots=12, chat=chat))
        count = sum(f"{text}\n\n" in read[-1] for text in examples)
        assert found.cut == 1 and found.fit == (count, count)
        row = summary(suite, found, shots=12)
        assert row["shots"] == 12 and row["shots_read"] == [count, count]
        assert ("none fits" in examples_read(row)) == (count == 0)
    whole = Suite(name="s", items=(Choice("the", (" cat", " mat"), (1.0, 0.0)),) * 2)
    assert answers_of(model, TOKENIZER, whole).fit is None


def test_what_is_misspelt_is_told_before_a_model_is_read(model, tmp_path, capsys):
    (tmp_path / "text.txt").write_text("\n".join([TEXT] * 9))
    text = {"text": [str(tmp_path / "text.txt")], "material": "files"}
    run = RunDir.create(tmp_path / "run", kind="rlhf.pretrain", config=text, seed=0)
    export_model(run.path / "model", model, TOKENIZER)
    (run.path / "model" / "model.safetensors").write_bytes(b"damaged")
    for path in (run.path, run.path / "model"):
        for name in ("pears", "bytes:gone", "legal:chesss", "mmlu", "lm_eval"):
            assert cli.main(["eval", str(path), "--suite", "pairs", name]) == 2
            shown = capsys.readouterr()
            assert shown.out == "" and "safetensors" not in shown.err
    export_model(run.path / "model", model, TOKENIZER)
    for words in (["legal"], ["pairs", "--against", "gone"], ["pairs", "--shots", "9999"]):
        assert cli.main(["eval", str(run.path), "--suite", *words]) == 2
        assert capsys.readouterr().out == ""
    assert cli.main(["eval", str(run.path), "--suite", "pairs", "--episodes", "9"]) == 0
    assert capsys.readouterr().out.startswith(f"{run.path}, the model that it has left\n")


@pytest.mark.parametrize("kind", ["tic_tac_toe", "unsaved"])
def test_a_rival_that_writes_no_text_is_named_by_its_kind(model, tmp_path, capsys, kind):
    export_model(tmp_path / "model", model, TOKENIZER)
    rival = Path(__file__).parents[3] / "fixtures" / "runs" / kind
    if kind == "unsaved":  # a run of PPO that has saved nothing yet
        rival = RunDir.create(tmp_path / "run", kind="ppo", config={}, seed=0).path
    words = ["--suite", "pairs", "--against", str(rival), "--episodes", "5"]
    assert cli.main(["eval", str(tmp_path / "model"), *words]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    kind = RunDir.open(rival).kind
    assert said == f"error: {rival} is a run of kind {kind}, which does not write text"


def test_a_chat_answer_is_no_program(model):
    item = Program("def f():\n", "    return 1\n", "assert f() == 1")
    with pytest.raises(ConfigError, match="ask it without --chat"):
        answers_of(model, TOKENIZER, Suite(name="p", items=(item,)), Asking(chat=True))


def test_a_model_of_nan_is_one_line_of_the_command(tmp_path, capsys):
    broken = small_model(TOKENIZER, length=96)
    broken.norm.data[0] = math.nan
    export_model(tmp_path / "model", broken, TOKENIZER)
    assert cli.main(["eval", str(tmp_path / "model"), "--suite", "pairs", "--episodes", "9"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("error: ") and "weights have diverged" in said[-1]
