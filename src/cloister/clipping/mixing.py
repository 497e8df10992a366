"""Operations that mix examples, refused wherever they are seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from cloister.errors import UnsupportedLayer

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RefuseMixing"]

_REPLACEMENT = "use GroupNorm, LayerNorm or InstanceNorm without running statistics"

_NORMALIZE_BATCH = {
    torch.batch_norm,
    torch.native_batch_norm,
    torch.batch_norm_stats,
    torch.batch_norm_gather_stats_with_counts,
}


class RefuseMixing(TorchFunctionMode):
    """While active, any operation that normalizes over the batch or keeps statistics of it is refused."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        refuse_mixing(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


def refuse_mixing(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise `UnsupportedLayer` if this call computes statistics over several examples."""
    if func is F.batch_norm:
        mixes = _batch_norm_mixes(*args, **kwargs)
    elif func is F.instance_norm:
        mixes = _instance_norm_mixes(*args, **kwargs)
    else:
        mixes = func in _NORMALIZE_BATCH
    if mixes:
        raise UnsupportedLayer(
            f"{func.__name__} mixes examples: its statistics are those of the batch", hint=_REPLACEMENT
        )


def _batch_norm_mixes(  # noqa: PLR0917 - the signature of F.batch_norm
    _input: Any,
    running_mean: Any,
    _running_var: Any,
    weight: Any = None,  # noqa: ARG001
    bias: Any = None,  # noqa: ARG001
    training: bool = False,
    momentum: float = 0.1,  # noqa: ARG001
    eps: float = 1e-5,  # noqa: ARG001
) -> bool:
    return training or running_mean is None


def _instance_norm_mixes(_input: Any, running_mean: Any = None, *_rest: Any, **_named: Any) -> bool:
    return running_mean is not None
