"""What one forward and backward pass leaves behind: each use of a trainable parameter by an operation.

Autograd runs as always, except that an operation with trainable parameters takes them detached. Its backward
computes the gradient of its input only, and puts its input and its output gradient on the tape.

Shape suffixes: B examples. Rows of a batch are B * views.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from cloister.clipping.base import row_norms
from cloister.errors import UnsupportedLayer

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Recorder", "Use"]


class Use(ABC):
    """One use of parameters by one operation; a subclass is the rule of an operation.

    A rule knows three things besides forward and backward: each example's squared norm for a parameter, some
    examples' gradients themselves, and the weighted sum over all examples. `weight` and `bias` are the slots
    of an operation; `names` says which trainable parameter is in which slot.

    Attributes:
        operation: Name for messages.
        names: Parameter name by slot; only slots with trainable parameters.
        examples: B.
        dtype: Norms and sums are computed in this type.
        input: What the operation was given; set by the backward pass.
        grad: Gradient of what it returned; set by the backward pass.
    """

    operation: str
    names: dict[str, str]
    examples: int
    dtype: torch.dtype
    input: Tensor
    grad: Tensor

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """The operation itself."""

    @abstractmethod
    def input_grad(self, x: Tensor, grad: Tensor) -> Tensor:
        """Gradient of the input."""

    @abstractmethod
    def squared_norms(self, slot: str) -> Tensor:
        """Squared norm of each example's gradient, shape (B,); never below what `weighted_sum` really sums."""

    @abstractmethod
    def per_example(self, slot: str, start: int, stop: int) -> Tensor:
        """Gradients of examples start to stop - 1, shape (stop - start, *parameter)."""

    @abstractmethod
    def weighted_sum(self, slot: str, factors_B: Tensor) -> Tensor:
        """Sum over the examples of factor times gradient, in the parameter's shape."""

    def rounding(self, slot: str, grads: Tensor, start: int, stop: int) -> Tensor:  # noqa: ARG002
        """How far rounding may take what `weighted_sum` sums from `grads`, as `per_example` gave them; shape (b,)."""
        return 2 * unit_roundoff(self.dtype) * row_norms(grads)

    def drop(self, lost_B: Tensor) -> None:
        """Forget examples whose values are not finite, so that a factor of 0 gives 0 and not nan."""
        rows = lost_B.repeat_interleave(len(self.grad) // self.examples)
        self.grad = self.grad.masked_fill(_like(rows, self.grad), 0)
        if self.input.is_floating_point():
            self.input = self.input.masked_fill(_like(rows, self.input), 0)


@dataclass(kw_only=True)
class Recorder:
    """Hands out parameter names, checks what rules are given, and holds the tape of one call.

    Attributes:
        parameters: Trainable ones, by name.
        examples: B.
        views: Rows for each example.
        dtype: Norms and sums are computed in this type.
        anchor: A leaf that every recorded operation hangs on, so that the backward pass reaches all of them
            and nothing else.
        uses: The tape, in the order of the backward pass.
    """

    parameters: dict[str, Tensor]
    examples: int
    views: int
    dtype: torch.dtype
    anchor: Tensor
    uses: list[Use] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._names = {id(p): name for name, p in self.parameters.items()}

    def name_of(self, value: object) -> str | None:
        """Name of a trainable parameter; None for anything else."""
        return self._names.get(id(value))

    def names_in(self, values: Any) -> list[str]:
        """Names of the trainable parameters in arguments, nested ones included."""
        if isinstance(values, torch.Tensor):
            name = self.name_of(values)
            return [] if name is None else [name]
        if isinstance(values, dict):
            values = values.values()
        elif not isinstance(values, (tuple, list)):
            return []
        return [name for value in values for name in self.names_in(value)]

    def record(self, use: Use, operation: str, x: Tensor, **slots: Tensor | None) -> Tensor:
        """Run an operation, to be put on the tape by the backward pass.

        Args:
            use: The rule, knowing all about the operation but its input.
            operation: Name for messages.
            x: The input; its leading dimension is the rows of the batch.
            slots: The parameters, trainable or not.

        Raises:
            UnsupportedLayer: The leading dimension is not the rows, so no example can be told from another.
        """
        named = {slot: self.name_of(value) for slot, value in slots.items()}
        use.operation = operation
        use.names = {slot: name for slot, name in named.items() if name is not None}
        use.examples, use.dtype = self.examples, self.dtype
        rows = self.examples * self.views
        if x.dim() == 0 or len(x) != rows:
            raise UnsupportedLayer(
                f"{operation} with parameter {', '.join(use.names.values())} got an input of shape {tuple(x.shape)}; "
                f"expected the {rows} rows of the batch in the leading dimension",
                hint='expand the input to the rows of the batch, or engine = "materialized"',
            )
        output: Tensor = _Recorded.apply(self.anchor, x, use, self.uses)  # type: ignore[no-untyped-call]
        return output


class _Recorded(torch.autograd.Function):
    """An operation whose backward computes no weight gradient but writes the tape."""

    @staticmethod
    def forward(ctx: Any, _anchor: Tensor, x: Tensor, use: Use, tape: list[Use]) -> Tensor:
        ctx.use, ctx.tape = use, tape
        ctx.save_for_backward(x)
        return use.forward(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None, None, None]:
        (x,) = ctx.saved_tensors
        use: Use = ctx.use
        use.input, use.grad = x.detach(), grad.detach()
        ctx.tape.append(use)
        return None, use.input_grad(x, grad) if ctx.needs_input_grad[1] else None, None, None


def unit_roundoff(dtype: torch.dtype) -> float:
    """Relative error of one multiplication inside a matrix product, under torch's present precision setting."""
    if dtype == torch.float64:
        return 2.0**-53
    return {"highest": 2.0**-24, "high": 2.0**-11}.get(torch.get_float32_matmul_precision(), 2.0**-8)


def _like(rows: Tensor, values: Tensor) -> Tensor:
    return rows.view(-1, *[1] * (values.dim() - 1))
