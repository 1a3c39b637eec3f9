"""Conversations as tokens: against the whole conversation rendered at once, and `transformers`."""

import datetime
import json
from pathlib import Path

import pytest
from playout.errors import CheckpointError, ConfigError, DataError
from playout.rlhf.data.encoding import encode_demonstrations
from playout.rlhf.data.records import Demonstration
from playout.rlhf.generation.chat.template import ChatTemplate
from playout.rlhf.generation.conversation import conversation_format, fit_prompt
from playout.rlhf.generation.responses import encode_prompts
from playout.rlhf.generation.tokenizer import Tokenizer
from small_language import TURNS, chat_tokenizer

ASKED = [{"role": "user", "content": "the cat sat?"}]
FOLLOWING = "and the dog <|im_end|>?"
SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize("style", TURNS)
@pytest.mark.parametrize("ended", [True, False])
def test_turns_one_by_one_equal_the_conversation_as_a_whole(style, ended):
    tokenizer = chat_tokenizer(style)
    talk = conversation_format(tokenizer)
    begun = talk.begin(ASKED)
    # What stands between the answer and its stop token is the template's; see INST.
    # In that way to write, blanks around an answer are the template's own.
    blank = " " if style == "inst" else ""
    answer = tokenizer.encode(f"{blank}yes it did")
    stop = [*tokenizer.encode(blank), talk.stop_ids[-1]] if ended else []
    ids = [*begun, *answer, *stop, *talk.between("go on", ended)]
    said = [*ASKED, {"role": "assistant", "content": "yes it did"}]
    whole = talk.begin([*said, {"role": "user", "content": "go on"}])
    assert ids == whole


@pytest.mark.parametrize("style", TURNS)
def test_a_conversation_is_what_the_template_writes_with_tokens_as_tokens(style):
    tokenizer = chat_tokenizer(style)
    ids = conversation_format(tokenizer).begin(ASKED)
    special = [i for i in ids if tokenizer.is_special(i)]
    assert len(special) == {"chatml": 5, "inst": 1, "headers": 6}[style]
    kept = tokenizer.inner.decode(ids, skip_special_tokens=False)
    assert kept == tokenizer.template.render(
        ASKED, add_generation_prompt=True, bos_token=tokenizer.bos, eos_token=tokenizer.end
    )


@pytest.mark.parametrize("style", TURNS)
def test_a_prompt_that_was_rendered_elsewhere_is_read_as_its_conversation(style):
    """Its <|im_start|> was spelt out as characters."""
    tokenizer = chat_tokenizer(style)
    talk = conversation_format(tokenizer)
    rendered = talk.render(ASKED, answer=True)
    asked = talk.begin(ASKED)
    assert talk.begin(rendered, special=True) == asked
    # Unless it is known to be the person's own, a text is what it spells.
    assert not any(map(tokenizer.is_special, talk.begin(rendered)[1:]))
    assert encode_prompts(tokenizer, [rendered, "the cat"])[0] == asked
    (row,) = encode_demonstrations(talk, [Demonstration(rendered, "it did")])
    assert row[0][: row[1]] == asked
    # An answer is what somebody said, whatever it spells.
    end = tokenizer.inner.id_to_token(talk.stop_ids[-1])
    (row,) = encode_demonstrations(talk, [Demonstration("the cat", f"says {end} twice")])
    assert [tokenizer.is_special(token) for token in row[0][row[1] :]].count(True) == 1


def test_the_end_of_a_turn_stops_an_answer_even_where_it_is_not_the_end_of_a_text():
    tokenizer = chat_tokenizer("headers")
    turn = tokenizer.inner.token_to_id("<|eot_id|>")
    talk = conversation_format(tokenizer)
    assert talk.stop_ids == (tokenizer.end_id, turn)
    assert talk.answer([*tokenizer.encode("yes"), turn]) == "yes"


def test_a_plain_text_goes_on_and_is_answered_in_plain_text():
    own = Tokenizer.train(["the cat sat"] * 9, vocab_size=270)
    talk = conversation_format(own)
    assert talk.begin("the cat") == [own.end_id, *own.encode("the cat")]
    assert talk.begin("") == [own.end_id]
    assert talk.between(" sat", True) == own.encode(" sat")
    assert talk.between(" sat", False) == [own.end_id, *own.encode(" sat")]
    with pytest.raises(ConfigError, match="no chat template"):
        talk.begin(ASKED)
    with pytest.raises(ConfigError, match="no chat template"):
        talk.between(ASKED, True)
    chat = chat_tokenizer("chatml")
    assert conversation_format(chat).begin("the cat") == chat.encode("the cat")
    assert not conversation_format(chat, plain=True).speaks_in_turns


def test_an_answer_that_has_begun_is_continued():
    tokenizer = chat_tokenizer("chatml")
    talk = conversation_format(tokenizer)
    begun = [*ASKED, {"role": "assistant", "content": "yes it"}]
    assert talk.begin(begun) == [*talk.begin(ASKED), *tokenizer.encode("yes it")]


def test_what_a_template_does_not_take_is_said_in_one_line():
    talk = conversation_format(chat_tokenizer("inst"))
    with pytest.raises(DataError, match="refuses the conversation: only user and assistant"):
        talk.begin([SYSTEM, *ASKED])
    with pytest.raises(DataError, match="refuses the conversation: roles must alternate"):
        talk.begin([*ASKED, *ASKED])
    for source, error, words in [
        ("{% for %}", CheckpointError, "line 1 of the chat template"),
        ("{{ messages[7].content.upper() }}", DataError, "UndefinedError"),
        ("{{ messages.append(1) }}", DataError, "fails"),
        ("{{ ''.__class__.__mro__ }}", DataError, "unsafe"),
        ("{% for i in range(9999999) %}x{% endfor %}", DataError, "[Rr]ange"),
    ]:
        with pytest.raises(error, match=words):
            ChatTemplate(source).render(ASKED, add_generation_prompt=True)


def test_a_template_says_the_same_tomorrow_and_reads_options():
    template = ChatTemplate("{{ strftime_now('%Y') }} {{ mood }}", options={"mood": "calm"})
    assert template.render(ASKED, add_generation_prompt=True) == "2024 calm"


def test_a_template_tells_which_names_options_can_set():
    source = (
        "{{ bos_token }}{% set ns = namespace(n=0) %}{% for m in messages %}{{ m.content }}"
        "{% endfor %}{% if thinking is defined and not add_generation_prompt %}"
        "{{ strftime_now('%Y') }}{% endif %}{% generation %}{{ mood }}{% endgeneration %}"
    )
    assert ChatTemplate(source).names == ["mood", "thinking"]
    assert ChatTemplate("{{ messages }}").names == []
    with pytest.raises(CheckpointError, match="line 1 of the chat template"):
        _ = ChatTemplate("{% for %}").names


@pytest.mark.parametrize("style", TURNS)
def test_the_files_of_a_chat_model_load_back_equal(style, tmp_path):
    tokenizer = chat_tokenizer(style)
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.template.source == tokenizer.template.source
    for name in ("pad_id", "end_id", "bos_id", "bos", "stop_ids", "vocab_size"):
        assert getattr(again, name) == getattr(tokenizer, name)
    assert conversation_format(again).begin(ASKED) == conversation_format(tokenizer).begin(ASKED)
    (tmp_path / "chat_template.jinja").unlink()  # older files have it in tokenizer_config.json
    assert Tokenizer.load(tmp_path).template.source == tokenizer.template.source


def test_what_ends_an_answer_is_read_from_every_file_that_says_so(tmp_path):
    tokenizer = chat_tokenizer("headers")
    tokenizer.save(tmp_path)
    ends = [tokenizer.end_id, tokenizer.inner.token_to_id("<|eot_id|>")]
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [*ends, 9999]}))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.stop_ids == tuple(ends)
    tokenizer.save(tmp_path / "again")
    assert Tokenizer.load(tmp_path / "again").stop_ids == tokenizer.stop_ids


@pytest.mark.peer
@pytest.mark.parametrize("style", TURNS)
def test_transformers_finds_the_same_tokens(style, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer = chat_tokenizer(style)
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    talk = conversation_format(tokenizer)
    answer = {"role": "assistant", "content": "yes 🙂"}
    for messages in (ASKED, [*ASKED, answer, *ASKED]):
        found = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert found == talk.begin(messages)
    assert theirs("the cat")["input_ids"] == talk.begin("the cat")


@pytest.mark.peer
def test_published_templates_give_the_texts_that_transformers_gives():
    trl = pytest.importorskip("trl")
    render = pytest.importorskip("transformers.utils.chat_template_utils").render_jinja_template
    answer, tool = {"role": "assistant", "content": " a\n"}, {"role": "tool", "content": "42"}
    talks = [ASKED, [SYSTEM, *ASKED, answer, *ASKED], [*ASKED, answer, tool]]
    count = 0
    for path in sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        ours = ChatTemplate(source, date=datetime.datetime.now())
        for messages in talks:
            for ask in (True, False):
                names = {"add_generation_prompt": ask, "bos_token": "<s>", "eos_token": "</s>"}
                try:
                    wanted = render([messages], chat_template=source, **names)[0][0]
                except Exception:
                    with pytest.raises(DataError):
                        ours.render(messages, **names)
                    continue
                assert ours.render(messages, **names) == wanted, path.name
                count += 1
    assert count > 50


def test_a_conversation_is_cut_where_it_was_asked_to_be():
    tokenizer = chat_tokenizer("chatml")
    talk = conversation_format(tokenizer)
    long = {"role": "assistant", "content": "sat 🙂 " * 40}
    messages = [SYSTEM, *ASKED, long, {"role": "user", "content": "and the dog?"}]
    whole = len(talk.begin(messages))
    assert fit_prompt(talk, messages, whole, "error") == (talk.begin(messages), 0)
    with pytest.raises(DataError, match=f"it has {whole} tokens, and there is room for 99"):
        fit_prompt(talk, messages, 99, "error")
    ids, cut = fit_prompt(talk, messages, whole - 1, "left")
    assert ids == talk.begin([SYSTEM, messages[-1]]) and cut == whole - len(ids)
    for room in range(len(ids) + 60, whole):
        ids, cut = fit_prompt(talk, messages, room, "right")
        text = tokenizer.inner.decode(ids, skip_special_tokens=False)
        assert len(ids) <= room and cut == whole - len(ids)
        assert "the cat sat?" in text and text.endswith(
            "and the dog?<|im_end|>\n<|im_start|>assistant\n"
        )
    with pytest.raises(DataError, match="the chat template adds alone"):
        fit_prompt(talk, messages, 10, "left")


@pytest.mark.parametrize("truncate", ["left", "right"])
def test_a_question_is_never_cut_to_nothing(truncate):
    talk = conversation_format(chat_tokenizer("headers"))
    asked = [SYSTEM, {"role": "user", "content": "the cat sat"}]
    alone, template = len(talk.begin(asked[1:])), len(talk.begin([{**asked[1], "content": ""}]))
    ids, cut = fit_prompt(talk, asked, alone, truncate)
    assert ids == talk.begin(asked[1:]) and cut == len(talk.begin(asked)) - alone
    for room in range(template + 3, len(talk.begin(asked))):
        ids, _ = fit_prompt(talk, asked, room, truncate)
        said = talk.tokenizer.decode(ids).partition("user")[2]
        assert len(ids) <= room and ("the" if truncate == "right" else "t") in said
    with pytest.raises(DataError, match="nothing is left of the last message"):
        fit_prompt(talk, asked, template, truncate)


def test_messages_for_a_chat_model_held_to_plain_texts_name_the_option():
    talk = conversation_format(chat_tokenizer("chatml"), plain=True)
    with pytest.raises(ConfigError, match=r"with --plain .* leave --plain out"):
        talk.begin(ASKED)


@pytest.mark.parametrize("style", ["chatml", "inst"])
def test_a_plain_text_is_cut_and_keeps_the_token_that_begins_it(style):
    tokenizer = chat_tokenizer(style)
    talk, text = conversation_format(tokenizer), "the cat sat user"
    ids = talk.begin(text)
    assert fit_prompt(talk, text, 4, "right") == (ids[:4], len(ids) - 4)
    first = ids[:1] if style == "inst" else []
    left, cut = fit_prompt(talk, text, 4, "left")
    assert left == [*first, *ids[len(ids) - 4 + len(first) :]] and cut == len(ids) - 4
