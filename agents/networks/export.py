"""ONNX export of a PPO policy with its observation statistics, and the check of parity.

Inputs are raw observations (one input a key for dictionaries), an action mask where actions can be
masked, and the memory of recurrent policies; outputs are the action before clipping to the bounds,
the distribution's parameters, the value and the next memory. The batch is dynamic.
"""

import contextlib
import io
import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from playout.agents.networks.actor_critic import ActorCritic
from playout.agents.networks.distributions import Categorical
from playout.agents.ppo.player import PPOPlayer, find_checkpoint, load
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import ExportOptions
from playout.errors import ConfigError, RunError
from torch import Tensor, nn
from torch.nn import functional

_TOLERANCE = 1e-4


class Exported(nn.Module):
    """The policy as one function of tensors, in the order of `input_names`."""

    def __init__(self, player: PPOPlayer) -> None:
        super().__init__()
        if not isinstance(player.policy, ActorCritic):
            raise ConfigError("only policies of playout's own networks can be exported to ONNX")
        self.policy = player.policy
        space = player.observation_space
        self.keys = list(space.spaces) if isinstance(space, spaces.Dict) else [""]
        self.masked = self.policy.head.mask_size is not None
        self.num_states = sum(len(part) for part in self.policy.initial_state(1) or ())
        self.clip = 0.0
        if player.normalizer is not None:
            self.clip = player.normalizer.clip
            for key, moments in player.normalizer.moments.items():
                scale = 1.0 / np.sqrt(moments.var + 1e-8)
                self.register_buffer(f"mean_{key}", torch.tensor(moments.mean, dtype=torch.float32))
                self.register_buffer(f"scale_{key}", torch.tensor(scale, dtype=torch.float32))

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
        parts = {key: self._normal(key, x) for key, x in zip(self.keys, inputs, strict=False)}
        obs = parts[""] if self.keys == [""] else parts
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

    def _normal(self, key: str, x: Tensor) -> Tensor:
        if not hasattr(self, f"mean_{key}"):
            return x
        mean, scale = getattr(self, f"mean_{key}"), getattr(self, f"scale_{key}")
        shape = x.shape
        flat = (x.reshape(shape[0], -1) - mean) * scale
        return flat.clamp(-self.clip, self.clip).reshape(shape)


def example_inputs(player: PPOPlayer, module: Exported, rows: int, seed: int) -> list[Tensor]:
    """Random inputs of the right shapes and types."""
    space = player.observation_space
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    rng = np.random.default_rng(seed)
    inputs = []
    for part in parts:
        shape = (rows, *(part.shape or ()))
        if isinstance(part, spaces.Box) and part.dtype == np.float32:
            low, high = np.maximum(part.low, -3.0), np.minimum(part.high, 3.0)
            array: Any = rng.uniform(low, np.maximum(high, low), shape).astype(np.float32)
        elif isinstance(part, spaces.Box):
            array = rng.integers(0, 256, shape, dtype=np.uint8)
        else:
            part.seed(seed)
            array = np.stack([np.asarray(part.sample()) for _ in range(rows)])
        inputs.append(torch.from_numpy(np.ascontiguousarray(array)))
    if module.masked:
        mask = rng.random((rows, module.policy.head.mask_size or 0)) < 0.8
        mask[:, 0] = True
        inputs.append(torch.from_numpy(mask))
    for part in module.policy.initial_state(rows) or ():
        inputs += [
            torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)) for x in part
        ]
    return inputs


def export_onnx(player: PPOPlayer, path: Path, *, check: bool = True) -> float:
    """Write the policy to `path`; returns the largest difference found (0 without `check`).

    Raises:
        RunError: The exported network answers differently, or the extra "export" is not installed.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise RunError('ONNX export needs an extra: pip install "playout[export]"') from None
    module = Exported(player).eval()
    inputs = example_inputs(player, module, 3, seed=0)
    batch = torch.export.Dim("batch", min=1, max=1 << 20)
    shapes = ({0: batch},) * len(inputs)
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
            input_names=module.input_names,
            output_names=module.output_names,
            dynamic_shapes=(shapes,),
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(str(path))
    return compare(player, module, path) if check else 0.0


def compare(player: PPOPlayer, module: Exported, path: Path) -> float:
    """Largest difference between the network and the file over batches of several sizes."""
    try:
        import onnxruntime
    except ImportError:
        raise RunError(
            'the check needs onnxruntime: pip install "playout[export]", or use --no-check'
        ) from None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    worst = 0.0
    for rows in (1, 7, 64):
        inputs = example_inputs(player, module, rows, seed=rows)
        given = {
            name: x.numpy()
            for name, x in zip(module.input_names, inputs, strict=True)
            if name in names
        }
        found = session.run(module.output_names, given)
        with torch.no_grad():
            wanted = module(*inputs)
        for name, ours, theirs in zip(module.output_names, wanted, found, strict=True):
            if ours.dtype in (torch.int64, torch.int32) and not np.array_equal(ours, theirs):
                raise RunError(f"{path}: {name} differs from the original network")
            size = np.maximum(np.abs(ours.numpy().astype(np.float64)), 1.0)
            worst = max(worst, float((np.abs(ours.numpy() - theirs) / size).max()))
    if not worst <= _TOLERANCE:
        raise RunError(f"{path} differs from the original network by {worst:.2g}")
    return worst


def export_run(run: RunDir, options: ExportOptions) -> None:
    """Writes the network of a PPO run."""
    which = options.which
    kind = options.format or "onnx"
    if kind == "hf":
        raise ConfigError("a PPO run is exported as onnx or safetensors")
    player = load(run, which)
    if kind == "safetensors":
        path = options.out or run.path / "policy.safetensors"
        checkpoint = find_checkpoint(run, which)
        shutil.copyfile(checkpoint.path / "model.safetensors", path)
        print(f"wrote {path}")
        return
    path = options.out or run.path / "policy.onnx"
    worst = export_onnx(player, path, check=options.check)
    text = f", largest difference {worst:.1e} over 72 inputs" if options.check else ""
    print(f"wrote {path}{text}")
