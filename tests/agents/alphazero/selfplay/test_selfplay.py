import numpy as np
import playout
import pytest
import torch
from playout.agents.alphazero.config import SelfPlayConfig
from playout.agents.alphazero.evaluator import NetworkEvaluator
from playout.agents.alphazero.selfplay import SelfPlay
from playout.agents.networks.boards.resnet import build
from playout.envs.core.game import StateBatch
from playout.errors import ConfigError, DivergedError
from playout.mcts.exact.solver import Solver
from playout.mcts.search import SearchConfig

USUAL = {"opening_share": 0.97, "proof_plies": 22}


def selfplay(name="tic_tac_toe", *, net=None, seed=0, **settings):
    game = playout.game(name)
    net = net or build(game.obs_shape, game.num_actions, size="tiny", seed=1)
    config = SelfPlayConfig(
        **{"num_trees": 16, "num_simulations": 12, "opening_plies": 4, **USUAL, **settings}
    )
    evaluators = [NetworkEvaluator(net, device="cpu") for _ in range(config.num_groups)]
    return SelfPlay(game, evaluators, config, search=SearchConfig(cache_size=256), seed=seed)


def same(a, b):
    rows = all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("states", "values", "policy_weights")
    )
    return rows and np.array_equal(*(one.policy.dense(64) for one in (a, b)))


def dense(play, examples):
    return examples.policy.dense(play.game.num_actions)


def test_examples_are_legal_positions_with_proper_targets():
    play = selfplay("connect_four", opening_plies=20)
    examples, counts = play.play(3000)
    assert counts.games > 0
    assert counts.evaluations >= 3000
    states = StateBatch.from_data(play.game, examples.states, check=True)
    assert not states.is_terminal().any()
    assert (dense(play, examples)[states.legal_mask() == 0] == 0).all()
    assert np.allclose(dense(play, examples).sum(axis=1), 1, atol=1e-4)
    assert (np.abs(examples.values) <= 1).all()
    assert set(np.unique(examples.policy_weights)) == {0.0, 1.0}


def replay_by_rules(game, states, policies, values):
    """Follows one game's examples with the plain State API from its beginning; its returns.

    Every row's successor must come from a legal move, the last row must have a legal move that ends
    the game as the targets say, and a policy target must lie on legal moves, the one played too.
    """
    state = game.initial_state()
    for row, policy in enumerate(policies):
        assert states[row].tobytes() == state.to_bytes()
        legal = state.legal_actions
        assert policy.sum() == pytest.approx(1, abs=1e-4)
        assert not np.delete(policy, legal).any()
        after = {action: state.apply(action) for action in legal}
        if row + 1 < len(states):
            following = states[row + 1].tobytes()
            played = [action for action in legal if after[action].to_bytes() == following]
        else:
            played = [
                action
                for action in legal
                if after[action].is_terminal
                and after[action].returns[state.to_play] == values[row, 0]
            ]
        assert played and (policy[played] > 0).all()
        state = after[played[0]]
        assert state.is_terminal == (row + 1 == len(states))
    returns = list(state.returns)
    assert values[:, 0].tolist() == [returns[ply % 2] for ply in range(len(states))]
    return returns


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tic_tac_toe", "connect_four(width=5, height=4)"])
def test_every_recorded_game_follows_the_rules_from_its_beginning_to_its_end(name):
    game = playout.game(name)
    net = build(game.obs_shape, game.num_actions, size="tiny", seed=1)
    # Nothing proven and no search's value in a target: what is left is the result by the rules.
    config = SelfPlayConfig(
        num_trees=16,
        num_simulations=12,
        opening_share=0.0,
        explore_plies=game.max_plies,
        value_mix=0.0,
        regret_threshold=2.0,
        proof_nodes=0,
    )
    evaluators = [NetworkEvaluator(net, device="cpu") for _ in range(config.num_groups)]
    search = SearchConfig(prove=False, max_considered=game.num_actions)
    play = SelfPlay(game, evaluators, config, search=search, seed=4)
    examples, counts = play.play(8000)
    first, policies = game.initial_state().to_bytes(), dense(play, examples)
    begins = [row for row, state in enumerate(examples.states) if state.tobytes() == first]
    returns = [
        replay_by_rules(game, examples.states[rows], policies[rows], examples.values[rows])
        for rows in map(slice, begins, [*begins[1:], len(examples)])
    ]
    assert begins[0] == 0 and len(returns) == counts.games > 20
    assert counts.first_wins == returns.count([1, -1])
    assert counts.draws == returns.count([0, 0])
    assert counts.first_wins < counts.games - counts.draws  # both sides have won
    assert (examples.policy_weights == 1).all()


def test_the_same_seed_plays_the_same_games_and_another_seed_others():
    first, again, other = (selfplay(seed=seed) for seed in (5, 5, 6))
    for _ in range(2):
        one, two, three = first.play(400)[0], again.play(400)[0], other.play(400)[0]
        assert same(one, two)
    assert not same(one, three)


def test_groups_do_not_depend_on_how_threads_take_turns():
    play, serial = selfplay(num_groups=3), selfplay(num_groups=3)
    examples, _ = play.play(900)
    parts = [group.play(300)[0] for group in reversed(serial.groups)][::-1]
    assert len(examples) == sum(len(part) for part in parts)
    assert np.array_equal(examples.values, np.concatenate([part.values for part in parts]))


def test_resuming_continues_with_the_same_games():
    straight, stopped, resumed = selfplay(), selfplay(), selfplay(seed=0)
    straight.play(500)
    stopped.play(500)
    resumed.load_state_dict(stopped.state_dict())
    for _ in range(2):
        assert same(straight.play(500)[0], resumed.play(500)[0])


def test_openings_are_as_many_and_as_long_as_asked():
    play = selfplay("connect_four", opening_share=0.0)
    assert (play.groups[0].states.observe().sum(axis=(1, 2, 3)) == 0).all()
    play = selfplay("connect_four", opening_share=1.0, opening_plies=9, num_trees=2000)
    plies = play.groups[0].states.observe().sum(axis=(1, 2, 3)).astype(int)
    # 0 to 9, each about as often as it is large (a few of the longest are over, and drawn anew).
    counts = np.bincount(plies, minlength=10)
    assert len(counts) == 10
    assert np.allclose(counts / 2000, (2 * np.arange(10) + 1) / 100, atol=0.035)
    play = selfplay("connect_four", opening_share=0.5, opening_plies=9, num_trees=2000)
    plies = play.groups[0].states.observe().sum(axis=(1, 2, 3))
    assert 0.45 < (plies == 0).mean() < 0.56


def test_a_network_that_answers_nan_stops_self_play():
    net = build((2, 3, 3), 9, size="tiny")
    with torch.no_grad():
        net.policy.bias.fill_(float("nan"))
    with pytest.raises(DivergedError):
        selfplay(net=net).play(100)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_trees": 0},
        {"opening_share": 1.5},
        {"opening_plies": -1},
        {"num_groups": 0},
        {"continue_proven": 2.0},
        {"proof_plies": -1},
    ],
)
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        SelfPlayConfig(**settings)


def stones(play, examples):
    states = StateBatch.from_data(play.game, examples.states, check=True)
    return states, (states.observe() > 0).sum(axis=(1, 2, 3))


@pytest.mark.slow
def test_positions_with_few_plies_left_are_proven_and_have_exact_targets():
    settings = {"num_simulations": 3, "opening_plies": 26, "stop_proven": False}
    play = selfplay("connect_four", continue_proven=0.9, proof_nodes=200_000, **settings)
    examples, counts = play.play(3000)
    states, plies = stones(play, examples)
    rows = np.flatnonzero(plies >= 22)
    outcomes = Solver(play.game).outcomes(states[rows])
    legal = states[rows].legal_mask() > 0
    best = outcomes.max(axis=1)
    keeps = legal & (outcomes == best[:, None])
    assert len(rows) > 100 and (examples.values[rows, 0] == best).all()
    assert np.allclose(dense(play, examples)[rows], keeps / keeps.sum(axis=1, keepdims=True))
    matters = (keeps != legal).any(axis=1)
    assert np.array_equal(examples.policy_weights[rows], matters)
    assert 0 < matters.sum() < len(rows)
    opened = (plies >= 15).sum()  # half of the openings are proven at once, and are no games
    assert counts.games < opened
    plain = selfplay("connect_four", proof_nodes=0, **settings)
    states, plies = stones(plain, plain.play(3000)[0])
    assert plies.max() > 26  # games go on to their ends


@pytest.mark.parametrize(("continue_proven", "least", "most"), [(0.0, 20, 24), (1.0, 25, 41)])
def test_a_proven_game_goes_on_as_long_as_asked(continue_proven, least, most):
    play = selfplay(
        "connect_four", num_simulations=3, opening_share=0.0, continue_proven=continue_proven
    )
    examples, counts = play.play(1500)
    _, plies = stones(play, examples)
    assert counts.games > 0
    assert least <= plies.max() <= most
    last = examples.values[np.flatnonzero(plies[1:] == 0), 0]  # of all games but one
    assert np.isin(last, (-1, 0, 1)).all()


@pytest.mark.slow
def test_a_board_small_enough_to_be_proven_whole_still_has_games():
    play = selfplay("connect_four(width=4, height=4)", num_simulations=3)
    examples, counts = play.play(60)
    _, plies = stones(play, examples)
    assert counts.games > 0 and (plies == 0).any()


@pytest.mark.slow
def test_positions_of_openings_that_are_proven_at_once_do_not_lengthen_games():
    play = selfplay("connect_four(width=5, height=4)", num_simulations=3, opening_share=0.9)
    examples, counts = play.play(60)
    assert len(examples) > 20 * counts.games > 0  # most openings are proven, and are no games
    assert 1 <= counts.metrics(len(examples))["selfplay/game_length"] <= 20


@pytest.mark.slow
def test_play_with_proofs_resumes_as_well():
    settings = {"num_simulations": 3, "opening_plies": 26}
    straight, stopped, resumed = (selfplay("connect_four", **settings) for _ in range(3))
    straight.play(500)
    stopped.play(500)
    resumed.load_state_dict(stopped.state_dict())
    for _ in range(2):
        assert same(straight.play(500)[0], resumed.play(500)[0])
