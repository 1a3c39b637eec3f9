"""Settings that a run directory holds: today's, and those of earlier versions."""

import pytest
from playout.agents.alphazero.config import AlphaZeroConfig, LearnerConfig, SelfPlayConfig
from playout.agents.alphazero.settings import full_names, stored_config, with_settings
from playout.agents.runs.config import to_dict
from playout.errors import ConfigError

# As version 33964cf wrote them into run.json.
EARLIER = {
    "game": "tic_tac_toe",
    "size": "tiny",
    "teach": 0.05,
    "updates": 1,
    "games": None,
    "least_window": 5000,
    "lookahead": False,
    "selfplay": {
        "num_trees": 64,
        "cheap_simulations": 8,
        "full_share": 1.0,
        "resign": -1.0,
        "blunder": 0.3,
        "play_on": 0.7,
    },
}


def test_todays_settings_are_read_as_they_were_written():
    config = AlphaZeroConfig(minutes=3.0, selfplay=SelfPlayConfig(num_trees=7))
    assert stored_config(to_dict(config), where="run.json") == config


def test_settings_of_an_earlier_version_are_read_under_their_new_names():
    assert stored_config(EARLIER, where="run.json") == AlphaZeroConfig(
        game="tic_tac_toe",
        size="tiny",
        grow_warmup=0.05,
        updates=1,
        min_window=5000,
        tactics="off",
        leaf_proof_nodes=0,
        selfplay=SelfPlayConfig(
            num_trees=64,
            regret_threshold=0.3,
            continue_proven=0.7,
            opening_share=0.97,  # what these were by default then
            opening_plies=21,
            proof_plies=22,
        ),
    )


@pytest.mark.parametrize(("name", "value"), [("resign", -0.9), ("full_share", 0.5)])
def test_a_setting_that_is_gone_is_refused_where_it_was_used(name, value):
    selfplay = {**EARLIER["selfplay"], name: value}
    with pytest.raises(ConfigError, match=name):
        stored_config({**EARLIER, "selfplay": selfplay}, where="run.json")


def test_a_run_whose_dtype_was_misspelt_has_learned_in_float32():
    earlier = {**EARLIER, "learner": {"dtype": "bf16"}}
    assert stored_config(earlier, where="run.json").learner.dtype == "float32"


def test_a_run_in_minutes_is_a_configuration_but_not_yet_a_trainers():
    from playout.agents.alphazero.trainer import AlphaZeroTrainer

    with pytest.raises(ConfigError, match="minutes"):
        AlphaZeroTrainer(AlphaZeroConfig(game="tic_tac_toe", minutes=1.0))


def test_any_setting_can_be_given_by_its_name_alone_or_by_its_groups():
    base = AlphaZeroConfig(updates=3, selfplay=SelfPlayConfig(num_groups=1))
    given = {
        "pooling": True,
        "num_trees": 64,
        "selfplay.value_mix": 0,
        "learner": {"optimizer": "adamw"},
        "window": 1,
    }
    assert with_settings(base, given) == AlphaZeroConfig(
        updates=3,
        pooling=True,
        window=1.0,
        selfplay=SelfPlayConfig(num_groups=1, num_trees=64, value_mix=0.0),
        learner=LearnerConfig(optimizer="adamw"),
    )
    assert full_names(given) == [
        "learner.optimizer",
        "pooling",
        "selfplay.num_trees",
        "selfplay.value_mix",
        "window",
    ]
    assert with_settings(base, {}) == base


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("selfplay.num_tree", 64, "did you mean selfplay.num_trees"),
        ("poolin", True, "did you mean pooling"),
        ("num_trees", "many", "num_trees must be int"),
        ("num_trees", 0, "at least 1"),
        ("selfplay", 3, "selfplay"),
        ("updates", 7, "no setting 'updates'"),
        ("max_grad_norm", -1.0, "max_grad_norm must be positive"),
        ("max_grad_norm", float("nan"), "max_grad_norm must be positive"),
        ("learner.dtype", "bf16", "dtype must be one of"),
        ("final_rate", -1.0, r"final_rate in \[0, 1\]"),
        ("learner.warmup", -1.0, r"warmup must be in \[0, 1\)"),
        ("value_weight", -1.0, "value_weight must not be negative"),
        ("target_weight", float("nan"), "target_weight must not be negative"),
        ("weight_decay", -1.0, "weight_decay must not be negative"),
        ("explore_plies", -1, "explore_plies must not be negative"),
        ("warmup_positions", -1, "warmup_positions must not be negative"),
    ],
)
def test_settings_that_mean_nothing_are_refused_in_one_line(name, value, message):
    with pytest.raises(ConfigError, match=message) as found:
        with_settings(AlphaZeroConfig(updates=3), {name: value})
    assert "\n" not in str(found.value)


def test_forced_playouts_of_self_play_go_with_puct():
    assert SelfPlayConfig(algorithm="puct", forced_playouts=2.0).forced_playouts == 2.0
    with pytest.raises(ConfigError, match="go with algorithm"):
        SelfPlayConfig(forced_playouts=2.0)
