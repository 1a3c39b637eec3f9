"""Learning from episodes of several turns: masks, advantages, variants of GRPO, roles."""

import pytest
import torch
from playout.agents.ppo.gae import compute_gae
from playout.agents.ppo.update import ppo_update
from playout.errors import ConfigError
from playout.rlhf.environments.load import own_environment
from playout.rlhf.model.reference import Reference
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.online.config import GRPOConfig
from playout.rlhf.online.episode import Episode, environment_metrics
from playout.rlhf.online.episodes import score_episodes
from playout.rlhf.online.grpo import GRPOTrainer, group_advantages, grouped_advantages
from playout.rlhf.online.policy import LanguagePolicy
from playout.rlhf.online.rows import lay_out

SHAPE = TransformerConfig(60, 32, 64, 1, 2, 2, max_position_embeddings=64)


def made(parts, rewards, ended=None, roles=(), role_rewards=()):
    """An episode of (read, written) parts of token ids."""
    episode = Episode(None, 0, "p", rewards=list(rewards), roles=list(roles))
    episode.role_rewards = list(role_rewards)
    for turn, (read, written) in enumerate(parts):
        episode.tokens += [*read, *written]
        episode.mask += [False] * len(read) + [True] * len(written)
        episode.turns += [turn] * (len(read) + len(written))
        episode.logprobs += [0.0] * len(read) + [-1.0] * len(written)
        episode.answers.append("x")
    episode.answer_ended = ended or [True] * len(parts)
    return episode


TALK = [
    made([([1, 2, 3], [4, 5]), ([6], [7, 8, 9]), ([10, 11, 12, 13], [14])], [1.0, -0.5, 2.0]),
    made([([20, 21], [22]), ([23, 24, 25], [26, 27])], [0.25, 3.0], [False, True]),
    made([([30], [31, 32, 33])], [4.0]),
]


def policy_and_rollout(values=True, **options):
    policy = LanguagePolicy(Transformer(SHAPE, seed=0), values=values)
    reference = Reference(policy.model)
    with torch.no_grad():
        policy.model.embed_tokens.mul_(3)
    if values:
        torch.nn.init.normal_(policy.value_head.weight, std=0.3)
    return policy, score_episodes(policy, reference, TALK, None, **{"kl_coef": 0.1, **options})


def test_rewards_lie_at_the_last_token_of_their_turn_and_cut_answers_pay_theirs():
    _, found = policy_and_rollout(kl_coef=0.0, missing_end=0.5)
    expected = {(0, 3): 1.0, (0, 7): -0.5, (0, 12): 2.0, (1, 1): -0.25, (1, 6): 3.0, (2, 2): 4.0}
    rewards = found.rollout.rewards
    places = [tuple(place) for place in rewards.nonzero().tolist()]
    assert {place: float(rewards[place]) for place in places} == expected
    assert found.scores.tolist() == [2.5, 3.25, 4.0]
    assert found.rollout.terminations.nonzero().tolist() == [[0, 12], [1, 6], [2, 2]]


def test_advantages_over_turns_are_those_of_one_long_row_of_the_policys_tokens():
    """Textbook estimation on the policy's tokens alone, as if nobody had spoken in between."""
    _, found = policy_and_rollout()
    rollout, gamma, decay = found.rollout, 0.97, 0.9
    compute_gae(rollout, gamma=gamma, gae_lambda=decay)
    for row in range(3):
        own = rollout.valid[row]
        values, rewards = rollout.values[row][own].tolist(), rollout.rewards[row][own].tolist()
        assert len(values) == sum(TALK[row].mask)
        advantage, after, expected = 0.0, 0.0, []
        for value, reward in zip(reversed(values), reversed(rewards), strict=True):
            advantage = reward + gamma * after - value + gamma * decay * advantage
            after = value
            expected.insert(0, advantage)
        assert rollout.advantages[row][own].tolist() == pytest.approx(expected, abs=1e-5)
        assert (rollout.advantages[row][~own] == 0).all()


def gradients(policy, rollout, config, variant=None):
    """What one step of `ppo_update` would follow."""
    found = {}

    class Stopped(torch.optim.SGD):
        def step(self, closure=None):
            found.update(
                (name, p.grad.clone()) for name, p in policy.named_parameters() if p.requires_grad
            )

    optimizer = Stopped(policy.parameters(), lr=0.0)
    generator = torch.Generator().manual_seed(0)
    ppo_update(policy, optimizer, rollout, config, generator=generator, variant=variant)
    return found


def plain_logprobs(policy, episode):
    """Log-probabilities of all tokens but the first, by the whole forward pass."""
    ids = torch.tensor([episode.tokens])
    logits = policy.model.logits(policy.model(ids[:, :-1]))
    return torch.log_softmax(logits, -1).gather(2, ids[:, 1:, None])[0, :, 0]


def test_only_what_the_policy_wrote_is_learned_from():
    config = GRPOConfig(batch=8, max_new_tokens=3, minibatch=3).ppo_config()
    config = type(config)(**{**vars_of(config), "max_grad_norm": 0.0})
    policy, found = policy_and_rollout(values=False)
    # Advantages everywhere, also where the environment speaks.
    found.rollout.advantages = torch.linspace(-1, 2, found.rollout.valid.numel()).view_as(
        found.rollout.rewards
    )
    found.rollout.returns = found.rollout.values
    got = gradients(policy, found.rollout, config)
    total = 0.0
    for row, episode in enumerate(TALK):
        own = torch.tensor(episode.mask[1:])
        weight = found.rollout.advantages[row, : len(own)]
        total = total - (weight * plain_logprobs(policy, episode))[own].sum()
    policy.zero_grad()
    (total / sum(sum(episode.mask) for episode in TALK)).backward()
    for name, parameter in policy.named_parameters():
        torch.testing.assert_close(got[name], parameter.grad, atol=1e-5, rtol=1e-4)
    # A policy that only ever reads gets nothing.
    found.rollout.valid = torch.zeros_like(found.rollout.valid)
    assert all((grad == 0).all() for grad in gradients(policy, found.rollout, config).values())


def vars_of(config):
    return {name: getattr(config, name) for name in config.__dataclass_fields__}


def published_loss(name, logprobs, old, reference, advantages, mask, longest, coefficient):
    """Losses as the papers write them; lists over episodes."""
    sums, lengths = [], []
    for row, (lp, lp0, ref, own) in enumerate(zip(logprobs, old, reference, mask, strict=True)):
        ratio = (lp - lp0)[own].exp()
        high = 0.28 if name == "dapo" else 0.2
        gain = torch.minimum(ratio * advantages[row], ratio.clamp(0.8, 1 + high) * advantages[row])
        if name in ("grpo", "dr_grpo"):
            difference = (ref - lp)[own]
            gain = gain - coefficient * (difference.exp() - 1 - difference)
        sums.append(gain.sum())
        lengths.append(int(own.sum()))
    if name == "grpo":
        each = [total / length for total, length in zip(sums, lengths, strict=True)]
        return -sum(each) / len(each)
    if name == "dr_grpo":
        return -sum(total / longest for total in sums) / len(sums)
    if name == "rloo":
        return -sum(sums) / len(sums)
    return -sum(sums) / sum(lengths)


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "dapo", "rloo"])
def test_the_variants_follow_the_gradients_of_the_published_losses(name):
    config = GRPOConfig(
        batch=8, variant=name, max_new_tokens=3, minibatch=3, kl_coef=0.3, dtype="float32"
    )
    policy, found = policy_and_rollout(values=False)
    rollout = found.rollout
    trainer = GRPOTrainer(policy.model, FakeTokenizer(), [], None, config, seed=0, environment=NONE)
    # The policy has moved since it played, so that ratios differ from 1 and some are clipped.
    with torch.no_grad():
        torch.manual_seed(1)
        for parameter in policy.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    advantages = [1.0, -2.0, 0.7]
    rollout.advantages = torch.tensor(advantages)[:, None] * rollout.valid
    rollout.returns = rollout.values
    rollout.weights = trainer._weights(found)
    ppo = config.ppo_config()
    ppo = type(ppo)(**{**vars_of(ppo), "max_grad_norm": 0.0})
    got = gradients(policy, rollout, ppo, trainer.loss_variant)
    policy.zero_grad()
    rows = [len(episode.tokens) - 1 for episode in TALK]
    loss = published_loss(
        name,
        [plain_logprobs(policy, episode) for episode in TALK],
        [rollout.logprobs[i, :n] for i, n in enumerate(rows)],
        [rollout.ref_logprobs[i, :n] for i, n in enumerate(rows)],
        advantages,
        [torch.tensor(episode.mask[1:]) for episode in TALK],
        3,
        0.3,
    )
    loss.backward()
    for key, parameter in policy.named_parameters():
        torch.testing.assert_close(got[key], parameter.grad, atol=1e-5, rtol=1e-3)


class FakeTokenizer:
    pad_id, end_id, bos_id, stop_ids, template = 0, 0, 0, (0,), None


class Nothing:
    def reset(self, task, seed):
        return "x"

    def step(self, answer):
        return None, 0.0, True


NONE = own_environment(Nothing)


def test_groups_of_any_size_are_compared_by_mean_others_or_best():
    scores = torch.tensor([1.0, 2.0, 3.0, 5.0, 5.0, 5.0])
    groups = torch.tensor([7, 7, 7, 9, 9, 9])
    for scale in (True, False):
        torch.testing.assert_close(
            grouped_advantages(scores, groups, scale=scale),
            group_advantages(scores, 3, scale=scale),
        )
    uneven = grouped_advantages(
        torch.tensor([1.0, 4.0, 9.0, 2.0]), torch.tensor([0, 1, 0, 2]), scale=False
    )
    assert uneven.tolist() == [-4.0, 0.0, 4.0, 0.0]
    others = grouped_advantages(scores, groups, baseline="leave_one_out", scale=False)
    torch.testing.assert_close(others, torch.tensor([-1.5, 0.0, 1.5, 0.0, 0.0, 0.0]))
    best = grouped_advantages(scores, groups, baseline="best")
    assert best.tolist() == [0, 0, 1, 0, 0, 0]
    for bad in ({"variant": "ppo"}, {"baseline": "x"}, {"average": "x"}, {"kl_in": "x"}):
        with pytest.raises(ConfigError, match="must be one of"):
            GRPOConfig(**bad)


def test_a_baseline_of_the_others_is_scaled_by_the_deviation_of_the_group():
    scores, groups = torch.tensor([1.0, 2.0, 6.0]), torch.zeros(3, dtype=torch.long)
    one = grouped_advantages(scores, groups)
    others = grouped_advantages(scores, groups, baseline="leave_one_out")
    torch.testing.assert_close(others, 1.5 * one)


def test_a_role_is_credited_with_its_own_rewards_alone():
    parts = [([1, 2], [3]), ([4], [5, 6]), ([7], [8])]
    game = made(
        parts,
        [0.0, 0.0, 1.0],
        roles=["x", "o", "x"],
        role_rewards=[{}, {"o": 0.5}, {"x": 1.0, "o": -1.0}],
    )
    rows = lay_out([game], 0)
    assert rows.num_roles == 2 and rows.role.tolist() == [0, 1]
    assert rows.valid.nonzero().tolist() == [[0, 3], [0, 4], [1, 1], [1, 6]]
    rewards = {tuple(p): float(rows.rewards[tuple(p)]) for p in rows.rewards.nonzero().tolist()}
    # What o lost by the move of x after it counts at the last move of o.
    assert rewards == {(0, 4): -0.5, (1, 6): 1.0}


def cut_game(turns, next_role):
    """An episode of x and o in turn that its environment cut, two tokens an answer."""
    parts = [([3 * t + 1], [3 * t + 2, 3 * t + 3]) for t in range(turns)]
    roles = ["x", "o"] * turns
    game = made(parts, [0.5] * turns, roles=roles[:turns], role_rewards=[{"x": 0.5}] * turns)
    game.tokens, game.mask = [*game.tokens, 50], [*game.mask, False]
    game.turns, game.logprobs = [*game.turns, turns], [*game.logprobs, 0.0]
    game.truncated, game.next_role, game.by_role = "environment", next_role, True
    return game


@pytest.mark.parametrize("next_role", ["x", "o", ""])
def test_a_cut_episode_is_valued_for_the_role_alone_that_would_go_on(next_role):
    policy, _ = policy_and_rollout()
    game = cut_game(4, next_role)
    found = score_episodes(policy, Reference(policy.model), [game], None, kl_coef=0.0)
    rows, rollout = found.rows, found.rollout
    ids = torch.tensor([game.tokens])
    after = policy.assess(ids, ids, torch.ones_like(ids, dtype=torch.bool))[2][0, -1]
    places = {"x": [0, 1, 6, 7], "o": [3, 4, 9, 10]}  # of each role's four tokens
    for row, role in enumerate(["o", "x"]):
        own, goes_on = places[role], role == next_role
        assert rows.valid[row].nonzero()[:, 0].tolist() == own
        assert bool(rows.continues[row]) == goes_on
        learned = own if goes_on else own[:2]
        assert rollout.valid[row].nonzero()[:, 0].tolist() == learned
        assert rollout.truncations[row].nonzero()[:, 0].tolist() == [learned[-1]]
        value = after if goes_on else rollout.values[row, own[2]]
        torch.testing.assert_close(rollout.bootstrap_values[row, learned[-1]], value)
    compute_gae(rollout, gamma=1.0, gae_lambda=1.0)
    first = rollout.returns[rows.role.tolist().index(1), 0]  # x gets 0.5 at each of four turns
    expected = 2.0 + after if next_role == "x" else 1.0 + rollout.values[1, 6]
    torch.testing.assert_close(first, expected)
    # Without values the whole row is learned from.
    alone = LanguagePolicy(policy.model, values=False)
    plain = score_episodes(alone, Reference(policy.model), [game], None, kl_coef=0.0)
    assert torch.equal(plain.rollout.valid, plain.rows.valid)


def test_a_role_whose_only_answer_was_cut_short_by_the_environment_teaches_no_value():
    policy, _ = policy_and_rollout()
    reference = Reference(policy.model)
    found = score_episodes(policy, reference, [cut_game(1, "o")], None, kl_coef=0.0)
    assert not found.rollout.valid.any() and not found.rollout.truncations.any()
    compute_gae(found.rollout, gamma=1.0, gae_lambda=1.0)
    policy.fit_values(found.rollout.obs, found.rollout.valid, found.rollout.returns)
    assert (policy.value_head.weight == 0).all()


def test_the_reward_of_roles_is_the_mean_of_what_each_got():
    lost = made([([1], [2])], [-1.0], roles=["x"], role_rewards=[{"x": -1.0, "o": 1.0}])
    won = made(
        [([1], [2]), ([3], [4])], [0.0, 2.0], roles=["x", "o"], role_rewards=[{}, {"o": 2.0}]
    )
    lost.by_role = won.by_role = True
    assert (lost.total, won.total) == (0.0, 1.0)
    found = environment_metrics([lost, won])
    assert (found["env/reward"], found["env/role/x"], found["env/role/o"]) == (0.5, -0.5, 1.5)
    alone = made([([1], [2])], [3.0], roles=["x"], role_rewards=[{"x": 3.0}])  # against others
    assert environment_metrics([alone]).keys() == environment_metrics([TALK[0]]).keys()
