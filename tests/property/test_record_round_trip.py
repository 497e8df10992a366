"""Whatever a record can hold comes back from its bytes, equal and with the same bytes."""

import json
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from cloister.accounting import (
    Budget,
    Composed,
    Gaussian,
    Laplace,
    NonPrivate,
    NoOp,
    PoissonSampled,
    SelfComposed,
    TruncatedPoissonGaussian,
)
from cloister.records import SpendingLine, TrainingRecord
from fakes.records import non_private_record, plan_record, spending_record, training_record

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=1e-6, max_value=1e6)
shares = st.floats(min_value=1e-9, max_value=1.0)
counts = st.integers(min_value=1, max_value=10**9)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=12,
)
metrics = st.dictionaries(texts, st.floats() | st.integers(-9, 9) | st.none(), max_size=3)
noise = st.builds(Gaussian, positive) | st.builds(Laplace, positive)
events = st.recursive(
    noise
    | st.just(NoOp())
    | st.just(NonPrivate())
    | st.builds(TruncatedPoissonGaussian, counts, shares, counts, positive),
    lambda inner: (
        st.builds(PoissonSampled, shares, inner)
        | st.builds(SelfComposed, inner, counts)
        | st.builds(lambda parts: Composed(tuple(parts)), st.lists(inner, max_size=3))
    ),
    max_leaves=6,
)
lines = st.builds(SpendingLine, run=texts, status=texts, epsilon=st.none() | positive, time=texts)
spendings = st.builds(
    lambda budget, spent, parts, warnings: spending_record(
        budget=budget, epsilon_spent=spent, epsilon_remaining=None, lines=parts, warnings=warnings
    ),
    st.none() | st.builds(lambda e: Budget(epsilon=e, delta=1e-6), positive),
    st.none() | positive,
    st.lists(lines, max_size=3),
    st.lists(texts, max_size=2),
)


def reread(record):
    return TrainingRecord.from_json(json.loads(record.to_bytes()))


changes = st.fixed_dictionaries(
    {
        "recipe": st.dictionaries(texts, plain, max_size=3),
        "event": events,
        "test": st.none() | metrics,
        "utility_curve": st.lists(st.tuples(counts, metrics), max_size=3),
        "privacy_curve": st.lists(st.tuples(counts, positive), max_size=3),
        "spending": st.none() | spendings,
        "notes": st.lists(texts, max_size=3),
        "seconds": positive,
    }
)


@settings(max_examples=150, deadline=None)
@given(changes)
def test_any_record_comes_back(changes):
    record = replace(non_private_record(), **changes)
    again = reread(record)
    assert again == record
    assert again.to_bytes() == record.to_bytes()
    assert again.digest == record.digest


@settings(max_examples=50, deadline=None)
@given(low=finite, high=finite, rate=positive, views=counts)
def test_any_plan_comes_back(low, high, rate, views):
    plan = plan_record(clip_low=low, clip_high=high, learning_rate=rate, views=views, clip_norm=None)
    assert reread(training_record(plan=plan)).plan == plan
