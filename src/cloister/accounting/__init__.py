"""Events, guarantees and calibration; the mathematics is dp_accounting's."""

from cloister.accounting.accountant import NOISE_RANGE, epsilon, guarantee, privacy_curve
from cloister.accounting.calibration import MOST_STEPS, noise_for, steps_for
from cloister.accounting.events import (
    MAX_DEPTH,
    Composed,
    Event,
    Gaussian,
    Laplace,
    NonPrivate,
    NoOp,
    PoissonSampled,
    SelfComposed,
    TruncatedPoissonGaussian,
    compose,
    event_from_json,
    event_to_json,
)
from cloister.accounting.guarantee import Budget, Guarantee, Relation, Unit

# `guarantee` is the function here, as `from cloister.accounting import guarantee` says; the module of the
# same name is reached by its full path only. That holds because the function is bound after the module was
# loaded.

__all__ = [
    "MAX_DEPTH",
    "MOST_STEPS",
    "NOISE_RANGE",
    "Budget",
    "Composed",
    "Event",
    "Gaussian",
    "Guarantee",
    "Laplace",
    "NoOp",
    "NonPrivate",
    "PoissonSampled",
    "Relation",
    "SelfComposed",
    "TruncatedPoissonGaussian",
    "Unit",
    "compose",
    "epsilon",
    "event_from_json",
    "event_to_json",
    "guarantee",
    "noise_for",
    "privacy_curve",
    "steps_for",
]
