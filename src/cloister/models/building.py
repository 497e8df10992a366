"""From settings to a model."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from cloister.errors import InputError
from cloister.models.hugging_face import load_hugging_face
from cloister.models.networks import cnn, linear, mlp
from cloister.models.transformer import transformer

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.models.settings import ModelSettings, Spec

__all__ = ["build"]

_BUILT_IN: dict[str, Callable[[ModelSettings, Spec], nn.Module]] = {
    "cnn": cnn,
    "linear": linear,
    "mlp": mlp,
    "transformer": transformer,
}
_HUGGING_FACE = "hf:"


def build(settings: ModelSettings, spec: Spec, base: Path) -> nn.Module:
    """A freshly initialized model; the initialization follows torch's global generator.

    Args:
        settings: The recipe's [model].
        spec: What the model must know about the data.
        base: The recipe's folder: relative directories start there, and "module:function" is looked up there
            first. The function is called with `spec` and runs with the rights of the caller.

    Raises:
        InputError: No such model, or it does not fit the data.
        MissingExtra: "hf:" without the transformers library.
    """
    if settings.name in _BUILT_IN:
        return _BUILT_IN[settings.name](settings, spec)
    if settings.name.startswith(_HUGGING_FACE):
        return load_hugging_face(Path(base) / settings.name.removeprefix(_HUGGING_FACE), spec)
    if ":" in settings.name:
        return _call(settings.name, spec, Path(base))
    known = ", ".join(sorted(_BUILT_IN))
    raise InputError(f"there is no model {settings.name!r}", hint=f'{known}, "hf:DIRECTORY" or "module:function"')


def _call(name: str, spec: Spec, base: Path) -> nn.Module:
    module_name, _, function_name = name.partition(":")
    sys.path.insert(0, str(base))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise InputError(f"{name}: {error}", hint=f"modules are looked up in {base} first") from error
    finally:
        sys.path.remove(str(base))
    function = getattr(module, function_name, None)
    if not callable(function):
        raise InputError(f"module {module_name!r} has no function {function_name!r}")
    model = function(spec)
    if not isinstance(model, nn.Module):
        raise InputError(f"{name} returned {type(model).__name__}; expected a torch module")
    return model
