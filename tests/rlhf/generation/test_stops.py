"""Stop strings and streamed text, against the whole text cut once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playout.errors import ConfigError
from playout.rlhf.generation.stops import AnswerText, StopStrings
from playout.rlhf.generation.tokenizer import Tokenizer
from small_language import SPM_KINDS, sentencepiece

TOKENIZER = Tokenizer.train(["ab abc abcd été 🙂 user:\n"] * 9, vocab_size=280)


@settings(max_examples=200, deadline=None)
@given(
    text=st.text("abcd é🙂\n:", max_size=20),
    strings=st.lists(st.text("abcd é🙂\n:", min_size=1, max_size=5), max_size=3),
)
def test_streamed_pieces_join_to_the_text_before_the_first_stop_string(text, strings):
    stops = StopStrings(TOKENIZER, strings)
    shown, answer, ended = "", AnswerText(TOKENIZER, stops), False
    tokens = TOKENIZER.encode(text)
    for count, token in enumerate(tokens, 1):
        shown += answer.push(token)
        known = TOKENIZER.decode(tokens[:count])
        assert known.startswith(shown)
        assert not any(s in shown for s in strings)
        ended = stops(0, tokens[:count])
        assert ended == any(s in known for s in strings)
        if ended:
            text = known
            break
    assert shown + answer.finish() == stops.cut(text) == answer.text
    assert ended == any(s in text for s in strings)


def test_a_character_of_several_tokens_is_shown_when_it_is_complete():
    answer = AnswerText(Tokenizer.train(["ab"] * 9, vocab_size=260))
    pieces = [answer.push(token) for token in answer._tokenizer.encode("a🙂b")]
    assert pieces == ["a", "", "", "", "🙂", "b"]


def test_an_empty_stop_string_is_refused():
    with pytest.raises(ConfigError, match="must not be empty"):
        StopStrings(TOKENIZER, ["a", ""])


@pytest.mark.parametrize("kind", SPM_KINDS)
def test_a_blank_at_the_beginning_of_a_plain_answer_is_part_of_its_text(kind):
    tokenizer = sentencepiece(kind)
    ids = tokenizer.encode(" yes", continues=True)
    assert StopStrings(tokenizer, [" yes"])(0, ids)
    text = AnswerText(tokenizer, StopStrings(tokenizer, [" yes"]), continues=True)
    assert "".join([*map(text.push, ids), text.finish()]) == ""
    # What a chat model says begins: the blank is the vocabulary's own.
    assert not StopStrings(tokenizer, [" yes"], continues=False)(0, ids)
    later = tokenizer.encode("the cat sat on yes", continues=True)
    assert StopStrings(tokenizer, [" yes"], continues=False)(0, later)
