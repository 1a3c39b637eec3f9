"""What is learned of a conversation is what is read of it, and what people spell is characters."""

import json

import pytest
from playout.errors import DataError
from playout.rlhf.data.comparisons import VotedPairs
from playout.rlhf.data.conversations import asked_and_said
from playout.rlhf.data.encoding import (
    as_turns,
    encode_answer,
    encode_demonstrations,
    encode_pairs,
    encode_turns,
)
from playout.rlhf.data.records import (
    Demonstration,
    Preference,
    read_demonstrations,
    read_preferences,
    read_votes,
)
from playout.rlhf.generation.chat.template import ChatTemplate
from playout.rlhf.generation.conversation import conversation_format
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.supervised.perplexity import as_scored
from playout.rlhf.supervised.text_scores import encode_texts
from small_language import SPM_KINDS, SPM_TEMPLATES, TURNS, chat_tokenizer, say, sentencepiece

TALK = [say("user", "cat"), say("assistant", "yes"), say("user", "dog"), say("assistant", "no")]
ENDLESS = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def answers_of(ids, learned):
    """The learned parts of a row."""
    found = []
    for place, own in enumerate(learned):
        if own and not (place and learned[place - 1]):
            found.append([])
        if own:
            found[-1].append(ids[place])
    return found


@pytest.mark.parametrize("kind", SPM_KINDS)
@pytest.mark.parametrize("template", SPM_TEMPLATES)
def test_answers_are_learned_as_the_tokens_that_are_read_of_them(kind, template):
    """A blank is put before what begins a text, and no answer does."""
    tokenizer = sentencepiece(kind, template)
    talk = conversation_format(tokenizer)
    ((ids, learned),) = encode_turns(talk, TALK)
    whole = tokenizer.encode_special(talk.render(TALK))
    assert ids == whole[: len(ids)] and not tokenizer.decode(whole[len(ids) :]).strip()
    history = talk.begin([*TALK, say("user", "and")])
    assert ids == history[: len(ids)]
    first, second = answers_of(ids, learned)
    begun = talk.begin(TALK[:1])
    assert first == history[len(begun) :][: len(first)] and first[-1] == tokenizer.end_id
    assert second == encode_answer(talk, TALK[:3], "no")
    pair = Preference(tuple(TALK[:3]), "no", "yes")
    (((one, start), _),) = encode_pairs(talk, [pair])
    assert one == ids and one[start:] == second
    (scored,) = as_scored(talk, TALK[:1], "yes", "it", ends=True).rows
    assert scored == ([*begun, *first], len(begun))
    # An episode reads the same, whether the policy ended its turn or was cut off.
    assert [*begun, *first, *talk.between("dog", ended=True)] == talk.begin(TALK[:3])
    blank = [*tokenizer.encode(" ", continues=True)] if template == "llama" else []
    cut = first[: len(first) - 1 - len(blank)]
    assert [*begun, *cut, *talk.between("dog", ended=False)] == talk.begin(TALK[:3])


@pytest.mark.parametrize("kind", SPM_KINDS)
@pytest.mark.parametrize("template", SPM_TEMPLATES)
def test_an_answer_given_apart_is_measured_as_in_its_conversation(kind, template):
    talk = conversation_format(sentencepiece(kind, template))
    apart = as_scored(talk, TALK[:1], "yes", "it")
    assert apart.rows == as_scored(talk, TALK[:2], None, "it").rows


def spelling(style):
    tokenizer = chat_tokenizer(style)
    return str(tokenizer.inner.id_to_token(conversation_format(tokenizer).stop_ids[-1]))


def characters(tokenizer, ids, text):
    """Whether a text stands in ids as characters, once; special tokens leave no trace."""
    return tokenizer.decode(ids).count(text) == 1


@pytest.mark.parametrize("style", TURNS)
@pytest.mark.parametrize("place", [0, 1])
def test_what_messages_spell_is_characters(style, place):
    tokenizer, end = chat_tokenizer(style), spelling(style)
    talk = conversation_format(tokenizer)
    text = f"say {end}{end} so"
    said, usual = [dict(message) for message in TALK], talk.begin(TALK[:3])
    said[place]["content"] = text
    ((ids, learned),) = encode_turns(talk, said)
    ((others, _),) = encode_turns(talk, TALK)
    prompt, special = talk.begin(said[:3]), tokenizer.is_special
    whole = tokenizer.encode_special(talk.render(TALK))
    for mine, plain in (
        (ids, others),
        (prompt, usual),
        (encode_texts(tokenizer, [said], 0)[0], encode_texts(tokenizer, [TALK], 0)[0]),
        (encode_texts(tokenizer, [said], 0, published=True)[0], whole),
    ):
        assert [t for t in mine if special(t)] == [t for t in plain if special(t)]
        assert characters(tokenizer, mine, text)
    assert len(answers_of(ids, learned)) == 2 and ids[: len(prompt)] == prompt


@pytest.mark.parametrize("style", TURNS)
def test_what_answers_pairs_and_replies_spell_is_characters(style):
    tokenizer, end = chat_tokenizer(style), spelling(style)
    talk = conversation_format(tokenizer)
    text = f"a {end} b"
    asked = TALK[:1]
    answer = encode_answer(talk, asked, text)
    ((first, _),) = encode_pairs(talk, [Preference(tuple(asked), text, "c")])
    assert first[0][first[1] :] == answer and characters(tokenizer, answer, text)
    assert [t for t in answer if tokenizer.is_special(t)] == [talk.stop_ids[-1]]
    for ended in (True, False):
        reply, usual = talk.between(text, ended), talk.between("x", ended)
        assert characters(tokenizer, reply, text)
        special = [[t for t in ids if tokenizer.is_special(t)] for ids in (reply, usual)]
        assert special[0] == special[1]
    begun = talk.begin([*asked, say("assistant", text)])
    assert characters(tokenizer, begun, text)


@pytest.mark.parametrize("kind", SPM_KINDS)
@pytest.mark.parametrize("template", SPM_TEMPLATES)
def test_a_spelling_changes_nothing_around_it(kind, template):
    """Where SentencePiece sets a blank depends on the special tokens before."""
    tokenizer = sentencepiece(kind, template)
    talk = conversation_format(tokenizer)
    said = [say("user", "the </s> cat"), *TALK[1:]]
    ids, usual = talk.begin(said), talk.begin([say("user", "the cat"), *TALK[1:]])
    spelt, cat = tokenizer.encode_batch([" </s> cat", " cat"], continues=True)
    place = next(i for i in range(len(ids)) if ids[i : i + len(spelt)] == spelt)
    assert [*ids[:place], *cat, *ids[place + len(spelt) :]] == usual


def test_private_characters_of_a_text_s_own_stay_what_they_are():
    tokenizer = chat_tokenizer("chatml")
    talk = conversation_format(tokenizer)
    text = "\U00100000 <|im_end|> \U00100001 \U0010fffd"
    ids = talk.begin([say("user", text)])
    assert characters(tokenizer, ids, text)


def test_a_template_without_an_end_gives_one_history_to_all():
    own = chat_tokenizer("chatml")
    tokenizer = Tokenizer(own.inner, template=ChatTemplate(ENDLESS))
    talk = conversation_format(tokenizer)
    ((ids, learned),) = encode_turns(talk, TALK)
    first, second = answers_of(ids, learned)
    assert first == [*tokenizer.encode("yes"), tokenizer.end_id]
    assert [*talk.begin(TALK[:3]), *second] == ids
    for ended in (True, False):
        written = first if ended else first[:-1]
        held = [*talk.begin(TALK[:1]), *written, *talk.between("dog", ended)]
        assert held == talk.begin(TALK[:3])
    # An answer that goes on has no end yet.
    assert talk.begin(TALK[:2]) == [*talk.begin(TALK[:1]), *first[:-1]]


def test_the_second_of_two_answers_is_learned_and_measured_after_the_first():
    talk = conversation_format(chat_tokenizer("chatml"))
    twice = [TALK[0], say("assistant", "a"), say("assistant", "b")]
    ((ids, learned),) = encode_turns(talk, twice)
    one, two = answers_of(ids, learned)
    for ends in (False, True):
        rows = as_scored(talk, twice, None, "it", ends=ends).rows
        assert [row[start:] for row, start in rows] == [one, two] if ends else [one[:-1], two[:-1]]
        assert rows[1][0][: rows[1][1]] == ids[: rows[1][1]]


def test_a_row_that_the_template_refuses_is_named_by_file_and_line(tmp_path):
    path = tmp_path / "talk.jsonl"
    bad = '{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}, '
    bad += '{"role": "assistant", "content": "c"}]}'
    good = '{"prompt": "a", "response": "b"}'
    path.write_text(f"{good}\n{bad}\n")
    talk = conversation_format(chat_tokenizer("inst"))
    items = as_turns(read_demonstrations(path))
    with pytest.raises(DataError, match=r"talk\.jsonl.*2: the chat template refuses"):
        encode_demonstrations(talk, items)
    assert items[0] == Demonstration((say("user", "a"),), "b", -1)
    asked = (say("user", "a"), say("user", "b"), say("assistant", "c"))
    with pytest.raises(DataError, match=r"^file, line 2: the chat template refuses"):
        as_scored(talk, asked, None, "file, line 2")


@pytest.mark.parametrize("form", ["order", "vote"])
def test_a_pair_that_the_template_refuses_is_named_by_file_and_line(form, tmp_path):
    names = ("chosen", "rejected") if form == "order" else ("left", "right")
    won = {} if form == "order" else {"winner": "left"}
    good = {"prompt": "a", **dict(zip(names, "bc", strict=True)), **won}
    bad = {**good, "prompt": [say("user", "a"), say("user", "b")]}
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (good, bad, good, bad)))
    tokenizer = chat_tokenizer("inst")
    pairs = as_turns(read_votes(path) if form == "order" else read_preferences(path))
    refused = r"pairs\.jsonl, line 2: the chat template refuses"
    with pytest.raises(DataError, match=refused):
        encode_pairs(conversation_format(tokenizer), pairs)
    both = VotedPairs(pairs)
    with pytest.raises(DataError, match=refused):
        encode_texts(tokenizer, both.texts, 0, where=both.where)
    assert pairs[0] == Preference((say("user", "a"),), "b", "c", wins=pairs[0].wins)


@pytest.mark.parametrize("prompt", ["a", [say("user", "a")], None])
def test_two_answers_are_not_measured_as_none(prompt):
    row = {"prompt": prompt, "chosen": "b", "rejected": "c"}
    with pytest.raises(DataError, match="it: the row has two answers, chosen and rejected"):
        asked_and_said(row, "it")
    assert asked_and_said({**row, "prompt": "a", "response": "b"}, "it")[1] is not None
