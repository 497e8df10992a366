"""Epsilon by Renyi divergences (Mironov 2017): quick, in logarithms throughout, but not tight."""

from __future__ import annotations

import contextlib
import functools
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from dp_accounting import rdp

from cloister.accounting._dp_events import to_dp_event, to_dp_relation
from cloister.accounting.events import Event, Gaussian, Laplace
from cloister.accounting.guarantee import Relation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cloister.accounting._parts import Parts

__all__ = ["rdp_epsilon", "rdp_supports"]

_ROUNDING = 2.0**-50
"""What the divergence of one release may lose to floating point; added once for each release."""


def rdp_supports(part: Event, relation: Relation) -> bool:
    """Whether there is a divergence bound for this release under this relation."""
    try:
        event = to_dp_event(part)
    except ValueError:
        return False
    return bool(rdp.RdpAccountant(neighboring_relation=to_dp_relation(relation)).supports(event))


def rdp_epsilon(parts: Parts, delta: float, relation: Relation) -> float:
    """Upper bound on epsilon at `delta` for `parts`, all of which must be supported.

    The conversion is Proposition 12 of Canonne, Kamath, Steinke 2020.
    """
    orders, _ = _divergence(parts[0][0], relation)
    total = sum(count * (_divergence(part, relation)[1] + _ROUNDING) for part, count in parts)
    return float(rdp.compute_epsilon(orders, total, delta)[0])


@functools.lru_cache(maxsize=1024)
def _divergence(part: Event, relation: Relation) -> tuple[Any, Any]:
    """Orders, and the Renyi divergence of one release at each of them."""
    accountant = rdp.RdpAccountant(neighboring_relation=to_dp_relation(relation))
    with _quiet():
        accountant.compose(to_dp_event(_at_sensitivity_of(part, relation)))
    # A divergence is never negative; below zero is rounding.
    return accountant.orders, np.maximum(accountant.rdp, 0.0)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without dp_accounting's warnings that an order was left out: fewer orders only loosen the bound."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _at_sensitivity_of(part: Event, relation: Relation) -> Event:
    """`part` with its noise relative to how far two neighbors lie apart.

    The RDP accountant of dp_accounting takes the noise multiplier of an unsampled release for that ratio,
    under every relation. Under REPLACE_ONE two units of norm C lie up to 2C apart.
    """
    if relation is Relation.REPLACE_ONE and isinstance(part, (Gaussian, Laplace)):
        return replace(part, noise_multiplier=part.noise_multiplier / 2)
    return part
