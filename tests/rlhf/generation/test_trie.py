"""Answers that can only be some texts: the tree of their tokens, by walking all of it."""

import pytest
from playout.errors import ConfigError
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.generation.trie import AnswerTrie
from small_language import SPM_KINDS, sentencepiece

TOKENIZER = Tokenizer.train(["1 2 3 10 11 12 a1b1 e2e4 e7e8q e7e8r"] * 20, vocab_size=290)


def walks(trie, row=0, written=()):
    """Everything that can be written, with its end token."""
    (choices,) = trie.mask(row, written).nonzero()
    for token in choices.tolist():
        if token == TOKENIZER.end_id:
            yield TOKENIZER.decode(written)
        else:
            yield from walks(trie, row, (*written, token))


@pytest.mark.parametrize("answers", [["1", "10", "11"], ["e7e8q", "e7e8r", "e2e4"], ["5"]])
def test_exactly_the_answers_can_be_written_with_or_without_a_blank(answers):
    written = sorted(walks(AnswerTrie(TOKENIZER, [answers], stop=[TOKENIZER.end_id])))
    assert written == sorted([*answers, *(f" {answer}" for answer in answers)])


def test_every_row_has_its_own_answers_or_none():
    trie = AnswerTrie(TOKENIZER, [["1"], None, [" a1b1", "3"]], stop=[TOKENIZER.end_id])
    assert sorted(walks(trie, 0)) == [" 1", "1"]
    assert trie.mask(1, [7, 8]) is None
    assert sorted(walks(trie, 2)) == [" 3", " a1b1", "3"]


def test_several_end_tokens_are_heeded():
    trie = AnswerTrie(TOKENIZER, [["1"]], stop=[2, 0])
    assert trie.mask(0, TOKENIZER.encode("1")).nonzero()[0].tolist() == [0, 2]
    assert len(trie.mask(0, [])) == TOKENIZER.vocab_size


@pytest.mark.parametrize("answers", [[[]], [["1", ""]], [[], None]])
def test_a_row_without_answers_is_refused(answers):
    with pytest.raises(ConfigError, match="none of them empty"):
        AnswerTrie(TOKENIZER, answers, stop=[0])


@pytest.mark.parametrize("kind", SPM_KINDS)
def test_an_answer_goes_on_from_what_stands_before_it(kind):
    """Where a text that begins gets a blank, an answer has it only as an answer with one."""
    tokenizer = sentencepiece(kind)
    trie = AnswerTrie(tokenizer, [["yes", "no"]], stop=[tokenizer.end_id])
    spelt = tokenizer.encode_batch(["yes", "no", " yes", " no"], continues=True)
    assert trie.following(0, []) == tuple(sorted(ids[0] for ids in spelt))
    assert all(trie.following(0, ids) == (tokenizer.end_id,) for ids in spelt)
