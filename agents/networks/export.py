"""Networks for other programs: ONNX, compared with the original before it is kept, or safetensors.

`ExportedPolicy` wraps a policy of PPO with its observation statistics, `ExportedBoard` a network of
a board game; both are one function of tensors with a dynamic batch, as `Exportable` says.
`export_network` is what `playout export` does with either. Rules, search and sampling are no part
of a file. Leaves out language models, which are exported as they are stored.
"""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium import spaces
from playout.agents.networks.actor_critic import ActorCritic
from playout.agents.networks.boards.network import BoardNetwork, InferenceNetwork
from playout.agents.networks.boards.smaller.held import plain_copy
from playout.agents.networks.distributions import Categorical
from playout.agents.runs.checkpoint import tensor_file
from playout.agents.runs.checkpoint.durable_io import describe
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import ExportOptions
from playout.agents.runs.reporting import must_be_writable
from playout.agents.vector.normalize import ObsNormalizer
from playout.agents.vector.spaces import leaves
from playout.errors import ConfigError, DataError, RunError
from torch import Tensor, nn
from torch.nn import functional

_TOLERANCE = 1e-4  # of answers, relative where they are larger than 1
_CHECKED_ROWS = (1, 7, 64)  # batches that are compared
_INSTALL = "pip install 'playout[export]'"


class Exportable(Protocol):
    """A network as one function from tensors to tensors, all with the batch as their first axis."""

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs, in order."""
        ...

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, in order."""
        ...

    def example_inputs(self, rows: int, seed: int) -> list[Tensor]:
        """Random inputs of the right shapes and types."""
        ...

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Its answers."""
        ...


class ExportedBoard(nn.Module):
    """Observations [N, C, H, W] to policy logits [N, A] and values.

    Args:
        net: the network; where it holds codes, the numbers that they stand for are exported.
        answers: a copy of it that answers instead, see `BoardNetwork.inference_copy`.
    """

    def __init__(self, net: BoardNetwork, answers: InferenceNetwork | None = None) -> None:
        super().__init__()
        assert isinstance(net, nn.Module)
        self.net = plain_copy(net) if answers is None else answers
        self.shape = net.config.obs_shape
        self.input_names, self.output_names = ["obs"], ["logits", "values"]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Logits and values."""
        return self.net(inputs[0])  # type: ignore[no-any-return]

    def example_inputs(self, rows: int, seed: int) -> list[Tensor]:
        """Random boards."""
        shape = (rows, *self.shape)
        return [torch.from_numpy(np.random.default_rng(seed).integers(0, 2, shape)).float()]


class ExportedPolicy(nn.Module):
    """Raw observations (one input a key, of nested ones a dotted key), mask and memory to answers.

    The mask is an input where actions can be masked, the memory where the policy is recurrent. The
    outputs are the action before clipping to the bounds, the distribution's parameters, the value
    and the next memory.

    Args:
        policy: A policy of playout's own networks.
        space: Its observations.
        normalizer: Statistics of training, which become part of the function.
    """

    def __init__(
        self, policy: nn.Module, space: spaces.Space[Any], normalizer: ObsNormalizer | None = None
    ) -> None:
        super().__init__()
        if not isinstance(policy, ActorCritic):
            raise ConfigError("only policies of playout's own networks can be exported to ONNX")
        self.policy, self.space = policy, space
        self.keys = [key for key, _ in leaves(space)]
        self.masked = self.policy.head.mask_size is not None
        self.num_states = sum(len(part) for part in self.policy.initial_state(1) or ())
        self.clip = 0.0
        if normalizer is not None:
            self.clip = normalizer.clip
            for key, moments in normalizer.moments.items():
                at = self.keys.index(key)  # a buffer's name may hold no dot
                scale = 1.0 / np.sqrt(moments.var + 1e-8)
                self.register_buffer(f"mean_{at}", torch.tensor(moments.mean, dtype=torch.float32))
                self.register_buffer(f"scale_{at}", torch.tensor(scale, dtype=torch.float32))

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs."""
        names = [f"obs_{key}" if key else "obs" for key in self.keys]
        names += ["mask"] if self.masked else []
        return names + [f"state_{i}" for i in range(self.num_states)]

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs."""
        return ["action", "params", "value", *(f"next_state_{i}" for i in range(self.num_states))]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Action `[N, ...]`, parameters `[N, P]`, value `[N]`, next state."""
        policy = self.policy
        parts = (self._normal(at, x) for at, x in enumerate(inputs[: len(self.keys)]))
        obs = _nested(self.space, parts)
        rest = list(inputs[len(self.keys) :])
        mask = rest.pop(0) if self.masked else None
        first = second = None
        if self.num_states:
            half = policy.policy_trunk.core.num_states  # type: ignore[union-attr]
            first, second = tuple(rest[:half]), tuple(rest[half:])
        features, first = policy.policy_trunk.step(obs, first)
        head = policy.head
        params = functional.linear(features, head.out.weight, head.out.bias)
        distribution = head.distribution(params, mask)
        action = distribution.mode()
        if isinstance(distribution, Categorical):
            params = distribution.logits
        if policy.value_trunk is not None:
            features, second = policy.value_trunk.step(obs, second)
        value = functional.linear(features, policy.value_head.weight, policy.value_head.bias)
        states = (*(first or ()), *(second or ())) if self.num_states else ()
        return action, params, value.squeeze(-1), *states

    def _normal(self, at: int, x: Tensor) -> Tensor:
        if not hasattr(self, f"mean_{at}"):
            return x
        mean, scale = getattr(self, f"mean_{at}"), getattr(self, f"scale_{at}")
        shape = x.shape
        flat = (x.reshape(shape[0], -1) - mean) * scale
        return flat.clamp(-self.clip, self.clip).reshape(shape)

    def example_inputs(self, rows: int, seed: int) -> list[Tensor]:
        """Random inputs of the right shapes and types."""
        rng = np.random.default_rng(seed)
        inputs = []
        for _, part in leaves(self.space):
            shape = (rows, *(part.shape or ()))
            if isinstance(part, spaces.Box) and np.issubdtype(part.dtype, np.floating):
                low, high = np.maximum(part.low, -3.0), np.minimum(part.high, 3.0)
                array: Any = rng.uniform(low, np.maximum(high, low), shape).astype(part.dtype)
            elif isinstance(part, spaces.Box) and part.dtype == np.uint8:
                array = rng.integers(0, 256, shape, dtype=np.uint8)
            else:
                part.seed(seed)
                array = np.stack([np.asarray(part.sample()) for _ in range(rows)])
            inputs.append(torch.from_numpy(np.ascontiguousarray(array)))
        if self.masked:
            mask = rng.random((rows, self.policy.head.mask_size or 0)) < 0.8
            mask[:, 0] = True
            inputs.append(torch.from_numpy(mask))
        for part in self.policy.initial_state(rows) or ():
            inputs += [
                torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)) for x in part
            ]
        return inputs


def _nested(space: spaces.Space[Any], parts: Iterator[Tensor]) -> Any:
    """Tensors in the order of `leaves`, as the observation of a space that they are parts of."""
    if not isinstance(space, spaces.Dict):
        return next(parts)
    return {key: _nested(part, parts) for key, part in space.spaces.items()}


def write_onnx(network: Exportable, path: Path, about: Mapping[str, str] | None = None) -> None:
    """Writes the network as ONNX, with what is told of it as metadata.

    Raises:
        RunError: The extra "export" is not installed.
    """
    if find_spec("onnxscript") is None:
        raise RunError(f"ONNX export needs more packages: {_INSTALL}")
    module = network
    assert isinstance(module, nn.Module)
    module.eval()
    inputs = network.example_inputs(3, seed=0)
    batch = torch.export.Dim("batch", min=1, max=1 << 20)
    quiet = io.StringIO()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(quiet),
        contextlib.redirect_stderr(quiet),
        torch.no_grad(),
    ):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            tuple(inputs),
            input_names=network.input_names,
            output_names=network.output_names,
            dynamic_shapes=(({0: batch},) * len(inputs),),
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.model.metadata_props.update(about or {})
        program.save(str(path))


def check_onnx(network: Exportable, path: Path) -> float:
    """The largest difference between the network and the file over batches of several sizes.

    Raises:
        RunError: It is too large, or the check cannot be made.
    """
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError:
        raise RunError(f"the check needs onnxruntime: {_INSTALL}, or use --no-check") from None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    known = [entry.name for entry in session.get_inputs()]
    worst = 0.0
    for rows in _CHECKED_ROWS:
        inputs = network.example_inputs(rows, seed=rows)
        named = zip(network.input_names, inputs, strict=True)
        found = session.run(network.output_names, {n: x.numpy() for n, x in named if n in known})
        with torch.no_grad():
            wanted = network(*inputs)
        for name, ours, theirs in zip(network.output_names, wanted, found, strict=True):
            if ours.dtype in (torch.int64, torch.int32) and not np.array_equal(ours, theirs):
                raise RunError(f"ONNX: {name} differs from the original network; nothing was kept")
            size = np.maximum(np.abs(ours.numpy().astype(np.float64)), 1.0)
            worst = max(worst, float((np.abs(ours.numpy() - theirs) / size).max()))
    if not worst <= _TOLERANCE:
        raise RunError(f"ONNX differs from the original network by {worst:.2g}; nothing was kept")
    return worst


def export_network(
    run: RunDir,
    options: ExportOptions,
    weights: Mapping[str, Tensor],
    wrapper: Callable[[], Exportable],
    *,
    stem: str,
    about: Mapping[str, str],
) -> None:
    """What `playout export RUN` does with a run that has one network.

    Args:
        run: The run.
        options: What to write and where; without a format it is what the file's ending says, else
            ONNX if that can be written.
        weights: By name, for safetensors.
        wrapper: Makes the function for ONNX; ConfigError if the network cannot be one.
        stem: What a file inside the run is called, before its ending.
        about: What the file tells of the network as metadata.

    Raises:
        ConfigError: No such format, or one that the file's ending denies. DataError: The file
            cannot be written.
    """
    if options.format in ("hf", "peft", "run"):
        raise ConfigError(
            f"a run of kind {run.kind} is exported as onnx or safetensors, not {options.format}"
        )
    ending = "" if options.out is None else options.out.suffix[1:].lower()
    named = ending if ending in ("onnx", "safetensors") else None
    if options.format and named and named != options.format:
        raise ConfigError(f"{options.out} names a file of {named}, not of {options.format}")
    kind, reason = options.format or named, ""
    onnx = kind == "onnx"
    if kind is None:
        onnx, reason = _onnx_possible(wrapper)
    path = options.out
    if path is None:
        path = run.path / f"{stem}.{'onnx' if onnx else 'safetensors'}"
    if onnx:
        with whole_file(path) as aside:
            exportable = wrapper()
            write_onnx(exportable, aside, about)
            text = "ONNX"
            if options.check:
                worst, rows = check_onnx(exportable, aside), sum(_CHECKED_ROWS)
                text += f", largest difference to the original {worst:.1e} over {rows} inputs"
    else:
        must_be_writable(path)
        tensor_file.save(path, weights, about)
        text = f"safetensors{reason}"
    print(f"wrote {path} ({text})")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A place beside a file, which takes the file's name when all was written and checked there.

    Raises:
        DataError: it cannot be written.
    """
    must_be_writable(path)
    aside = path.with_name(f".{path.name}.tmp")
    try:
        yield aside
        os.replace(aside, path)
    except OSError as error:
        raise DataError(f"cannot write {path}: {describe(error)}; choose another --out") from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def _onnx_possible(wrapper: Callable[[], Exportable]) -> tuple[bool, str]:
    """Whether a network can be written as ONNX here, and if not, why."""
    if find_spec("onnxscript") is None or find_spec("onnxruntime") is None:
        return False, f"; for ONNX: {_INSTALL}"
    try:
        wrapper()
    except ConfigError as error:
        return False, f"; {error}"
    return True, ""
