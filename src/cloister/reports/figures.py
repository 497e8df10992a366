"""The figures of a report, from a record."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cloister.reports.charts import Chart, Series, line_chart
from cloister.reports.numbers import at_least, at_most, metric, number, percent_at_most

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloister.records import SpendingLine, SpendingRecord, TrainingRecord
    from cloister.reports.odds import Ceiling

__all__ = ["Bar", "attack_chart", "bars", "budget_text", "counted", "course", "privacy_chart", "utility_charts"]

_MOST_METRICS = 4
_MOST_ROWS = 12
_COUNTED = ("reserved", "committed")


@dataclass(frozen=True)
class Course:
    """The run as a table: privacy and utility at some steps, and at the end."""

    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    end: tuple[str, ...]


@dataclass(frozen=True)
class Bar:
    """One run of the budget statement, with the length of its bar in percent of the scale."""

    line: SpendingLine
    is_this: bool
    length: float | None
    counts: bool


def privacy_chart(record: TrainingRecord) -> Chart | None:
    """Epsilon of this run against steps, below the budget of its data set."""
    if record.guarantee is None or not record.privacy_curve:
        return None
    points = _from_zero(record.privacy_curve)
    last_step, last = points[-1]
    series = [Series(points=points, style="main", label=at_most(last), marker=True)]
    text = f"Epsilon rises from 0 to {at_most(last)} after {last_step:,.0f} steps."
    budget = record.spending.budget if record.spending else None
    if budget is not None:
        limit = [(0.0, budget.epsilon), (last_step, budget.epsilon)]
        series.append(Series(points=limit, style="limit", label=f"budget {number(budget.epsilon)}"))
        text += f" The budget of the data set is {number(budget.epsilon)}."
    return line_chart(
        name="privacy",
        title="Privacy spent by this run",
        description=text,
        x_title="steps",
        y_title=f"epsilon at delta {number(record.guarantee.delta)}",
        series=series,
    )


def utility_charts(record: TrainingRecord) -> list[Chart]:
    """One chart for each metric of the utility curve."""
    names = dict.fromkeys(name for _, metrics in record.utility_curve for name in metrics)
    charts = []
    for place, name in enumerate(list(names)[:_MOST_METRICS]):
        values = [(float(step), metrics.get(name)) for step, metrics in record.utility_curve]
        points = [(step, value) for step, value in values if value is not None]
        if points:
            charts.append(_metric_chart(f"utility-{place}", name, points))
    return charts


def _metric_chart(name: str, metric_name: str, points: list[tuple[float, float]]) -> Chart:
    in_percent = "accuracy" in metric_name and all(0 <= value <= 1 for _, value in points)
    first, last = metric(metric_name, points[0][1]), metric(metric_name, points[-1][1])
    return line_chart(
        name=name,
        title=f"Test {metric_name}",
        description=f"Test {metric_name} goes from {first} at step {points[0][0]:,.0f} to {last} at step "
        f"{points[-1][0]:,.0f}.",
        x_title="steps",
        y_title=f"{metric_name} on the test set",
        series=[Series(points=points, style="main", label=last, marker=True)],
        from_zero=False,
        y_text=(lambda value: f"{value * 100:g}%") if in_percent else None,
    )


def course(record: TrainingRecord) -> Course:
    """Epsilon and metrics at some steps of the utility curve, and at the end."""
    test = record.test or {}
    metrics = list(dict.fromkeys([*test, *(name for _, values in record.utility_curve for name in values)]))
    spent = dict(record.privacy_curve)
    claim = record.guarantee

    def cells(step: int, values: Mapping[str, float | None]) -> tuple[str, ...]:
        shown = [metric(name, values[name]) if name in values else "" for name in metrics]
        return tuple(([at_most(spent[step]) if step in spent else ""] if claim else []) + shown)

    marks = [mark for mark in record.utility_curve if mark[0] != record.steps or not test]
    rows = marks[:: max(1, math.ceil(len(marks) / _MOST_ROWS))]
    end = [at_most(claim.epsilon)] if claim else []
    return Course(
        columns=tuple((["epsilon"] if claim else []) + metrics) if metrics else (),
        rows=tuple((step, cells(step, values)) for step, values in rows),
        end=tuple(end + [metric(name, test[name]) if name in test else "" for name in metrics]),
    )


def attack_chart(ceiling: Ceiling) -> Chart:
    """The best that any attacker can reach, against guessing."""
    rates = [(i / 100) ** 2 for i in range(101)]
    best = [(rate, ceiling.true_positive_rate(rate)) for rate in rates]
    tenth = percent_at_most(ceiling.true_positive_rate(0.1))
    return line_chart(
        name="attack",
        title="The best possible attacker",
        description=f"At 10% false alarms at most {tenth} of members are recognized; guessing recognizes 10%.",
        x_title="share of false alarms",
        y_title="share of members recognized",
        series=[
            Series(points=[(0.0, 0.0), (1.0, 1.0)], style="limit"),
            Series(points=best, style="main"),
        ],
        x_text=lambda value: f"{value * 100:g}%",
        y_text=lambda value: f"{value * 100:g}%",
    )


def bars(record: TrainingRecord, spending: SpendingRecord) -> list[Bar]:
    """The lines of the statement on one scale, which is that of `used_share`."""
    scale = _scale(spending)
    return [
        Bar(
            line=line,
            is_this=line.run == record.run,
            length=_length(line, scale),
            counts=line.status in _COUNTED,
        )
        for line in spending.lines
    ]


def counted(spending: SpendingRecord) -> list[SpendingLine]:
    """The lines that count against the budget."""
    return [line for line in spending.lines if line.status in _COUNTED]


def _length(line: SpendingLine, scale: float) -> float | None:
    if line.epsilon is None or scale == 0 or line.status not in _COUNTED:
        return None
    return round(100 * line.epsilon / scale, 2)


def budget_text(spending: SpendingRecord) -> dict[str, str | float]:
    """Spent, left and limit as text, and as shares of the scale in percent."""
    scale, spent, budget = _scale(spending), spending.epsilon_spent, spending.budget
    return {
        "spent": at_most(spent),
        "left": at_least(spending.epsilon_remaining) if spending.epsilon_remaining is not None else "",
        "limit": number(budget.epsilon) if budget else "",
        "used_share": 100.0 if spent is None else round(100 * spent / scale, 2) if scale else 0.0,
        "limit_share": round(100 * budget.epsilon / scale, 2) if budget and scale else 0.0,
    }


def _scale(spending: SpendingRecord) -> float:
    values = [line.epsilon for line in counted(spending)] + [spending.epsilon_spent]
    return max([value for value in values if value is not None] + [spending.budget.epsilon if spending.budget else 0.0])


def _from_zero(curve: tuple[tuple[int, float], ...]) -> list[tuple[float, float]]:
    points = [(float(step), value) for step, value in curve]
    return points if points[0][0] == 0 else [(0.0, 0.0), *points]
