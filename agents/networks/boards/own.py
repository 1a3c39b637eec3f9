"""A person's own torch module as the network of a board game: "module:Class".

It needs a constructor and `forward(obs) -> (logits, values)`, no more: `OwnNetwork` gives it the
rest of `BoardNetwork`. It is tried once with made-up boards, and what is missing is said in a line.
Whose word it takes to import the module stands in own_code.py.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from playout.agents.networks.boards.network import (
    NetworkCopy,
    TunedNetwork,
    Tuning,
    squash,
    values_for,
)
from playout.agents.networks.boards.resnet import plain_size
from playout.errors import ConfigError
from playout.own_code import load_object, trust
from torch import Tensor, nn

TRIED_ROWS = (2, 5)
LARGEST_VALUE = 10.0  # of fresh weights: a head without a tanh may be a little outside [-1, 1]
EDGE = 0.99  # of values: beyond it the inverse of tanh goes on as a straight line


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnConfig:
    """What `OwnNetwork` is made of; see there."""

    network: str
    obs_shape: tuple[int, int, int]
    num_actions: int
    num_players: int
    zero_sum: bool = True
    sizes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def num_values(self) -> int:
        """How many values a position has: 1, or one a player where there are more than two."""
        return values_for(self.num_players, self.zero_sum)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, texts and lists for a configuration file."""
        return {
            "network": self.network,
            "obs_shape": list(self.obs_shape),
            "num_actions": self.num_actions,
            "num_players": self.num_players,
            "zero_sum": self.zero_sum,
            "sizes": dict(self.sizes),
        }


class OwnNetwork(nn.Module):
    """A module of one's own as a `BoardNetwork`.

    `forward(obs float32 [M, C, H, W])` of the module returns logits [M, A] and values in [-1, 1]:
    [M] or [M, 1] for the side to move, [M, P] where that does not say all. Its
    normalisations may follow the batch; weights may be of any shape. It may have an attribute
    `tuning`, a `Tuning` (network.py).

    Args:
        net: the module.
        config: what it was made from.

    Raises:
        ConfigError: what it returns is not that.
    """

    undecayed = ()

    def __init__(self, net: nn.Module, config: OwnConfig) -> None:
        super().__init__()
        self.net, self.config = net, config
        self._try()

    @classmethod
    def restore(cls, network: str, data: dict[str, Any], *, where: object) -> OwnNetwork:
        """One of the shape that `OwnConfig.to_dict` described; weights are arbitrary.

        Raises:
            ConfigError: no such description, a module that nobody trusts, a class that changed.
        """
        try:
            shape = tuple(int(n) for n in data["obs_shape"])
            if len(shape) != 3:
                raise ValueError("obs_shape needs three numbers")
            config = OwnConfig(**{**data, "obs_shape": shape, "network": network})
            sizes = dict(config.sizes)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"not the description of a network: {error}") from None
        trust(network, where, "the network")
        return cls(_made(network, _needed(config, _factory(network)), sizes), config)

    @property
    def tuning(self) -> Tuning:
        """What the module declares of itself, or careful values."""
        found = self.net.tuning if isinstance(self.net, TunedNetwork) else None
        if not isinstance(found, Tuning):
            return Tuning()
        matrices, heads = (
            [f"net.{name}" for name in names] for names in (found.matrices, found.heads)
        )
        return replace(found, matrices=matrices, heads=heads)

    def heads(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [M, A] and value logits [M, V], of which tanh(logit / 2) is the value."""
        logits, values = self.net(obs)
        return logits, _value_logits(values.reshape(-1, self.config.num_values).float())

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and values."""
        logits, value_logits = self.heads(obs)
        return logits, squash(value_logits, self.config.num_values)

    def inference_copy(
        self, *, dtype: torch.dtype = torch.float32, device: torch.device | None = None
    ) -> NetworkCopy:
        """A copy in that dtype, or in float32 where the module insists on it."""
        device = device or torch.device("cpu")
        copied = NetworkCopy(self, dtype=dtype, device=device)
        if dtype == torch.float32:
            return copied
        try:
            with torch.no_grad():
                copied(torch.zeros((1, *self.config.obs_shape), dtype=dtype, device=device))
        except RuntimeError:
            return _Float32Copy(self, dtype=torch.float32, device=device)
        return copied

    @torch.no_grad()
    def _try(self) -> None:
        """Two batches of made-up boards through the module."""
        config, name = self.config, self.config.network
        if not any(parameter.requires_grad for parameter in self.net.parameters()):
            raise ConfigError(f"network {name}: it has no parameters to learn")
        first = next(self.net.parameters())
        learning = self.net.training
        self.net.eval()
        for rows in TRIED_ROWS:
            boards = torch.zeros((rows, *config.obs_shape), dtype=first.dtype, device=first.device)
            boards[:, :, ::2, ::2] = 1.0
            try:
                found = self.net(boards)
            except Exception as error:
                reason = str(error).split("\n", 1)[0]
                raise ConfigError(
                    f"network {name}: forward of [{rows}, {', '.join(map(str, config.obs_shape))}] "
                    f"raised {type(error).__name__}: {reason}"
                ) from error
            self._check(found, rows)
        self.net.train(learning)

    def _check(self, found: object, rows: int) -> None:
        config, name = self.config, self.config.network
        if not (
            isinstance(found, tuple)
            and len(found) == 2
            and all(isinstance(part, Tensor) for part in found)
        ):
            raise ConfigError(
                f"network {name}: forward must return two tensors (logits, values), not "
                f"{type(found).__name__}"
            )
        logits, values = found
        if logits.shape != (rows, config.num_actions):
            raise ConfigError(
                f"network {name}: logits of {rows} boards must be [{rows}, {config.num_actions}], "
                f"not {list(logits.shape)}"
            )
        many = config.num_values
        if values.shape != (rows, many) and (many > 1 or values.shape != (rows,)):
            wanted = f"[{rows}, {many}]" if many > 1 else f"[{rows}] or [{rows}, 1]"
            raise ConfigError(
                f"network {name}: values of {rows} boards must be {wanted}, "
                f"not {list(values.shape)}"
            )
        if not (logits.is_floating_point() and values.is_floating_point()):
            raise ConfigError(
                f"network {name}: logits and values must be floating-point numbers, not "
                f"{logits.dtype} and {values.dtype}"
            )
        if not torch.isfinite(logits.sum() + values.sum()):
            raise ConfigError(f"network {name}: the answers of fresh weights are not finite")
        largest = float(values.abs().max())
        if largest > LARGEST_VALUE:
            raise ConfigError(
                f"network {name}: values must be results from -1 to 1, not {largest:.3g}"
            )


class _Float32Copy(NetworkCopy):
    """A copy of a module that fails in other dtypes: it keeps its own."""

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [M, A] and values, both float32, of observations of any dtype."""
        return super().forward(obs.float())


def own_network(
    text: str,
    obs_shape: tuple[int, int, int],
    num_actions: int,
    *,
    size: str = "base",
    num_players: int = 2,
    zero_sum: bool = True,
    seed: int = 0,
) -> OwnNetwork:
    """A fresh network of a person's own class.

    The class is called with those of `obs_shape`, `num_actions`, `num_players`, `channels` and
    `blocks` (the last two from `size`) that its constructor takes, and with what stands in the
    brackets.

    Args:
        text: "module:Class" or "module:Class(width=64, ...)"; a function that returns a module will
            do.
        obs_shape: `(C, H, W)`.
        num_actions: A.
        size: see `new_network` (registry.py).
        num_players: P.
        zero_sum: of two players one value says all.
        seed: the same seed gives the same weights, if the module draws them from torch.
    """
    name, bracket, rest = text.partition("(")
    given = _keywords(text, bracket + rest)
    trust(name, f"the configuration's network = {text!r}", "the network")
    factory = _factory(name)
    channels, blocks, *_ = plain_size(size)
    sizes = {**_accepted(factory, {"channels": channels, "blocks": blocks}), **given}
    config = OwnConfig(
        network=name,
        obs_shape=obs_shape,
        num_actions=num_actions,
        num_players=num_players,
        zero_sum=zero_sum,
        sizes=sizes,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the processor's, which fork_rng brings back
        return OwnNetwork(_made(name, _needed(config, factory), sizes), config)


def _keywords(text: str, brackets: str) -> dict[str, Any]:
    """The keyword arguments that stand in brackets after a name; values are literals."""
    if not brackets:
        return {}
    try:
        call = ast.parse(f"f{brackets}", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError("only keyword arguments can be given")
        return {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
    except (SyntaxError, ValueError) as error:
        reason = str(error).split("\n", 1)[0]
        raise ConfigError(
            f"network {text!r}: write module:Class(name=value, ...): {reason}"
        ) from None


def _factory(name: str) -> Callable[..., object]:
    found = load_object(name, "the network")
    if not callable(found) or isinstance(found, nn.Module):
        raise ConfigError(f"network {name} must be a class (torch.nn.Module), not {found!r}")
    return found


def _accepted(factory: Callable[..., object], offered: dict[str, Any]) -> dict[str, Any]:
    """Those of the offered keyword arguments that a constructor takes."""
    if isinstance(factory, type) and factory.__init__ is nn.Module.__init__:  # type: ignore[misc]
        return {}
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return {}
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return offered
    by_name = {one.name for one in parameters if one.kind is not one.POSITIONAL_ONLY}
    return {name: value for name, value in offered.items() if name in by_name}


def _needed(config: OwnConfig, factory: Callable[..., object]) -> Callable[..., object]:
    """The constructor with what the game gives already filled in."""
    shape = {
        "obs_shape": config.obs_shape,
        "num_actions": config.num_actions,
        "num_players": config.num_players,
    }
    accepted = _accepted(factory, shape)
    return lambda **sizes: factory(**accepted, **sizes)


def _made(name: str, factory: Callable[..., object], sizes: Mapping[str, Any]) -> nn.Module:
    try:
        found = factory(**sizes)
    except Exception as error:
        reason = str(error).split("\n", 1)[0]
        raise ConfigError(
            f"network {name}: its constructor raised {type(error).__name__}: {reason}"
        ) from error
    if not isinstance(found, nn.Module):
        raise ConfigError(f"network {name} must be a torch.nn.Module, not {type(found).__name__}")
    return found


def _value_logits(values: Tensor) -> Tensor:
    """The inverse of tanh(x / 2), going on as a line beyond `EDGE`: no step is infinite."""
    inner = values.clamp(-EDGE, EDGE)
    slope = 2.0 / (1.0 - EDGE**2)
    return torch.log((1 + inner) / (1 - inner)) + slope * (values - inner)
