"""Random views of images, several for each example."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from cloister.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from cloister.clipping import Batch

__all__ = ["augment"]

_SHIFT = 4  # pixels, as is usual for images of about 32 x 32


def augment(batch: Batch, kinds: Sequence[str], *, views: int) -> Batch:
    """Every example `views` times in a row, each view changed at random on its own.

    Args:
        batch: (inputs, targets, ...) with leading dimension B; inputs are images (B, C, H, W).
        kinds: "crop" shifts by up to 4 pixels over a mirrored border, "flip" mirrors left and right.
        views: How many views of each example.

    Returns:
        The same tensors with leading dimension B * views. The views of example i are rows i * views and
        following. Their randomness needs no cipher: the guarantee holds for any choice that ignores the data.
    """
    inputs, *others = (tensor.repeat_interleave(views, dim=0) for tensor in batch)
    if kinds and inputs.dim() != 4:
        raise InputError(
            f"augmentation needs images of shape (C, H, W); the inputs have shape {tuple(inputs.shape[1:])}",
            hint="remove augmentation from [training]",
        )
    if "crop" in kinds and len(inputs):
        inputs = _crop(inputs)
    if "flip" in kinds and len(inputs):
        mirrored = torch.rand(len(inputs), device=inputs.device) < 0.5
        inputs = torch.where(mirrored[:, None, None, None], inputs.flip(-1), inputs)
    return (inputs, *others)


def _crop(images_BCHW: Tensor) -> Tensor:
    count, _, height, width = images_BCHW.shape
    padded = F.pad(images_BCHW, (_SHIFT,) * 4, mode="reflect")
    offsets = torch.randint(2 * _SHIFT + 1, (2, count, 1), device=images_BCHW.device)
    rows = offsets[0] + torch.arange(height, device=images_BCHW.device)
    columns = offsets[1] + torch.arange(width, device=images_BCHW.device)
    example = torch.arange(count, device=images_BCHW.device)[:, None, None]
    return padded[example, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
