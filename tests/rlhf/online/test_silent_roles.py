"""Rewards of a role that never answers: they are told of, since nothing is learned from them.

Role and rewards come from two methods of an environment, so that a misspelt name goes unnoticed.
"""

import pytest
import torch
from playout.rlhf.environments.load import own_environment
from playout.rlhf.model.reference import Reference
from playout.rlhf.online.config import EpisodeLimits
from playout.rlhf.online.episode_evaluator import EpisodeEvaluator
from small_language import chat_tokenizer, small_model


class Colours:
    def __init__(self, paid="white"):
        self.paid = paid

    def reset(self, task, seed):
        return "?"

    def role(self):
        return "white"

    def step(self, answer):
        return None, {self.paid: 1.0}, True


@pytest.mark.parametrize(("paid", "told"), [("white", False), ("White", True)])
def test_a_role_that_gets_rewards_and_never_answers_is_told(tmp_path, capsys, paid, told):
    tokenizer = chat_tokenizer("chatml")
    factory = own_environment(Colours, options={"paid": paid})
    evaluator = EpisodeEvaluator(tokenizer, factory, 2, EpisodeLimits(max_new_tokens=2))
    model = small_model(tokenizer, length=64)
    reference = Reference(model, dtype=torch.float32)
    for step, folder in ((0, tmp_path), (1, tmp_path), (0, None)):  # once a run
        evaluator.measure(model, reference, folder=folder, step=step)
    note = (
        "note: the role 'White' got rewards and answered in none of 4 episodes ('white' did): "
        "nothing is learned from its rewards\n"
    )
    assert capsys.readouterr().err == note * told
