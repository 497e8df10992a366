"""The fast engine: one forward and one backward pass, and no weight gradient computed by autograd.

Book-keeping (Bu, Wang, Zha, Karypis 2023, "Differentially private optimization on large model at small cost",
ICML 2023): the backward pass leaves each operation's input and output gradient on a tape; norms come from the
tape, and so do the weighted sums. It works on operations, not on module classes: a model needs no registration.

Shape suffixes: B examples, G groups of parameters.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import nn

from cloister.clipping.base import (
    ClippedSum,
    count_examples,
    empty_sum,
    row_norms,
    sensitivity_of,
    sum_of,
    trainable_parameters,
    whole_norms,
    wide,
)
from cloister.clipping.interception import recorded_pass
from cloister.clipping.tape import Recorder
from cloister.errors import UnsupportedLayer
from cloister.mechanisms.clip import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from cloister.clipping.base import Batch, LossFn
    from cloister.clipping.tape import Use
    from cloister.mechanisms.clip import Clip

__all__ = ["Bookkeeping"]

# Examples whose gradients of a parameter with several uses exist at once: this many numbers.
_SHARED_CHUNK = 2**22
# The proof that examples do not mix is carried out on at most this many of them.
_PROOF_EXAMPLES = 16


@dataclass(frozen=True, kw_only=True)
class Bookkeeping:
    """Clipped sums at little more than the price of ordinary training.

    Every trainable parameter is used by operations that have a rule, or the engine refuses. An operation's
    examples lie along its leading dimension; that this is so is proven on the first call for a model, and again
    on its 2nd, 4th, 8th, ... call, by a pass in which half of the examples have no loss: they must have no
    gradient either.
    """

    name = "bookkeeping"
    _calls: WeakKeyDictionary[nn.Module, int] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False, compare=False
    )

    def clipped_sum(self, model: nn.Module, loss_fn: LossFn, batch: Batch, clip: Clip, *, views: int = 1) -> ClippedSum:
        """See `ClippingEngine.clipped_sum`."""
        if isinstance(clip, Value):
            raise UnsupportedLayer(
                "value clipping needs every entry of every example's gradient", hint='engine = "materialized"'
            )
        parameters = trainable_parameters(model)
        examples = count_examples(batch, views)
        if not examples:
            return empty_sum(parameters, clip)
        self._prove(model, loss_fn, batch, parameters, views)
        recorder = _recorder(parameters, examples, views)
        losses_B = recorded_pass(recorder, model, loss_fn, batch, weights_B=None)
        groups = clip.groups(list(parameters))
        slots = _slots(recorder.uses)
        norms_BG = _norms(groups, slots, parameters, losses_B.to(recorder.dtype))
        # A factor of 0 is not enough for an example that is not finite: 0 * inf is nan. Its values are dropped.
        usable_B = losses_B.isfinite() & norms_BG.isfinite().all(dim=1)
        factors_BG = torch.where(usable_B[:, None], clip.coefficients(norms_BG), 0.0)
        if not usable_B.all():
            for use in recorder.uses:
                use.drop(~usable_B)
        return ClippedSum(
            grads=_weighted_sums(groups, slots, parameters, factors_BG),
            sensitivity=sensitivity_of(clip, parameters),
            norms_B=whole_norms(norms_BG),
            losses_B=losses_B.to(recorder.dtype),
        )

    def _prove(
        self, model: nn.Module, loss_fn: LossFn, batch: Batch, parameters: dict[str, Tensor], views: int
    ) -> None:
        examples = min(count_examples(batch, views), _PROOF_EXAMPLES)
        if examples < 2:
            return  # one example cannot mix with another
        calls = self._calls.get(model, 0) + 1
        self._calls[model] = calls
        if calls & (calls - 1):
            return
        recorder = _recorder(parameters, examples, views)
        some = tuple(t[: examples * views] for t in batch)
        with torch.random.fork_rng(devices={t.device for t in batch if t.is_cuda}):
            silent_B = torch.randperm(examples) < examples // 2
            weights_B = (~silent_B).to(device=some[0].device, dtype=recorder.dtype)
            recorded_pass(recorder, model, loss_fn, some, weights_B=weights_B)
        for use in recorder.uses:
            grad = use.grad.reshape(examples, -1)[silent_B.to(use.grad.device)]
            if (grad.nan_to_num() != 0).any():
                raise UnsupportedLayer(
                    f"the model mixes examples at or after {use.operation} with parameter "
                    f"{', '.join(use.names.values())}: the loss of one example has a gradient in the rows of another",
                    hint="each example has its own rows, in the same place of the leading dimension everywhere",
                )


Slots = dict[str, list[tuple["Use", str]]]


def _recorder(parameters: dict[str, Tensor], examples: int, views: int) -> Recorder:
    device = next(iter(parameters.values())).device
    return Recorder(
        parameters=parameters,
        examples=examples,
        views=views,
        dtype=wide(p.dtype for p in parameters.values()),
        anchor=torch.zeros((), device=device, requires_grad=True),
    )


def _slots(uses: Sequence[Use]) -> Slots:
    """The uses of each parameter; one that this batch did not use has none."""
    slots: Slots = defaultdict(list)
    for use in uses:
        for slot, name in use.names.items():
            slots[name].append((use, slot))
    return slots


def _norms(groups: Sequence[Sequence[str]], slots: Slots, parameters: dict[str, Tensor], like_B: Tensor) -> Tensor:
    """Norms of each example's gradient of each group of parameters, shape (B, G)."""
    squares = {name: _squared_norms(slots[name], parameters[name]) for name in slots}
    nothing = torch.zeros_like(like_B)
    columns = [sum_of([nothing, *(squares[name] for name in group if name in squares)]) for group in groups]
    return torch.stack(columns, dim=1).sqrt()


def _squared_norms(uses: Sequence[tuple[Use, str]], parameter: Tensor) -> Tensor:
    first, slot = uses[0]
    if len(uses) == 1:
        return first.squared_norms(slot)
    # The gradient of a parameter with several uses is the sum over the uses, and the norm of a sum is not the sum of
    # norms. A few examples at a time, it is computed as it stands.
    size = max(1, _SHARED_CHUNK // parameter.numel())
    parts = []
    for start in range(0, first.examples, size):
        stop = min(start + size, first.examples)
        grads = [use.per_example(slot, start, stop) for use, slot in uses]
        norms_b = row_norms(sum_of(grads))
        rounding = [use.rounding(slot, g, start, stop) for (use, slot), g in zip(uses, grads, strict=True)]
        parts.append((norms_b + sum_of(rounding)).square())
    return torch.cat(parts)


def _weighted_sums(
    groups: Sequence[Sequence[str]], slots: Slots, parameters: dict[str, Tensor], factors_BG: Tensor
) -> dict[str, Tensor]:
    column = {name: factors_BG[:, i].contiguous() for i, group in enumerate(groups) for name in group}
    sums = {}
    for name, parameter in parameters.items():
        if name in slots:
            sums[name] = sum_of(use.weighted_sum(slot, column[name]) for use, slot in slots[name])
        else:
            sums[name] = torch.zeros_like(parameter, dtype=factors_BG.dtype, requires_grad=False)
    return sums
