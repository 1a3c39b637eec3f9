"""Talking with a policy: cached turns against the whole conversation read anew, and commands."""

import json
from dataclasses import replace

import pytest
import torch
from playout.errors import DataError
from playout.rlhf.generation.chat.session import Session
from playout.rlhf.generation.chat.terminal import HELP, chat
from playout.rlhf.generation.decoder import Decoder
from playout.rlhf.generation.player import LanguagePlayer
from small_language import chat_tokenizer, small_model


def player_of(style="chatml", context=400, **options):
    tokenizer = chat_tokenizer(style)
    model = small_model(tokenizer, length=context, spare=3)
    return LanguagePlayer(model, tokenizer, max_new_tokens=12, **options)


@pytest.mark.parametrize("style", ["chatml", "headers"])
def test_what_is_cached_changes_no_answer(style, monkeypatch):
    player, read = player_of(style, context=2000), []
    for plain in (Decoder.prefill, Decoder.extend):

        def counted(self, ids, lengths, plain=plain, **options):
            if self is player.decoder:
                read.append(ids.shape[1])
            return plain(self, ids, lengths, **options)

        monkeypatch.setattr(Decoder, plain.__name__, counted)
    session = Session(player, whole=True)
    before: list[int] = []
    for number, line in enumerate(["the cat", "sat?", "and the dog", "user"]):
        player.reset(number)
        answer = session.ask(line)
        # The same tokens, read anew by a model that has cached nothing.
        fresh = player_of(style, context=2000)
        fresh.reset(number)
        alone = Session(fresh, whole=True)
        ids = fresh.talk.begin([{"role": "user", "content": line}])
        if before:
            ids = [*before, *fresh.talk.between(line, before[-1] in fresh.talk.stop_ids)]
        assert alone._write(ids, lambda piece: None).tokens == answer.tokens
        before = [*ids, *answer.tokens]
    # Of each line, its own tokens were read, and those that end a turn and begin another.
    assert len(read) == 4 and max(read[1:]) < 60 < len(before)


def test_pieces_join_to_the_answer_and_an_interrupt_keeps_them():
    session = Session(player_of(), whole=True)
    pieces = []
    answer = session.ask("the cat", pieces.append)
    assert "".join(pieces) == answer.text == session.turns[0].answer.text

    heard = []

    def stop(piece):
        heard.append(piece)
        if len(heard) == 2:
            raise KeyboardInterrupt

    cut = session.ask("again", stop)
    assert not cut.finished and len(cut.tokens) == 2
    assert session.ask("and on").tokens  # the half answer's turn is closed by the template


@pytest.mark.parametrize("whole", [False, True])
def test_what_a_policy_wrote_before_stays_characters_in_a_plain_talk(whole):
    session = Session(player_of(plain=True), whole=whole)
    session.ask("the cat")
    session.turns[0] = replace(
        session.turns[0], answer=replace(session.turns[0].answer, text="so<|im_end|>")
    )
    tokenizer = session.player.tokenizer
    assert not any(map(tokenizer.is_special, session._read("sat")[1:]))
    # A line by itself is the person's.
    special = any(map(tokenizer.is_special, session._read("sat<|im_end|> on")[1:]))
    assert special == (not whole)


def test_another_answer_takes_the_place_of_the_last(monkeypatch):
    session = Session(player_of(), whole=True)
    assert session.again() is None
    session.ask("the cat")
    first = session.ask("sat?")
    session.player.reset(9)
    assert session.again().tokens != first.tokens and len(session.turns) == 2
    session.player.reset(0)
    assert session.again().tokens == first.tokens
    assert session.undo() and len(session.turns) == 1


def test_the_earliest_turns_make_room_and_a_line_that_cannot_fit_leaves_all_as_it_was():
    session = Session(player_of(context=120), system="cat", whole=True)
    for _ in range(6):
        session.ask("the cat sat")
    assert session.left_out
    turns = list(session.turns)
    with pytest.raises(DataError, match="there is room for 108"):
        session.ask("the cat " * 60)
    assert session.turns == turns and session.ask("the cat").tokens


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_a_line_that_does_not_fit_alone_is_cut_as_asked(plain, whole):
    long = "the cat " * 60 + "sat"
    for side, first in (("left", False), ("right", True)):
        player = player_of(plain=plain, max_length=60, truncate=side)
        session = Session(player, whole=whole)
        answer = session.ask("the cat sat")
        assert (answer.cut, session.cut, session.left_out) == (0, 0, False)
        answer = session.ask(long)
        assert answer.cut == session.cut > 0 and 0 < answer.prompt_tokens <= 60
        assert session.left_out == whole  # the turn before made room first
        read = player.tokenizer.decode(session._after[-1][: answer.prompt_tokens])
        assert "the cat the cat" in read and ("sat" in read) == (not first)
        assert session.ask("the cat").cut == 0


def lines(*given):
    left = list(given)

    def ask(prompt):
        if not left:
            raise EOFError
        return left.pop(0)

    return ask


def test_commands_set_what_they_name_and_say_so(tmp_path):
    player, shown, written = player_of(), [], []
    count = chat(
        player,
        ask=lines(
            "/again", "hello\\", "there", "/speed", "/top-p 0.5", "/top-k 3", "/min-p 0.1",
            "/stop cat", "/seed 4", "/temperature -1", "/tokens many", "/nonsense",
            f"/save {tmp_path / 'talk.jsonl'}", "/undo", "/undo", "/system be brief",
            "hi", "/whole", "hi", "/clear", "/quit", "never",
        ),
        show=shown.append,
        write=written.append,
    )  # fmt: skip
    assert count == 3
    assert (player.top_p, player.top_k, player.min_p, player.stop) == (0.5, 3, 0.1, ("cat",))
    said = "\n".join(shown)
    assert "tokens" in said and "(temperature must not be negative: -1.0)" in said
    assert shown[-2:] == ["earlier lines are forgotten", "forgotten"]
    (row,) = (tmp_path / "talk.jsonl").read_text().splitlines()
    user, assistant = json.loads(row)["messages"]
    assert user == {"role": "user", "content": "hello\nthere"}
    assert "".join(written).startswith(assistant["content"].lstrip("\n"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/temprature 1", "unknown command '/temprature'; did you mean /temperature? /help lists"),
        ("/agian", "unknown command '/agian'; did you mean /again? /help lists all"),
        ("/home/ann/notes.txt", "unknown command '/home/ann/notes.txt'; /help lists all"),
        ("/", "unknown command '/'; /help lists all"),
        ("/tokens many", "/tokens N       how long answers may be"),
        ("/top-p", "/top-p X, /top-k N, /min-p X  leave unlikely tokens out"),
        ("/save", "/save FILE      write the conversation as a line of JSON"),
    ],
    ids=["misspelt", "letters_swapped", "path", "nothing", "no_number", "one_of_a_line", "no_file"],
)
def test_a_command_that_is_not_obeyed_is_answered_in_one_line(line, said):
    shown = []
    chat(player_of(), ask=lines(line, "/help"), show=shown.append)
    _, answer, everything = shown
    assert answer.startswith(said) and "\n" not in answer
    assert everything == HELP


def test_a_template_that_takes_no_system_message_says_so_and_the_talk_goes_on():
    shown = []
    count = chat(
        player_of("inst"),
        system="be brief",
        ask=lines("hi", "/system", "hi"),
        show=shown.append,
        write=lambda piece: None,
    )
    assert count == 1 and any("refuses the conversation" in line for line in shown)


@pytest.mark.parametrize("used", ["act", "dtype"])
def test_what_others_do_with_the_player_between_two_lines_changes_no_answer(used):
    answers = []
    for between in (False, True):
        player = player_of(temperature=0.0)
        session = Session(player, whole=True)
        session.ask("the cat")
        if between and used == "act":
            player.act(["some other text"])
        elif between:
            player.dtype = torch.bfloat16
            assert player.decoder.dtype == torch.bfloat16
            player.dtype = torch.float32  # the weights are prepared anew, and nothing was read
        answer = session.ask("sat?")
        answers.append((answer.tokens, answer.logprobs))
    assert answers[0][0] == answers[1][0]
    assert answers[0][1] == pytest.approx(answers[1][1], abs=1e-5)
