"""Clusters and maps on groups whose truth is known; the position that follows is the game's own."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from playout.agents.pretraining import evaluation, probes
from playout.agents.pretraining.config import PretrainConfig
from playout.agents.pretraining.data.dataset import Split
from playout.agents.pretraining.data.positions import positions_of_game, positions_of_records
from playout.agents.pretraining.objectives.following import Following
from playout.agents.pretraining.objectives.objective import Batch
from playout.agents.pretraining.trainer import PretrainTrainer
from playout.agents.pretraining.trunk import new_trunk
from playout.envs.core.registry import game
from playout.envs.records import files
from playout.envs.records.json_lines import GameRecord
from playout.errors import ConfigError, DataError

from tests.agents.pretraining.bars import split_of


def groups(count=120, width=12, spread=0.15):
    """Three groups far from one another, and which is whose."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3
    centres = rng.normal(0, 1, (3, width))
    found = centres[labels] + rng.normal(0, spread, (count, width))
    return found.astype(np.float32), labels.astype(np.int64)


@pytest.mark.peer
def test_groups_that_stand_apart_are_found_by_both_ways_of_clustering():
    pytest.importorskip("sklearn")
    from playout.agents.pretraining.clusters import cluster_scores

    found, labels = groups()
    row = cluster_scores(found, labels, 3, seed=0)
    assert row["ari"] == pytest.approx(1) and row["nmi"] == pytest.approx(1)
    assert row["silhouette"] > 0.5
    # What DBSCAN calls noise is a group of its own in the comparison, so it is not 1.
    found_by_density = row["dbscan"]
    assert found_by_density["clusters"] == 3 and found_by_density["noise"] < 0.25
    assert found_by_density["ari"] > 0.6
    rng = np.random.default_rng(1)
    mixed = cluster_scores(rng.normal(0, 1, (120, 12)).astype(np.float32), labels, 3, seed=0)
    assert abs(mixed["ari"]) < 0.1


def test_as_many_clusters_are_looked_for_as_classes_occur(monkeypatch):
    """Labels may begin at 1 or have gaps, a game may know no draws, a folder may be empty."""
    asked = []

    def scored(found, labels, num_classes, *, seed):
        asked.append(num_classes)
        return {}

    monkeypatch.setattr(probes, "cluster_scores", scored)
    data = split_of(20)
    names = tuple(str(n) for n in range(120))
    spread = Split(
        *(replace(p, labels=p.labels * 50 + 1, classes=names) for p in (data.train, data.test))
    )
    probes.probe(new_trunk(data.train, network="grid"), spread, "clusters")
    hexes = positions_of_game("hex(size=4)", count=150, seed=0)
    few = Split(hexes.train, hexes.train.subset(np.arange(30)))
    probes.probe(new_trunk(hexes.train, size="8x1"), few, "clusters")
    assert asked == [2, 2, 2, 2]  # of features and of pixels
    with pytest.raises(DataError, match=r"9 held-out pictures with .* more than 10"):
        some = Split(spread.train, spread.test.subset(np.arange(9)))
        probes.probe(new_trunk(data.train, network="grid"), some, "clusters")
    with pytest.raises(DataError, match=r"9 held-out positions with .* more than 10"):
        some = Split(hexes.train, hexes.train.subset(np.arange(9)))
        probes.probe(new_trunk(hexes.train, size="8x1"), some, "clusters")


def test_maps_show_rows_of_every_class_of_sorted_ones():
    from playout.agents.pretraining.clusters import MAPPED, _mapped

    labels = np.repeat(np.arange(3), 1000)
    assert np.bincount(labels[_mapped(3000)]).min() > MAPPED / 4
    assert _mapped(7).tolist() == [*range(7)]


@pytest.mark.peer
def test_maps_keep_neighbours_and_are_drawn(tmp_path):
    pytest.importorskip("sklearn")
    from playout.agents.pretraining.clusters import draw_maps, maps

    found, labels = groups()
    rows = maps(found, labels, seed=0)
    assert {"pca", "tsne"} <= set(rows)
    x = (found - found.mean(0)) / found.std(0)
    _, s, v = np.linalg.svd(x, full_matrices=False)
    plane, measures = rows["pca"]
    assert np.abs(plane) == pytest.approx(np.abs(x @ v[:2].T), abs=1e-3)
    assert measures["variance"] == pytest.approx((s[:2] ** 2).sum() / (s**2).sum(), rel=1e-4)
    for _, measures in rows.values():
        assert measures["trustworthiness"] > 0.75 and measures["silhouette"] > 0.5
    draw_maps({"trunk": rows, "pixels": rows}, labels, ("a", "b", "c"), tmp_path / "m.png")
    assert (tmp_path / "m.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_position_that_follows_is_one_move_on_as_the_mover_sees_it():
    data = positions_of_game("connect_four", count=60, seed=0).train
    rows = np.arange(len(data))
    for rng in (None, np.random.default_rng(1)):
        before, after = data.following(rows, rng)
        changed = np.abs(after - before)
        # A stone of the mover's own appears, and nothing else of the stones changes.
        assert (changed[:, 0].sum(axis=(1, 2)) == 1).all()
        assert (changed[:, 1].sum(axis=(1, 2)) == 0).all()
    first, second = (data.following(rows) for _ in range(2))
    assert (first[1] == second[1]).all()


def test_recorded_positions_are_followed_by_the_move_that_was_played(tmp_path):
    four, games = game("connect_four"), ([3, 3, 2, 2, 1, 1, 0], [0, 1, 0, 1, 0, 1, 0])
    path = tmp_path / "games.jsonl"
    files.append(
        path, [GameRecord.from_actions(four, one, players=("a", "b")) for one in games] * 6
    )
    split, found = positions_of_records(path), []
    for data in (split.train, split.test):
        assert data.played
        rows = np.arange(7)
        found.append(data.policy(rows).argmax(1).tolist())
        before, after = data.following(rows)
        for row, move in enumerate(found[-1]):
            (place,) = np.argwhere(after[row, 0] != before[row, 0])
            assert place[1] == move
    assert sorted(found) == sorted(games)


@pytest.mark.slow
def test_what_comes_next_is_learned_and_pictures_have_no_next():
    data = positions_of_game("tic_tac_toe", count=400, seed=0, version=4)
    config = PretrainConfig(objective="next", size="tiny", batch=64)
    trainer = PretrainTrainer(new_trunk(data.train, size="tiny"), data, config, steps=75)
    before = trainer.evaluate()
    while not trainer.finished:
        trainer.update()
    after = trainer.evaluate()
    trainer.close()
    assert after["eval/loss"] < 0.75 * before["eval/loss"] and after["eval/moved"] > 0.15
    pictures = split_of(20).train
    with pytest.raises(ConfigError, match="positions of a game"):
        Following(new_trunk(pictures, network="grid"))


def test_what_changes_weighs_as_much_as_what_stays():
    data = positions_of_game("tic_tac_toe", count=100, seed=0).train
    objective = Following(new_trunk(data, size="tiny"))
    before, after = (torch.from_numpy(x) for x in data.following(np.arange(8)))
    labels = torch.from_numpy(data.labels[:8])
    found = objective.losses(Batch(before, labels, None, after), torch.Generator())
    with torch.no_grad():
        shares = objective.draw(objective.trunk.map(before)).sigmoid().clamp(1e-7, 1 - 1e-7)
    each = -(after * shares.log() + (1 - after) * (1 - shares).log())
    changed = before != after
    both = [each[n][rows[n]].mean() for n in range(8) for rows in (changed, ~changed)]
    plain = torch.stack(both).mean()
    assert float(found["loss"].detach()) == pytest.approx(float(plain), rel=1e-4)


def test_where_density_finds_no_two_clusters_a_line_says_so(capsys):
    scores = {"ari": 0.5, "nmi": 0.5, "silhouette": 0.25}
    evaluation._print_clusters("trunk", {**scores, "dbscan": {}})
    evaluation._print_clusters(
        "pixels", {**scores, "dbscan": {**scores, "clusters": 2, "noise": 0}}
    )
    said = capsys.readouterr().out
    assert said.count("trunk, DBSCAN: finds no two clusters\n") == 1
    assert "pixels, DBSCAN (2 clusters, 0 % noise): ARI 0.500" in said and said.count("\n") == 4


@pytest.mark.peer
def test_a_cluster_that_the_sample_lacks_leaves_no_silhouette():
    pytest.importorskip("sklearn")
    from playout.agents.pretraining import clusters

    x = np.random.default_rng(0).normal(size=(2500, 4)).astype(np.float32)
    library, labels = clusters._sklearn(), np.arange(2500) % 2
    outside = int(np.random.RandomState(0).permutation(2500)[-1])
    alone = (np.arange(2500) == outside).astype(np.int64)
    found = clusters._compared(library, x, alone, labels)
    assert np.isnan(found["silhouette"]) and np.isfinite(found["ari"])
    theirs = library.metrics.silhouette_score(x, labels, sample_size=2000, random_state=0)
    assert clusters._compared(library, x, labels, labels)["silhouette"] == float(theirs)


@pytest.mark.peer
@pytest.mark.slow
def test_maps_of_one_class_have_no_silhouette():
    pytest.importorskip("sklearn")
    from playout.agents.pretraining import clusters

    found, labels = groups(40)
    laid = clusters.maps(found, np.zeros_like(labels), seed=0)
    assert all(np.isnan(measures["silhouette"]) for _, measures in laid.values())
