"""Hints that name what was probably meant."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["nearest_hint"]

_SHOWN = 12


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """A hint with the nearest of the known names, or with the first of them.

    >>> nearest_hint("incme", ["age", "income"])
    "did you mean 'income'?"
    >>> nearest_hint("zzz", ["age", "income"])
    "there is 'age', 'income'"
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if not near:
        folded = {other.casefold(): other for other in names}
        near = [folded[name.casefold()]] if name.casefold() in folded else []
    if near:
        return "did you mean " + " or ".join(repr(other) for other in near) + "?"
    more = ", ..." if len(names) > _SHOWN else ""
    return "there is " + ", ".join(repr(other) for other in names[:_SHOWN]) + more
