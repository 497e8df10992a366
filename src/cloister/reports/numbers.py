"""Numbers as people read them; bounds are rounded to the side on which they stay true."""

from __future__ import annotations

import datetime as dt
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

__all__ = ["amount", "at_least", "at_most", "delta", "duration", "metric", "moment", "number", "percent_at_most"]


def at_most(value: float | None, digits: int = 3) -> str:
    """An upper bound such as epsilon, rounded up; None means that nothing bounds it.

    >>> at_most(2.98731), at_most(3.0), at_most(None)
    ('2.99', '3', 'unbounded')
    """
    return "unbounded" if value is None else _significant(value, digits, ROUND_CEILING)


def at_least(value: float, digits: int = 3) -> str:
    """A lower bound such as what is left of a budget, rounded down.

    >>> at_least(5.0179)
    '5.01'
    """
    return _significant(value, digits, ROUND_FLOOR)


def percent_at_most(share: float, places: int = 1) -> str:
    """A share between 0 and 1 in percent, rounded up; below one percent to two digits.

    >>> percent_at_most(0.95289), percent_at_most(0.00321), percent_at_most(0.61934, places=0)
    ('95.3%', '0.33%', '62%')
    """
    if share >= 0.01:
        rounded = Decimal(f"{share * 100:.9f}").quantize(Decimal(1).scaleb(-places), ROUND_CEILING)
        return f"{rounded}%"
    return _significant(share * 100, 2, ROUND_CEILING) + "%"


def metric(name: str, value: float | None) -> str:
    """A test metric: accuracies in percent, anything else as it is; None was not a finite number.

    >>> metric("accuracy", 0.84821), metric("loss", 0.33127), metric("loss", None)
    ('84.8%', '0.3313', 'not finite')
    >>> metric("loss", 0.5), metric("loss", 1e-7)
    ('0.5000', '1.000e-7')
    """
    if value is None:
        return "not finite"
    return f"{value * 100:.1f}%" if "accuracy" in name and 0 <= value <= 1 else _short_exponent(f"{value:#.4g}")


def number(value: float) -> str:
    """Four significant digits without the padding of exponents.

    >>> number(512.0), number(0.015724), number(0.00001)
    ('512', '0.01572', '1e-5')
    """
    return _short_exponent(f"{value:.4g}")


def delta(value: float) -> str:
    """A small probability in both notations.

    >>> delta(1e-5)
    '1e-5 (1 in 100,000)'
    """
    return f"{number(value)} (1 in {round(1 / value):,})"


def amount(value: int) -> str:
    """A count with separators.

    >>> amount(32561)
    '32,561'
    """
    return f"{value:,}"


def duration(seconds: float) -> str:
    """Wall-clock time in the largest two units.

    >>> duration(41.23), duration(3723.0)
    ('41.2 s', '1 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left} min" if hours else f"{minutes} min {rest} s"


def moment(time: str) -> str:
    """A UTC time to the minute; text that is no time stays as it is.

    >>> moment("2026-01-31T12:05:09+00:00")
    '2026-01-31 12:05 UTC'
    """
    try:
        parsed = dt.datetime.fromisoformat(time)
    except ValueError:
        return time
    return parsed.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M UTC") if parsed.tzinfo else time


def _short_exponent(text: str) -> str:
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else text.rstrip(".")


def _significant(value: float, digits: int, rounding: str) -> str:
    exact = Decimal(f"{value:.9g}")  # the tenth digit is the accountant's grain, not a reason to round up
    if exact == 0:
        return "0"
    step = Decimal(1).scaleb(exact.adjusted() - digits + 1)
    rounded = exact.quantize(step, rounding)
    return _plain(rounded) if -5 < rounded.adjusted() < 15 else number(float(rounded))


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
