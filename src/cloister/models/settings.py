"""The recipe's [model], and what a model must know about the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cloister._validate import check_choice, check_count
from cloister.errors import InputError

__all__ = ["ACTIVATIONS", "ModelSettings", "ModelSpec", "Spec"]

ACTIVATIONS = ("gelu", "identity", "relu", "silu", "tanh")


class Spec(Protocol):
    """The shape of the data, as the data room states it; see `ModelSpec` for the fields."""

    @property
    def task(self) -> str:
        """What is learned."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""

    @property
    def num_outputs(self) -> int:
        """Number of outputs."""

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Class names."""

    @property
    def vocab_size(self) -> int | None:
        """Number of tokens."""

    @property
    def context(self) -> int | None:
        """Tokens in one input."""

    @property
    def padding(self) -> int | None:
        """The padding token."""

    @property
    def target_scale(self) -> float:
        """Unit of regression targets."""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A `Spec` read back from a stored model.

    Attributes:
        task: "classification", "regression" or "language_modeling".
        input_shape: Shape of one input, without the batch.
        num_outputs: Classes; 1 for regression; vocabulary for language modeling.
        classes: Class names in the order of the outputs.
        vocab_size: Number of tokens; None where the input is not text.
        context: Tokens in one input.
        padding: The padding token.
        target_scale: Regression targets were divided by this.
    """

    task: str
    input_shape: tuple[int, ...]
    num_outputs: int
    classes: tuple[str, ...] | None = None
    vocab_size: int | None = None
    context: int | None = None
    padding: int | None = None
    target_scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The recipe's [model]. Fields that a model does not have are ignored by it.

    Attributes:
        name: "linear", "mlp", "cnn", "transformer", "hf:DIRECTORY" or "module:function".
        hidden: Widths of the hidden layers (mlp), or of the one before the output (cnn).
        activation: "tanh" (bounded, which helps clipped training), "relu", "gelu", "silu" or "identity".
        dropout: Probability with which activations are dropped (mlp, transformer).
        group_norm: Groups of a normalization of the input channels without parameters (linear, cnn).
        channels: Channels of the convolution blocks (cnn); left out, the architectures of Tramèr and Boneh.
        width: Model width (transformer).
        layers: Number of blocks (transformer).
        heads: Attention heads (transformer).
        tie_embeddings: Whether the output uses the token embedding (transformer).
    """

    name: str = "mlp"
    hidden: tuple[int, ...] | None = None
    activation: str = "tanh"
    dropout: float = 0.0
    group_norm: int | None = None
    channels: tuple[int, ...] | None = None
    width: int = 128
    layers: int = 2
    heads: int = 4
    tie_embeddings: bool = False

    def __post_init__(self) -> None:
        check_choice(ACTIVATIONS, activation=self.activation)
        check_count(width=self.width, layers=self.layers, heads=self.heads)
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout is {self.dropout}; expected a number from 0 to below 1")
        if self.width % self.heads:
            raise InputError(f"width is {self.width}, which {self.heads} heads do not divide")
        for size in (*(self.hidden or ()), *(self.channels or ())):
            check_count(layer_size=size)
        if self.group_norm is not None:
            check_count(group_norm=self.group_norm)
