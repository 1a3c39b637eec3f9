"""Messages: what a conversation is, and what is said of what is none."""

import pytest
from playout.errors import DataError
from playout.rlhf.data.messages import as_messages, checked_messages


def test_a_conversation_comes_back_as_it_is():
    given = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    assert checked_messages(given, "x") == tuple(given)


def test_text_parts_are_joined_and_empty_fields_dropped():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    row = {"role": "tool", "content": parts, "name": "sum", "tool_calls": None, "weight": None}
    assert checked_messages([row], "x") == ({"role": "tool", "content": "ab", "name": "sum"},)


def test_a_plain_text_is_the_users():
    assert as_messages("hi") == ({"role": "user", "content": "hi"},)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("hi", "a list of messages, not str"),
        ([], "no messages"),
        (["hi"], "message 1 is str"),
        ([{"from": "human", "value": "hi"}], "message 1 has no role \\(from, value\\)"),
        (
            [{"role": "user", "content": "a"}, {"role": "bot", "content": "b"}],
            "2 has the role 'bot'",
        ),
        ([{"role": "user"}], "no content"),
        ([{"role": "user", "content": 3}], "content is int"),
        ([{"role": "user", "content": [{"type": "image"}]}], "parts that are not text"),
        ([{"role": "user", "content": "\ud800"}], "half a character"),
        ([{"role": "assistant", "content": "", "tool_calls": [{}]}], "tool_calls"),
        ([{"role": "user", "content": "a", "weight": 2}], "weight is int"),
    ],
)
def test_a_fault_is_named_with_its_place(value, fault):
    with pytest.raises(DataError, match=f"^rows.jsonl, line 3: .*{fault}"):
        checked_messages(value, "rows.jsonl, line 3")
