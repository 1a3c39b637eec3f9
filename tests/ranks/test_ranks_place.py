"""Who a process is and what is its own follows from torchrun's variables alone."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from playout.agents.ppo.population import note_of
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
        "assert ranks.sums([2]) == [2.0] and ranks.everybody(b'x') == [b'x'] and ranks.is_first();"
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


def test_a_job_has_the_name_that_it_was_given(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "mine")
    assert ranks.job_name() == ""  # one process is no job
    as_rank(monkeypatch, 0, 2)
    assert ranks.job_name() == "mine"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # what torchrun says without --rdzv-id
    assert ranks.job_name() == ""


def test_the_line_that_goes_on_has_as_many_ranks(monkeypatch):
    assert ranks.under_torchrun("playout ppo --resume r") == "playout ppo --resume r"
    as_rank(monkeypatch, 0, 3)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    line = "torchrun --nproc-per-node 3 -m -- playout ppo --resume r"
    assert ranks.under_torchrun("playout ppo --resume r") == line
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")  # no single line starts several machines
    assert ranks.under_torchrun("playout ppo --resume r") == "playout ppo --resume r"


def test_what_ppo_says_of_itself_tells_its_share_from_the_whole(monkeypatch):
    envs = SimpleNamespace(description="Own-v0, 5 environments", native=False, resumable=True)
    trainer = SimpleNamespace(
        envs=envs, machine="on cpu", stop=False, collect=SimpleNamespace(num_envs=16)
    )
    source = SimpleNamespace(text="Own-v0")
    assert "rank" not in note_of(source, [trainer])
    as_rank(monkeypatch, 0, 3)
    note = "Own-v0, 5 environments; on cpu; rank 0 of 3 ranks, 16 environments in all"
    assert note_of(source, [trainer]) == note
