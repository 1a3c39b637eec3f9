"""Self-play of several ranks: the games and the gradient of one process, and the same again."""

import json

import alphazero_parts
import numpy as np
import playout
import pytest
from alphazero_parts import GAME, small_config, states_of
from launch import launch
from launch import playout as launch_command
from playout.agents.alphazero.budget.machine import Machine
from playout.agents.alphazero.settings import stored_config
from playout.agents.alphazero.trainer import AlphaZeroTrainer
from playout.agents.alphazero.variants import count_together
from playout.agents.runs.directory import RunDir
from playout.errors import ConfigError
from test_ranks_place import as_rank


@pytest.fixture(scope="module")
def two_ranks():
    body = """
    import alphazero_parts as parts
    return {
        "even": parts.learned(2), "uneven": parts.learned(3), "more": parts.learned(4),
        "played": parts.played(), "runs": parts.straight_and_resumed(),
        "overlapping": parts.straight_and_resumed(overlap=True, compact_replay=True),
    }
    """
    return launch(2, body)


@pytest.mark.slow
def test_two_ranks_learn_what_one_process_learns_from_the_same_batch(two_ranks):
    one, other = two_ranks
    assert one["even"] == alphazero_parts.learned(2)
    for name, shards in (("uneven", 3), ("more", 4)):
        np.testing.assert_allclose(one[name], alphazero_parts.learned(shards), rtol=1e-4, atol=1e-6)
    for name in ("even", "uneven", "more"):
        assert one[name] == other[name], "ranks have to stay equal to the bit"


def test_games_are_the_same_wherever_they_are_played(two_ranks):
    (first, counts), (second, same_counts) = (rank["played"] for rank in two_ranks)
    wanted, alone = alphazero_parts.played()
    assert ["".join(pair) for pair in zip(first, second, strict=True)] == wanted
    assert counts == same_counts == alone
    assert all(first) and all(second)


@pytest.mark.parametrize("kind", ["runs", "overlapping"])
def test_ranks_go_on_to_the_same_bytes_and_hold_equal_networks(two_ranks, kind):
    for rank in two_ranks:
        found = rank[kind]
        assert found["metrics"][0] == found["metrics"][1] == two_ranks[0][kind]["metrics"][0]
        assert found["states"][0] == found["states"][1]
        assert found["networks"] == two_ranks[0][kind]["networks"]
    assert two_ranks[0][kind]["states"][0] != two_ranks[1][kind]["states"][0], "replay is a rank's"
    last = two_ranks[0][kind]["metrics"][0][-1]
    assert "train/policy_loss" in last and last["selfplay/positions"] > 0


def ranked(monkeypatch, number, count, **changes):
    as_rank(monkeypatch, number, count)
    return AlphaZeroTrainer(small_config(**changes), seed=2)


def positions(trainer):
    return [row.tobytes() for piece in trainer.replay._pieces() for row in piece.states]


def games(trainer):
    return [group.states.data.tobytes() for group in trainer.selfplay.groups]


@pytest.mark.parametrize("compact", [False, True])
def test_another_number_of_ranks_goes_on_with_all_games_and_positions(monkeypatch, compact):
    changes = {"compact_replay": compact, "replay_capacity": 900}
    alone = AlphaZeroTrainer(small_config(**changes), seed=2)
    alone.update()
    before, state = sorted(positions(alone)), alone.state_dict()
    parts, mine, theirs = [], [], []
    for number in range(2):
        trainer = ranked(monkeypatch, number, 2, **changes)
        trainer.load_state_dict(state)
        assert "dealt out anew" in trainer.deal_rank_states([state])
        parts.append(states_of(trainer)[1])
        mine += positions(trainer)
        theirs += games(trainer)
        assert abs(len(trainer.replay) - len(before) / 2) <= 1
    assert sorted(mine) == before
    assert theirs == games(alone)
    told = {**states_of(trainer)[0], "positions": [5000]}  # more than replays hold by now
    monkeypatch.delenv("RANK")
    again = AlphaZeroTrainer(small_config(**changes), seed=2)
    again.load_state_dict(told)
    again.deal_rank_states(parts)
    assert sorted(positions(again)) == before and games(again) == games(alone)
    count_together(again.variants)
    assert again.variants[0].brought == 5000 and again.variants[0].held == len(before)
    assert again.state_dict()["positions"] == [5000]


def test_more_ranks_than_groups_or_rows_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match="4 ranks but only 2 groups of games"):
        ranked(monkeypatch, 1, 4)
    with pytest.raises(ConfigError, match="17 ranks need a batch of at least 34 rows, not 32"):
        ranked(monkeypatch, 0, 17)


def test_a_plan_has_a_group_and_a_shard_for_every_rank():
    for cores, ranks in ((1, 2), (1, 4), (4, 2), (16, 8)):
        machine = Machine(cores, "cpu", ranks)
        assert machine.num_groups == cores * ranks
        assert machine.num_shards % ranks == 0 and machine.num_shards >= ranks
    card = Machine(16, "cuda", 8)
    assert (card.num_groups, card.num_shards, card.num_trees) == (16, 8, 1024)


@pytest.mark.slow
def test_four_ranks_learn_a_game_and_leave_an_ordinary_run(tmp_path):
    run = tmp_path / "run"
    small = ("--size", "8x1", "--simulations", 8, "--learner.batch-size", 32, "--run", run)
    rating = ("--eval-games", 4, "--eval-simulations", 4)
    code, out, err = launch_command(4, "alphazero", "tic_tac_toe", "--updates", 2, *small, *rating)
    assert code == 0, err
    assert out.count("Learning tic_tac_toe") == out.count("Play against it") == 1
    opened = RunDir.open(run)
    assert opened.config["alphazero"]["selfplay"]["num_groups"] % 4 == 0
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[-1]["selfplay/games"] > 0 and "train/policy_loss" in rows[-1]
    assert playout.load(run).act(GAME.batch(1))[0] in range(9)
    alone = AlphaZeroTrainer(stored_config(opened.config["alphazero"], where="run"), seed=0)
    state = opened.load()[1]
    alone.load_state_dict(state)
    alone.deal_rank_states([opened.load_own(opened.find(), number) for number in range(4)])
    assert alone.update()["selfplay/positions"] > rows[-1]["selfplay/positions"]
