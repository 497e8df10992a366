"""Laws that hold for all events, by Hypothesis."""

import json
import math

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cloister.accounting import (
    Budget,
    Composed,
    Gaussian,
    Laplace,
    NonPrivate,
    NoOp,
    PoissonSampled,
    Relation,
    SelfComposed,
    TruncatedPoissonGaussian,
    compose,
    epsilon,
    event_from_json,
    event_to_json,
    guarantee,
    noise_for,
)
from cloister.accounting._parts import parts_of
from cloister.errors import InputError

few = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])

noises = st.floats(0.7, 50.0)
probs = st.floats(1e-3, 1.0)
deltas = st.floats(-9.0, -2.0).map(lambda x: 10**x)
counts = st.integers(1, 1000)
# Of one bound against another: the grid is refined in powers of ten, and each is exact to this.
GRID = 1.002

leaves = st.one_of(
    st.just(NoOp()),
    st.just(NonPrivate()),
    st.builds(Gaussian, st.floats(1e-6, 1e6)),
    st.builds(Laplace, st.floats(1e-6, 1e6)),
    st.builds(
        TruncatedPoissonGaussian,
        st.integers(1, 10**9),
        st.floats(1e-9, 1.0),
        st.integers(1, 10**6),
        st.floats(1e-6, 1e6),
    ),
)
events = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(PoissonSampled, st.floats(1e-9, 1.0), inner),
        st.builds(SelfComposed, inner, st.integers(0, 10**3)),
        st.lists(inner, max_size=4).map(lambda parts: Composed(tuple(parts))),
    ),
    max_leaves=8,
)
FIELDS = ["type", "event", "events", "count", "sampling_prob", "noise_multiplier", "x"]
TAGS = ["gaussian", "composed", "self_composed", "poisson_sampled", "builtins.eval"]
garbage = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
        st.fixed_dictionaries({"type": st.sampled_from(TAGS)}, optional=dict.fromkeys(FIELDS[1:], inner)),
    ),
    max_leaves=12,
)


def training(sampling_prob, noise_multiplier, steps):
    return SelfComposed(PoissonSampled(sampling_prob, Gaussian(noise_multiplier)), steps)


@given(events)
def test_json_round_trip(event):
    stored = json.loads(json.dumps(event_to_json(event), allow_nan=False))
    assert event_from_json(stored) == event
    assert hash(event_from_json(stored)) == hash(event)


@given(garbage)
def test_garbage_is_an_event_or_an_input_error(stored):
    try:
        event = event_from_json(stored)
    except InputError:
        return
    assert event_from_json(event_to_json(event)) == event


@given(st.lists(events, max_size=5), st.randoms(use_true_random=False))
def test_parts_do_not_depend_on_order_or_grouping(parts, random):
    shuffled = random.sample(parts, len(parts))
    middle = len(shuffled) // 2
    grouped = Composed((Composed(tuple(shuffled[:middle])), Composed(tuple(shuffled[middle:]))))
    assert parts_of(compose(*parts)) == parts_of(Composed(tuple(shuffled))) == parts_of(grouped)


@few
@given(probs, noises, counts, st.integers(1, 500), deltas)
def test_more_steps_cost_more(sampling_prob, noise_multiplier, steps, more, delta):
    less = epsilon(training(sampling_prob, noise_multiplier, steps), delta=delta)
    assert less <= epsilon(training(sampling_prob, noise_multiplier, steps + more), delta=delta) * GRID


@few
@given(probs, noises, counts, st.floats(1.01, 3.0), deltas)
def test_more_noise_costs_less(sampling_prob, noise_multiplier, steps, factor, delta):
    more = epsilon(training(sampling_prob, noise_multiplier * factor, steps), delta=delta)
    assert more <= epsilon(training(sampling_prob, noise_multiplier, steps), delta=delta) * GRID


@few
@given(probs, noises, counts, st.floats(0.1, 0.99), deltas)
def test_smaller_samples_cost_less(sampling_prob, noise_multiplier, steps, factor, delta):
    less = epsilon(training(sampling_prob * factor, noise_multiplier, steps), delta=delta)
    assert less <= epsilon(training(sampling_prob, noise_multiplier, steps), delta=delta) * GRID


@few
@given(probs, noises, counts, deltas, st.floats(0.01, 0.99))
def test_smaller_delta_costs_more(sampling_prob, noise_multiplier, steps, delta, factor):
    assume(delta * factor > 1e-10)
    event = training(sampling_prob, noise_multiplier, steps)
    assert epsilon(event, delta=delta) <= epsilon(event, delta=delta * factor)


@few
@given(
    st.lists(st.tuples(probs, noises, st.integers(1, 300)), min_size=1, max_size=4), deltas, st.sampled_from(Relation)
)
def test_composition_costs_at_least_each_and_at_most_the_sum(runs, delta, relation):
    parts = [training(*run) for run in runs]
    total = epsilon(Composed(tuple(parts)), delta=delta, relation=relation)
    shares = [epsilon(part, delta=delta / len(parts), relation=relation) for part in parts]
    assert total <= sum(shares) * GRID + 1e-3
    assert total * GRID + 1e-3 >= max(epsilon(part, delta=delta, relation=relation) for part in parts)


sane = st.one_of(
    st.builds(training, st.floats(-6, 0).map(lambda x: 10**x), st.floats(0.5, 100.0), st.integers(1, 10**5)),
    st.builds(Gaussian, st.floats(0.2, 1000.0)),
    st.builds(SelfComposed, st.builds(Laplace, st.floats(0.5, 1000.0)), st.integers(1, 100)),
)


def check_that_accountants_agree(runs, delta):
    """Both accountants are right, so RDP below PLD by more than the slack would be a false alarm."""
    assert 0 <= guarantee(Composed(tuple(runs)), delta=delta).epsilon < math.inf


test_the_cross_check_does_not_fire_on_sane_runs = few(
    given(st.lists(sane, min_size=1, max_size=3), deltas)(check_that_accountants_agree)
)
test_the_cross_check_never_fires_on_sane_runs = pytest.mark.slow(
    settings(few, max_examples=400)(given(st.lists(sane, min_size=1, max_size=4), deltas)(check_that_accountants_agree))
)


@settings(few, max_examples=3)
@given(st.floats(0.3, 20.0), deltas, st.floats(1e-3, 0.5), st.integers(1, 300))
def test_calibrated_noise_is_never_on_the_wrong_side(target, delta, sampling_prob, steps):
    noise_multiplier = noise_for(
        lambda noise: training(sampling_prob, noise, steps), Budget(epsilon=target, delta=delta), tolerance=1e-2
    )
    assert epsilon(training(sampling_prob, noise_multiplier, steps), delta=delta) <= target
