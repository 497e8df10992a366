"""Line charts as geometry: everything the template needs to draw one, in the units of its view box."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Chart", "Label", "Line", "Series", "Tick", "line_chart", "ticks"]

WIDTH, HEIGHT = 440.0, 270.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 78.0, 34.0, 46.0
_LABEL_GAP = 15.0

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One curve in the units of the data.

    Attributes:
        points: (x, y) pairs with rising x.
        style: CSS class of its line.
        label: Text to the right of its last point; empty for none.
        marker: Whether to mark the last point.
    """

    points: Sequence[Point]
    style: str
    label: str = ""
    marker: bool = False


@dataclass(frozen=True)
class Tick:
    """A labeled place on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """A curve in the units of the view box."""

    path: str
    style: str
    marker: Point | None


@dataclass(frozen=True)
class Label:
    """Text beside the end of a curve."""

    x: float
    y: float
    text: str
    style: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A finished chart."""

    name: str
    title: str
    description: str
    x_title: str
    y_title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    labels: tuple[Label, ...]
    right: float
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    top: float = TOP
    bottom: float = HEIGHT - BOTTOM


def line_chart(
    *,
    name: str,
    title: str,
    description: str,
    x_title: str,
    y_title: str,
    series: Sequence[Series],
    from_zero: bool = True,
    y_text: Callable[[float], str] | None = None,
    x_text: Callable[[float], str] | None = None,
) -> Chart:
    """Lay out curves over common axes.

    Args:
        name: Unique on the page; prefix of element ids.
        title: What is shown, in a few words.
        description: What a reader sees, for those who cannot.
        x_title: Quantity and unit.
        y_title: Quantity and unit.
        series: At least one curve with at least one point.
        from_zero: Whether the vertical axis starts at zero.
        y_text: Text of a vertical tick; by default the number itself.
        x_text: Text of a horizontal tick; by default the number itself.
    """
    labeled = any(one.label for one in series)
    right = WIDTH - (RIGHT if labeled else 22.0)
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    x_marks = ticks(min(0.0, *xs, 0.0), max(xs), most=5)
    y_marks = ticks(min([0.0, *ys] if from_zero else ys), max(ys), most=6)
    x_of = _scale((x_marks[0], max(x_marks[-1] if not labeled else max(xs), x_marks[0] + 1e-9)), (LEFT, right))
    y_of = _scale((y_marks[0], y_marks[-1]), (HEIGHT - BOTTOM, TOP))
    shown = [value for value in x_marks if x_of(value) <= right + 0.5]
    return Chart(
        name=name,
        title=title,
        description=description,
        x_title=x_title,
        y_title=y_title,
        x_ticks=tuple(Tick(_round(x_of(value)), (x_text or _tick_text(x_marks))(value)) for value in shown),
        y_ticks=tuple(Tick(_round(y_of(value)), (y_text or _tick_text(y_marks))(value)) for value in y_marks),
        lines=tuple(_line(one, x_of, y_of) for one in series),
        labels=_end_labels(series, right, y_of),
        right=right,
    )


def ticks(low: float, high: float, *, most: int) -> list[float]:
    """Round numbers that cover [low, high], at most about `most` of them.

    >>> ticks(0, 8, most=6)
    [0.0, 2.0, 4.0, 6.0, 8.0]
    >>> ticks(0.79, 0.853, most=6)
    [0.78, 0.8, 0.82, 0.84, 0.86]
    """
    if high <= low:
        room = abs(high) * 0.05 or 1.0
        low, high = (0.0, high) if low == 0 and high > 0 else (low - room, high + room)
    rough = (high - low) / max(1, most - 1)
    power = math.floor(math.log10(rough))
    step = next(m for m in (1, 2, 2.5, 5, 10) if m * 10.0**power >= rough * (1 - 1e-9)) * 10.0**power
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12 - min(0, power)) for i in range(first, last + 1)]


def _tick_text(marks: Sequence[float]) -> Callable[[float], str]:
    """Text with as many decimals as the finest mark needs."""
    decimals = max((len(f"{mark:.10f}".rstrip("0").partition(".")[2]) for mark in marks), default=0)
    return lambda value: f"{value:,.{min(decimals, 6)}f}"


def _scale(domain: tuple[float, float], place: tuple[float, float]) -> Callable[[float], float]:
    factor = (place[1] - place[0]) / (domain[1] - domain[0])
    return lambda value: place[0] + (value - domain[0]) * factor


def _line(series: Series, x_of: Callable[[float], float], y_of: Callable[[float], float]) -> Line:
    places = [(_round(x_of(x)), _round(y_of(y))) for x, y in series.points]
    path = "M" + " L".join(f"{x:g} {y:g}" for x, y in places)
    return Line(path, series.style, places[-1] if series.marker else None)


def _end_labels(series: Sequence[Series], right: float, y_of: Callable[[float], float]) -> tuple[Label, ...]:
    """Labels at the heights of their curves' ends, pushed apart where they would touch."""
    wanted = sorted((y_of(one.points[-1][1]) + 4.0, one.label, one.style) for one in series if one.label)
    labels: list[Label] = []
    for y, text, style in wanted:
        free = labels[-1].y + _LABEL_GAP if labels else y
        labels.append(Label(right + 8.0, _round(max(y, free)), text, style))
    return tuple(labels)


def _round(value: float) -> float:
    return round(value, 2)
