"""Charts: round ticks that cover the data, everything inside the frame, labels that do not touch."""

import re

from hypothesis import given
from hypothesis import strategies as st

from cloister.reports.charts import HEIGHT, WIDTH, Series, line_chart, ticks
from cloister.reports.numbers import at_least, at_most, percent_at_most

values = st.floats(min_value=-1e6, max_value=1e6).filter(lambda value: value == 0 or abs(value) > 1e-6)


def draw(*series, **settings):
    texts = {"name": "a", "title": "b", "description": "c", "x_title": "d", "y_title": "e"}
    return line_chart(series=series, **texts, **settings)


@given(values, values, st.integers(3, 8))
def test_ticks_cover_the_range_evenly(one, other, most):
    low, high = sorted((one, other))
    marks = ticks(low, high, most=most)
    unseen = 1e-8 * max(high - low, abs(high))
    assert marks[0] <= low + unseen
    assert marks[-1] >= high - unseen
    assert 2 <= len(marks) <= most + 2
    gaps = [after - before for before, after in zip(marks, marks[1:], strict=False)]
    assert min(gaps) > 0
    assert max(gaps) - min(gaps) <= 1e-6 * max(gaps)


@given(st.lists(st.tuples(st.integers(0, 10**6), values), min_size=1, max_size=20), st.booleans())
def test_everything_lies_in_the_frame(points, from_zero):
    chart = draw(Series(points=sorted(points), style="main", label="x", marker=True), from_zero=from_zero)
    for x, y in re.findall(r"(-?[\d.e+-]+) (-?[\d.e+-]+)", chart.lines[0].path):
        assert chart.left - 0.1 <= float(x) <= chart.right + 0.1
        assert chart.top - 0.1 <= float(y) <= chart.bottom + 0.1
    for tick in chart.x_ticks:
        assert chart.left - 0.1 <= tick.at <= chart.right + 0.6
    assert chart.right < WIDTH
    assert chart.bottom < HEIGHT


def test_labels_of_curves_that_end_together_are_pushed_apart():
    ends = [Series(points=[(0, 0), (10, y)], style="main", label=str(y)) for y in (2.99, 3.0, 3.01)]
    heights = sorted(label.y for label in draw(*ends).labels)
    assert all(after - before >= 15 for before, after in zip(heights, heights[1:], strict=False))


@given(st.floats(min_value=1e-12, max_value=1e12))
def test_bounds_are_rounded_to_the_safe_side(value):
    assert float(at_most(value)) >= value * (1 - 1e-8)
    assert float(at_most(value)) <= value * 1.01 + 1e-12
    assert float(at_least(value)) <= value * (1 + 1e-8)


@given(st.floats(min_value=1e-9, max_value=1.0))
def test_shares_are_rounded_up(share):
    assert float(percent_at_most(share)[:-1]) >= share * 100 * (1 - 1e-7)
