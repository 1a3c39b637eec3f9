"""Settings of a PPO run as frozen dataclasses, and how presets and given values fill them.

`PPOConfig` is the update's, `CollectConfig` the collection's; the network's is in
networks/config.py. Names and defaults are the field's. No torch here, so that `playout ppo --help`
stays quick. Leaves out the command, which holds the three beside its own options (commands/ppo.py).
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from playout.agents.networks.config import BOARD_NETWORKS, NetworkConfig
from playout.agents.optim.names import OPTIMIZERS, check_optimizer
from playout.agents.runs.config import from_dict, nearest, read_presets, to_dict
from playout.envs.game_text import read
from playout.errors import ConfigError
from tyro.conf import arg
from tyro.constructors import PrimitiveConstructorSpec

if TYPE_CHECKING:
    from gymnasium import Space

T = TypeVar("T")


def _keywords(words: list[str]) -> dict[str, Any]:
    """The keyword arguments that KEY VALUE KEY VALUE ... says."""
    if len(words) % 2:
        raise ConfigError(f"--env-options are pairs of KEY VALUE, and {words[-1]!r} has no value")
    found: dict[str, Any] = {}
    for key, value in zip(words[::2], words[1::2], strict=True):
        found |= read(f"options({key}={value})")[1]
    return found


EnvOptions = Annotated[
    dict[str, Any],
    PrimitiveConstructorSpec(
        nargs="*",
        metavar="[KEY VALUE ...]",
        instance_from_str=_keywords,
        is_instance=lambda given: isinstance(given, dict),
        str_from_instance=lambda given: [str(x) for pair in given.items() for x in pair],
    ),
]
"""Keyword arguments of an environment; values are numbers, true, false, none, text or tuples."""


OWN_POLICY = "own_policy"
"""A run that has this setting learned with a policy given from Python, which nothing keeps."""


@dataclass(frozen=True, slots=True)
class PPOConfig:
    """Options of the update; names and defaults are the field's."""

    learning_rate: Annotated[float, arg(aliases=["--lr"])] = 2.5e-4
    """The optimiser's step size at the start."""
    anneal_lr: bool = True
    """Lower the learning rate linearly to 0 over the run."""
    adam_eps: float = 1e-5
    """Adam's epsilon (PPO's customary 1e-5, not torch's 1e-8)."""
    optimizer: Annotated[str, arg(metavar="|".join(OPTIMIZERS))] = "adam"
    """What moves the weights; muon is for convolutions and for matrices between hidden layers, with
    adamw for the rest. Learning rates of presets are adam's."""
    weight_decay: float = 0.01
    """Of matrices and convolutions, decoupled, times the learning rate; adam has none."""
    trunk_rate: float = 1.0
    """With --init: the trunk's share of the learning rate; 0 leaves it as it is."""
    gamma: float = 0.99
    """Discount."""
    gae_lambda: float = 0.95
    """Decay of generalised advantage estimation."""
    num_epochs: int = 4
    """Passes over each rollout."""
    minibatch_size: int = 256
    """Steps (or rows, see batch_by) in a gradient step."""
    batch_by: Literal["steps", "rows"] = "steps"
    """Cut minibatches from single steps, or from whole rows (recurrent and language policies)."""
    microbatch_size: int = 0
    """Steps or rows a forward pass, to bound memory; gradients are summed. 0: all at once."""
    clip_coef: float = 0.2
    """Clip the probability ratio to 1 ± clip_coef."""
    anneal_clip: bool = False
    """Lower clip_coef linearly to 0 over the run."""
    clip_vloss: bool = False
    """Clip the value's change to ± vf_clip_coef as well."""
    vf_clip_coef: float = 0.2
    """Range of the value's change where clip_vloss is set."""
    ent_coef: float = 0.0
    """Weight of the entropy bonus."""
    anneal_ent: bool = False
    """Lower ent_coef linearly to final_ent_coef over the run."""
    final_ent_coef: float = 0.0
    """Where anneal_ent ends."""
    vf_coef: float = 0.5
    """Weight of the value loss (half the squared error)."""
    max_grad_norm: float = 0.5
    """Clip the gradient's norm; 0 leaves it alone."""
    target_kl: Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")] = None
    """End the update when a minibatch's approximate KL passes 1.5 times this."""
    norm_adv: bool = True
    """Scale advantages to mean 0 and deviation 1."""
    norm_adv_by: Literal["minibatch", "batch"] = "minibatch"
    """Normalise over each minibatch or over the whole rollout."""

    def __post_init__(self) -> None:
        _positive(self, "learning_rate", "adam_eps", "clip_coef", "vf_clip_coef")
        _not_negative(self, "ent_coef", "final_ent_coef", "vf_coef", "max_grad_norm")
        _not_negative(self, "weight_decay", "trunk_rate")
        check_optimizer(self.optimizer)
        _fraction(self, "gamma", "gae_lambda")
        _at_least_one(self, "num_epochs", "minibatch_size")
        _one_of(self, "batch_by", "steps", "rows")
        _one_of(self, "norm_adv_by", "minibatch", "batch")
        if self.target_kl is not None and not self.target_kl > 0:
            raise ConfigError(f"target_kl must be above 0 (or left out), not {self.target_kl}")


@dataclass(frozen=True, slots=True)
class CollectConfig:
    """How experience is collected and judged."""

    num_envs: int = 8
    """Environments stepped together."""
    num_steps: int = 128
    """Steps of each environment between updates."""
    normalize_obs: bool = False
    """Scale vector observations to running mean 0 and deviation 1; saved with the model."""
    clip_obs: float = 10.0
    """Clip normalised observations to ± this."""
    normalize_rewards: bool = False
    """Divide rewards by the running deviation of the discounted return."""
    clip_reward: float = 10.0
    """Clip normalised rewards to ± this."""
    noise_correlation: float = 0.0
    """Continuous actions: correlation of one step's exploration noise with the next one's."""
    sequence_length: int = 0
    """Recurrent: backpropagate through so many steps (divides num_steps); 0: all of them."""
    wrappers: tuple[str, ...] = ()
    """Around each environment: atari, clip_reward, frame_stack:4, rescale_action; grey:64 or
    pixels:64 show what is rendered, of that size, in place of what is observed."""
    env_options: EnvOptions = field(default_factory=dict)
    """Keyword arguments of the environment."""
    latest_share: float = 0.5
    """Self-play: part of the games that is played against the learner itself, not its past."""
    eval_every: int = 0
    """Updates between evaluations; 0: when the training returns make one worth while."""
    eval_episodes: int = 100
    """Episodes of an evaluation, on separate environments."""
    reward_threshold: Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")] = None
    """Mean return that ends the run; by default the environment's own."""

    def __post_init__(self) -> None:
        _at_least_one(self, "num_envs", "num_steps", "eval_episodes")
        _positive(self, "clip_obs", "clip_reward")
        _not_negative(self, "eval_every", "sequence_length")
        _fraction(self, "latest_share")
        if not 0 <= self.noise_correlation < 1:
            raise ConfigError(f"noise_correlation must lie in [0, 1), not {self.noise_correlation}")
        if self.sequence_length and self.num_steps % self.sequence_length:
            raise ConfigError(
                f"sequence_length {self.sequence_length} does not divide num_steps {self.num_steps}"
            )


# The parts of a run's settings, by the names under which a command and a run's config hold them.
GROUPS: Mapping[str, type] = {"ppo": PPOConfig, "network": NetworkConfig, "collect": CollectConfig}


def preset(env: str) -> dict[str, Any]:
    """The preset's settings for an environment by plain name, over those of [default].

    A preset is called like the environment without playout/, ALE/ or a module in front.
    """
    tables = read_presets("ppo")
    subject = env.rpartition(":")[2].rpartition("/")[2]
    return {**tables.get("default", {}), **tables.get(subject, {})}


def resolve(cls: type[T], env: str, given: Mapping[str, Any] | None = None) -> T:
    """The settings of a run: the environment's preset, and `given` values over it.

    Args:
        cls: A dataclass with the groups `ppo`, `network` and `collect` among its fields.
        env: Whose preset; also the field `env`.
        given: Values by plain name, such as {"num_envs": 64, "learning_rate": 1e-3, "seed": 1}.

    Raises:
        ConfigError: A setting that does not exist (the nearest is named), or a wrong type.
    """
    known = fill(cls, {**preset(env), "env": env}, where=f"preset ppo[{env or 'default'}]")
    return fill(cls, given or {}, where="ppo", base=known)


def fill(
    cls: type[T], values: Mapping[str, Any], *, where: str = "ppo", base: T | None = None
) -> T:
    """`base` (or the defaults) with values by plain name, each put into the group it belongs to."""
    group_of = {f.name: group for group, kind in GROUPS.items() for f in dataclasses.fields(kind)}
    own = {f.name for f in dataclasses.fields(cls)} - set(GROUPS)  # type: ignore[arg-type]
    plain: dict[str, Any] = {}
    grouped: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
    for name, value in to_dict(values).items():
        if name not in group_of and name not in own:
            raise ConfigError(f"{where} has no option {name!r}; {nearest(name, [*group_of, *own])}")
        (grouped[group_of[name]] if name in group_of else plain)[name] = value
    found: Any = from_dict(cls, plain, where=where, base=base)
    parts = {
        group: from_dict(GROUPS[group], part, where=where, base=getattr(found, group))
        for group, part in grouped.items()
    }
    filled: T = dataclasses.replace(found, **parts)
    return filled


def refuse_unused(
    given: Mapping[str, Any],
    *,
    env: str,
    observations: "Space[Any]",
    actions: "Space[Any]",
    recurrent: bool,
    self_play: bool,
    encodes: bool,
    layers: bool,
) -> None:
    """Refuse options of a new run that would do nothing.

    Args:
        given: The command's, by plain name; those of its environment's preset are nobody's word.
        env: Whose preset.
        observations: Their space, as the learner sees it.
        actions: Their space.
        recurrent: The policy has a memory.
        self_play: A game is learned against a pool of past versions.
        encodes: The network that is named sees some part of an observation.
        layers: There are layers above the encoder.

    Raises:
        ConfigError: Names the first of them.
    """
    # Here, since presets are read where no environment is made.
    from gymnasium.spaces import Box
    from playout.agents.vector.actions import leaves
    from playout.agents.vector.normalize import ObsNormalizer

    usual = {"native": True, "processes": None}
    for group in GROUPS.values():
        usual |= to_dict(group())
    usual |= preset(env)
    of_numbers = "but with continuous actions"
    numbers = any(isinstance(part, Box) for part in leaves(actions))
    kind, of_board = given["network"], given["network"] in BOARD_NETWORKS
    for name, unused, where in (
        ("native", self_play, "in self-play"),
        ("processes", self_play, "in self-play"),
        ("wrappers", self_play, "in self-play"),
        ("reward_threshold", self_play, "in self-play"),
        ("latest_share", not self_play, "without --self-play"),
        ("noise_correlation", not isinstance(actions, Box), of_numbers),
        ("squash", not numbers, of_numbers),
        ("log_std_init", not numbers, of_numbers),
        ("state_dependent_std", not numbers, of_numbers),
        ("sequence_length", not recurrent, "without --recurrent"),
        ("recurrent_size", not recurrent, "without --recurrent"),
        ("weight_decay", given["optimizer"] == "adam", "with --optimizer adam"),
        ("vf_clip_coef", not given["clip_vloss"], "without --clip-vloss"),
        ("final_ent_coef", not given["anneal_ent"], "without --anneal-ent"),
        ("norm_adv_by", not given["norm_adv"], "with --no-norm-adv"),
        (
            "normalize_obs",
            not ObsNormalizer(observations, 1.0).moments,
            "where no observation is a vector of numbers",
        ),
        ("clip_obs", not given["normalize_obs"], "without --normalize-obs"),
        ("clip_reward", not given["normalize_rewards"], "without --normalize-rewards"),
        ("network", not encodes, "where no observation is a picture"),
        ("hidden", of_board, f"with --network {kind}"),
        ("shared_trunk", of_board, f"with --network {kind}"),
        ("activation", not layers, "without layers (--hidden)"),
    ):
        if unused and given[name] != usual[name]:
            flag = "no-native" if name == "native" else name.replace("_", "-")
            raise ConfigError(f"--{flag} does nothing {where}: leave it out")


def _require(
    config: object, names: tuple[str, ...], holds: Callable[[float], bool], text: str
) -> None:
    for name in names:
        value = getattr(config, name)
        if not holds(value):
            raise ConfigError(f"{name} must {text}, not {value}")


def _positive(config: object, *names: str) -> None:
    _require(config, names, lambda x: 0 < x < math.inf, "be above 0")


def _not_negative(config: object, *names: str) -> None:
    _require(config, names, lambda x: 0 <= x < math.inf, "be 0 or more")


def _fraction(config: object, *names: str) -> None:
    _require(config, names, lambda x: 0 <= x <= 1, "lie between 0 and 1")


def _at_least_one(config: object, *names: str) -> None:
    _require(config, names, lambda x: x >= 1, "be at least 1")


def _one_of(config: object, name: str, *choices: str) -> None:
    if getattr(config, name) not in choices:
        shown = ", ".join(choices)
        raise ConfigError(f"{name} must be one of {shown}, not {getattr(config, name)!r}")
