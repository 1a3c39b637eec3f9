"""Rows to learn from: conversations as they are read and written, pairs, lengths, spaces."""

from pathlib import Path

import pytest
import torch
from playout.errors import ConfigError, DataError
from playout.rlhf.data.conversations import join_texts
from playout.rlhf.data.encoding import (
    as_turns,
    encode_answer,
    encode_demonstrations,
    encode_pairs,
    encode_turns,
    fit_pairs,
    fit_rows,
    row_length,
)
from playout.rlhf.data.records import (
    Demonstration,
    Preference,
    read_demonstrations,
    read_preferences,
)
from playout.rlhf.generation.chat.template import ChatTemplate
from playout.rlhf.generation.conversation import conversation_format
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.supervised import text_scores
from playout.rlhf.supervised.sft import SFTConfig, SFTTrainer
from playout.rlhf.supervised.text_scores import encode_texts
from playout.rlhf.supervised.trainer import LearnConfig
from small_language import TURNS, chat_tokenizer, say

TALK = [say("user", "cat?"), say("assistant", "sat"), say("user", "the?"), say("assistant", "yes")]


def spans(ids, learned):
    """The runs of learned ids."""
    found, now = [], []
    for token, own in [*zip(ids, learned, strict=True), (0, False)]:
        if own:
            now.append(token)
        elif now:
            found.append(now)
            now = []
    return found


@pytest.mark.parametrize("style", TURNS)
def test_a_learned_conversation_is_the_one_that_is_held(style):
    """Token for token what prompt, answer, reply and answer are when the policy speaks."""
    tokenizer = chat_tokenizer(style)
    talk = conversation_format(tokenizer)
    ((ids, learned),) = encode_turns(talk, TALK)
    first, second = spans(ids, learned)
    held = [*talk.begin(TALK[:1]), *first, *talk.between("the?", ended=True), *second]
    assert ids == held
    assert [talk.answer(span).strip() for span in (first, second)] == ["sat", "yes"]
    assert first[-1] == second[-1] == talk.stop_ids[-1]
    assert second == encode_answer(talk, TALK[:3], "yes")
    whole = tokenizer.encode_special(talk.render(TALK))
    assert whole[: len(ids)] == ids and not tokenizer.decode(whole[len(ids) :]).strip()


def test_only_answers_after_the_prompt_are_learned_and_each_after_the_template_s_own_text():
    talk = conversation_format(chat_tokenizer("chatml"))
    ((ids, learned),) = encode_turns(talk, TALK, start=3)
    assert [talk.answer(span) for span in spans(ids, learned)] == ["yes"]
    twice = [TALK[0], say("assistant", "a"), say("assistant", "b")]
    ((ids, learned),) = encode_turns(talk, twice)
    assert [talk.answer(span) for span in spans(ids, learned)] == ["a", "b"]
    assert ids == talk.tokenizer.encode_special(talk.render(twice).rstrip())


def test_a_template_that_rewrites_earlier_turns_gives_a_row_a_turn():
    """As templates of thinking models do, which leave earlier thoughts out."""
    source = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{{ m.content.split('</think>')[-1] if not loop.last else m.content }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer = chat_tokenizer("chatml")
    own = Tokenizer(tokenizer.inner, end="<|im_end|>", template=ChatTemplate(source))
    talk = conversation_format(own)
    thought = say("assistant", "<think>sat</think>yes")
    rows = encode_turns(talk, [TALK[0], thought, TALK[2], thought])
    assert len(rows) == 2
    for (ids, learned), before in zip(rows, ([TALK[0]], [TALK[0], thought, TALK[2]]), strict=True):
        (answer,) = spans(ids, learned)
        assert ids == [*talk.begin(before), *answer]
        assert talk.answer(answer) == "<think>sat</think>yes"


def test_a_template_without_an_end_gets_the_end_of_the_text():
    source = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    source += "{% if add_generation_prompt %}assistant: {% endif %}"
    own = chat_tokenizer("chatml")
    tokenizer = Tokenizer(own.inner, template=ChatTemplate(source))
    ((ids, learned),) = encode_turns(conversation_format(tokenizer), TALK[:2])
    (answer,) = spans(ids, learned)
    assert answer == [*tokenizer.encode("sat"), tokenizer.end_id]


def test_plain_demonstrations_begin_and_end_as_documents_do():
    tokenizer = Tokenizer.train(["the cat sat"] * 9, vocab_size=270)
    talk = conversation_format(tokenizer)
    items = [Demonstration("the cat", " sat"), Demonstration("", "the")]
    end, e = tokenizer.end_id, tokenizer.encode
    assert encode_demonstrations(talk, items) == [
        ([end, *e("the cat"), *e(" sat"), end], 1 + len(e("the cat"))),
        ([end, *e("the"), end], 1),
    ]
    with pytest.raises(ConfigError, match="no chat template"):
        encode_demonstrations(talk, [Demonstration(tuple(TALK[:1]), "sat")])


def test_turns_of_plain_texts_are_the_tokens_that_an_episode_reads_and_writes():
    tokenizer = Tokenizer.train(["the cat sat on the mat"] * 9, vocab_size=270)
    talk = conversation_format(tokenizer)
    texts = ["the cat", " sat", "the mat", " on", "cat", " the", "left out"]
    rows = [{"turns": texts, "learned_from": 2}, {"turns": texts[:2]}]
    long, short = read_demonstrations(rows)
    assert short == Demonstration("the cat", " sat", 0) and len(long.turns) == 4
    (ids, learned), _ = encode_demonstrations(talk, [long, short])
    expected, written = [], []
    for number, text in enumerate(texts[:6]):
        if number == 0:
            part = talk.begin(text)
        elif number % 2:
            part = [*tokenizer.encode(text, continues=True), tokenizer.end_id]
        else:
            part = talk.between(text, ended=True)
        expected += part
        written += [number in (3, 5)] * len(part)
    assert ids == expected and learned == written
    (chat,) = as_turns([long])
    assert [m["content"] for m in chat.prompt] == ["the cat", "sat", "the mat", "on", "cat"]
    assert chat.response == "the" and chat.learned_from == 2 and not chat.turns


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ({"turns": "x"}, "list of texts"),
        ({"turns": ["x"]}, "an answer at least"),
        ({"turns": ["x", " "]}, "none empty"),
        ({"turns": ["x", "y"], "learned_from": 2}, "learned_from"),
        ({"turns": ["x", 4]}, "list of texts"),
    ],
)
def test_turns_that_are_none_are_named(row, word):
    with pytest.raises(DataError, match=word):
        read_demonstrations([row])


@pytest.mark.parametrize("style", TURNS)
def test_only_the_assistants_tokens_are_learned(style):
    """The loss is that of the answers, token by token, with everything before them read."""
    tokenizer = chat_tokenizer(style)
    config = TransformerConfig(
        tokenizer.vocab_size, 32, 64, 2, 2, 1, max_position_embeddings=160, tie_word_embeddings=True
    )
    item = Demonstration(tuple(TALK[:3]), "yes", learned_from=0)
    trainer = SFTTrainer(
        Transformer(config),
        tokenizer,
        ([item], [item]),
        SFTConfig(batch=1, length=160, learn=LearnConfig(dtype="float32")),
        seed=0,
    )
    ((ids, learned),) = trainer.texts
    (packed,) = trainer._packs(trainer.texts)
    loss, count = trainer._loss(packed)
    assert count == sum(learned) == sum(map(len, spans(ids, learned)))
    row = torch.tensor([ids])
    log_p = trainer.model.logits(trainer.model(row[:, :-1])).log_softmax(-1)[0]
    nats = [-log_p[place - 1, ids[place]] for place in range(len(ids)) if learned[place]]
    torch.testing.assert_close(loss, torch.stack(nats).mean())


def test_rows_of_messages_prompts_and_completions_are_read_in_every_spelling():
    conversation = {"messages": TALK}
    shared = {
        "conversations": [{"from": "human", "value": "cat?"}, {"from": "gpt", "value": "sat"}]
    }
    parts = {"prompt": TALK[:1], "completion": TALK[1:2]}
    mixed = {"prompt": TALK[:1], "response": "sat"}
    asked = {"prompt": "cat?", "completion": TALK[1:2]}
    rows = [conversation, shared, parts, mixed, asked, {"messages": [*TALK, say("user", "bye")]}]
    whole, *short, trailing = read_demonstrations(rows)
    assert whole == trailing == Demonstration(tuple(TALK[:3]), "yes", 0)
    first = Demonstration(tuple(TALK[:1]), "sat", 1)
    assert short == [Demonstration(tuple(TALK[:1]), "sat", 0), first, first, first]
    plain = {"instruction": "Sit.", "input": "cat", "output": "sat"}
    assert read_demonstrations([plain]) == [Demonstration("Sit.\n\ncat", "sat")]


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"messages": TALK[:1]}, "no message is the assistant's"),
        ({"messages": TALK[1:2]}, "nothing stands before the assistant's message"),
        ({"messages": []}, "messages: the conversation has no messages"),
        ({"messages": "hello"}, "messages: a conversation is a list"),
        ({"messages": [*TALK[:1], say("assistant", " ")]}, "last message is empty"),
        ({"messages": [*TALK[:1], say("robot", "x")]}, "message 2 has the role 'robot'"),
        ({"prompt": TALK[:1]}, "there is no field 'response'"),
        ({"prompt": 3, "response": "x"}, "prompt: a conversation is a list"),
        ({"prompt": TALK[:1], "completion": TALK[:1]}, "no message is the assistant's"),
    ],
)
def test_conversations_from_which_nothing_can_be_learned_are_named(row, match):
    with pytest.raises(DataError, match=f"row 1: .*{match}|row 1: {match}"):
        read_demonstrations([row])


def test_preferences_between_conversations_are_read_with_the_prompt_that_they_share():
    chosen, rejected = [*TALK[:3], say("assistant", "yes")], [*TALK[:3], say("assistant", "no")]
    rows = [
        {"chosen": chosen, "rejected": rejected},
        {"prompt": TALK[:3], "chosen": chosen[3:], "rejected": rejected[3:]},
        {"prompt": TALK[:3], "chosen": "yes", "rejected": "no"},
    ]
    for row in rows:
        assert read_preferences([row]) == [Preference(tuple(TALK[:3]), "yes", "no")]
    (merged,) = read_preferences([{"prompt": TALK[:1], "left": "a", "right": "b", "winner": w}
                                  for w in ("left", "right", "tie")])  # fmt: skip
    assert (merged.wins, merged.losses, merged.ties) == (1.0, 1.0, 1.0)
    with pytest.raises(DataError, match="row 2 contradicts"):
        read_preferences([rows[0], {"prompt": TALK[:3], "chosen": "no", "rejected": "yes"}])
    with pytest.raises(DataError, match="chosen should add one message"):
        read_preferences([{"prompt": TALK[:1], "chosen": TALK[1:], "rejected": TALK[1:2]}])


def test_pairs_and_scored_texts_of_a_chat_model_go_through_its_template():
    tokenizer = chat_tokenizer("headers")
    talk = conversation_format(tokenizer)
    (pair,) = as_turns([Preference("cat?", " sat", "yes ")])
    assert pair == Preference((TALK[0],), "sat", "yes")
    (((first, start), (second, _)),) = encode_pairs(talk, [pair])
    begun = talk.begin(TALK[:1])
    assert start == len(begun) and first[:start] == second[:start] == begun
    assert first[start:] == encode_answer(talk, TALK[:1], "sat")
    assert encode_texts(tokenizer, [TALK[:2]], 0) == [first]
    plain, turns = encode_texts(tokenizer, ["cat", TALK[:2]], 8)
    assert plain == [tokenizer.end_id, *tokenizer.encode("cat"), tokenizer.end_id]
    assert turns == [*first[:7], first[-1]]
    assert encode_texts(tokenizer, [TALK[:2]], 8, truncate="left")[0] == [first[0], *first[-7:]]


def test_a_template_is_prepared_once_for_all_texts_that_are_scored(monkeypatch):
    made = []
    monkeypatch.setattr(
        text_scores, "conversation_format", lambda of: made.append(of) or conversation_format(of)
    )
    tokenizer = chat_tokenizer("chatml")
    encode_texts(tokenizer, ["cat"], 8)
    assert not made
    encode_texts(tokenizer, [TALK[:2], "cat", TALK[:2], TALK[:2]], 8)
    assert len(made) == 1


def test_long_rows_are_cut_left_out_or_refused_and_counted(capsys):
    rows = [(list(range(9)), 2), (list(range(4)), 1), (list(range(20, 29)), [False] * 8 + [True])]
    right = fit_rows(rows, 6, "right", what="rows")
    assert right == rows[:2]  # whole: packing cuts them; nothing of the third would be learned
    assert capsys.readouterr().err == (
        "2 of 3 rows are longer than 6 tokens (the longest has 9): their ends are cut "
        "(--truncate)\n1 of these rows have no room for an answer and are left out\n"
    )
    left = fit_rows(rows, 6, "left", what="rows")
    assert left == [
        ([0, 4, 5, 6, 7, 8], 1),
        rows[1],
        ([20, 24, 25, 26, 27, 28], [False] * 5 + [True]),
    ]
    assert fit_rows(rows, 6, "drop", what="rows") == [rows[1]]
    with pytest.raises(DataError, match=r"2 of 3 rows .*: the first is number 1, with 9"):
        fit_rows(rows, 6, "error", what="rows")
    with pytest.raises(DataError, match="rows has room for an answer in 2 tokens"):
        fit_rows([([1, 2, 3], 2)], 2, "right", what="rows")


def test_long_pairs_lose_the_same_of_their_prompt(capsys):
    prompt = list(range(10, 16))
    pair = (([*prompt, 1, 2], 6), ([*prompt, 3, 4, 5], 6))
    short = (([9, 1], 1), ([9, 2], 1))
    ((left, kept),) = [fit_pairs([pair, short], 7, "left")]
    assert left == (([10, 13, 14, 15, 1, 2], 4), ([10, 13, 14, 15, 3, 4, 5], 4)) and kept == short
    assert fit_pairs([pair], 7, "right") == [(([*prompt, 1], 6), ([*prompt, 3], 6))]
    assert fit_pairs([pair, short], 7, "drop") == [None, short]
    assert fit_pairs([pair, short], 6, "right") == [None, short]  # no room for an answer
    said = capsys.readouterr().err
    assert "1 of 1 pairs are longer than 7 tokens" in said
    lost = "1 of these pairs have no room for answers that differ and are left out"
    assert said.count(lost) == 1 and said.rstrip().endswith(lost)  # what is dropped is said to be
    alike = (([*prompt, 1, 2, 3], 6), ([*prompt, 1, 2, 4], 6))
    assert fit_pairs([alike, short], 8, "right") == [None, short]
    assert lost in capsys.readouterr().err
    with pytest.raises(DataError, match="give --max-length"):
        fit_pairs([pair], 7, "error")


def test_rows_are_as_long_as_own_data_need_and_no_longer_than_asked():
    assert row_length(0, 128, 2048, 500, own=False) == 128
    assert row_length(0, 128, 2048, 500, own=True) == 500
    assert row_length(0, 128, 2048, 50, own=True) == 128
    assert row_length(0, 128, 8192, 5000, own=True) == 1024
    assert row_length(0, 128, 256, 5000, own=True) == 256
    assert row_length(3000, 128, 2048, 50, own=True) == 2048


@pytest.mark.parametrize(
    ("prompt", "answer", "joined"),
    [
        ("the plot", "never rests", "the plot never rests"),
        ("the plot", " never rests", "the plot never rests"),
        ("the plot ", "never", "the plot never"),
        ("Is it?", "Yes", "Is it? Yes"),
        ("Answer:", "4", "Answer: 4"),
        ("2+2=", "4", "2+2=4"),
        ("the plot", ", they say", "the plot, they say"),
        ("line\n", "next", "line\nnext"),
        ("我", "们", "我们"),
        ("", "a", "a"),
    ],
)
def test_an_answer_is_set_off_by_a_space_only_where_words_would_run_together(
    prompt, answer, joined
):
    assert prompt + join_texts(prompt, answer) == joined


def test_spaces_that_were_put_in_are_told_and_votes_stay_as_they_are():
    rows, told = [{"prompt": "the plot", "response": word} for word in ("rests", " rests")], []
    found = read_demonstrations(rows, join=True, tell=told.append)
    assert [d.response for d in found] == [" rests", " rests"]
    (said,) = told
    assert "in 1 of 2 rows a space was put" in said
    assert [d.response for d in read_demonstrations(rows)] == ["rests", " rests"]
    pair = {"prompt": "it", "chosen": "is", "rejected": " was"}
    assert read_preferences([pair], join=True) == [Preference("it", " is", " was")]
    vote = {"prompt": "it", "left": "is", "right": "was", "winner": "left"}
    assert read_preferences([vote], join=True) == [Preference("it", "is", "was")]


@pytest.mark.peer
def test_transformers_masks_the_same_tokens(tmp_path):
    transformers = pytest.importorskip("transformers")
    trl = pytest.importorskip("trl")
    tokenizer, count = chat_tokenizer("chatml"), 0
    for path in sorted((Path(trl.__file__).parent / "chat_templates").glob("*_training.jinja")):
        source = path.read_text(encoding="utf-8")
        if "<|im_end|>" not in source or "nemotron" in path.name:
            continue  # ends turns with tokens that this vocabulary lacks, or rewrites earlier turns
        own = Tokenizer(tokenizer.inner, end="<|im_end|>", bos="<|im_start|>", writes_bos=False,
                        template=ChatTemplate(source))  # fmt: skip
        own.save(tmp_path / path.stem)
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / path.stem)
        try:
            talk = conversation_format(own)
            wanted = theirs.apply_chat_template(
                TALK, return_assistant_tokens_mask=True, return_dict=True
            )
            ((ids, learned),) = encode_turns(talk, TALK)
        except (DataError, ValueError):
            continue
        masked = [bool(m) for m in wanted["assistant_masks"]]
        assert wanted["input_ids"][: len(ids)] == ids, path.name
        # They also mark what the template itself writes around an answer: the line break behind its
        # end, the beginning of a thought. The policy writes neither.
        assert not [n for n, own in enumerate(learned) if own and not masked[n]], path.name
        answers = [talk.answer(span) for span in spans(ids, learned)]
        assert [answer.rpartition("\n")[2] for answer in answers] == ["sat", "yes"]
        count += 1
    assert count >= 6
