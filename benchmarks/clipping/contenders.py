"""What is compared: one whole training step each, on the same network, with the same optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cloister._rng import SecureStream
from cloister.clipping import Bookkeeping, Materialized
from cloister.mechanisms import Flat, add_gaussian_noise

if TYPE_CHECKING:
    from cloister.clipping import ClippingEngine

CLIP_NORM = 0.1
NOISE_MULTIPLIER = 1.0

Step = Callable[[Tensor, Tensor], None]


def network() -> nn.Module:
    """The end-to-end CNN for Fashion-MNIST of Tramer and Boneh 2021 (arXiv:2011.11660, table 9)."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 8, stride=2, padding=2),
        nn.Tanh(),
        nn.MaxPool2d(2, 1),
        nn.Conv2d(16, 32, 4, stride=2),
        nn.Tanh(),
        nn.MaxPool2d(2, 1),
        nn.Flatten(),
        nn.Linear(512, 32),
        nn.Tanh(),
        nn.Linear(32, 10),
    )


def contenders() -> dict[str, Step]:
    """Every contender that is installed, by name; non-private first."""
    found = {
        "non-private": _non_private(),
        "bookkeeping": _cloister(Bookkeeping()),
        "materialized": _cloister(Materialized(chunk_size=256)),
    }
    opacus = _opacus_hooks()
    return found if opacus is None else {**found, "opacus hooks": opacus}


def _optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def _loss(forward: Callable[..., Tensor], batch: tuple[Tensor, ...]) -> Tensor:
    return F.cross_entropy(forward(batch[0]), batch[1], reduction="none")


def _non_private() -> Step:
    model = network()
    optimizer = _optimizer(model)

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        _loss(model, (x, y)).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _cloister(engine: ClippingEngine) -> Step:
    model, noise, clip = network(), SecureStream(), Flat(clip_norm=CLIP_NORM)
    optimizer = _optimizer(model)
    count = 0

    def step(x: Tensor, y: Tensor) -> None:
        nonlocal count
        result = engine.clipped_sum(model, _loss, (x, y), clip)
        add_gaussian_noise(result.grads, noise, count, stddev=NOISE_MULTIPLIER * result.sensitivity)
        for name, parameter in model.named_parameters():
            parameter.grad = result.grads[name].div_(len(x))
        optimizer.step()
        count += 1

    return step


def _opacus_hooks() -> Step | None:
    try:
        from opacus.grad_sample import GradSampleModule
        from opacus.optimizers import DPOptimizer
    except ImportError:
        return None
    model = GradSampleModule(network(), loss_reduction="mean")
    optimizer = DPOptimizer(
        _optimizer(model),
        noise_multiplier=NOISE_MULTIPLIER,
        max_grad_norm=CLIP_NORM,
        expected_batch_size=1,
        loss_reduction="mean",
    )

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        optimizer.expected_batch_size = len(x)
        _loss(model, (x, y)).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step
