"""Self-play of games that are not Connect Four: one player, three, dice, provers, broken rules."""

import re

import numpy as np
import playout
import pytest
from playout.agents.alphazero.config import AlphaZeroConfig, LearnerConfig, SelfPlayConfig
from playout.agents.alphazero.proofs import TacticalEvaluator
from playout.agents.alphazero.selfplay import SelfPlay
from playout.agents.alphazero.trainer import AlphaZeroTrainer
from playout.envs.core.game import StateBatch
from playout.errors import DivergedError, GameError
from playout.mcts.evaluators import Evaluator, LeafBatch, UniformEvaluator
from playout.mcts.search import SearchConfig
from small_games import Climb, Dice, Nim, ProvenNim, Share

PLAIN = {"num_groups": 1, "num_trees": 8, "num_simulations": 6, "opening_share": 0.0}
# Whole games, and targets that are results by the rules alone.
BY_RULES = {"stop_proven": False, "proof_nodes": 0, "value_mix": 0.0, "regret_threshold": 9.0}


def selfplay(game, evaluator=None, *, search=None, seed=0, **settings):
    config = SelfPlayConfig(**{**PLAIN, **settings})
    search = search or SearchConfig(prove=False, max_considered=game.num_actions)
    return SelfPlay(game, [evaluator or UniformEvaluator()], config, search=search, seed=seed)


def games_of(game, examples):
    """The examples of whole games, a list of (texts of states, values) each."""
    states = StateBatch.from_data(game, examples.states, check=True)
    texts, first = [state.text for state in states], game.initial_state().text
    begins = [row for row, text in enumerate(texts) if text == first]
    rows = map(slice, begins, [*begins[1:], len(texts)])
    return [(texts[row], examples.values[row]) for row in rows]


def last_results(game, texts):
    """Results that one more action may lead to."""
    state = game.from_text(texts[-1])
    return [state.apply(action).returns.tolist() for action in state.legal_actions]


def test_a_players_result_is_the_target_of_all_its_positions():
    game = playout.game(Climb())
    play = selfplay(game, **BY_RULES)
    examples, counts = play.play(400)
    games = games_of(game, examples)
    assert counts.games == len(games) > 5
    ends = []
    for texts, values in games:
        assert len(texts) == 4 and values.shape == (4, 1) and (values == values[0]).all()
        assert [values[0, 0]] in last_results(game, texts)
        ends.append(values[0, 0])
    assert counts.first_return == pytest.approx(sum(ends))


def test_every_player_of_three_has_a_target_in_every_position():
    game = playout.game(Share())
    examples, counts = selfplay(game, **BY_RULES).play(600)
    games = games_of(game, examples)
    assert counts.games == len(games) > 5
    for texts, values in games:
        assert values.shape == (6, 3) and (values == values[0]).all()
        assert np.allclose(values.sum(axis=1), -1)  # six points among three
        assert any(np.allclose(values[0], known) for known in last_results(game, texts))


def test_the_searchs_value_is_mixed_in_for_the_side_to_move_alone():
    game = playout.game(Share())

    class Sure(Evaluator):
        needs_obs = False

        def evaluate(self, leaves):
            logits = np.zeros(leaves.mask.shape, np.float32)
            return logits, np.full((leaves.size, 3), 0.75, np.float32)

    exact = {**BY_RULES, "value_mix": 1.0}
    examples, _ = selfplay(game, Sure(), num_simulations=2, **exact).play(400)
    for texts, values in games_of(game, examples):
        for ply in range(3):  # where no simulation of two reaches the end
            assert values[ply, ply % 3] == pytest.approx(0.75)
            later = values[ply + 1]
            assert all(values[ply, p] == later[p] for p in range(3) if p != ply % 3)
        assert len(texts) == 6


def test_dice_are_drawn_by_their_probabilities_and_nobody_is_asked_to_move_there():
    game = playout.game(Dice())
    play = selfplay(game, num_trees=64, **BY_RULES)
    examples, counts = play.play(6000)
    states = StateBatch.from_data(game, examples.states, check=True)
    assert set(states.to_play().tolist()) == {0}
    games = games_of(game, examples)
    assert counts.games == len(games) > 100 and counts.chance > 50
    once = [(texts[1].split("-"), values) for texts, values in games if len(texts) == 2]
    good = sum(state == ["1", "0", "10"] for state, _ in once)
    bad = sum(state == ["1", "0", "0"] for state, _ in once)
    assert 0.65 < good / (good + bad) < 0.85
    for state, values in once:  # the second round brings -5, +1 or +5 fifths, halved
        before = (int(state[2]) - 10) / 10
        assert min(abs(values[0, 0] - before - gain) for gain in (0.0, 0.6, 1.0)) < 1e-6


def test_games_with_dice_resume_with_the_same_throws():
    straight, stopped, resumed = (selfplay(playout.game(Dice()), **BY_RULES) for _ in range(3))
    straight.play(300)
    stopped.play(300)
    resumed.load_state_dict(stopped.state_dict())
    one, two = straight.play(300)[0], resumed.play(300)[0]
    assert np.array_equal(one.states, two.states) and np.array_equal(one.values, two.values)


@pytest.mark.parametrize("kind", [Climb, Dice, Share])
def test_it_learns_which_first_move_is_worth_most(kind):
    game = playout.game(kind())
    selfplay_config = SelfPlayConfig(num_groups=1, num_trees=16, opening_share=0.5, opening_plies=2)
    config = AlphaZeroConfig(
        size="tiny",
        updates=5,
        evaluations=250,
        steps=8,
        min_window=2000,
        warmup_positions=64,
        infer_dtype="float32",
        learner=LearnerConfig(batch_size=64, num_shards=1),
        selfplay=selfplay_config,
    )
    trainer = AlphaZeroTrainer(config, seed=1, game=game)
    for _ in range(config.updates):
        trainer.update()
    leaves = LeafBatch.of(game.batch(1))
    logits, values = trainer.variants[0].network_evaluators[0].evaluate(leaves)
    best = {Climb: 1, Dice: 1, Share: 0}[kind]  # a step, a roll, a point for oneself
    assert logits[0].argmax() == best
    if kind is Climb:
        assert values[0] > 0.5


def test_what_a_game_proves_ends_games_with_exact_targets():
    game = playout.game(ProvenNim())
    play = selfplay(game, proof_plies=6, continue_proven=1.0)
    examples, counts = play.play(400)
    states = StateBatch.from_data(game, examples.states, check=True)
    left = np.array([10 - int(state.text.split("-")[0]) for state in states])
    near = left <= 6
    assert counts.games > 5 and near.sum() > 20
    assert (examples.values[near, 0] == np.where(left[near] % 4 == 0, -1, 1)).all()
    policy = examples.policy.dense(3)
    for row in np.flatnonzero(near & (left % 4 > 0)):
        assert policy[row].argmax() == left[row] % 4 - 1 and policy[row].max() == 1
    assert set(play.groups[0].proofs._prover.asked) == {SelfPlayConfig().proof_nodes}


def test_without_a_bound_of_plies_nothing_is_proven_by_plies():
    class Silent(ProvenNim):
        plies_left = None

    play = selfplay(playout.game(Silent()), proof_plies=10)
    play.play(100)
    assert play.groups[0].proofs._prover.asked == []


def test_leaves_that_a_game_proves_are_not_asked_of_the_network():
    class Counting(UniformEvaluator):
        asked = 0

        def evaluate(self, leaves):
            self.asked += leaves.size
            return super().evaluate(leaves)

    states = playout.game(ProvenNim()).batch(50)
    states.random_plies(np.arange(50, dtype=np.int32) % 3, 1)
    network = Counting()
    evaluator = TacticalEvaluator(network, states.game, tactics="off", proof_nodes=7)
    _, values = evaluator.evaluate(LeafBatch.of(states))
    left = np.array([10 - int(state.text.split("-")[0]) for state in states])
    assert network.asked == 0 and np.array_equal(values, np.where(left % 4 == 0, -1, 1))
    TacticalEvaluator(network, states.game, tactics="off", proof_nodes=0).evaluate(
        LeafBatch.of(states)
    )
    assert network.asked == 50


def test_strictly_the_same_settings_ask_once_a_simulation_and_once_a_root():
    game = playout.game("connect_four")
    network = UniformEvaluator()
    search = SearchConfig(cache_size=0, reuse_subtree=False, prove=False)
    play = selfplay(game, network, search=search, num_simulations=8, **BY_RULES)
    examples, counts = play.play(4000)
    assert counts.games > 0 and counts.proven == 0
    assert counts.simulations == 8 * counts.moves
    # Simulations that end at a finished game ask nothing; near the end of games they are some.
    assert 0.9 * 9 * counts.moves < counts.evaluations <= 9 * counts.moves
    states = StateBatch.from_data(game, examples.states, check=True)
    assert (states.observe().sum(axis=(1, 2, 3)) == 0).sum() == counts.games


@pytest.mark.parametrize("plies", [4, 9, 30])
def test_openings_that_random_play_would_end_are_shorter(plies):
    game = playout.game("tic_tac_toe")
    play = selfplay(game, num_trees=400, opening_share=1.0, opening_plies=plies)
    group = play.groups[0]
    assert not group.states.is_terminal().any()
    stones = group.states.observe().sum(axis=(1, 2, 3))
    assert np.array_equal(stones, group.plies) and stones.max() >= 4


def test_openings_of_a_game_that_random_play_always_ends_come_from_a_part_of_it():
    class Sudden(Nim):
        """Three moves in four end it."""

        num_actions = 2
        name = "sudden"

        def legal_actions(self, state):
            return range(2)

        def apply(self, state, action):
            return (self.stones if action else state[0] + 1), 1 - state[1]

    play = selfplay(playout.game(Sudden()), num_trees=50, opening_share=1.0, opening_plies=400)
    assert not play.groups[0].states.is_terminal().any()


class Broken(Nim):
    """Nim that breaks a rule once four stones are gone."""

    name = "broken"

    def __init__(self, fault):
        super().__init__(20)
        self.fault = fault

    def to_play(self, state):
        if self.fault == "to_play" and state[0] >= 4:
            return 7
        return 0 if self.fault == "endless" else super().to_play(state)

    def legal_actions(self, state):
        if self.fault == "legal" and state[0] >= 4:
            return [0, 9]
        return range(3) if self.fault == "endless" else super().legal_actions(state)

    def apply(self, state, action):
        if self.fault == "apply" and state[0] >= 4:
            raise KeyError("lost")
        if self.fault == "endless":
            return state[0], 1 - state[1]
        return super().apply(state, action)

    def observe(self, state, player):
        obs = super().observe(state, player)
        if self.fault == "observe" and state[0] >= 4:
            obs[:] = np.nan
        return obs


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("to_play", "to_play"),
        ("legal", "legal_actions"),
        ("observe", "NaN"),
        ("apply", "KeyError: 'lost'"),
        ("endless", "max_plies 20"),
    ],
)
def test_a_game_that_breaks_its_rules_is_named_and_nothing_is_lost(fault, text):
    play = selfplay(playout.game(Broken(fault)), seed=3)
    before = play.state_dict()
    with pytest.raises(GameError, match=text) as caught:
        for _ in range(30):
            before = play.state_dict()
            play.play(40)
    message = str(caught.value)
    assert message.startswith("broken") and "\n" not in message
    assert int(re.search(r"in the state (\d+)-\d+$", message)[1]) >= (
        0 if fault == "endless" else 4
    )
    after = play.state_dict()
    for one, two in zip(before["groups"], after["groups"], strict=True):
        assert one["round"] == two["round"] and np.array_equal(one["states"], two["states"])
        assert np.array_equal(one["histories"]["states"], two["histories"]["states"])


def test_an_observation_that_is_not_a_number_is_the_games_fault_not_the_networks():
    class Nan(UniformEvaluator):
        def evaluate(self, leaves):
            raise DivergedError("NaN")

    game = playout.game(Nim())
    play = selfplay(game, Nan())
    with pytest.raises(DivergedError, match="NaN"):
        play.play(10)
    leaves = LeafBatch.of(game.batch(2))
    leaves.obs[1] = np.nan
    with pytest.raises(GameError, match=r"nim.* observe gives NaN.*state 0-0"):
        play.groups[0]._answers(leaves)
