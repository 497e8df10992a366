"""Argument checks that name the argument, its value and what was expected."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from cloister.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["check_choice", "check_count", "check_digest", "check_fraction", "check_positive"]


def check_positive(*, hint: str | None = None, **values: float) -> None:
    """Raise `InputError` unless every value is a finite number above zero."""
    for name, value in values.items():
        if not _is_number(value) or not math.isfinite(value) or value <= 0:
            raise InputError(f"{name} is {value!r}; expected a finite number above 0", hint=hint)


def check_fraction(*, hint: str | None = None, **values: float) -> None:
    """Raise `InputError` unless every value lies in the open interval (0, 1)."""
    for name, value in values.items():
        if not _is_number(value) or not 0 < value < 1:
            raise InputError(f"{name} is {value!r}; expected a number above 0 and below 1", hint=hint)


def check_count(*, at_least: int = 1, **values: int) -> None:
    """Raise `InputError` unless every value is an integer of at least `at_least`."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
            raise InputError(f"{name} is {value!r}; expected a whole number, at least {at_least}")


def check_choice(choices: Collection[str], **values: str) -> None:
    """Raise `InputError` unless every value is one of `choices`."""
    for name, value in values.items():
        if value not in choices:
            raise InputError(f"{name} is {value!r}; expected one of {', '.join(sorted(choices))}")


def check_digest(**digests: str) -> None:
    """Raise `InputError` unless every value is a SHA-256 digest as cloister writes it."""
    for name, digest in digests.items():
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            raise InputError(f"{name} is {digest!r}; expected sha256: and 64 hexadecimal digits")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
