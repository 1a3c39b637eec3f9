"""Runs that learn several boards from actors: each has its files, its turns and its batches."""

import numpy as np
import pytest
from actor_runs import actor_of, learner_of, publish, save
from playout.agents.alphazero.selfplay.actors import actor as actors
from playout.agents.alphazero.selfplay.actors import trainer as trainers
from playout.agents.alphazero.selfplay.actors.game_file import read

GAMES = ("go(size=4)", "go(size=3)", "go(size=4,komi=0.5)")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(actors, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(actors, "REPORT_SECONDS", 3600.0)
    monkeypatch.setattr(actors, "BURST_SECONDS", 0.001)
    monkeypatch.setattr(trainers, "POLL_SECONDS", 0.01)


def learner(tmp_path, **changes):
    return learner_of(
        tmp_path / "run", tmp_path / "games", game=GAMES[0], also=GAMES[1:], pooling=True, **changes
    )


@pytest.mark.slow
def test_a_run_of_several_boards_learns_each_from_the_files_of_its_games(tmp_path):
    trainer, run, said = learner(tmp_path, reuse=3, learner={"score_weight": 0.1})
    actor = actor_of(tmp_path / "run", tmp_path / "games", games_per_file=4)
    known = dict(zip(GAMES, actor.games, strict=True))
    found = {}
    while set(found) != set(GAMES):
        publish(actor, 1)
        for path in (tmp_path / "games").glob("*.games"):
            header, _ = read(path, known, run=run.id, finals=True)
            found.setdefault(header.game, {})[path.name] = header.positions
    files = sum(map(len, found.values()))
    shown = set()
    while trainer.reader.files["learned"] < files:
        shown |= trainer.update().keys()
    for game, dealt in zip(GAMES, trainer.dealt, strict=True):
        assert dealt.num_added == sum(found[game].values())
    assert {"selfplay/draws", "also/1/selfplay/draws", "also/2/selfplay/draws"} <= shown
    assert not said
    # Each position has as many turns as are asked for, in batches of one game.
    learned = trainer.learners[0].steps * trainer.config.learner.batch_size
    assert learned + trainer._turns == 3 * sum(dealt.num_added for dealt in trainer.dealt)
    save(trainer, run)
    again, _, _ = learner(tmp_path, reuse=3, learner={"score_weight": 0.1})
    for one, other in zip(trainer.dealt, again.dealt, strict=True):
        left, right = (side.state_dict()["turns"]["numbers"] for side in (one, other))
        np.testing.assert_array_equal(left, right)


@pytest.mark.slow
def test_batches_are_of_the_game_that_has_most_turns_and_none_is_drawn_without(tmp_path):
    trainer, _, _ = learner(tmp_path)
    actor = actor_of(tmp_path / "run", tmp_path / "games", games_per_file=2)
    while any(dealt.turns < 32 for dealt in trainer.dealt):
        publish(actor, 1)
        while (found := trainer.reader.take(lambda header: True, 0)) is not None:
            trainer.dealt[GAMES.index(found[0].game)].add_spread(found[1], 100)

    def leave(*turns):
        for dealt, left in zip(trainer.dealt, turns, strict=True):
            dealt._dealt = len(dealt._keys) - left

    for index, turns in enumerate([(17, 16, 3), (16, 17, 16), (0, 3, 16)]):
        leave(*turns)
        assert trainer._drawn_from(16) is trainer.variants[index] and trainer._ready()
    leave(15, 32, 15)
    assert trainer._steps(9) == 2
    assert trainer._learn()["train/policy_loss"] > 0
    assert [dealt.turns for dealt in trainer.dealt] == [15, 0, 15]
    assert float(trainer.learners[0].net.boards["3x3"].position.detach().abs().sum()) > 0
    leave(15, 15, 15)  # fewer than a batch each
    assert not trainer._ready() and trainer._steps(9) == 0
    assert trainer._wants_more and not trainer._enough()
