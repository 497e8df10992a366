"""The scattering transform of images: fixed wavelets, moduli and averages, no parameters.

Order two, following J. Bruna and S. Mallat, "Invariant scattering convolution networks" (2013), with the Morlet
filters, padding and subsampling of kymatio's ``Scattering2D``, whose numbers it reproduces. F. Tramèr and D. Boneh,
"Differentially private learning needs better features (or much more data)" (2021), train linear models on it.

Shapes: B images, C channels, H x W pixels, K paths.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray  # noqa: TC002 - kept beside the arrays it describes
from torch import Tensor, nn
from torch.nn import functional

from cloister.errors import InputError

__all__ = ["ScatteringFeatures"]

_BASE_WIDTH = 0.8
_BASE_FREQUENCY = 3.0 / 4.0 * math.pi
_WRAPS = (-2, -1, 0, 1, 2)


class ScatteringFeatures(nn.Module):
    """``(B, C, H, W)`` images to ``(B, C * K, H / 2**scales, W / 2**scales)`` features.

    Each example is transformed on its own by public, fixed filters, so the features may be computed once.

    Args:
        height: Of the images; a multiple of ``2**scales``.
        width: Of the images; a multiple of ``2**scales``.
        scales: Number J of dyadic scales.
        angles: Number L of orientations.

    K is ``1 + J * L + L**2 * J * (J - 1) / 2``: 81 for two scales and eight angles.

    >>> features = ScatteringFeatures(height=28, width=28)
    >>> tuple(features(torch.zeros(0, 1, 28, 28)).shape)
    (0, 81, 7, 7)
    """

    def __init__(self, *, height: int, width: int, scales: int = 2, angles: int = 8) -> None:
        super().__init__()
        step = 2**scales
        if height % step or width % step or min(height, width) < 2 * step:
            raise InputError(
                f"images are {height} x {width}; scattering needs multiples of {step}, at least {2 * step}"
            )
        self.scales, self.angles = scales, angles
        self.num_paths = 1 + scales * angles + angles**2 * scales * (scales - 1) // 2
        self._pad = (step, step, step, step)
        padded = (height + 2 * step, width + 2 * step)
        for j in range(scales):
            wavelets = np.stack([_morlet(padded, j, angle, angles) for angle in range(angles)])
            self._keep(f"_wavelets_{j}", wavelets)
            for axis, size in (("y", padded[0]), ("x", padded[1])):
                self._keep(f"_average_{axis}_{j}", _averaging_matrix(size, scales, j))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Features, ``(B, C * K, H / 2**J, W / 2**J)``, float32."""
        batch, channels, height, width = images_BCHW.shape
        step = 2**self.scales
        if not batch * channels:
            return images_BCHW.new_zeros((batch, channels * self.num_paths, height // step, width // step))
        padded = functional.pad(images_BCHW.reshape(-1, 1, height, width), self._pad, mode="reflect")
        first, second = [], []
        spectrum = torch.fft.fft2(padded)
        for j1 in range(self.scales):
            moduli_NLHW = self._moduli(spectrum, 0, j1)
            first.append(self._average(moduli_NLHW, j1))
            spectra_NLHW = torch.fft.fft2(moduli_NLHW)
            for angle in range(self.angles):
                one = spectra_NLHW[:, angle : angle + 1]
                second += [self._average(self._moduli(one, j1, j2), j2) for j2 in range(j1 + 1, self.scales)]
        features = torch.cat([self._average(padded, 0), *first, *second], dim=1)
        return features.reshape(batch, channels * self.num_paths, *features.shape[-2:])

    def _moduli(self, spectrum_N1HW: Tensor, resolution: int, j: int) -> Tensor:
        """``|x * psi|`` for all angles of scale j, every ``2**j``-th pixel of the original grid."""
        product_NLHW = spectrum_N1HW * _periodized(self.get_buffer(f"_wavelets_{j}"), resolution)
        wavelet_NLHW: Tensor = torch.fft.ifft2(_subsampled(product_NLHW, j - resolution))
        return wavelet_NLHW.abs()

    def _average(self, moduli_NKHW: Tensor, resolution: int) -> Tensor:
        """Low-pass, take every ``2**J``-th pixel of the original grid, cut the padding off.

        The Gaussian is separable, so this is one small matrix for rows and one for columns.
        """
        rows, columns = (self.get_buffer(f"_average_{axis}_{resolution}") for axis in ("y", "x"))
        averages_NKHW: Tensor = rows @ moduli_NKHW @ columns.T
        return averages_NKHW

    def _keep(self, name: str, values: NDArray[np.float64]) -> None:
        self.register_buffer(name, torch.from_numpy(values.astype(np.float32)), persistent=False)


def _averaging_matrix(size: int, scales: int, resolution: int) -> NDArray[np.float64]:
    """Low-pass and subsample one axis of length ``size / 2**resolution``, without the two outer results."""
    sigma = _BASE_WIDTH * 2 ** (scales - 1)
    positions = np.arange(size) + size * np.array(_WRAPS)[:, None]
    gaussian = np.exp(-(positions**2) / (2 * sigma**2)).sum(axis=0) / math.sqrt(2 * math.pi * sigma**2)
    spectrum = torch.from_numpy(np.fft.fft(gaussian).real)[None]
    filtered = np.fft.fft(np.eye(size >> resolution), axis=0) * _periodized_axis(spectrum, resolution, -1).numpy().T
    step = 2 ** (scales - resolution)
    return np.fft.ifft(filtered, axis=0).real[::step][1:-1]


def _subsampled(spectrum: Tensor, octaves: int) -> Tensor:
    """Spectrum of every ``2**octaves``-th sample: the mean of the aliases."""
    step = 2**octaves
    for axis in (-2, -1):
        aliases = spectrum.chunk(step, axis)
        spectrum = functools.reduce(torch.add, aliases)
    mean: Tensor = spectrum / step**2
    return mean


def _periodized(filters: Tensor, octaves: int) -> Tensor:
    """A filter's spectrum on a grid coarser by ``2**octaves`` along both axes."""
    return _periodized_axis(_periodized_axis(filters, octaves, -2), octaves, -1)


def _periodized_axis(filters: Tensor, octaves: int, axis: int) -> Tensor:
    """High frequencies are cut, and the two halves that are left lie side by side."""
    if octaves == 0:
        return filters
    size = filters.shape[axis]
    kept = filters.clone()
    kept.narrow(axis, int(size * 2.0 ** (-octaves - 1)), int(size * (1 - 2.0**-octaves))).zero_()
    return torch.stack(kept.chunk(2**octaves, axis)).sum(dim=0)


def _morlet(shape: tuple[int, int], j: int, angle: int, angles: int) -> NDArray[np.float64]:
    """Spectrum of ``g(u) (exp(i xi u) - beta)``, with beta such that the mean is zero; it is real."""
    theta = (angles - angles // 2 - 1 - angle) * math.pi / angles
    sigma, frequency, slant = _BASE_WIDTH * 2**j, _BASE_FREQUENCY / 2**j, 4.0 / angles
    wave = _gabor(shape, sigma, theta, frequency, slant)
    envelope = _gabor(shape, sigma, theta, 0.0, slant)
    wavelet = wave - wave.sum() / envelope.sum() * envelope
    return np.fft.fft2(wavelet).real


def _gabor(
    shape: tuple[int, int], sigma: float, theta: float, frequency: float, slant: float
) -> NDArray[np.complex128]:
    """A plane wave under an elliptic Gaussian, wrapped around the borders of the grid."""
    cos, sin = math.cos(theta), math.sin(theta)
    values = np.zeros(shape, dtype=np.complex128)
    for wrap_y in _WRAPS:
        for wrap_x in _WRAPS:
            y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
            y, x = y + wrap_y * shape[0], x + wrap_x * shape[1]
            along, across = y * cos + x * sin, -y * sin + x * cos
            envelope = -(along**2 + (slant * across) ** 2) / (2 * sigma**2)
            values += np.exp(envelope + 1j * frequency * along)
    return values / (2 * math.pi * sigma**2 / slant)
