import json
from dataclasses import replace

import numpy as np
import playout
import pytest
import torch
from playout.agents.alphazero.budget.presets import configure
from playout.agents.alphazero.config import AlphaZeroConfig, SelfPlayConfig
from playout.agents.alphazero.evaluation.in_training import WIDEST_SHOWN
from playout.agents.alphazero.evaluation.rated import RatedNetwork
from playout.agents.alphazero.evaluator import NetworkEvaluator
from playout.agents.alphazero.trainer import AlphaZeroTrainer
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import load
from playout.agents.runs.loop import train
from playout.envs.core.game import StateBatch
from playout.errors import CheckpointError, ConfigError


def small_config(**changes):
    config = configure(playout.game("tic_tac_toe"), size="tiny", simulations=12, updates=3)
    return replace(
        config,
        evaluations=600,
        steps=3,
        warmup_positions=64,
        eval_positions=30,
        eval_games=4,
        eval_simulations=8,
        selfplay=replace(config.selfplay, num_trees=16),
        learner=replace(config.learner, batch_size=64),
        **changes,
    )


def equal(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    return a == b


def counted(metrics):
    return {key: value for key, value in metrics.items() if not key.startswith("time/")}


@pytest.mark.slow
def test_two_runs_of_one_seed_are_equal_and_another_seed_differs():
    one, two, other = (AlphaZeroTrainer(small_config(), seed=seed) for seed in (1, 1, 2))
    for _ in range(2):
        found = [counted(trainer.update()) for trainer in (one, two, other)]
        assert found[0] == found[1]
        assert found[0] != found[2]
    assert equal(one.state_dict(), two.state_dict())


def test_weights_that_play_are_saved_once_and_a_state_with_them_twice_is_taken():
    trainer, again = (AlphaZeroTrainer(small_config(), seed=seed) for seed in (1, 2))
    trainer.update()
    state = trainer.state_dict()
    assert "average" not in state["learners"][0]
    state["learners"][0]["average"] = state["model"]  # as earlier versions saved it
    again.load_state_dict(state)
    assert equal(again.state_dict()["model"], trainer.state_dict()["model"])


@pytest.mark.slow
def test_a_resumed_run_equals_one_that_never_stopped(tmp_path):
    straight = AlphaZeroTrainer(small_config(), seed=1)
    history = [counted(straight.update()) for _ in range(3)]
    stopped = AlphaZeroTrainer(small_config(), seed=1)
    stopped.update()
    run = RunDir.create(tmp_path / "run", kind="alphazero", config={}, seed=1)
    run.save(1, stopped.state_dict())
    resumed = AlphaZeroTrainer(small_config(), seed=1)
    resumed.load_state_dict(run.load()[1])
    measured = AlphaZeroTrainer(small_config(), seed=1)
    measured.load_state_dict(run.load()[1])
    measured.evaluate()  # measuring changes nothing in training
    assert counted(measured.update()) == history[1]
    assert [counted(resumed.update()) for _ in range(2)] == history[1:]
    assert equal(straight.state_dict(), resumed.state_dict())
    assert straight.finished
    assert resumed.progress == (3, 3)


@pytest.mark.slow
def test_play_and_learning_at_once_repeat_and_resume_to_the_same_bytes(tmp_path):
    config = small_config(overlap=True)
    straight = AlphaZeroTrainer(config, seed=1)
    history = [counted(straight.update()) for _ in range(3)]
    assert "train/policy_loss" not in history[0], "what is played now is learned from next time"
    assert "train/policy_loss" in history[1]
    stopped = AlphaZeroTrainer(config, seed=1)
    assert [counted(stopped.update()) for _ in range(2)] == history[:2]
    run = RunDir.create(tmp_path / "run", kind="alphazero", config={}, seed=1)
    run.save(2, stopped.state_dict())
    resumed = AlphaZeroTrainer(config, seed=1)
    resumed.load_state_dict(run.load()[1])
    assert counted(resumed.update()) == history[2]
    assert equal(straight.state_dict(), resumed.state_dict())


@pytest.mark.slow
def test_a_larger_network_learns_from_a_smaller_ones_games_and_takes_over(tmp_path):
    config = small_config(
        first_size="8x1", first_evaluations=300, first_steps=2, grow_at=0.5, grow_warmup=0.25
    )
    config = replace(config, updates=4, warmup_positions=1)
    straight = AlphaZeroTrainer(config, seed=1)
    run = RunDir.create(tmp_path / "run", kind="alphazero", config={}, seed=1)
    resumed = None
    for number in range(4):
        before = [learner.steps for learner in straight.learners]
        metrics = counted(straight.update())
        learned = [
            learner.steps - old for learner, old in zip(straight.learners, before, strict=True)
        ]
        assert learned == [[2, 0], [0, 3], [0, 3], [0, 3]][number]
        if resumed is not None:
            assert counted(resumed.update()) == metrics
        run.save(number + 1, straight.state_dict())
        resumed = AlphaZeroTrainer(config, seed=1)
        resumed.load_state_dict(run.load()[1])
        sizes = [run.load()[1]["network"]["channels"], straight.playing]
        assert sizes == [[8, 0], [16, 1], [16, 1], [16, 1]][number]
    assert equal(straight.state_dict(), resumed.state_dict())


def test_a_checkpoint_of_another_network_is_refused():
    trainer = AlphaZeroTrainer(small_config(), seed=1)
    other = AlphaZeroTrainer(small_config(size="8x1"), seed=1)
    with pytest.raises(CheckpointError, match="another shape"):
        other.load_state_dict(trainer.state_dict())


@pytest.mark.parametrize(
    "settings", [{}, {"updates": 1, "games": 1}, {"updates": 0}, {"updates": 1, "window": 2.0}]
)
def test_configurations_that_mean_nothing_are_refused(settings):
    with pytest.raises(ConfigError):
        AlphaZeroConfig(**settings)


def test_a_run_may_be_as_long_as_a_number_of_games():
    trainer = AlphaZeroTrainer(replace(small_config(), updates=None, games=40), seed=0)
    while not trainer.finished:
        trainer.update()
    assert trainer.progress == (40, 40)
    assert trainer.unit == "games"


def test_the_headline_keeps_what_the_last_evaluation_found():
    trainer = AlphaZeroTrainer(small_config(), seed=1)
    first = trainer.headline(trainer.update())
    assert list(first) == ["games", "policy loss"]
    rated = trainer.evaluate()
    later = trainer.headline(trainer.update())
    assert list(later)[:3] == ["games", "policy loss", "good moves"]
    narrow = rated["eval/rating_high"] - rated["eval/rating_low"] <= WIDEST_SHOWN
    assert list(later)[3:] == (["rating"] if narrow else [])
    assert later["good moves"] == f"{rated['eval/policy_optimal_share']:.0%}"


def perfect_replies(player, game):
    """Plays against every line of a second or first player who tries everything; counts losses."""
    losses_found = 0
    for seat in (0, 1):
        open_states = {game.initial_state().to_bytes()}
        while open_states:
            states = StateBatch.from_states([game.from_bytes(data) for data in sorted(open_states)])
            ours = states.to_play() == seat
            after = set()
            actions = player.act(states[ours]) if ours.any() else []
            for state, action in zip(states[ours], actions, strict=True):
                after.add(state.apply(int(action)).to_bytes())
            for state in states[~ours]:
                after.update(state.apply(action).to_bytes() for action in state.legal_actions)
            open_states = set()
            for data in after:
                state = game.from_bytes(data)
                if not state.is_terminal:
                    open_states.add(data)
                elif state.returns[seat] < 0:
                    losses_found += 1
    return losses_found


def test_it_learns_never_to_lose_at_tic_tac_toe(tmp_path):
    game = playout.game("tic_tac_toe")
    config = replace(
        configure(game, size="tiny", simulations=16, updates=20),
        eval_positions=50,
        eval_games=4,
        eval_simulations=16,
    )
    trainer = AlphaZeroTrainer(config, seed=1)
    run = RunDir.create(
        tmp_path / "run", kind="alphazero", config={"alphazero": {"game": "tic_tac_toe"}}, seed=1
    )
    train(trainer, run, console=False, eval_every=10)
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["train/policy_loss"] < rows[2]["train/policy_loss"]
    assert "eval/score_random" in rows[-1]
    player = load(run.path)
    assert perfect_replies(player.with_simulations(32), game) == 0


def test_no_graphs_are_captured_for_more_boards_than_are_asked_for(monkeypatch):
    """Off the processor each shape of a batch costs one."""
    asked = []

    class Recorded(NetworkEvaluator):
        def __init__(self, net, *, device, chunk, **options):
            asked.append(chunk)
            super().__init__(net, device="cpu", chunk=chunk, **options)

    for module in ("evaluation.rated", "variants"):
        monkeypatch.setattr(f"playout.agents.alphazero.{module}.NetworkEvaluator", Recorded)
    selfplay = SelfPlayConfig(num_groups=1, num_trees=40)
    config = AlphaZeroConfig(game="tic_tac_toe", size="8x1", updates=1, selfplay=selfplay)
    trainer = AlphaZeroTrainer(config, device=torch.device("cpu"))
    trainer._rated.of(0, trainer.learners[0].average)
    assert asked == [None, None]  # the cache decides
    trainer._rated = RatedNetwork(trainer.game, config, device=torch.device("meta"), threads=1)
    trainer.variants[0].device = torch.device("meta")
    trainer.variants[0].make_evaluators(trainer.learners[0].average)
    trainer._rated.of(0, trainer.learners[0].average)
    assert asked[2:] == [64, 4096]  # trees; 400 positions in eight symmetries


def test_a_run_counted_in_games_ends_with_them_and_says_how_many_were_played():
    config = replace(small_config(), updates=None, games=40, evaluations=20_000)
    trainer = AlphaZeroTrainer(config, seed=1)
    metrics = trainer.update()  # enough questions for many hundred games
    assert trainer.finished and trainer.progress == (40, 40)
    in_play = config.selfplay.num_groups * config.selfplay.num_trees
    assert 40 <= trainer.totals.games < 40 + in_play
    shown = trainer.headline(metrics).get("games")
    assert shown == (f"{trainer.totals.games:,}" if trainer.totals.games > 40 else None)
