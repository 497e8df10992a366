"""A model on disk: model.safetensors and config.json, never pickle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import safetensors.torch as safetensors
import torch
from safetensors import SafetensorError

from cloister._canonical import digest_bytes
from cloister._files import atomic_write, make_directory
from cloister.errors import DigestMismatch, InputError
from cloister.models.building import build
from cloister.models.settings import ModelSettings, ModelSpec, Spec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

__all__ = ["ModelConfig", "load_model", "load_weights", "save_model"]

_SCHEMA = 1
_Fields = TypeVar("_Fields")
_WEIGHTS = "model.safetensors"
_CONFIG = "config.json"


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What config.json holds: enough to build the model again and to encode rows for it.

    Attributes:
        settings: The recipe's [model].
        spec: What the model knows about the data.
        preprocessing: JSON of the data room.
    """

    settings: ModelSettings
    spec: Spec
    preprocessing: Mapping[str, Any]


def save_model(directory: Path, model: nn.Module, config: ModelConfig) -> None:
    """Write model.safetensors, then config.json with its digest; each appears whole or not at all.

    Parameters that share memory (tied embeddings) are stored once.

    Args:
        directory: Created if need be.
        model: What `build` made from the configuration's settings and spec, trained.
        config: Written to config.json.
    """
    make_directory(directory)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _unique(model).items()}
    content = safetensors.save(tensors)
    atomic_write(Path(directory) / _WEIGHTS, content)
    stored = {
        "schema": _SCHEMA,
        "weights": digest_bytes(content),
        "settings": asdict(config.settings),
        "spec": {field.name: getattr(config.spec, field.name) for field in fields(ModelSpec)},
        "preprocessing": dict(config.preprocessing),
    }
    text = json.dumps(stored, indent=2, allow_nan=False, ensure_ascii=False)
    atomic_write(Path(directory) / _CONFIG, text.encode() + b"\n")


def load_model(directory: Path, *, base: Path | None = None) -> tuple[nn.Module, ModelConfig]:
    """Build the model that `save_model` wrote, on the CPU and in evaluation mode.

    Args:
        directory: Where the two files lie.
        base: Folder for "module:function" and "hf:" models; left out, `directory` itself.

    Raises:
        InputError: A file is missing or not what it must be; tensors are missing, unknown or of another shape.
        DigestMismatch: The weights are not those that config.json was written for.
    """
    directory = Path(directory)
    stored = _read_config(directory / _CONFIG)
    content = _read(directory / _WEIGHTS)
    if digest_bytes(content) != stored["weights"]:
        raise DigestMismatch(
            f"{directory / _WEIGHTS} has digest {digest_bytes(content)}; {_CONFIG} says {stored['weights']}",
            hint="the two files come from different runs, or one was changed",
        )
    config = ModelConfig(
        settings=_read_fields(ModelSettings, stored["settings"]),
        spec=_read_fields(ModelSpec, stored["spec"]),
        preprocessing=stored["preprocessing"],
    )
    model = build(config.settings, config.spec, base=base or directory)
    load_weights(model, content, source=str(directory / _WEIGHTS))
    return model.eval(), config


def load_weights(model: nn.Module, content: bytes, *, source: str) -> None:
    """Copy tensors in the safetensors format into a model of exactly their names and shapes.

    Raises:
        InputError: Names, shapes or types differ, or the content is not in the safetensors format.
    """
    try:
        tensors = safetensors.load(content)
    except SafetensorError as error:
        raise InputError(f"{source} is not in the safetensors format") from error
    expected = _unique(model)
    for kind, names in (("lacks", expected.keys() - tensors.keys()), ("also holds", tensors.keys() - expected.keys())):
        if names:
            raise InputError(f"{source} {kind} {', '.join(sorted(names)[:5])}")
    with torch.no_grad():
        for name, target in expected.items():
            found = tensors[name]
            if found.shape != target.shape or found.dtype != target.dtype:
                raise InputError(
                    f"{source} has {name} as {tuple(found.shape)} {found.dtype}; "
                    f"the model has {tuple(target.shape)} {target.dtype}"
                )
            target.copy_(found)


def _unique(model: nn.Module) -> dict[str, Tensor]:
    """The model's state without second names of the same memory."""
    seen: set[tuple[int, torch.Size]] = set()
    unique = {}
    for name, tensor in model.state_dict().items():
        memory = (tensor.data_ptr(), tensor.shape)
        if tensor.numel() and memory in seen:
            continue
        seen.add(memory)
        unique[name] = tensor
    return unique


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or '').lower()}") from error


def _read_config(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(_read(path))
    except ValueError as error:
        raise InputError(f"{path} is not JSON") from error
    parts = {"weights": str, "settings": dict, "spec": dict, "preprocessing": dict}
    if not isinstance(stored, dict) or stored.get("schema") != _SCHEMA:
        raise InputError(f"{path} is not a model's configuration of schema {_SCHEMA}")
    for name, kind in parts.items():
        if not isinstance(stored.get(name), kind):
            raise InputError(f"{path} lacks {name!r}")
    return stored


def _read_fields(kind: type[_Fields], stored: Mapping[str, Any]) -> _Fields:
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise InputError(f"{_CONFIG} does not describe {kind.__name__}: {error}") from error
