"""Chat models: fine-tuned, judged and improved on conversations, in the form of their answers."""

import json
from copy import copy

import playout
import pytest
import torch
from playout.agents.runs.directory import RunDir
from playout.cli import main
from playout.errors import PlayoutError
from playout.rlhf.data.encoding import encode_answer
from playout.rlhf.generation.chat.template import ChatTemplate
from playout.rlhf.generation.conversation import conversation_format
from playout.rlhf.generation.generate import generate
from playout.rlhf.generation.sampling import SamplingConfig
from playout.rlhf.model.folder import export_model, load_model
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.supervised.sft import SFTTrainer
from small_language import as_before, chat_tokenizer, say

COMMON = {"dtype": "float32", "quiet": True, "size": "tiny"}
WORDS = ("cat", "sat", "the", "user")
TWO = WORDS[:2]


def talk_about(word):
    first, last = WORDS[WORDS.index(word) - 1], WORDS[WORDS.index(word) - 2]
    return [say("user", word), say("assistant", first), say("user", "and?"), say("assistant", last)]


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    """The folder of an untrained chat model."""
    folder = tmp_path_factory.mktemp("chat") / "model"
    tokenizer = chat_tokenizer("chatml")
    shape = TransformerConfig(
        tokenizer.vocab_size, 64, 128, 2, 4, 2, max_position_embeddings=96,
        pad_token_id=tokenizer.pad_id, eos_token_id=tokenizer.end_id,
    )  # fmt: skip
    export_model(folder, Transformer(shape, seed=1), tokenizer)
    return folder


def greedy(run, prompts, count=12):
    """The likeliest answer to each conversation, and whether it ended by itself."""
    model, tokenizer = load_model(run)
    talk = conversation_format(tokenizer)
    out = generate(
        model,
        [talk.begin(prompt) for prompt in prompts],
        max_new_tokens=count,
        stop=talk.stop_ids,
        pad=tokenizer.pad_id,
        sampling=SamplingConfig(temperature=0.0),
        seed=0,
        dtype=torch.float32,
    )
    return [talk.answer(out.response(row)) for row in range(len(prompts))], out.finished.tolist()


def test_both_turns_of_a_conversation_are_learned_and_end_by_themselves(chat, tmp_path):
    file = tmp_path / "talk.jsonl"
    file.write_text("".join(json.dumps({"messages": talk_about(w)}) + "\n" for w in TWO))
    words = ["--data", str(file), "--steps", "60", "--batch", "2", "--learning-rate", "5e-3"]
    words += ["--size", "tiny", "--dtype", "float32", "--quiet", "--run", str(tmp_path / "run")]
    assert main(["rlhf", "sft", "--base", str(chat), *words]) == 0
    prompts = [talk_about(w)[:n] for w in TWO for n in (1, 3)]
    wanted = [talk_about(w)[n]["content"] for w in TWO for n in (1, 3)]
    assert greedy(tmp_path / "run", prompts) == (wanted, [True] * len(wanted))
    shown = json.loads(next((tmp_path / "run" / "samples").iterdir()).read_text())
    assert shown[0]["prompt"].endswith("and?")


# As Qwen3's: only the last answer holds a thought, so that every answer is a row of its own.
REWRITES = (
    "{%- for m in messages -%}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}sat {% endif %}{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\nsat {% endif %}"
)


def test_passes_are_over_the_rows_that_a_template_makes_of_conversations(tmp_path, monkeypatch):
    tokenizer = copy(chat_tokenizer("chatml"))  # which others share
    tokenizer.template = ChatTemplate(REWRITES)
    shape = TransformerConfig(tokenizer.vocab_size, 32, 64, 1, 2, 2, max_position_embeddings=96)
    export_model(tmp_path / "model", Transformer(shape, seed=1), tokenizer)
    rows = [{"messages": talk_about(WORDS[n % 4])} for n in range(12)]
    update = SFTTrainer.update

    def stopping(self):
        if self.learner.steps == 1:
            raise KeyboardInterrupt
        return update(self)

    def steps(run):
        return len((tmp_path / run / "metrics.jsonl").read_text().splitlines())

    def begin(run):
        playout.sft(tmp_path / "model", rows, epochs=2, batch=6, run=tmp_path / run, **COMMON)

    begin("new")
    assert steps("new") == 2 * 24 / 6
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(SFTTrainer, "update", stopping)
        begin("old")
    # Earlier versions counted conversations, and what they began goes on to the same end.
    as_before(RunDir.open(tmp_path / "old"), "epochs_of")
    playout.resume(tmp_path / "old", quiet=True)
    assert steps("old") == 2 * 12 / 6


@pytest.mark.slow
def test_plain_rows_teach_a_chat_model_its_turns_unless_they_are_to_stay_plain(chat, tmp_path):
    rows = [{"prompt": word, "response": f" {word} sat"} for word in TWO]
    few = {"steps": 60, "batch": 2, "learning_rate": 5e-3, **COMMON}
    turns = playout.sft(chat, rows, run=tmp_path / "turns", **few)
    answers, ended = greedy(turns, [[say("user", word)] for word in TWO])
    assert answers == [f"{word} sat" for word in TWO] and all(ended)
    plain = playout.sft(chat, rows, run=tmp_path / "plain", plain=True, **few)
    answers, ended = greedy(plain, list(TWO))
    assert answers == [f" {word} sat" for word in TWO] and all(ended)


@pytest.mark.parametrize("stage", ["grpo", "dpo"])
def test_plain_prompts_are_a_users_messages_in_stages_that_sample_unless_they_stay_plain(
    chat, tmp_path, stage
):
    """The policy is asked as `sft` has taught it and as `chat` asks it."""
    few = {"max_new_tokens": 4, **COMMON}
    few |= {"updates": 1, "batch": 4, "group": 2} if stage == "grpo" else {"steps": 1, "batch": 2}
    seen = []

    def reward(texts):
        seen.extend(texts)
        return [float(len(text)) + len(text) % 3 for text in texts]

    for plain in (False, True):
        name = "plain_text" if stage == "grpo" else "plain"
        given = {"reward_fn": reward, name: plain, **few}
        if stage == "dpo":
            file = tmp_path / "prompts.txt"
            file.write_text("\n".join(WORDS))
            given |= {"prompts": str(file), "samples": 3}
        else:
            given["prompts"] = [*WORDS]
        seen.clear()
        if stage == "grpo":
            run = playout.grpo(chat, run=tmp_path / str(plain), **given)
            assert run.config["asked"] == ("text" if plain else "user")
        else:  # this model does not end its answers, so that none can be ranked
            with pytest.raises(PlayoutError, match="nothing to rank"):
                playout.dpo(chat, run=tmp_path / str(plain), **given)
        # The texts of a conversation stand a line each.
        lines = [any(text.startswith(f"{word}\n") for word in WORDS) for text in seen]
        assert lines and (all(lines) if not plain else not all(lines))


def test_the_best_of_some_answers_to_a_user_is_found_with_the_data_of_the_row(
    chat, tmp_path, monkeypatch
):
    (tmp_path / "counts_letters.py").write_text(
        "def most(prompts, answers, letter):\n"
        "    assert all(prompt[-1]['role'] == 'user' for prompt in prompts)\n"
        "    return [answer.count(a) for answer, a in zip(answers, letter)]\n"
    )
    (tmp_path / "asked.jsonl").write_text(
        "".join(json.dumps({"prompt": word, "letter": word[0]}) + "\n" for word in WORDS)
    )
    monkeypatch.chdir(tmp_path)
    words = ["--base", str(chat), "--prompts", "asked.jsonl", "--reward", "counts_letters:most"]
    words += ["--sizes", "1", "4", "--max-new-tokens", "6", "--size", "tiny", "--run", "run"]
    assert main(["rlhf", "best-of-n", *words]) == 0
    one, four = json.loads((tmp_path / "run" / "table.json").read_text())
    assert four["reward"] >= one["reward"] and (one["n"], four["n"]) == (1, 4)


@pytest.mark.slow
def test_a_reward_model_and_dpo_learn_from_conversations(chat, tmp_path):
    pairs = [
        {"chosen": [say("user", f"{a} {b}"), say("assistant", "sat")],
         "rejected": [say("user", f"{a} {b}"), say("assistant", "cat")]}
        for a in WORDS for b in (*WORDS, "a", "b", "c")
    ]  # fmt: skip
    few = {"steps": 30, "batch": 8, "learning_rate": 3e-3, **COMMON}
    reward = playout.load(playout.reward(chat, pairs, run=tmp_path / "reward", **few))
    good, bad = reward.act([pairs[0]["chosen"], pairs[0]["rejected"]])
    assert good > bad
    # Of an episode its messages are read, and not the plain text that they come to.
    episode = type("Episode", (), {"messages": pairs[0]["chosen"]})()
    assert reward.reward(["whatever"], episodes=[episode]) == pytest.approx([good], rel=1e-5)
    dpo = playout.dpo(chat, pairs, run=tmp_path / "dpo", **few)
    asked = [say("user", "cat the")]
    tokenizer = load_model(dpo)[1]
    talk = conversation_format(tokenizer)
    leads = []
    for folder in (chat, dpo):
        model = load_model(folder)[0]
        sums = []
        for answer in ("sat", "cat"):
            begun, ids = talk.begin(asked), encode_answer(talk, asked, answer)
            row = torch.tensor([[*begun, *ids]])
            log_p = model.logits(model(row[:, :-1])).log_softmax(-1)[0, len(begun) - 1 :]
            sums.append(float(log_p.detach().gather(1, torch.tensor(ids)[:, None]).sum()))
        leads.append(sums[0] - sums[1])
    assert leads[1] > leads[0] + 1.0


def test_messages_for_a_model_without_a_template_are_refused_in_one_line(tmp_path, capsys):
    from pathlib import Path

    base = Path(__file__).parents[2] / "fixtures" / "runs" / "pretrain"
    file = tmp_path / "talk.jsonl"
    file.write_text("".join(json.dumps({"messages": talk_about(w)}) + "\n" for w in WORDS * 8))
    words = ["--base", str(base), "--run", str(tmp_path / "run"), "--quiet"]
    assert main(["rlhf", "sft", "--data", str(file), *words]) == 2
    assert "the model has no chat template" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("how", ["right", "left", "drop", "error"])
@pytest.mark.parametrize("stage", ["sft", "dpo", "reward"])
def test_texts_longer_than_the_model_reads_are_treated_alike_in_all_stages(
    stage, how, chat, tmp_path, capsys
):
    rows = [
        {"prompt": f"the {'cat ' * (70 if n == 3 else n)}", "response": "sat"} for n in range(1, 25)
    ]
    if stage != "sft":
        rows = [{"prompt": r["prompt"], "chosen": "sat", "rejected": "the"} for r in rows]
    words = {"steps": 1, "batch": 4, "truncate": how, **COMMON}
    train = getattr(playout, stage)
    if how == "error":
        with pytest.raises(PlayoutError, match="are longer than 96 tokens"):
            train(chat, rows, run=tmp_path / "run", **words)
        assert not (tmp_path / "run").exists()
        return
    train(chat, rows, run=tmp_path / "run", **words)
    said = capsys.readouterr().err
    assert "are longer than 96 tokens (the longest has" in said and "(--truncate)" in said
