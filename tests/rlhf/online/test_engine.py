"""The episode engine: against `generate` and the whole forward pass, limits, faults, company."""

import random
import time

import pytest
import torch
from playout.rlhf.data import synthetic
from playout.rlhf.environments.load import own_environment
from playout.rlhf.environments.prompts import prompt_environment
from playout.rlhf.generation.generate import generate
from playout.rlhf.generation.responses import encode_prompts
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.reference import Reference, sequence_logprobs
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.online.config import EpisodeLimits
from playout.rlhf.online.engine import EpisodeEngine, EpisodeRequest, describe
from playout.rlhf.online.episode import environment_metrics
from playout.rlhf.online.episodes import score_episodes
from playout.rlhf.online.policy import LanguagePolicy
from playout.rlhf.online.rows import lay_out
from small_language import chat_tokenizer, small_model


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(synthetic.reviews(200), vocab_size=300)


@pytest.fixture(scope="module")
def model(tokenizer):
    shape = TransformerConfig(tokenizer.vocab_size, 32, 64, 2, 2, 2, max_position_embeddings=256)
    model = Transformer(shape, seed=0)
    with torch.no_grad():
        model.embed_tokens.mul_(6)
    return model


def play(model, tokenizer, maker, count, *, tasks=None, streams=None, **limits):
    stop, max_rows = limits.pop("stop", ()), limits.pop("max_rows", 256)
    engine = EpisodeEngine(
        model,
        tokenizer,
        limits=EpisodeLimits(**{"max_new_tokens": 12, **limits}),
        seed=3,
        dtype=torch.float32,
        stop=stop,
        max_rows=max_rows,
    )
    factory = own_environment(maker)
    streams = range(count) if streams is None else streams
    tasks = [None] * count if tasks is None else tasks
    return engine.run(
        [EpisodeRequest(factory, task, 7 + n, n) for task, n in zip(tasks, streams, strict=True)]
    )


class Once:
    def reset(self, task, seed):
        return task

    def step(self, answer):
        return None, 1.0, True


class Talk:
    """As many turns as its seed says, with replies of different length."""

    def reset(self, task, seed):
        self.left = self.turns = seed % 7 + 1
        return f"start {seed}"

    def step(self, answer):
        self.left -= 1
        reply = f" reply {self.left}" + "x" * (self.left * self.turns % 5)
        return reply, len(answer), self.left == 0

    def metrics(self):
        return {"turns": self.turns}


def test_one_turn_is_what_generate_samples_bit_for_bit(model, tokenizer):
    prompts = ["the film", "a", "it is a long prompt of many words", "x"] * 5
    found = play(model, tokenizer, Once, 20, tasks=prompts)
    expected = generate(
        model,
        encode_prompts(tokenizer, prompts),
        max_new_tokens=12,
        stop=tokenizer.stop_ids,
        pad=tokenizer.pad_id,
        seed=3,
    )
    for row, episode in enumerate(found):
        length = int(expected.lengths[row])
        answer = expected.responses[row, :length].tolist()
        assert episode.tokens == expected.prompts[row] + answer
        assert sum(episode.mask) == length and all(episode.mask[-length:])
        assert episode.logprobs[-length:] == expected.logprobs[row, :length].tolist()
        assert episode.answer_ended == [bool(expected.finished[row])]
        assert episode.ended and not episode.truncated and episode.total == 1.0


@pytest.mark.slow
def test_turns_go_on_from_the_cache_as_if_the_whole_conversation_had_been_read(model, tokenizer):
    for episode in play(model, tokenizer, Talk, 12):
        assert episode.num_turns == episode.seed % 7 + 1 == episode.metrics["turns"]
        assert episode.rewards == [len(answer) for answer in episode.answers]
        ids, mask = torch.tensor([episode.tokens]), torch.tensor([episode.mask])[:, 1:]
        found, _, _ = sequence_logprobs(model, ids[:, :-1], ids[:, 1:], mask)
        sampled = torch.tensor([episode.logprobs])[:, 1:]
        torch.testing.assert_close(found, sampled, atol=2e-4, rtol=1e-4)
        # The mask holds each answer, and nothing of what the environment said.
        for turn, answer in enumerate(episode.answers):
            places = [
                i for i, written in enumerate(episode.mask) if written and episode.turns[i] == turn
            ]
            ids = [episode.tokens[i] for i in places]
            assert places == list(range(places[0], places[-1] + 1))
            assert tokenizer.decode(ids) == answer
            if turn:
                before = [
                    token
                    for token, written, of in zip(
                        episode.tokens, episode.mask, episode.turns, strict=True
                    )
                    if of == turn and not written
                ]
                assert tokenizer.decode(before) == episode.replies[turn - 1]


def test_an_episode_does_not_depend_on_those_beside_it(model, tokenizer):
    together = play(model, tokenizer, Talk, 20)
    for number in (0, 6, 13):
        (alone,) = play(model, tokenizer, Talk, 1, streams=[number])
        assert alone.tokens == together[number].tokens
        assert alone.logprobs == pytest.approx(together[number].logprobs, abs=1e-5)


def test_environments_that_draw_from_the_global_generator_repeat_in_any_company(model, tokenizer):
    class Dice:
        def reset(self, task, seed):
            return f"thrown {random.random()}"

        def step(self, answer):
            return f" {random.random()}", 0.0, random.random() < 0.4

    before = random.getstate()
    together = [e.text for e in play(model, tokenizer, Dice, 9, max_turns=4)]
    assert random.getstate() == before
    assert [e.text for e in play(model, tokenizer, Dice, 3, max_turns=4)] == together[:3]
    assert len(set(together)) == 9


def test_episodes_are_cut_by_turns_tokens_and_time(model, tokenizer):
    class Endless:
        def reset(self, task, seed):
            return "go"

        def step(self, answer):
            if len(answer) > 10**6:
                time.sleep(1)
            return " on and on", 1.0, False

    turns = play(model, tokenizer, Endless, 3, max_turns=2)
    assert {(e.truncated, e.num_turns, e.ended) for e in turns} == {("turns", 2, False)}
    tokens = play(model, tokenizer, Endless, 3, max_tokens=60)
    assert all(e.truncated == "tokens" and len(e.tokens) <= 60 for e in tokens)
    context = play(model, tokenizer, Endless, 3)
    assert all(e.truncated == "tokens" and 240 < len(e.tokens) <= 256 for e in context)
    in_time = play(model, tokenizer, Endless, 3, max_seconds=1e-6)
    assert {(e.truncated, e.num_turns) for e in in_time} == {("time", 1)}

    class Cut(Endless):
        def step(self, answer):
            return None, 0.5, False, True

    (cut,) = play(model, tokenizer, Cut, 1)
    assert (cut.truncated, cut.rewards, cut.ended) == ("environment", [0.5], False)


def test_the_time_of_a_round_is_shared_by_its_batches(model, tokenizer, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    class Slow:
        def reset(self, task, seed):
            return "go"

        def step(self, answer):
            clock[0] += 1.0
            return " on", 1.0, False

    found = play(
        model, tokenizer, Slow, 6, max_rows=2, max_seconds=3.0, max_new_tokens=4, call_seconds=0.0
    )
    # Two steps a turn: the first batch has three turns, the others begin no second one.
    assert [(e.num_turns, e.truncated) for e in found] == [(3, "time")] * 2 + [(1, "time")] * 4


def test_what_an_environment_says_as_it_cuts_an_episode_stays_within_the_context(model, tokenizer):
    class Cut:
        def reset(self, task, seed):
            return "go"

        def step(self, answer):
            return " a long word" * 300, 1.0, False, True

    for longest, limits in ((256, {}), (40, {"max_tokens": 40})):
        found = play(model, tokenizer, Cut, 2, **limits)
        assert {(e.truncated, len(e.tokens)) for e in found} == {("environment", longest)}
    policy, reference = LanguagePolicy(model), Reference(model)
    scored = score_episodes(policy, reference, play(model, tokenizer, Cut, 2), None, kl_coef=0.1)
    assert scored.scores.tolist() == [1.0, 1.0]


class Two:
    """Two players answer in turn, four times in all."""

    def reset(self, task, seed):
        self.turn = 0
        return "go"

    def step(self, answer):
        self.turn += 1
        reply = " next" if self.turn < 3 else " long" * 300
        return reply, {f"player {(self.turn - 1) % 2}": 0.5, "player 1": 0.25}, self.turn == 4

    def role(self):
        return f"player {self.turn % 2}"


@pytest.mark.parametrize(
    ("limits", "cut", "turns"),
    [
        ({"max_turns": 1}, "turns", 1),
        ({"max_turns": 2}, "turns", 2),
        ({"max_tokens": 8}, "tokens", 1),
        ({"max_seconds": 1e-6}, "time", 1),
        ({}, "tokens", 3),
    ],
)
def test_only_who_has_answered_has_a_role(model, tokenizer, limits, cut, turns):
    found = play(model, tokenizer, Two, 2, **limits)
    expected = ["player 0", "player 1", "player 0"][:turns]
    assert [(e.truncated, e.roles, len(e.answers)) for e in found] == [(cut, expected, turns)] * 2
    rows = lay_out(found, tokenizer.pad_id)
    assert rows.num_roles == min(turns, 2) and bool(rows.valid.any(1).all())


@pytest.mark.parametrize("known", [True, False])
def test_who_would_go_on_is_known_where_the_environment_cuts_and_says(model, tokenizer, known):
    class Cut(Two):
        def step(self, answer):
            return (*super().step(answer)[:2], False, self.turn == 3)

        def role(self):
            return f"player {self.turn % 2}" if known or self.turn < 3 else ["x"][1]

    (found,) = play(model, tokenizer, Cut, 1)
    assert not found.error and found.truncated == "environment" and len(found.roles) == 3
    assert found.next_role == ("player 1" if known else "")
    assert lay_out([found], tokenizer.pad_id).continues.tolist() == [False, known]


def faulty(step=None, reset="go"):
    class Faulty:
        def reset(self, task, seed):
            return "fine" if seed % 2 else reset() if callable(reset) else reset

        def step(self, answer):
            return (None, 1.0, True) if step is None else step()

    return Faulty


def hang():
    end = time.monotonic() + 30
    while time.monotonic() < end:
        pass


@pytest.mark.parametrize(
    ("maker", "message"),
    [
        (faulty(lambda: 1 / 0), r"step raised ZeroDivisionError: .*test_engine\.py, line"),
        (faulty(lambda: (None, float("nan"), True)), "the reward is nan"),
        (faulty(lambda: (None, "much", True)), "the reward is 'much', not a number"),
        (faulty(lambda: (None, 1.0, "yes")), "done as 'yes', not True or False"),
        (faulty(lambda: (None, 1.0)), "returned 2 values"),
        (faulty(lambda: None), "step returned NoneType"),
        (faulty(lambda: (None, 1.0, False)), "neither a reply nor done"),
        (faulty(lambda: (3, 1.0, False)), "step returned 3, not a text or a list of messages"),
        (faulty(hang), r"step took longer than 0\.2 s"),
    ],
)
def test_a_faulty_environment_is_named_with_the_text_of_its_episode(
    model, tokenizer, maker, message
):
    found = play(model, tokenizer, maker, 2, call_seconds=0.2 if "longer" in message else 60)
    for episode in found:
        with pytest.raises(AssertionError, match=message):
            raise AssertionError(episode.error)
        assert "'fine" in describe(episode) or "'go" in describe(episode)


def test_the_other_episodes_go_on_where_some_fail(model, tokenizer):
    bad, good = play(model, tokenizer, faulty(reset=lambda: 1 / 0), 2, streams=[1, 2])
    assert "reset raised ZeroDivisionError" in bad.error and not bad.tokens
    assert good.ended and not good.error
    (long,) = play(model, tokenizer, faulty(reset="word " * 300), 1, streams=[1])
    assert "leaves no room for an answer in 256" in long.error
    (chat,) = play(model, tokenizer, faulty(reset=[{"role": "user"}]), 1, streams=[1])
    assert "has no content" in chat.error


def test_environments_are_closed_whatever_ends_a_round(model, tokenizer):
    closed = []

    class Interrupted(Once):
        def step(self, answer):
            raise KeyboardInterrupt

        def close(self):
            closed.append(self)

    with pytest.raises(KeyboardInterrupt):
        play(model, tokenizer, Interrupted, 3, tasks=["a"] * 3)
    assert len(closed) == 3


def test_special_tokens_that_an_environment_spells_are_characters(model, tokenizer):
    spelled = "a film <|mask|> and"
    (own,) = play(model, tokenizer, Once, 1, tasks=[spelled])
    assert tokenizer.mask_id not in own.tokens
    engine = EpisodeEngine(
        model, tokenizer, limits=EpisodeLimits(max_new_tokens=2), seed=3, dtype=torch.float32
    )
    factory = prompt_environment([spelled])  # prompts of a person's file
    (read,) = engine.run([EpisodeRequest(factory, factory.tasks("train")[0], 7, 0)])
    assert read.tokens[: len(read.tokens) - 2].count(tokenizer.mask_id) == 1


def test_stop_strings_end_an_answer_and_are_no_part_of_it(model, tokenizer):
    free = play(model, tokenizer, Talk, 6)
    whole = free[0].answers[0]
    letter = whole[3]
    cut = play(model, tokenizer, Talk, 6, stop=[letter])
    assert cut[0].answers[0] == whole[: whole.index(letter)] and cut[0].answer_ended[0]
    assert not any(letter in answer for episode in cut for answer in episode.answers)


@pytest.mark.parametrize("style", ["chatml", "headers"])
def test_plain_texts_of_all_turns_stand_as_they_are(style):
    tokenizer = chat_tokenizer(style)
    engine = EpisodeEngine(
        small_model(tokenizer),
        tokenizer,
        limits=EpisodeLimits(max_new_tokens=4),
        seed=3,
        dtype=torch.float32,
        as_user=False,
    )
    for episode in engine.run(
        [EpisodeRequest(own_environment(Talk), None, 3, n) for n in range(8)]
    ):
        assert episode.num_turns == 4 and not episode.error
        said = ["start 3", *episode.replies]
        for turn, stops in enumerate([True, *episode.answer_ended[:-1]]):
            read = [
                token
                for token, own, of in zip(episode.tokens, episode.mask, episode.turns, strict=True)
                if of == turn and not own
            ]
            assert tokenizer.decode(read) == said[turn]
            special = [token for token in read if tokenizer.is_special(token)]
            assert special == ([] if stops else [tokenizer.end_id]) or turn == 0
    assert set(engine.format.stop_ids) == set(engine.rules.stop_ids)


def test_an_environments_own_metrics_take_no_name_of_ours(model, tokenizer):
    class Told(Once):
        def metrics(self):
            return {"reward": 99.0, "ended": 7.0, "turns": 7.0, "truncated": 7.0, "own": 2.0}

    found = environment_metrics(play(model, tokenizer, Told, 2, tasks=["a", "b"]))
    assert found == {
        "env/reward": 1.0, "env/turns": 1.0, "env/ended": 1.0, "env/truncated": 0.0, "env/own": 2.0
    }  # fmt: skip
