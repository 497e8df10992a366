"""Adaptive clipping: the clip norm follows a quantile of the gradient norms, at a stated price.

Source: Andrew, Thakkar, McMahan, Ramaswamy, "Differentially private learning with adaptive clipping",
NeurIPS 2021 (arXiv:1905.03871), Algorithm 1 and Theorem 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cloister._validate import check_fraction, check_positive
from cloister.errors import InputError

__all__ = ["AdaptiveClip"]


@dataclass(frozen=True, kw_only=True)
class AdaptiveClip:
    """Settings of adaptive clipping.

    In every step the number of examples whose gradient norm is at most the clip norm is released with noise,
    and the clip norm moves so that this share comes to `target_quantile`. The count and the gradients are one
    Gaussian mechanism: the event of the step has the `noise_multiplier` that was planned, and the gradients
    get a little more noise to pay for the count.

    Attributes:
        initial_clip_norm: Clip norm of the first step.
        target_quantile: Share of gradients that should stay unclipped.
        learning_rate: Step size of the geometric update.
        count_noise_fraction: Standard deviation of the count's noise, as a share of the expected batch size.
    """

    initial_clip_norm: float = 1.0
    target_quantile: float = 0.5
    learning_rate: float = 0.2
    count_noise_fraction: float = 0.05

    def __post_init__(self) -> None:
        check_positive(
            initial_clip_norm=self.initial_clip_norm,
            learning_rate=self.learning_rate,
            count_noise_fraction=self.count_noise_fraction,
        )
        check_fraction(target_quantile=self.target_quantile)

    def count_stddev(self, expected_batch_size: int) -> float:
        """Standard deviation of the noise on the count."""
        return self.count_noise_fraction * expected_batch_size

    def gradient_noise_multiplier(self, noise_multiplier: float, expected_batch_size: int) -> float:
        """Noise multiplier of the gradients, so that gradients and count together have `noise_multiplier`.

        One example moves the centered count (plus or minus 1/2) by at most 1/2, so its noise multiplier is
        2 b with b the count's standard deviation, and z = (z_g^-2 + (2 b)^-2)^(-1/2) (Theorem 1).

        Raises:
            InputError: The count alone costs more than `noise_multiplier` allows.
        """
        count_multiplier = 2.0 * self.count_stddev(expected_batch_size)
        if count_multiplier <= noise_multiplier:
            raise InputError(
                f"the count's noise multiplier {count_multiplier:.4g} must exceed the step's {noise_multiplier:.4g}",
                hint="raise expected_batch_size or count_noise_fraction",
            )
        return float((noise_multiplier**-2 - count_multiplier**-2) ** -0.5)

    def next_clip_norm(self, clip_norm: float, noisy_centered_count: float, expected_batch_size: int) -> float:
        """The next step's clip norm from this step's noisy count.

        Args:
            clip_norm: This step's.
            noisy_centered_count: Sum over the batch of (1 if unclipped else 0) - 1/2, plus its noise.
            expected_batch_size: The public divisor; the size of the batch itself is private.
        """
        share = noisy_centered_count / expected_batch_size + 0.5
        return clip_norm * math.exp(-self.learning_rate * (share - self.target_quantile))
