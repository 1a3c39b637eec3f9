from typing import Any, TypedDict

class Description(TypedDict):
    name: str
    num_players: int
    num_actions: int
    max_plies: int
    obs_shape: tuple[int, int, int]
    state_size: int
    num_symmetries: int
    params: list[int]
    parameters: dict[str, int | float | str]
    zero_sum: bool
    hidden: bool
    step_rewards: bool
    text_leaves_out_history: bool
    value_scale: float
    has_chance: bool
    has_resample: bool
    has_score: bool
    target_planes: int
    max_legal: int
    side_planes: tuple[int, int] | None
    has_plies_left: bool

def adopt(capsule: Any) -> Any: ...
def try_play(capsule: Any) -> None: ...
def same_context(one: Any, other: Any) -> bool: ...
def describe(capsule: Any) -> Description: ...
