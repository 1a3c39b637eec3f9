"""The ladder: whom the next network meets, how anchors grow, which snapshots stay."""

import playout
from playout.agents.alphazero.evaluation.ladder import Ladder, Snapshot
from playout.agents.networks.boards.registry import new_network
from playout.agents.rating.ratings import Result

ANCHORS = ("random", "uct:4", "uct:20", "uct:100")
NET = new_network(playout.game("tic_tac_toe"), "8x1")


def ladder(**options):
    return Ladder(ANCHORS, **{"max_snapshots": 4, "weight": 1.0, **options})


def snapshot(update):
    return Snapshot.of(f"network {update}", NET, update=update, games=2 * update)


def test_snapshots_stay_spread_over_the_run_with_the_first_the_best_and_the_newest():
    one = ladder()
    for update in range(1, 33):
        one.keep(snapshot(update))
        if update == 7:
            one.best = "network 7"
        updates = [kept.update for kept in one.snapshots]
        assert len(updates) <= 4 and updates[0] == 1 and updates[-1] == update
        assert update < 7 or 7 in updates
    assert 12 <= updates[2] <= 28
    small = ladder(max_snapshots=1)
    for update in (1, 2):
        small.keep(snapshot(update))
    assert [kept.update for kept in small.snapshots] == [2]


def test_the_next_network_meets_the_last_and_the_best():
    one = ladder()
    assert one.opponents() == []
    for update in (1, 2, 3):
        one.keep(snapshot(update))
    assert [met.update for met in one.opponents()] == [3, 2]
    one.best = "network 1"
    assert [met.update for met in one.opponents()] == [3, 1]
    one.best = "network 3"
    assert [met.update for met in one.opponents()] == [3, 2]


def test_anchors_grow_as_they_are_beaten_and_each_new_one_meets_the_one_before():
    one = ladder()
    assert one.met_anchors() == ("random", "uct:4") and one.links() == [("random", "uct:4")]
    one.add([Result("uct:4", "random", 9, 0, 1)], {"random": 1.0, "uct:4": 0.5})
    assert one.met_anchors() == ("uct:4", "uct:20") and one.links() == [("uct:4", "uct:20")]
    one.add([], {"uct:4": 0.5, "uct:20": 0.9})  # luck: the weaker one is not beaten
    assert one.met_anchors() == ("uct:4", "uct:20") and one.links() == []
    one.add([], {"uct:4": 0.9, "uct:20": 0.9})
    assert one.met_anchors() == ("uct:100",) and one.links() == [("uct:20", "uct:100")]
    one.add([], {"uct:100": 1.0})
    assert one.met_anchors() == ("uct:100",)
    assert one.links_played() == [Result("uct:4", "random", 9, 0, 1)]


def test_results_of_all_evaluations_are_one_fit_and_come_back_from_a_checkpoint():
    one = ladder()
    for wins in (5, 9):
        one.add([Result("a", "random", wins, 0, 10 - wins), Result("b", "a", 6, 1, 3)], {})
    found = one.fit()
    assert found["a"].games == 40 and found["b"].elo > found["a"].elo > 0
    one.keep(snapshot(3))
    other = ladder()
    other.load_state_dict(one.state_dict())
    assert other.fit()["b"] == found["b"]
    assert other.snapshots[0].restored().config == NET.config
