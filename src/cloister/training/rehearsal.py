"""Before any private row: does the model treat examples one by one, and how much memory will it need?

Both questions are answered with made-up inputs of the right shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cloister.clipping import check_independence, check_model, check_one_example
from cloister.mechanisms import Flat
from cloister.models import build, loss_for

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cloister.clipping import Batch, ClippingEngine, LossFn
    from cloister.data import DataSpec
    from cloister.training.recipe import Recipe

__all__ = ["Memory", "estimate_memory", "rehearse", "synthetic_batch"]

_ROWS = 4


@dataclass(frozen=True, kw_only=True)
class Memory:
    """An estimate of what training needs, in bytes.

    Attributes:
        parameters: How many numbers are trained.
        weights: Weights, gradient sum, noise and optimizer state.
        activations: What one physical batch keeps for its backward pass, and its per-example gradients where
            the engine materializes them.
    """

    parameters: int
    weights: int
    activations: int

    @property
    def total(self) -> int:
        """Both together; the data set and the program itself come on top."""
        return self.weights + self.activations


def synthetic_batch(spec: DataSpec, rows: int) -> Batch:
    """Random inputs and targets of the right shapes."""
    if spec.vocab_size is not None:
        inputs = torch.randint(spec.vocab_size, (rows, *spec.input_shape))
    else:
        inputs = torch.randn(rows, *spec.input_shape)
    if spec.task == "language_modeling":
        return inputs, torch.randint(spec.num_outputs, (rows, *spec.input_shape))
    if spec.task == "regression":
        return inputs, torch.randn(rows)
    return inputs, torch.randint(spec.num_outputs, (rows,))


def rehearse(model: nn.Module, loss_fn: LossFn, spec: DataSpec, engine: ClippingEngine) -> None:
    """Refuse a model that mixes examples, or that the engine does not clip exactly.

    Raises:
        UnsupportedLayer: A layer or an operation mixes examples or has no clipping rule; it is named.
        PrivacyError: The engine disagrees with plain autograd.
    """
    check_model(model)
    batch = synthetic_batch(spec, _ROWS)
    check_independence(model, loss_fn, batch)
    check_one_example(engine, model, loss_fn, batch, Flat(clip_norm=1.0))


def estimate_memory(recipe: Recipe, spec: DataSpec) -> Memory:
    """What training by this recipe needs, from the model's shapes.

    Saved activations are counted in one forward pass of two made-up rows and scaled to the physical batch.
    """
    model = build(recipe.model, spec, base=recipe.base)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    fixed = sum(p.numel() for p in model.parameters()) - trained
    states = 2 if recipe.training.optimizer != "sgd" else int(recipe.training.momentum > 0)
    copies = 3 + states + int(recipe.training.ema is not None)  # weights, sum, noise
    rows = recipe.performance.physical_batch_size
    activations = _saved_bytes(model, spec) * rows // 2
    materialized = recipe.performance.engine == "materialized" or recipe.training.clipping == "value"
    per_example = 4 * trained * rows // recipe.training.augmentation_multiplicity if materialized else activations
    return Memory(
        parameters=trained,
        weights=4 * (trained * copies + fixed),
        activations=activations + per_example,  # book-keeping keeps an output gradient for each activation
    )


def _saved_bytes(model: nn.Module, spec: DataSpec) -> int:
    seen: dict[int, int] = {}
    parameters = {p.data_ptr() for p in model.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in parameters:
            seen[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        losses = loss_for(spec.task)(model, synthetic_batch(spec, 2))
    del losses
    return sum(seen.values())
