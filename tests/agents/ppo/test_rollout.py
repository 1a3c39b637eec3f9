"""Minibatches: what they cover, in what order, and that cutting rows loses nothing."""

import pytest
import torch
from playout.agents.networks.policy import map_tree
from playout.agents.ppo.rollout import Rollout
from playout.errors import ConfigError


def numbered(rows=3, steps=8, valid=None):
    """A rollout whose entries are their own flat index."""
    index = torch.arange(rows * steps).reshape(rows, steps).float()
    flags = torch.zeros(rows, steps, dtype=torch.bool)
    return Rollout(
        obs={"a": index.unsqueeze(-1), "b": {"c": index.clone()}},
        actions=index.long(),
        logprobs=index,
        values=index,
        rewards=index,
        terminations=flags,
        truncations=flags,
        valid=~flags if valid is None else valid,
        last_values=index[:, -1],
        action_mask=index.unsqueeze(-1).expand(rows, steps, 2),
        episode_starts=flags,
        initial_state=(torch.arange(rows).float().unsqueeze(1),),
        advantages=index,
        returns=index,
    )


def test_steps_visit_every_valid_step_once_with_all_its_fields():
    valid = torch.ones(3, 8, dtype=torch.bool)
    valid[1, 2:5] = False
    ro = numbered(valid=valid)
    seen = []
    for batch in ro.minibatches(5, by="steps", generator=torch.Generator().manual_seed(0)):
        assert len(batch) <= 5 and batch.valid.all()
        for field in (batch.logprobs, batch.returns, batch.obs["b"]["c"], batch.action_mask[:, 1]):
            assert torch.equal(field, batch.actions.float())
        seen += batch.actions.tolist()
    wanted = [i for i in range(24) if i not in (10, 11, 12)]
    assert sorted(seen) == wanted and seen != wanted


def test_parts_are_of_nearly_equal_size():
    batches = list(numbered().minibatches(10, by="steps", generator=torch.Generator()))
    assert [len(batch) for batch in batches] == [8, 8, 8]


def test_rows_stay_whole_with_their_states():
    batches = list(numbered().minibatches(2, by="rows", generator=torch.Generator().manual_seed(1)))
    assert sorted(len(batch) for batch in batches) == [1, 2]
    for batch in batches:
        assert batch.actions.shape[1] == 8
        assert torch.equal(batch.initial_state[0][:, 0] * 8, batch.actions[:, 0].float())


def test_the_order_follows_the_generator_alone():
    orders = []
    for seed in (5, 5, 6):
        generator = torch.Generator().manual_seed(seed)
        batches = numbered().minibatches(6, by="steps", generator=generator)
        orders.append([a for batch in batches for a in batch.actions.tolist()])
    assert orders[0] == orders[1] != orders[2]


def test_cut_rows_are_shorter_rows_with_their_own_states():
    states = (torch.arange(6).float().reshape(3, 2, 1),)
    cut = numbered().cut(4, states)
    assert cut.actions.shape == (6, 4)
    assert cut.actions[3].tolist() == [12, 13, 14, 15]
    assert cut.obs["a"].shape == (6, 4, 1)
    assert cut.initial_state[0][:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ConfigError, match="does not divide"):
        numbered().cut(3, states)


def test_a_rollout_with_nothing_valid_yields_nothing():
    ro = numbered(valid=torch.zeros(3, 8, dtype=torch.bool))
    assert list(ro.minibatches(4, by="steps", generator=torch.Generator())) == []


def test_wrong_sizes_and_kinds_are_refused():
    with pytest.raises(ConfigError, match="at least 1"):
        next(numbered().minibatches(0, by="steps", generator=torch.Generator()))
    with pytest.raises(ConfigError, match="batch_by"):
        next(numbered().minibatches(4, by="columns", generator=torch.Generator()))


def test_slices_of_a_minibatch_share_its_memory():
    batch = next(numbered().minibatches(3, by="rows", generator=torch.Generator()))
    part = batch.slice(1, 3)
    assert len(part) == 2
    assert part.logprobs.data_ptr() == batch.logprobs[1:].data_ptr()
    assert map_tree(lambda x: x, None) is None
