"""The rules: for each operation that may hold trainable parameters, its per-example gradients.

A rule takes the arguments of the operation it stands for, preceded by the recorder of the call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.nn import functional as F

from cloister.clipping.rules.convolution import convolution
from cloister.clipping.rules.embedding import embedding
from cloister.clipping.rules.linear import linear
from cloister.clipping.rules.normalization import group_norm, instance_norm, layer_norm, rms_norm

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RULES"]

RULES: dict[Callable[..., Any], Callable[..., Any]] = {
    F.linear: linear,
    F.conv1d: convolution(F.conv1d),
    F.conv2d: convolution(F.conv2d),
    F.conv3d: convolution(F.conv3d),
    F.embedding: embedding,
    F.layer_norm: layer_norm,
    F.group_norm: group_norm,
    F.instance_norm: instance_norm,
    F.rms_norm: rms_norm,
}
