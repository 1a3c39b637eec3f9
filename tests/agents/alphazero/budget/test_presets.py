"""A game's preset and the one dial become a configuration; what nobody measured is a guess."""

import math

import playout
import pytest
from playout.agents.alphazero.budget.machine import Machine
from playout.agents.alphazero.budget.presets import configure, preset_for
from playout.agents.alphazero.config import SelfPlayConfig
from playout.agents.runs.config import read_presets, to_dict
from playout.errors import ConfigError
from rating_games import Nim

TWO_CORES = Machine(2)
FOUR = playout.game("connect_four")


@pytest.mark.parametrize("size", ["small", "medium", "base"])
def test_a_network_that_learns_alone_for_long_learns_in_larger_batches(size):
    short = configure(FOUR, size=size, updates=5).learner
    long = configure(FOUR, size=size, updates=5, long=True).learner
    assert long.batch_size == 2 * short.batch_size
    assert math.isclose(long.learning_rate**2, 2 * short.learning_rate**2)


def test_networks_that_take_turns_keep_their_batches():
    both = configure(FOUR, size="base", first_size="small", updates=5, long=True)
    assert both.learner == configure(FOUR, size="base", updates=5).learner


def test_a_larger_network_needs_time_for_its_evaluations():
    _, preset = preset_for(FOUR)
    medium, large = preset.size_evaluations
    assert preset.sizes_for(0.9 * medium) == ("", "small")
    assert preset.sizes_for(1.1 * medium) == preset.sizes_for(0.9 * large) == ("", "medium")
    assert preset.sizes_for(1.1 * large) == preset.sizes_by_count == ("small", "base")


@pytest.mark.parametrize(("board", "plies"), [("", 22), ("(width=5, height=4)", 10)])
def test_a_small_board_is_not_proven_whole_and_leaves_something_to_learn(board, plies):
    config = configure(playout.game(f"connect_four{board}"), size="small", updates=5)
    assert config.selfplay.proof_plies == plies
    assert config.selfplay.opening_plies in (plies, plies - 1)


# What version 0.1.0 made of its dial, before presets; runs on two cores keep their bytes.
EARLIER = {
    ("small", "", False): {"evaluations": 32768, "steps": 48, "num_simulations": 16},
    ("medium", "", True): {"evaluations": 26810, "steps": 39, "num_simulations": 16},
    ("base", "small", True): {
        "evaluations": 17014,
        "steps": 32,
        "first_evaluations": 65536,
        "first_steps": 96,
        "first_simulations": 16,
        "num_simulations": 24,
    },
}


@pytest.mark.parametrize("dial", EARLIER)
def test_connect_four_is_trained_as_it_was_before_there_were_presets(dial):
    size, first_size, long = dial
    config = configure(
        FOUR, size=size, first_size=first_size, long=long, updates=7, machine=TWO_CORES
    )
    stored = to_dict(config)
    found = {**stored, **stored["selfplay"], **stored["learner"]}
    same = {
        "num_groups": 2,
        "num_trees": 128,
        "opening_share": 0.97,
        "opening_plies": 21,
        "explore_plies": 6,
        "proof_plies": 22,
        "value_mix": 0.05,
        "regret_threshold": 0.2,
        "continue_proven": 0.8,
        "warmup_positions": 4096,
        "min_window": 50_000,
        "replay_capacity": 500_000,
        "leaf_proof_nodes": 300,
        "cache_size": 1 << 17,
        "num_shards": 2,
        "batch_size": 512 if long and not first_size else 256,
        "overlap": False,
    }
    expected = {**same, **EARLIER[dial]}
    assert {key: found[key] for key in expected} == expected


def is_guess(preset):
    return preset.basis.startswith("a guess")


def test_a_game_that_nobody_has_measured_gets_a_guess_by_its_length():
    for name in ("connect_four", "tic_tac_toe"):
        found, preset = preset_for(playout.game(name))
        assert found == name and not is_guess(preset)
    tables = {
        name: table for name, table in read_presets("alphazero").items() if "four" not in name
    }
    name, preset = preset_for(FOUR, tables)
    assert name == "default" and is_guess(preset)
    name, preset = preset_for(playout.game("connect_four(width=4,height=3,run=3)"), tables)
    assert name == "short" and is_guess(preset)


def test_a_row_of_stones_on_a_large_board_is_learned_as_gomoku_is():
    assert preset_for(playout.game("mnk(m=9,n=9,k=5)")) == preset_for(
        playout.game("gomoku(size=9)")
    )
    assert preset_for(playout.game("mnk(m=3,n=3,k=3)"))[0] == "short"


def test_a_game_of_ones_own_does_not_get_the_table_of_one_that_is_called_alike():
    class Mine(Nim):
        name = "connect_four"

    assert preset_for(playout.game("connect_four(width=5,height=4)"))[0] == "connect_four"
    name, preset = preset_for(playout.game(Mine()))
    assert name in ("short", "default") and is_guess(preset)


def test_what_was_measured_for_connect_four_stands_in_its_preset_alone():
    four = configure(FOUR, size="small", updates=1).selfplay
    assert (four.opening_share, four.opening_plies, four.proof_plies) == (0.97, 21, 22)
    usual = SelfPlayConfig()
    assert (usual.opening_share, usual.opening_plies, usual.proof_plies) == (0.5, 12, 16)


def test_many_legal_moves_get_more_simulations_than_few():
    class Wide:
        name, max_plies, max_legal, num_actions = "wide", 400, 361, 361

        def __str__(self):
            return self.name

    assert configure(Wide(), size="small", updates=1).selfplay.num_simulations == 64
    Wide.max_legal = 50
    assert configure(Wide(), size="small", updates=1).selfplay.num_simulations == 25
    Wide.max_legal = 7
    assert configure(Wide(), size="small", updates=1).selfplay.num_simulations == 16


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"simulation": 3},
            "preset alphazero.connect_four. has no setting 'simulation'.*simulations",
        ),
        ({"selfplay": {"num_tree": 3}}, "num_tree"),
        ({"run": {"evaluations": "many"}}, "evaluations must be int"),
        ({"sizes": ["small", "base"]}, "size_evaluations"),
    ],
)
def test_a_setting_that_does_not_exist_in_a_preset_is_one_line(table, message):
    with pytest.raises(ConfigError, match=message) as found:
        preset_for(FOUR, {"connect_four": table, "mine": table})
    assert "\n" not in str(found.value)


def test_groups_trees_and_threads_follow_from_cores_and_device():
    assert (TWO_CORES.num_groups, TWO_CORES.num_trees, TWO_CORES.num_shards) == (2, 128, 2)
    many = Machine(16)
    assert many.num_groups == 16 and many.num_groups * many.num_trees >= 256
    card = Machine(16, "cuda")
    assert card.overlaps and card.search_threads == 8 and card.num_trees >= 1024
    assert not Machine(16, "second").overlaps
    assert Machine.here(threads=3).cores == 3
