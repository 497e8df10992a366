"""Events: their stored form, and what is refused."""

import json
import math

import pytest

from cloister._canonical import digest_json
from cloister.accounting import (
    MAX_DEPTH,
    Composed,
    Event,
    Gaussian,
    Laplace,
    NonPrivate,
    NoOp,
    PoissonSampled,
    SelfComposed,
    TruncatedPoissonGaussian,
    compose,
    event_from_json,
    event_to_json,
)
from cloister.errors import InputError

GAUSSIAN = {"type": "gaussian", "noise_multiplier": 1.0}

# The stored form is a promise: these lines were written by an earlier version and must read back forever.
STORED = {
    '{"type":"no_op"}': NoOp(),
    '{"type":"non_private"}': NonPrivate(),
    '{"noise_multiplier":1.5,"type":"gaussian"}': Gaussian(1.5),
    '{"noise_multiplier":1.5,"type":"laplace"}': Laplace(1.5),
    '{"event":{"noise_multiplier":1.0,"type":"gaussian"},"sampling_prob":0.01,"type":"poisson_sampled"}': (
        PoissonSampled(0.01, Gaussian(1.0))
    ),
    '{"max_batch_size":9,"noise_multiplier":1.0,"num_examples":100,"sampling_prob":0.05,'
    '"type":"truncated_poisson_gaussian"}': TruncatedPoissonGaussian(100, 0.05, 9, 1.0),
    '{"count":3,"event":{"noise_multiplier":1.0,"type":"laplace"},"type":"self_composed"}': SelfComposed(
        Laplace(1.0), 3
    ),
    '{"events":[{"type":"no_op"},{"noise_multiplier":2.0,"type":"gaussian"}],"type":"composed"}': Composed(
        (NoOp(), Gaussian(2.0))
    ),
}


@pytest.mark.parametrize("text", STORED)
def test_stored_form_never_changes(text):
    assert event_from_json(json.loads(text)) == STORED[text]
    assert json.dumps(event_to_json(STORED[text]), sort_keys=True, separators=(",", ":")) == text


def nested(depth):
    stored = dict(GAUSSIAN)
    for _ in range(depth - 1):
        stored = {"type": "self_composed", "event": stored, "count": 1}
    return stored


@pytest.mark.parametrize(
    "stored",
    [
        None,
        [],
        "gaussian",
        7,
        {},
        {"type": None},
        {"type": ["gaussian"], "noise_multiplier": 1.0},
        {"type": "os.system", "command": "true"},
        {"type": "Gaussian", "noise_multiplier": 1.0},
        {"type": "gaussian"},
        {**GAUSSIAN, "extra": 1},
        {**GAUSSIAN, "noise_multiplier": 0},
        {**GAUSSIAN, "noise_multiplier": -1.0},
        {**GAUSSIAN, "noise_multiplier": math.nan},
        {**GAUSSIAN, "noise_multiplier": math.inf},
        {**GAUSSIAN, "noise_multiplier": 10**400},
        {**GAUSSIAN, "noise_multiplier": True},
        {**GAUSSIAN, "noise_multiplier": "1.0"},
        {**GAUSSIAN, "noise_multiplier": GAUSSIAN},
        {"type": "poisson_sampled", "sampling_prob": 0.1, "event": 3},
        {"type": "poisson_sampled", "sampling_prob": 0.1, "event": [GAUSSIAN]},
        {"type": "poisson_sampled", "sampling_prob": 0.1, "event": {"type": "nothing_known"}},
        {"type": "poisson_sampled", "sampling_prob": 0.0, "event": GAUSSIAN},
        {"type": "poisson_sampled", "sampling_prob": 1.5, "event": GAUSSIAN},
        {"type": "poisson_sampled", "sampling_prob": math.nan, "event": GAUSSIAN},
        {"type": "self_composed", "event": GAUSSIAN, "count": -1},
        {"type": "self_composed", "event": GAUSSIAN, "count": 1.5},
        {"type": "self_composed", "event": GAUSSIAN, "count": True},
        {"type": "composed", "events": GAUSSIAN},
        {"type": "composed", "events": "ab"},
        {"type": "composed", "events": [1, 2]},
        {"type": "composed", "events": [[GAUSSIAN]]},
        {
            "type": "truncated_poisson_gaussian",
            "num_examples": 0,
            "sampling_prob": 0.1,
            "max_batch_size": 5,
            "noise_multiplier": 1.0,
        },
        nested(MAX_DEPTH + 1),
        nested(5000),
    ],
    ids=lambda stored: f"{type(stored).__name__}-{stored.get('type') if isinstance(stored, dict) else stored}",
)
def test_what_is_not_an_event_is_refused(stored):
    with pytest.raises(InputError):
        event_from_json(stored)


def test_depth_has_one_limit_for_reading_and_writing():
    deepest = event_from_json(nested(MAX_DEPTH))
    assert event_to_json(deepest) == nested(MAX_DEPTH)
    with pytest.raises(InputError, match=f"more than {MAX_DEPTH} deep"):
        event_to_json(SelfComposed(deepest, 1))


def test_a_class_of_someone_else_is_not_stored():
    class Mine(Event):
        tag = "gaussian"

    for event in (Mine(), Event()):
        with pytest.raises(InputError, match="not one of cloister's events"):
            event_to_json(event)


def test_equal_events_have_equal_digests():
    whole, real = PoissonSampled(1, Gaussian(1)), PoissonSampled(1.0, Gaussian(1.0))
    assert whole == real
    assert digest_json(event_to_json(whole)) == digest_json(event_to_json(real))


def test_compose_is_flat_and_forgets_nothing_private():
    step = Gaussian(1.0)
    assert compose() == NoOp()
    assert compose(NoOp(), NoOp()) == NoOp()
    assert compose(step) == step
    assert compose(Composed((step, step)), NoOp(), NonPrivate()) == Composed((step, step, NonPrivate()))
