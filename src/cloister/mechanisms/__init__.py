"""Clipping, sampling and noise. A mechanism never spends budget by itself."""

from cloister.mechanisms.adaptive import AdaptiveClip
from cloister.mechanisms.clip import Automatic, Clip, Flat, PerLayer, Value
from cloister.mechanisms.noise import add_gaussian_noise, gaussian_noise, standard_normal
from cloister.mechanisms.sampling import PoissonSampler, Sampler, TruncatedPoissonSampler

__all__ = [
    "AdaptiveClip",
    "Automatic",
    "Clip",
    "Flat",
    "PerLayer",
    "PoissonSampler",
    "Sampler",
    "TruncatedPoissonSampler",
    "Value",
    "add_gaussian_noise",
    "gaussian_noise",
    "standard_normal",
]
