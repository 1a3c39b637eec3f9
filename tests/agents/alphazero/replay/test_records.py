"""Recorded games: what is learned of them, what is refused, runs that begin with them."""

import json

import numpy as np
import playout
import pytest
import torch
from playout.agents.alphazero.budget.corrector import PlanCorrector
from playout.agents.alphazero.config import AlphaZeroConfig, LearnerConfig, SelfPlayConfig
from playout.agents.alphazero.replay.records import examples_of, read
from playout.agents.alphazero.trainer import AlphaZeroTrainer
from playout.agents.players.player import Forfeit
from playout.agents.rating.games import PlayedGame, to_record
from playout.agents.runs.directory import RunDir
from playout.cli import main
from playout.envs.core.game import StateBatch
from playout.envs.records import files, pgn
from playout.envs.records.json_lines import GameRecord
from playout.errors import ConfigError, DataError

CPU = torch.device("cpu")


def random_games(name, count, *, seed=0, greedy=False):
    """Records of random play; `greedy`: always the lowest legal action."""
    game, rng = playout.game(name), np.random.default_rng(seed)
    found = []
    for _ in range(count):
        state, actions = game.initial_state(), []
        while not state.is_terminal:
            legal = state.legal_actions
            actions.append(int(legal[0] if greedy else rng.choice(legal)))
            state = state.apply(actions[-1])
        found.append(GameRecord.from_actions(game, actions, players=["a", "b"][: game.num_players]))
    return found


@pytest.mark.parametrize("suffix", ["sgf", "jsonl"])
def test_a_match_s_resigned_game_is_learned_from_in_any_file(tmp_path, suffix):
    game = playout.game("go(size=5)")
    forfeit = (0, Forfeit("resigned", failed=False))
    played = PlayedGame(("a", "b"), (12, 6), opening=0, returns=(-1.0, 1.0), forfeit=forfeit)
    files.append(path := tmp_path / f"games.{suffix}", [to_record(game, played)])
    (record,) = files.read(path)
    found = examples_of(game, record)
    assert found is not None and found.values[:, 0].tolist() == [-1, 1]


def learning(path, **changes):
    settings = {
        "game": "tic_tac_toe",
        "size": "16x2",
        "updates": 400,
        "evaluations": 200,
        "steps": 8,
        "records": (str(path),),
        "record_epochs": 30.0,
        "warmup_positions": 16,
        "infer_dtype": "float32",
        "selfplay": SelfPlayConfig(num_groups=1, num_trees=8, num_simulations=4),
        "learner": LearnerConfig(batch_size=64, num_shards=1, learning_rate=0.02),
    }
    return AlphaZeroConfig(**settings | changes)


def test_positions_moves_and_results_are_those_that_were_played():
    game = playout.game("tic_tac_toe")
    record = random_games("tic_tac_toe", 1, seed=3)[0]
    found = examples_of(game, record)
    states = list(record.states())
    np.testing.assert_array_equal(found.states, StateBatch.from_states(states[:-1]).data)
    texts = [states[i].action_text(int(a)) for i, a in enumerate(found.policy.actions)]
    assert tuple(texts) == record.moves
    wanted = [record.result[state.to_play] for state in states[:-1]]
    assert found.values[:, 0].tolist() == wanted
    winners = examples_of(game, record, moves="winners")
    best = max(record.result)
    assert winners.policy_weights.tolist() == [float(value == best) for value in wanted]


def test_a_game_that_was_played_on_after_a_draw_teaches_what_came_before():
    (record,) = pgn.parse("Nf3 Nf6 Ng1 Ng8 Nf3 Nf6 Ng1 Ng8 f3 e5 g4 Qh4# 0-1")
    found = examples_of(playout.game("chess"), record)
    assert len(found) == 8 and not found.values.any()


def test_games_of_other_kinds_teach_what_they_hold():
    """Dice are no moves of anybody; with rewards along the way values are what is to come."""
    for name in ("game_2048(size=2)", "backgammon"):
        game, record = playout.game(name), random_games(name, 1, seed=1)[0]
        found = examples_of(game, record)
        states = [state for state in record.states() if state.to_play >= 0]
        np.testing.assert_array_equal(found.states, StateBatch.from_states(states).data)
        if game.step_rewards:
            left = [(record.result[0] - state.returns[0]) / game.value_scale for state in states]
            np.testing.assert_allclose(found.values[:, 0], np.clip(left, -1, 1), rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("(;GM[1]FF[4]SZ[5]RE[B+R];B[cc];W[bb])", [1, -1]),
        ("(;GM[1]FF[4]SZ[5]RE[W+3.5];B[cc];W[bb])", [-1, 1]),
        ("(;GM[1]FF[4]SZ[5]RE[Draw];B[cc];W[bb])", [0, 0]),
        ("(;GM[1]FF[4]SZ[5];B[cc];W[bb])", None),
        # Both passed, and agreed about which stones were dead; without that it is Black's board.
        ("(;GM[1]FF[4]SZ[5]KM[7.5]RE[W+7.5];B[cc];W[];B[])", [-1, 1, -1]),
        ("(;GM[1]FF[4]SZ[5]KM[7.5]RE[Void];B[cc];W[];B[])", [1, -1, 1]),
        ("(;GM[1]FF[4]SZ[5]KM[7.5];B[cc];W[];B[])", [1, -1, 1]),
    ],
)
def test_results_by_agreement_count_and_games_without_one_are_left_out(tmp_path, text, values):
    path = tmp_path / "games.sgf"
    path.write_text(text)
    game = playout.game("go(size=5)")
    if values is None:
        with pytest.raises(DataError, match=r"whose result is known \(1 without a result\)"):
            read(game, [str(path)])
        return
    found = read(game, [str(path)])
    replayed = found.replay.examples(np.arange(len(found.replay)))
    assert replayed.values[:, 0].tolist() == values


def test_every_twentieth_game_is_held_out(tmp_path):
    path = tmp_path / "games.jsonl"
    records = random_games("tic_tac_toe", 45)
    files.append(path, records)
    found = read(playout.game("tic_tac_toe"), [str(path)])
    held = [record for number, record in enumerate(records, 1) if number % 20 == 0]
    assert found.games == 45
    assert len(found.held_out) == sum(len(record.moves) for record in held)
    assert len(found.replay) + len(found.held_out) == sum(len(record.moves) for record in records)


@pytest.mark.slow
def test_a_run_learns_the_moves_of_records_and_then_plays(tmp_path):
    """Who always takes the lowest cell is imitated nearly always; then self-play goes on."""
    path = tmp_path / "games.jsonl"
    files.append(path, random_games("hex(size=3)", 20, greedy=True))
    config = learning(path, game="hex(size=3)", record_epochs=60.0, updates=40)
    trainer = AlphaZeroTrainer(config, seed=1, device=CPU)
    first = trainer.update()
    count = trainer.recorded.updates
    while trainer.updates < count:
        last = trainer.update()
    assert last["records/held_out_accuracy"] > 0.8  # the empty board looks the same turned round
    assert last["records/held_out_loss"] < 0.5 * first["records/held_out_loss"]
    assert trainer.replay.num_added == 0 and trainer.totals.games == 0
    after = trainer.update()
    assert after["selfplay/games"] > 0 and "records/games" not in after


@pytest.mark.slow
def test_a_run_that_began_with_records_goes_on_alike_and_needs_the_same_files(tmp_path):
    path = tmp_path / "games.jsonl"
    files.append(path, random_games("tic_tac_toe", 40))
    config = learning(path, record_epochs=10.0)
    one, two = (AlphaZeroTrainer(config, seed=1, device=CPU) for _ in range(2))
    two.update()
    three = AlphaZeroTrainer(config, seed=1, device=CPU)
    three.load_state_dict(two.state_dict())
    for _ in range(2):
        three.update()
    for _ in range(3):
        one.update()
    assert one.recorded.updates > 3
    for name, tensor in one.learners[0].net.state_dict().items():
        assert torch.equal(tensor, three.learners[0].net.state_dict()[name]), name
    files.append(path, random_games("tic_tac_toe", 1))
    four = AlphaZeroTrainer(config, seed=1, device=CPU)
    four.load_state_dict(two.state_dict())
    with pytest.raises(ConfigError, match="not the games that the run began with"):
        four.update()


@pytest.mark.slow
def test_the_command_learns_from_records_and_another_run_begins_with_it(tmp_path, capsys):
    path, run = tmp_path / "games.jsonl", tmp_path / "run"
    files.append(path, random_games("tic_tac_toe", 30))
    words = ["--size", "8x1", "--quiet", "--no-rating", "--evaluations", "100", "--steps", "4"]
    first = ["alphazero", "tic_tac_toe", "--records", str(path), "--updates", "2"]
    assert main([*first, "--run", str(run), *words]) == 0
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["records/games"] == 30 and rows[1]["selfplay/games"] > 0
    second = ["alphazero", "tic_tac_toe", "--init", str(run), "--updates", "1"]
    assert main([*second, "--run", str(tmp_path / "next"), *words]) == 0
    assert main(["match", str(run), "random", "--games", "2", "--quiet"]) == 0
    capsys.readouterr()
    other = ["alphazero", "connect_four", "--records", str(path), "--updates", "1"]
    assert main([*other, "--run", str(tmp_path / "other"), *words]) == 2
    assert "is one of tic_tac_toe, not of connect_four" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_a_run_of_minutes_plays_itself_after_its_recorded_games(tmp_path):
    path, run = tmp_path / "games.jsonl", tmp_path / "run"
    files.append(path, random_games("tic_tac_toe", 30))
    words = ["--size", "8x1", "--quiet", "--no-rating", "--evaluations", "100", "--steps", "4"]
    words += ["--learner.batch-size", "16", "--record-epochs", "20", "--minutes", "0.05"]
    words += ["--records", str(path), "--run", str(run)]
    assert main(["alphazero", "tic_tac_toe", *words]) == 0
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    recorded = sum("records/games" in row for row in rows)
    assert recorded > 10 and len(rows) > recorded
    played = ["selfplay/games" in row for row in rows]
    assert played == [False] * recorded + [True] * (len(rows) - recorded)


@pytest.mark.slow
def test_recorded_games_are_updates_besides_those_that_minutes_plan(tmp_path):
    path = tmp_path / "games.jsonl"
    files.append(path, random_games("tic_tac_toe", 40))
    run = RunDir.create(tmp_path / "run", kind="alphazero", config={}, seed=0)
    budget = {"unit": "updates", "minutes": 1.0, "rate": 1.0, "total": 4, "outside": 0.0}
    run.update(budget=budget)
    config = learning(path, record_epochs=10.0, updates=4)
    trainer = AlphaZeroTrainer(config, seed=1, device=CPU)
    correct = PlanCorrector(run, 1.0, trainer, evaluations=1)
    while "time/selfplay_s" not in (metrics := trainer.update()):
        correct(trainer, metrics | {"time/elapsed": 1.0})
    recorded = trainer.recorded.updates
    assert recorded > 4 and trainer.progress == (recorded + 1, recorded + 4)
    assert run.record["budget"]["corrections"] == [[0, recorded + 4]]
    again = AlphaZeroTrainer(config, seed=1, device=CPU)
    again.load_state_dict(trainer.state_dict())
    PlanCorrector(run, 1.0, again, evaluations=1)
    assert again.progress == trainer.progress
