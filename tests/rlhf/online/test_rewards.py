"""Reward functions by the names of their parameters, several with weights, faults located."""

import warnings

import numpy as np
import pytest
import torch
from playout.errors import ConfigError, DataError
from playout.rlhf.online.episode import Episode
from playout.rlhf.online.rewards import (
    RewardInputs,
    WeightedRewards,
    checked_rewards,
    load_reward,
    trust_reward,
)

EPISODES = [
    Episode(task={"label": 3, "level": "a"}, seed=0, prompt="one", answers=[" two"]),
    Episode(task={"label": 5}, seed=1, prompt="x", answers=["y", "z"], replies=["-"]),
]
INPUTS = RewardInputs.of(EPISODES)


def test_a_function_gets_what_its_parameters_name():
    seen = {}

    def by_name(prompts, completions, label, scale=2.0):
        seen.update(prompts=prompts, completions=completions)
        return [scale * value for value in label]

    assert checked_rewards(by_name, INPUTS).tolist() == [6.0, 10.0]
    assert seen == {"prompts": ["one", "x"], "completions": [" two", "z"]}
    assert checked_rewards(lambda texts: map(len, texts), INPUTS).tolist() == [7.0, 4.0]
    assert checked_rewards(lambda whatever: map(len, whatever), INPUTS).tolist() == [7.0, 4.0]
    assert checked_rewards(lambda *, answers: map(len, answers), INPUTS).tolist() == [4.0, 1.0]
    assert checked_rewards(lambda episodes: [e.num_turns for e in episodes], INPUTS).tolist() == [
        1.0,
        2.0,
    ]

    def like_others(completions, **rest):
        assert set(rest) == {"texts", "prompts", "answers", "episodes", "tasks", "label"}
        return rest["label"]

    assert checked_rewards(like_others, INPUTS).tolist() == [3.0, 5.0]


def test_what_is_not_there_is_named_with_what_is():
    with pytest.raises(ConfigError, match=r"asks for .level., which is not there; .*label"):
        checked_rewards(lambda answers, level: [], INPUTS)
    with pytest.raises(ConfigError, match="asks for 'prompts'"):
        checked_rewards(lambda prompts: [], ["a text alone"])


def test_several_rewards_add_up_by_their_weights(tmp_path, monkeypatch):
    (tmp_path / "two_rewards.py").write_text(
        "def long(texts):\n    return [len(t) for t in texts]\n"
        "def right(answers, label):\n    return [float(l == 3) for l in label]\n"
        "def wrong(answers):\n    return [1 / 0 for a in answers]\n"
    )
    monkeypatch.chdir(tmp_path)
    both = load_reward("two_rewards:long,two_rewards:right", weights_of_rewards="0.5,10")
    assert isinstance(both, WeightedRewards)
    assert checked_rewards(both, INPUTS).tolist() == [13.5, 2.0]
    columns = both.columns(INPUTS)
    assert list(columns) == ["long", "right"]
    torch.testing.assert_close(columns["right"], torch.tensor([1.0, 0.0]))
    for weights, message in (
        ("1", "1 weights were given for 2"),
        ("a,b", "numbers between commas"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_reward("two_rewards:long,two_rewards:right", weights_of_rewards=weights)
    with pytest.raises(DataError, match=r"raised ZeroDivisionError.*two_rewards\.py, line 6\)"):
        checked_rewards(load_reward("two_rewards:wrong"), INPUTS)
    with pytest.raises(ConfigError, match="--trust never_seen"):
        trust_reward("two_rewards:long,never_seen:right", "runs/x")
    with pytest.raises(ConfigError, match="--trust os"):
        trust_reward("os:system", "runs/x")


def test_numbers_of_any_library_are_rewards_and_nothing_else_is():
    one = torch.ones(2, requires_grad=True)
    for found in (
        [True, np.float32(1.0)],
        np.ones(2),
        one,
        [one[0], np.array(1.0)],
        (x for x in (1, 1)),
    ):
        assert checked_rewards(lambda texts, found=found: found, INPUTS).tolist() == [1.0, 1.0]
    for wrong, message in (
        (["1.0", "2"], r"wrong returned '1\.0' for text 0, not a number"),
        ([1.0, None], "wrong returned NoneType for text 1, not a number"),
        (np.ones((2, 1)), "wrong returned list for text 0, not a number"),
        ([float("inf"), 0.0], "wrong returned inf for text 0"),
        ([10**400, 0.0], "wrong returned inf for text 0"),
        ([0.0, -1e25], r"wrong returned -1e\+25, which is too large: .* for text 1: "),
        (iter([1.0] * 9), "wrong returned 3 numbers for 2 texts"),
        ({"a": 1.0, "b": 2.0}, "one number a text, not dict"),
        (1.0, "one number a text, not 1.0"),
        (None, "one number a text, not NoneType"),
    ):

        def reward(texts, wrong=wrong):
            return wrong

        reward.__name__ = "wrong"
        with pytest.raises(DataError, match=message):
            checked_rewards(reward, INPUTS)


def test_a_function_that_leaves_or_waits_is_named_and_ends_nothing():
    def leaves(texts):
        raise SystemExit(3)

    def breaks_off(texts):
        yield 1.0
        raise KeyError("label")

    async def waits(texts):
        return [1.0, 1.0]

    with pytest.raises(DataError, match=r"leaves raised SystemExit: 3 \(.*test_rewards\.py, line"):
        checked_rewards(leaves, INPUTS)
    with pytest.raises(DataError, match="breaks_off raised KeyError: 'label'"):
        checked_rewards(breaks_off, INPUTS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match="waits is asynchronous"):
            checked_rewards(waits, INPUTS)
    with pytest.raises(ConfigError, match="',' names no reward"):
        load_reward(",")


def test_an_episode_is_text_and_messages_at_once():
    episode = EPISODES[1]
    assert episode.text == "xy-z" and episode.completion == "y-z"
    assert [m["role"] for m in episode.messages] == ["user", "assistant", "user", "assistant"]
    chat = Episode(None, 0, [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}])
    chat.answers.append("a")
    assert chat.text == "s\nu\na"
    assert [m["content"] for m in chat.messages] == ["s", "u", "a"]
