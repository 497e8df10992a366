"""Small networks for rows and images. No layer mixes examples: there is no batch normalization.

Shapes: B examples, C channels, H x W pixels, K outputs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import nn

from cloister.errors import InputError

if TYPE_CHECKING:
    from cloister.models.settings import ModelSettings, Spec

__all__ = ["cnn", "linear", "mlp"]

_ACTIVATIONS = {"gelu": nn.GELU, "identity": nn.Identity, "relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}
_MNIST_SHAPE = (1, 28, 28)
_CIFAR_SHAPE = (3, 32, 32)
_DEFAULT_HIDDEN = (128,)
_SMALLEST_SIDE = 4


def linear(settings: ModelSettings, spec: Spec) -> nn.Module:
    """One linear layer on the flattened input, after an optional group normalization of its channels.

    With ``group_norm = 27`` on 81 scattering channels this is the linear ScatterNet of F. Tramèr and D. Boneh,
    "Differentially private learning needs better features (or much more data)" (2021).
    """
    layers = [*_normalization(settings, spec), nn.Flatten(), nn.Linear(_size(spec), spec.num_outputs)]
    return nn.Sequential(*layers)


def mlp(settings: ModelSettings, spec: Spec) -> nn.Module:
    """Linear layers with an activation between them."""
    layers: list[nn.Module] = [nn.Flatten()]
    width = _size(spec)
    for hidden in _DEFAULT_HIDDEN if settings.hidden is None else settings.hidden:
        layers += [nn.Linear(width, hidden), _ACTIVATIONS[settings.activation]()]
        if settings.dropout:
            layers.append(nn.Dropout(settings.dropout))
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, spec.num_outputs))


def cnn(settings: ModelSettings, spec: Spec) -> nn.Module:
    """A convolutional network for images ``(C, H, W)`` of any size.

    For 28 x 28 grayscale and 32 x 32 color images the end-to-end networks of Tramèr and Boneh (2021), appendix
    (26,010 and 550,570 parameters for ten classes), unless `channels` says otherwise; for other shapes blocks of
    convolution, activation and pooling down to about 4 x 4.
    """
    if len(spec.input_shape) != 3:
        raise InputError(f"cnn needs images and inputs have shape {spec.input_shape}", hint="use mlp")
    activation = _ACTIVATIONS[settings.activation]
    if settings.channels is None and spec.input_shape == _MNIST_SHAPE:
        features, flat = _mnist_features(activation), 512
    elif settings.channels is None and spec.input_shape == _CIFAR_SHAPE:
        features, flat = _cifar_features(activation), 2048
    else:
        features, flat = _blocks(settings, spec, activation)
    defaults = {_MNIST_SHAPE: (32,), _CIFAR_SHAPE: (128,)}
    hidden = defaults.get(spec.input_shape, (64,)) if settings.hidden is None else settings.hidden
    head: list[nn.Module] = [nn.Flatten()]
    for width in hidden:
        head += [nn.Linear(flat, width), activation()]
        flat = width
    return nn.Sequential(*_normalization(settings, spec), *features, *head, nn.Linear(flat, spec.num_outputs))


def _mnist_features(activation: type[nn.Module]) -> list[nn.Module]:
    """28 -> 13 -> 12 -> 5 -> 4 pixels a side."""
    return [
        nn.Conv2d(1, 16, 8, stride=2, padding=2),
        activation(),
        nn.MaxPool2d(2, 1),
        nn.Conv2d(16, 32, 4, stride=2),
        activation(),
        nn.MaxPool2d(2, 1),
    ]


def _cifar_features(activation: type[nn.Module]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    previous = 3
    for channels in (32, 64, 128):
        for before in (previous, channels):
            layers += [nn.Conv2d(before, channels, 3, padding=1), activation()]
        layers.append(nn.MaxPool2d(2))
        previous = channels
    return layers


def _blocks(settings: ModelSettings, spec: Spec, activation: type[nn.Module]) -> tuple[list[nn.Module], int]:
    previous, height, width = spec.input_shape
    layers: list[nn.Module] = []
    for channels in settings.channels or (32, 64, 128):
        layers += [nn.Conv2d(previous, channels, 3, padding=1), activation()]
        previous = channels
        if min(height, width) >= 2 * _SMALLEST_SIDE:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
    return layers, previous * height * width


def _normalization(settings: ModelSettings, spec: Spec) -> list[nn.Module]:
    if settings.group_norm is None:
        return []
    channels = spec.input_shape[0]
    if len(spec.input_shape) != 3 or channels % settings.group_norm:
        raise InputError(f"group_norm is {settings.group_norm} and inputs have shape {spec.input_shape}")
    return [nn.GroupNorm(settings.group_norm, channels, affine=False)]


def _size(spec: Spec) -> int:
    if spec.vocab_size is not None:
        raise InputError("inputs are text", hint='use name = "transformer"')
    return math.prod(spec.input_shape)
