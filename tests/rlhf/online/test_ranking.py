"""Pairs that a policy makes for DPO: of episodes with roles, and of conversations."""

import torch
from playout.rlhf.environments.environment import Step
from playout.rlhf.environments.load import own_environment
from playout.rlhf.online.config import EpisodeLimits
from playout.rlhf.online.engine import EpisodeEngine
from playout.rlhf.online.episode import Episode
from playout.rlhf.online.ranking import _pair, _pair_of, rank_episodes, rank_samples
from small_language import chat_tokenizer, small_model


class Duel:
    """A wins by `even`, whatever b says after it."""

    def reset(self, task, seed):
        self.turn = 0
        return "go"

    def role(self):
        return "ab"[self.turn]

    def answers(self):
        return [["yes", "even"], ["ok"]][self.turn]

    def step(self, answer):
        self.turn += 1
        if self.turn == 1:
            self.sign = 1.0 if answer.strip() == "even" else -1.0
            return Step("next", {})
        return Step(None, {"a": self.sign, "b": -self.sign}, True)


def test_the_answers_of_a_pair_are_compared_by_what_the_role_got_that_wrote_them():
    tokenizer = chat_tokenizer("chatml")
    engine = EpisodeEngine(
        small_model(tokenizer, length=256),
        tokenizer,
        limits=EpisodeLimits(max_new_tokens=8),
        seed=0,
        dtype=torch.float32,
        constrained=True,
    )
    pairs = rank_episodes(engine, own_environment(Duel), None, count=3, samples=6)
    found = {(pair.first.strip(), pair.second.strip(), pair.margin) for pair in pairs}
    assert found == {("even", "yes", 2.0)}


def game(answers, sign, *, reply="r"):
    """An episode that a wins, or loses (sign -1), whoever moved last."""
    roles = ["a", "b", "a"][: len(answers)]
    return Episode(
        None, 0, ({"role": "user", "content": "q"},), list(answers), [reply] * (len(answers) - 1),
        rewards=[0.0] * (len(answers) - 1) + [sign if roles[-1] == "a" else -sign],
        roles=roles,
        role_rewards=[{}] * (len(answers) - 1) + [{"a": sign, "b": -sign}],
        by_role=True,
        answer_ended=[True] * len(answers),
    )  # fmt: skip


def test_of_all_pairs_of_roles_the_two_that_lie_farthest_apart_are_taken():
    lost, won = game(["x", "bad"], 1.0), game(["x", "good"], -1.0)
    drawn = game(["x", "fair", "so"], 0.0)
    for group in ([lost, won, drawn], [drawn, won, lost]):
        pair = _pair_of([(episode, 0.0) for episode in group], as_user=True)
        assert (pair.first, pair.second, pair.margin) == ("good", "bad", 2.0)
        assert [message["content"] for message in pair.prompt] == ["q", "x", "r"]
    # A reward function's score belongs to every role.
    pair = _pair_of([(lost, 5.0), (won, 0.0)], as_user=True)
    assert (pair.first, pair.second, pair.margin) == ("bad", "good", 3.0)
    assert _pair_of([(lost, 0.0), (game(["x", "bad"], 1.0), 0.0)], as_user=True) is None
    assert (
        _pair_of([(lost, 0.0), (game(["x", "good"], -1.0, reply="s"), 0.0)], as_user=True) is None
    )
    assert _pair_of([], as_user=True) is None


def test_what_was_read_as_plain_text_after_the_first_turn_is_no_conversation():
    lost, won = game(["x", "bad"], 1.0), game(["x", "good"], -1.0)
    assert _pair(won, lost) is not None and _pair(won, lost, as_user=False) is None


def test_samples_of_equal_conversations_are_asked_once_without_tasks():
    tokenizer = chat_tokenizer("chatml")
    asked = [{"role": "user", "content": "the cat"}]
    pairs = rank_samples(
        small_model(tokenizer),
        tokenizer,
        [asked, list(asked)],
        lambda texts: [float(len(text)) for text in texts],
        samples=5,
        max_new_tokens=24,
        seed=0,
        dtype=torch.float32,
        stop=["a", "e"],
    )
    assert [pair.prompt for pair in pairs] == [asked]
