"""Per-example clipping engines: sums of clipped gradients, and how much one example can change them."""

from __future__ import annotations

from cloister._validate import check_choice
from cloister.clipping.base import Batch, ClippedSum, ClippingEngine, LossFn
from cloister.clipping.bookkeeping import Bookkeeping
from cloister.clipping.guards import check_independence, check_model, check_one_example
from cloister.clipping.materialized import Materialized

__all__ = [
    "Batch",
    "Bookkeeping",
    "ClippedSum",
    "ClippingEngine",
    "LossFn",
    "Materialized",
    "check_independence",
    "check_model",
    "check_one_example",
    "engine_for",
]


def engine_for(name: str) -> ClippingEngine:
    """The engine of this name: ``bookkeeping``, the fast one, or ``materialized``, the oracle.

    Raises:
        InputError: There is no such engine.

    >>> engine_for("bookkeeping").name
    'bookkeeping'
    """
    engines: dict[str, type[Bookkeeping | Materialized]] = {
        "bookkeeping": Bookkeeping,
        "materialized": Materialized,
    }
    check_choice(engines, engine=name)
    return engines[name]()
