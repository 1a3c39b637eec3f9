"""Who a process is and what is its own follows from torchrun's variables alone."""

import subprocess
import sys

import pytest
from playout.agents.runs import ranks
from playout.errors import ConfigError


def as_rank(monkeypatch, number, count):
    variables = {"RANK": number, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1"}
    for name, value in {**variables, "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))


def test_alone_everything_is_ones_own_and_torch_is_not_imported():
    text = (
        "import sys; from playout.agents.runs import ranks; ranks.start(); ranks.agree('x', 'y');"
        "assert list(ranks.share(3, 'games')) == [0, 1, 2] and ranks.first((1,)) == (1,);"
        "assert ranks.sums([2]) == [2.0] and ranks.gather(b'x') == [b'x'] and ranks.is_first();"
        "assert ranks.merge_metrics({'a': 1}) == {'a': 1} and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", text], check=True)


@pytest.mark.parametrize(("count", "world"), [(8, 2), (7, 3), (5, 5), (1000, 7)])
def test_shares_are_consecutive_cover_all_and_differ_by_one_at_most(monkeypatch, count, world):
    found = []
    for number in range(world):
        as_rank(monkeypatch, number, world)
        found.append(ranks.share(count, "games"))
    assert [one for part in found for one in part] == list(range(count))
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_more_ranks_than_things_are_refused(monkeypatch):
    as_rank(monkeypatch, 1, 8)
    with pytest.raises(ConfigError, match="8 ranks but only 4 environments"):
        ranks.share(4, "environments")


def test_a_cluster_that_sets_only_world_size_makes_no_job(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert ranks.world() == 1


def test_variables_that_are_no_numbers_are_refused(monkeypatch):
    as_rank(monkeypatch, 0, "many")
    with pytest.raises(ConfigError, match="WORLD_SIZE must be a whole number"):
        ranks.world()
