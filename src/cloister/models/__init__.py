"""Small models, per-example losses, results and weights on disk.

Names are loaded when they are first used, so that settings can be read without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cloister.errors import MissingExtra

if TYPE_CHECKING:
    from cloister.models.building import build
    from cloister.models.losses import LossFn, loss_for
    from cloister.models.metrics import evaluate
    from cloister.models.settings import ModelSettings, ModelSpec, Spec
    from cloister.models.weights import ModelConfig, load_model, load_weights, save_model

_HOMES = {
    "LossFn": "losses",
    "ModelConfig": "weights",
    "ModelSettings": "settings",
    "ModelSpec": "settings",
    "Spec": "settings",
    "build": "building",
    "evaluate": "metrics",
    "load_model": "weights",
    "load_weights": "weights",
    "loss_for": "losses",
    "save_model": "weights",
}

__all__ = [
    "LossFn",
    "ModelConfig",
    "ModelSettings",
    "ModelSpec",
    "Spec",
    "build",
    "evaluate",
    "load_model",
    "load_weights",
    "loss_for",
    "save_model",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name not in ("safetensors", "torch"):
            raise
        raise MissingExtra(error.name, extra="train") from error
