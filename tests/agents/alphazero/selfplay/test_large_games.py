"""What large games want of self-play: brief searches, surprise, resignation, final states."""

from types import SimpleNamespace

import numpy as np
import playout
import pytest
import torch
from playout.agents.alphazero.config import AlphaZeroConfig, LearnerConfig, SelfPlayConfig
from playout.agents.alphazero.evaluator import NetworkEvaluator
from playout.agents.alphazero.learner import Learner, losses
from playout.agents.alphazero.replay import Examples, Finals, Replay
from playout.agents.alphazero.selfplay import SelfPlay
from playout.agents.alphazero.selfplay.counts import Counts
from playout.agents.alphazero.selfplay.group import Group
from playout.agents.alphazero.selfplay.resignations import Resignations
from playout.agents.alphazero.selfplay.targets import surprise
from playout.agents.alphazero.trainer import AlphaZeroTrainer
from playout.agents.networks.boards.registry import new_network
from playout.agents.networks.boards.resnet import build
from playout.envs.core.game import StateBatch
from playout.errors import ConfigError
from playout.mcts.evaluators import Evaluator
from playout.mcts.search import SearchConfig
from small_games import Nim

OTHELLO = "othello(size=4)"
WHOLE = {"opening_share": 0.0, "stop_proven": False, "proof_nodes": 0}


def selfplay(name, *, keep_finals=False, seed=0, **settings):
    game = playout.game(name)
    net = build(game.obs_shape, game.num_actions, size="tiny", side_planes=None, seed=1)
    config = SelfPlayConfig(
        **{"num_groups": 1, "num_trees": 16, "num_simulations": 12, **WHOLE, **settings}
    )
    evaluators = [NetworkEvaluator(net, device="cpu")]
    search = SearchConfig(prove=False)
    return SelfPlay(game, evaluators, config, search=search, seed=seed, keep_finals=keep_finals)


@pytest.mark.slow
def test_brief_searches_leave_no_examples_and_make_moves_cheaper():
    _, all_full = selfplay("connect_four").play(4000)
    examples, counts = selfplay("connect_four", fast_share=0.75, fast_simulations=2).play(4000)
    assert counts.simulations / counts.moves < 0.6 * all_full.simulations / all_full.moves
    assert counts.games > all_full.games
    # A quarter of a game's plies; a game has 7 to 42.
    assert 0.1 < len(examples) / counts.games / 20 < 0.5


def test_brief_searches_are_the_same_again():
    one, two = (selfplay("connect_four", fast_share=0.5, seed=4).play(1500)[0] for _ in range(2))
    assert np.array_equal(one.states, two.states)
    assert np.array_equal(one.values, two.values)


def test_surprise_is_the_divergence_of_the_search_from_the_network():
    weights = np.array([[0.5, 0.5, 0, 0], [0, 1, 0, 0]], np.float32)
    prior = np.log(np.array([[0.25, 0.25, 0.5, 0], [0.1, 0.8, 0.1, 0]]) + 1e-30)
    found = surprise(SimpleNamespace(action_weights=weights, prior_logits=prior))
    assert np.allclose(found, [np.log(2), -np.log(0.8)], atol=1e-5)


def test_weight_by_surprise_keeps_the_sum_of_a_game_and_moves_it():
    plain = selfplay("connect_four", seed=2).play(4000)[0]
    mixed = selfplay("connect_four", seed=2, surprise_weight=0.5).play(4000)[0]
    assert np.array_equal(plain.states, mixed.states)
    assert set(np.unique(plain.policy_weights)) == {1.0}
    assert mixed.policy_weights.min() >= 0.5 - 1e-5
    assert mixed.policy_weights.max() > 1.2
    assert np.isclose(mixed.policy_weights.mean(), 1, atol=1e-4)


def test_a_side_gives_up_after_three_bad_moves_unless_the_game_is_played_on():
    game = playout.game("connect_four")
    config = SelfPlayConfig(num_trees=2, resign_below=-0.9, resign_check=0.5)
    watch = Resignations(game, config, seed=0, index=0)
    watch._checked[:] = [False, True]
    nobody = np.zeros(2, bool)
    first, second = np.zeros(2, np.int32), np.ones(2, np.int32)
    for turn in range(3):
        bad = watch.after(np.full(2, -0.95, np.float32), first, nobody)
        assert bad.tolist() == ([0] if turn == 2 else [])
        assert not len(watch.after(np.full(2, 0.95, np.float32), second, nobody))
    counts = Counts()
    watch.count(np.arange(2), np.array([[-1, 1], [1, -1]], np.float32), counts)
    assert (counts.resign_checked, counts.resign_wrong) == (1, 1)
    good = np.zeros(2, np.float32)
    assert not len(watch.after(good, first, nobody))
    assert watch._low[:, 0].tolist() == [0, 0]


def test_games_that_are_given_up_are_lost():
    play = selfplay("connect_four", resign_below=-1e-6, resign_check=0.0)
    examples, counts = play.play(4000)
    assert counts.resigned > 0
    assert counts.games >= counts.resigned
    assert set(np.unique(np.sign(examples.values))) <= {-1.0, 0.0, 1.0}


class Hundreds(Nim):
    """Nim for a hundred points."""

    name, value_scale = "hundreds", 100.0

    def returns(self, state):
        return [100 * result for result in super().returns(state)]


class SecondIsBetter(Evaluator):
    """The second player is taken to win."""

    def evaluate(self, leaves):
        values = np.where(leaves.to_play[: leaves.size] == 0, -0.95, 0.95).astype(np.float32)
        return np.zeros((leaves.size, 3), np.float32), values


def test_a_game_that_is_given_up_is_lost_in_the_game_s_own_units():
    config = SelfPlayConfig(
        num_trees=8, **WHOLE, value_mix=0.0, resign_below=-0.9, resign_check=0.0
    )
    group = Group(
        playout.game(Hundreds(30)),
        SearchConfig(num_simulations=2, prove=False),
        config,
        SecondIsBetter(),
        num_simulations=2,
        seed=0,
        index=0,
    )
    examples, counts = group.play(400)
    assert counts.resigned == counts.games > 0
    assert set(np.unique(examples.values)) == {-1.0, 1.0}


def test_a_game_played_on_counts_as_wrongly_given_up_if_it_is_not_lost():
    watch = Resignations(
        playout.game(Hundreds(30)),
        SelfPlayConfig(num_trees=3, resign_below=-0.9),
        seed=0,
        index=0,
    )
    watch._gave_up[:], counts = 0, Counts()
    watch.count(np.arange(3), np.array([[-50, 50], [0, 0], [100, -100]], np.float32), counts)
    assert (counts.resign_wrong, counts.resign_checked) == (2, 3)


@pytest.mark.slow
def test_examples_know_how_their_games_ended():
    play = selfplay(OTHELLO, keep_finals=True)
    examples, counts = play.play(3000)
    finals = examples.finals
    assert len(finals.states) == counts.games
    assert finals.rows.min() == 0
    ends = StateBatch.from_data(play.game, finals.states, check=True)
    assert ends.is_terminal().all()
    states = StateBatch.from_data(play.game, examples.states, check=True)
    movers = states.to_play()
    won = ends.returns()[finals.rows, movers]
    # The last position of every game has its result as target, but for what the search adds.
    last = np.flatnonzero(np.diff(finals.rows, append=-2))
    assert (np.sign(examples.values[last, 0]) == np.sign(won[last])).mean() > 0.9


def test_lessons_turn_with_the_board_and_belong_to_the_side_to_move():
    play = selfplay(OTHELLO, keep_finals=True)
    game = play.game
    examples, _ = play.play(3000)
    replay = Replay(game, 500, keep_finals=True)
    for k in range(game.num_symmetries):
        batch = replay.view(examples, np.full(len(examples), k, np.int32))
        for row in range(0, len(examples), 7):
            state = game.from_bytes(examples.states[row].tobytes())
            end = game.from_bytes(examples.finals.states[examples.finals.rows[row]].tobytes())
            shown = end.symmetry(k).targets(state.to_play)
            assert np.array_equal(batch.planes[row], shown)
            assert batch.scores[row] == pytest.approx(end.score[state.to_play] / 16)
    assert (batch.ended == 1).all()


@pytest.mark.slow
def test_the_ring_keeps_the_final_states_of_its_rows_and_no_more(tmp_path):
    play = selfplay(OTHELLO, keep_finals=True)
    replay = Replay(play.game, 60, keep_finals=True)
    for _ in range(4):
        examples, _ = play.play(2500)
        replay.add(examples)
        kept = examples[max(0, len(examples) - 60) :]
        rows = np.arange(replay.num_added - len(kept), replay.num_added) % 60
        stored = replay.examples(rows).finals
        assert np.array_equal(stored.states[stored.rows], kept.finals.states[kept.finals.rows])
    assert len(replay._finals._states) < 200
    again = Replay(play.game, 60, keep_finals=True)
    again.load_state_dict(replay.state_dict())
    one, two = replay.batch(3, 32), again.batch(3, 32)
    assert np.array_equal(one.planes, two.planes)
    assert np.array_equal(one.scores, two.scores)


def test_a_game_cut_short_teaches_no_planes():
    game = playout.game(OTHELLO)
    states = game.batch(3)
    data = Examples.from_dense(
        states.data.copy(),
        states.legal_mask() / states.legal_mask().sum(axis=1, keepdims=True),
        np.zeros((3, 1), np.float32),
        np.ones(3, np.float32),
    )
    end = game.batch(1)
    end.random_plies(game.max_plies, 5)
    finals = Finals(end.data.copy(), np.array([-1, 0, -1]))
    data = Examples(data.states, data.policy, data.values, data.policy_weights, finals)
    batch = Replay(game, 10, keep_finals=True).view(data, np.zeros(3, np.int32))
    assert batch.ended.tolist() == [0, 1, 0]
    assert not batch.planes[[0, 2]].any()
    assert batch.planes[1].any()


@pytest.mark.slow
def test_target_planes_and_scores_are_learned():
    play = selfplay(OTHELLO, keep_finals=True)
    replay = Replay(play.game, 4000, keep_finals=True)
    replay.add(play.play(8000)[0])
    net = new_network(play.game, "tiny", planes=True, scores=True)
    config = LearnerConfig(num_shards=1, batch_size=64, target_weight=1.0, score_weight=1.0)
    learner = Learner(net, config, device="cpu")
    first = losses(net.train(), replay.batch(0, 256), dtype="float32")
    for number in range(80):
        found = learner.step(replay.batch(number, 64), done=0.5)
    assert {"train/target_loss", "train/score_loss"} <= found.keys()
    last = losses(net, replay.batch(0, 256), dtype="float32")
    assert float(last[3]) < 0.97 * float(first[3])
    assert float(last[4]) < float(first[4])


def test_a_run_with_lessons_saves_and_goes_on_the_same():
    settings = AlphaZeroConfig(
        game=OTHELLO,
        size="tiny",
        updates=4,
        evaluations=400,
        steps=2,
        warmup_positions=32,
        selfplay=SelfPlayConfig(num_groups=1, num_trees=8, fast_share=0.3, surprise_weight=0.5),
        learner=LearnerConfig(batch_size=16, num_shards=1, target_weight=0.5, score_weight=0.5),
    )
    one = AlphaZeroTrainer(settings, seed=3, device=torch.device("cpu"))
    for _ in range(2):
        one.update()
    two = AlphaZeroTrainer(settings, seed=3, device=torch.device("cpu"))
    two.load_state_dict(one.state_dict())
    a, b = one.update(), two.update()
    assert a["train/target_loss"] == b["train/target_loss"] > 0
    assert all(a[key] == b[key] for key in a if not key.startswith("time/"))


def test_no_position_is_drawn_more_often_than_allowed():
    settings = AlphaZeroConfig(
        game="tic_tac_toe",
        size="tiny",
        updates=9,
        evaluations=200,
        steps=50,
        warmup_positions=8,
        max_reuse=2.0,
        selfplay=SelfPlayConfig(num_groups=1, num_trees=8),
        learner=LearnerConfig(batch_size=16, num_shards=1),
    )
    trainer = AlphaZeroTrainer(settings, device=torch.device("cpu"))
    for _ in range(4):
        trainer.update()
    drawn = 16 * trainer.learners[0].steps
    assert 0.5 * trainer.replay.num_added < drawn <= 2 * trainer.replay.num_added


def test_the_weight_of_values_decides_how_sharp_a_policy_is_taught():
    def entropy(c_scale):
        settings = AlphaZeroConfig(
            game="go(size=5)",
            size="tiny",
            updates=1,
            evaluations=800,
            warmup_positions=1000,
            selfplay=SelfPlayConfig(num_groups=1, num_trees=8, c_scale=c_scale),
            learner=LearnerConfig(batch_size=16, num_shards=1),
        )
        trainer = AlphaZeroTrainer(settings, seed=1, device=torch.device("cpu"))
        trainer.update()
        policy = trainer.replay.batch(0, 128).policy
        return float(-(policy * np.log(policy + 1e-30)).sum(axis=1).mean())

    assert entropy(1000.0) < 0.8 * entropy(0.1)  # an untrained network's values differ little


@pytest.mark.parametrize(
    "settings",
    [
        {"c_scale": -0.1},
        {"fast_share": 1.0},
        {"surprise_weight": 2.0},
        {"resign_below": 0.5},
        {"resign_check": -1.0},
    ],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        SelfPlayConfig(**settings)


def test_only_a_resnet_learns_target_planes():
    with pytest.raises(ConfigError, match="a resnet can"):
        new_network(playout.game(OTHELLO), "tiny", network="transformer", planes=True)
