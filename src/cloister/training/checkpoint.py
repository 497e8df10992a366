"""Checkpoints: everything a run needs to go on, in one file that is replaced in one step.

The run's key is not in it: whoever has a checkpoint must not be able to subtract noise. A resumed run draws a
new key, so noise and samples never repeat. What ran after the checkpoint and was lost has not been released.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from cloister._files import atomic_write, make_directory
from cloister.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

__all__ = ["Checkpoint", "optimizer_tensors", "read_checkpoint", "restore_optimizer", "write_checkpoint"]

_SCHEMA = "cloister.checkpoint/1"
_NAME = "latest.safetensors"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state after a number of steps.

    Attributes:
        run: The run it belongs to; no other run's event covers these weights.
        step: Steps done.
        clip_norm: Of the next step, where clipping is adaptive.
        seconds: Time spent training so far.
        utility: (step, metrics) pairs measured so far.
        tensors: Model, optimizer and average, by name.
    """

    run: str
    step: int
    clip_norm: float | None = None
    seconds: float = 0.0
    utility: tuple[tuple[int, dict[str, float]], ...] = ()
    tensors: dict[str, Tensor] = field(default_factory=dict, repr=False)


def write_checkpoint(run: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint of a run directory; the old one stays if this fails."""
    meta = {
        "schema": _SCHEMA,
        "run": checkpoint.run,
        "step": checkpoint.step,
        "clip_norm": checkpoint.clip_norm,
        "seconds": checkpoint.seconds,
        "utility": checkpoint.utility,
    }
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in checkpoint.tensors.items()}
    content = save(tensors, metadata={"cloister": json.dumps(meta)})
    atomic_write(make_directory(run / "checkpoints") / _NAME, content, mode=0o600)


def read_checkpoint(run: Path) -> Checkpoint | None:
    """The checkpoint of a run directory, or None where there is none.

    Raises:
        InputError: The file is damaged or of an unknown version.
    """
    path = run / "checkpoints" / _NAME
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {}).get("cloister", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"cannot read checkpoint {path}: {error}", hint="start again in another directory") from error
    if meta.get("schema") != _SCHEMA:
        raise InputError(f"checkpoint {path} has schema {meta.get('schema')!r}; expected {_SCHEMA!r}")
    return _from_meta(meta, tensors)


def _from_meta(meta: dict[str, Any], tensors: dict[str, Tensor]) -> Checkpoint:
    return Checkpoint(
        run=meta["run"],
        step=meta["step"],
        clip_norm=meta["clip_norm"],
        seconds=meta["seconds"],
        utility=tuple((step, metrics) for step, metrics in meta["utility"]),
        tensors=tensors,
    )


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, Tensor]:
    """The optimizer's state by parameter name; `names` in the order of its parameters."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{names[index]}.{key}": value
        for index, entries in state.items()
        for key, value in entries.items()
        if isinstance(value, torch.Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, names: list[str], tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` took out."""
    parameters = optimizer.param_groups[0]["params"]
    for name, parameter in zip(names, parameters, strict=True):
        prefix = f"optimizer.{name}."
        entries = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        for key, value in entries.items():
            # Adam counts its steps in a CPU tensor wherever the parameter lives.
            optimizer.state[parameter][key] = value if key == "step" else value.to(parameter.device)
