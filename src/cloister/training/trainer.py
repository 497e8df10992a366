"""The training loop: sample, clip, add noise, update."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from cloister.errors import CloisterError, PlanMismatch, UnsupportedLayer
from cloister.mechanisms import Flat, PoissonSampler
from cloister.training.augmentation import augment
from cloister.training.checkpoint import Checkpoint, optimizer_tensors, restore_optimizer
from cloister.training.gradient import NoisyGradient, noisy_gradient, plain_gradient
from cloister.training.optimizer import WeightAverage, learning_rate_at, make_optimizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from cloister._rng import SecureStream
    from cloister.clipping import Batch, ClippingEngine, LossFn
    from cloister.data import Examples
    from cloister.training.dpsgd import Plan
    from cloister.training.recipe import Performance, Training

__all__ = ["Diverged", "StepReport", "Trainer"]


class Diverged(CloisterError):  # noqa: N818 - says what happened
    """The weights are no longer finite."""


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """Diagnostics of one step: raw, not private, never part of a record."""

    step: int
    loss: float
    batch_size: int
    clipped_share: float
    clip_norm: float | None


@dataclass(kw_only=True)
class Trainer:
    """Trains one model on one data set under one plan.

    Attributes:
        model: Trained in place.
        loss_fn: One loss for each row.
        examples: The private data.
        steps: How many updates.
        expected_batch_size: Average batch size; with a plan, the plan's.
        training: Optimizer, schedule and augmentation.
        performance: Device and sizes.
        stream: Source of sampling and noise.
        plan: None trains without privacy.
        engine: Needed with a plan.
        run_id: Written into checkpoints, and demanded of those it goes on from.
    """

    model: nn.Module
    loss_fn: LossFn
    examples: Examples
    steps: int
    expected_batch_size: int
    training: Training
    performance: Performance
    stream: SecureStream
    plan: Plan | None = None
    engine: ClippingEngine | None = None
    run_id: str = ""
    step: int = field(default=0, init=False)
    seconds: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.device = torch.device(_device(self.performance.device))
        self.model.to(self.device)
        self.weights = {
            name: p.detach().float().clone() if self._is_low_precision else p
            for name, p in self.model.named_parameters()
            if p.requires_grad
        }
        if self._is_low_precision:
            self.model.to(torch.bfloat16)
        self.optimizer = make_optimizer(self.weights, self.training)
        self.average = WeightAverage.of(self.weights, self.training.ema) if self.training.ema else None
        self.clip = self.plan.first_clip if self.plan else Flat(clip_norm=1.0)

    def run(self, until: int, on_step: Callable[[StepReport], bool]) -> None:
        """Train until `until` steps are done, or until `on_step`, called after each, returns False.

        Raises:
            Diverged: A weight is no longer finite.
            UnsupportedLayer: A parameter did not move in the first step.
        """
        self.model.train()
        started = time.monotonic()
        going = True
        while going and self.step < until:
            before = {name: tensor.detach().clone() for name, tensor in self.weights.items()} if not self.step else {}
            gradient = self._gradient(self.step)
            self._update(gradient)
            self._check_moved(before)
            going = on_step(self._report(gradient))
        self.seconds += time.monotonic() - started
        self._check_finite()

    def _gradient(self, step: int) -> NoisyGradient:
        views = self.training.augmentation_multiplicity
        if self.plan is None:
            sampler = PoissonSampler(sampling_prob=min(1.0, self.expected_batch_size / len(self.examples)))
            sample = sampler.sample(self.stream.derive("sampling"), step, len(self.examples))
            return plain_gradient(self.model, self.loss_fn, self._pieces(sample), views=views)
        assert self.engine is not None
        sample = self.plan.dpsgd.sampler.sample(self.stream.derive("sampling"), step, len(self.examples))
        return noisy_gradient(
            self.model,
            self.loss_fn,
            self._pieces(sample),
            plan=self.plan,
            clip=self.clip,
            engine=self.engine,
            noise=self.stream.derive("noise"),
            step=step,
            views=views,
        )

    def _pieces(self, sample: NDArray[np.int64]) -> Iterator[Batch]:
        """The sample in pieces of the physical batch size; one empty piece if it is empty."""
        views = self.training.augmentation_multiplicity
        size = max(1, self.performance.physical_batch_size // views)
        for start in range(0, max(len(sample), 1), size):
            batch = tuple(self._place(tensor) for tensor in self.examples.batch(sample[start : start + size]))
            yield augment(batch, self.training.augmentation, views=views)

    def _place(self, tensor: Tensor) -> Tensor:
        dtype = torch.bfloat16 if self._is_low_precision and tensor.is_floating_point() else None
        return tensor.to(self.device, dtype)

    def _update(self, gradient: NoisyGradient) -> None:
        for name, tensor in self.weights.items():
            tensor.grad = gradient.grads[name].to(tensor.dtype)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self.step, self.steps, self.training)
        self.optimizer.step()
        for tensor in self.weights.values():
            tensor.grad = None
        if self._is_low_precision:
            self._copy_weights(self.weights)
        if self.average:
            self.average.update(self.weights, self.step)
        self.clip = gradient.next_clip
        self.step += 1

    @torch.no_grad()
    def _copy_weights(self, weights: dict[str, Tensor]) -> None:
        for name, parameter in self.model.named_parameters():
            if name in weights:
                parameter.copy_(weights[name])

    @contextlib.contextmanager
    def released(self) -> Iterator[nn.Module]:
        """The model as it would be released now: float32, in evaluation mode, averaged if there is an average."""
        working = {name: tensor.detach().clone() for name, tensor in self.weights.items()}
        self.model.float()
        self._copy_weights(self.average.values if self.average else working)
        self.model.eval()
        try:
            yield self.model
        finally:
            if self._is_low_precision:
                self.model.to(torch.bfloat16)
            self._copy_weights(working)
            self.model.train()

    def checkpoint(self, utility: tuple[tuple[int, dict[str, float]], ...]) -> Checkpoint:
        """The state after the last finished step."""
        names = list(self.weights)
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"weights.{name}": tensor for name, tensor in self.weights.items()}
        tensors |= optimizer_tensors(self.optimizer, names)
        if self.average:
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.values.items()}
        clip_norm = self.clip.clip_norm if isinstance(self.clip, Flat) else None
        return Checkpoint(
            run=self.run_id,
            step=self.step,
            clip_norm=clip_norm,
            seconds=self.seconds,
            utility=utility,
            tensors=tensors,
        )

    @torch.no_grad()
    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of the same run.

        Raises:
            PlanMismatch: It belongs to another run, whose spending this run's event does not count.
        """
        if checkpoint.run != self.run_id:
            raise PlanMismatch(
                f"the checkpoint belongs to run {checkpoint.run!r}, not to {self.run_id!r}",
                hint="start a new run in another directory",
            )
        tensors = checkpoint.tensors
        self.model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
        for name, tensor in self.weights.items():
            tensor.copy_(tensors[f"weights.{name}"])
        restore_optimizer(self.optimizer, list(self.weights), tensors)
        if self.average:
            for name, tensor in self.average.values.items():
                tensor.copy_(tensors[f"average.{name}"])
        if checkpoint.clip_norm is not None and isinstance(self.clip, Flat):
            self.clip = Flat(clip_norm=checkpoint.clip_norm)
        self.step, self.seconds = checkpoint.step, checkpoint.seconds

    @property
    def _is_low_precision(self) -> bool:
        return self.performance.dtype == "bfloat16"

    def _report(self, gradient: NoisyGradient) -> StepReport:
        clip_norm = self.clip.clip_norm if self.plan and isinstance(self.clip, Flat) else None
        return StepReport(
            step=self.step,
            loss=gradient.loss,
            batch_size=gradient.batch_size,
            clipped_share=gradient.clipped_share,
            clip_norm=clip_norm,
        )

    def _check_moved(self, before: dict[str, Tensor]) -> None:
        if self.plan is None:
            return
        for name, tensor in before.items():
            if torch.equal(tensor, self.weights[name]):
                raise UnsupportedLayer(
                    f"parameter {name!r} did not move in the first step, so it is not being trained privately",
                    hint="freeze it with requires_grad_(False), or raise learning_rate",
                )

    def _check_finite(self) -> None:
        for name, tensor in self.weights.items():
            if not math.isfinite(float(tensor.detach().abs().sum())):
                raise Diverged(
                    f"after step {self.step} parameter {name!r} is not finite",
                    hint="lower learning_rate or clip_norm, or raise expected_batch_size",
                )


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise CloisterError("no CUDA device is available", hint='set device = "auto" in [performance]')
    return name
