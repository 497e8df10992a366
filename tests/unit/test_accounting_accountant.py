"""Epsilon and guarantees: bounds, relations, refusals, and the check of one accountant by the other."""

import math

import dp_accounting
import pytest

from cloister.accounting import (
    Composed,
    Event,
    Gaussian,
    Laplace,
    NonPrivate,
    NoOp,
    PoissonSampled,
    Relation,
    SelfComposed,
    TruncatedPoissonGaussian,
    Unit,
    accountant,
    epsilon,
    guarantee,
    privacy_curve,
)
from cloister.accounting._dp_events import to_dp_event, to_dp_relation
from cloister.accounting._parts import parts_of
from cloister.errors import InputError, PrivacyError, UnsupportedEvent

DELTA = 1e-5
STEP = PoissonSampled(0.05, Gaussian(2.0))
TRUNCATED = TruncatedPoissonGaussian(5000, 0.01, 80, 1.5)


def theirs(event, relation, accountant=dp_accounting.pld.PLDAccountant):
    composed = accountant(neighboring_relation=to_dp_relation(relation)).compose(to_dp_event(event))
    return composed.get_epsilon(DELTA)


BOTH = (Relation.ADD_OR_REMOVE_ONE, Relation.REPLACE_SPECIAL)
SHARED = [
    (Gaussian(1.3), tuple(Relation)),
    (SelfComposed(STEP, 200), tuple(Relation)),
    (Composed((SelfComposed(STEP, 50), Gaussian(5.0), STEP, PoissonSampled(0.02, Gaussian(1.0)))), tuple(Relation)),
    (SelfComposed(PoissonSampled(0.02, Laplace(2.0)), 20), BOTH),
    (Composed((Laplace(3.0), SelfComposed(STEP, 20))), BOTH),
    (SelfComposed(TRUNCATED, 30), (Relation.REPLACE_ONE, Relation.REPLACE_SPECIAL)),
]


@pytest.mark.parametrize(
    ("event", "relation"), [(event, relation) for event, relations in SHARED for relation in relations], ids=repr
)
def test_pld_agrees_with_the_accountant_of_dp_accounting(event, relation):
    """Two ways to the same number: our table of distributions, and their accountant on the translated event."""
    assert epsilon(event, delta=DELTA, relation=relation) == pytest.approx(theirs(event, relation), rel=1e-3)


def test_noise_multiplier_is_relative_to_the_norm_bound_not_to_the_relation():
    """Under REPLACE_ONE two units of norm C lie 2C apart: the same release costs what half the noise costs."""
    for release in (Gaussian, Laplace):
        for name in ("pld", "rdp"):
            one = epsilon(release(3.0), delta=DELTA, relation=Relation.REPLACE_ONE, accountant=name)
            half = epsilon(release(1.5), delta=DELTA, relation=Relation.ADD_OR_REMOVE_ONE, accountant=name)
            assert one == pytest.approx(half, rel=1e-6)
            special = epsilon(release(1.5), delta=DELTA, relation=Relation.REPLACE_SPECIAL, accountant=name)
            assert special == pytest.approx(half, rel=1e-9)


def test_dp_accounting_still_means_what_our_conversion_assumes():
    """Their PLD accountant doubles the distance under REPLACE_ONE by itself, their RDP accountant does not."""
    same, one = Relation.ADD_OR_REMOVE_ONE, Relation.REPLACE_ONE
    assert theirs(Gaussian(3.0), one) == pytest.approx(theirs(Gaussian(1.5), same), rel=1e-6)
    rdp = dp_accounting.rdp.RdpAccountant
    assert theirs(Gaussian(3.0), one, rdp) == theirs(Gaussian(3.0), same, rdp)
    assert theirs(Laplace(3.0), one, rdp) == theirs(Laplace(3.0), same, rdp)


def test_sampled_replace_one_lies_between_one_and_two_units_away():
    event = SelfComposed(PoissonSampled(0.01, Gaussian(1.0)), 500)
    near = epsilon(event, delta=DELTA)
    far = epsilon(SelfComposed(PoissonSampled(0.01, Gaussian(0.5)), 500), delta=DELTA)
    assert near < epsilon(event, delta=DELTA, relation=Relation.REPLACE_ONE) < far


def test_nothing_costs_nothing_and_non_private_costs_everything():
    for nothing in (NoOp(), Composed(()), SelfComposed(NonPrivate(), 0), PoissonSampled(0.5, NoOp())):
        for name in ("pld", "rdp"):
            assert epsilon(nothing, delta=DELTA, accountant=name) == 0.0
    for everything in (NonPrivate(), Composed((STEP, NonPrivate())), PoissonSampled(0.001, NonPrivate())):
        assert epsilon(everything, delta=DELTA) == math.inf
        assert guarantee(everything, delta=DELTA).epsilon == math.inf


@pytest.mark.parametrize("name", ["pld", "rdp"])
def test_extreme_noise_has_an_answer(name):
    assert epsilon(Gaussian(1e-200), delta=DELTA, accountant=name) == math.inf
    assert epsilon(PoissonSampled(0.01, Gaussian(1e-9)), delta=DELTA, accountant=name) == math.inf
    assert epsilon(Gaussian(1e200), delta=DELTA, accountant=name) < 1e-3
    assert epsilon(PoissonSampled(1e-300, Gaussian(1.0)), delta=DELTA, accountant=name) < 0.02
    assert 5000 < epsilon(Gaussian(0.01), delta=DELTA, accountant=name) < 6000


def test_truncated_poisson_needs_a_public_number_of_examples():
    with pytest.raises(UnsupportedEvent, match="under add_or_remove_one") as caught:
        epsilon(Composed((STEP, TRUNCATED)), delta=DELTA)
    assert "replace_one by pld, replace_special by pld" in caught.value.hint


def test_truncation_that_never_happens_costs_nothing():
    for relation in (Relation.REPLACE_SPECIAL, Relation.REPLACE_ONE):
        never = SelfComposed(TruncatedPoissonGaussian(1000, 0.02, 1000, 1.0), 100)
        poisson = SelfComposed(PoissonSampled(0.02, Gaussian(1.0)), 100)
        expected = epsilon(poisson, delta=DELTA, relation=relation)
        assert epsilon(never, delta=DELTA, relation=relation) == pytest.approx(expected, rel=1e-3)
        often = SelfComposed(TruncatedPoissonGaussian(1000, 0.02, 20, 1.0), 100)
        assert epsilon(often, delta=DELTA, relation=relation) > 1.05 * expected


def test_unsupported_events_say_so():
    class Mine(Event):
        tag = "gaussian"

    twice = PoissonSampled(0.1, PoissonSampled(0.1, Gaussian(1.0)))
    for event in (Mine(), twice):
        with pytest.raises(UnsupportedEvent) as caught:
            epsilon(event, delta=DELTA)
        assert "none under any relation" in caught.value.hint
    with pytest.raises(UnsupportedEvent) as caught:
        epsilon(PoissonSampled(0.1, Laplace(1.0)), delta=DELTA, accountant="rdp")
    assert "add_or_remove_one by pld" in caught.value.hint
    with pytest.raises(UnsupportedEvent, match="releases"):
        epsilon(SelfComposed(Gaussian(1.0), 10**400), delta=DELTA)


@pytest.mark.parametrize("wrong", [{"delta": 0.0}, {"delta": 1.0}, {"delta": math.nan}, {"accountant": "gdp"}])
def test_wrong_arguments(wrong):
    with pytest.raises(InputError):
        epsilon(STEP, **{"delta": DELTA, **wrong})
    with pytest.raises(InputError):
        epsilon(STEP, delta=DELTA, relation="neighbors")


def test_a_delta_that_floating_point_does_not_resolve_is_refused():
    event = SelfComposed(PoissonSampled(0.001, Gaussian(0.6)), 10**6)
    with pytest.raises(PrivacyError, match="too small for the pld accountant after 1000000") as caught:
        epsilon(event, delta=1e-10)
    assert "rdp" in caught.value.hint
    assert guarantee(event, delta=1e-10, accountant="rdp").accountant == "rdp"
    assert epsilon(event, delta=1e-8) < epsilon(event, delta=1e-8, accountant="rdp")


def test_equal_parts_are_counted_and_gaussians_become_one():
    inner = Composed((STEP, SelfComposed(STEP, 4), NoOp()))
    event = Composed((SelfComposed(inner, 3), Gaussian(2.0), SelfComposed(Composed((Gaussian(2.0), STEP)), 3)))
    assert dict(parts_of(event)) == {STEP: 18, Gaussian(1.0): 1}
    assert parts_of(PoissonSampled(1.0, Laplace(2.0))) == ((Laplace(2.0), 1),)
    # Four releases from one sample are one with half the noise, not four samples.
    assert parts_of(PoissonSampled(0.1, SelfComposed(Gaussian(2.0), 4))) == ((PoissonSampled(0.1, Gaussian(1.0)), 1),)


def test_guarantee_says_what_was_asked():
    promised = guarantee(SelfComposed(STEP, 10), delta=1e-6, unit=Unit.USER, relation="replace_special")
    assert promised.unit is Unit.USER
    assert promised.relation is Relation.REPLACE_SPECIAL
    assert promised.accountant == "pld"
    assert promised.delta == 1e-6
    assert promised.epsilon == epsilon(SelfComposed(STEP, 10), delta=1e-6, relation="replace_special")


@pytest.mark.parametrize("name", ["pld", "rdp"])
def test_accountants_that_contradict_each_other_give_no_guarantee(monkeypatch, name):
    """A wrong sensitivity in either direction that makes RDP the smaller one is found, with both values named."""
    event = SelfComposed(PoissonSampled(0.01, Gaussian(1.1)), 700)
    right = {name: accountant._ACCOUNTANTS[name].epsilon for name in ("pld", "rdp")}
    factor = {"pld": 2.0, "rdp": 0.5}[name]

    def wrong(*args):
        return factor * right[name](*args)

    monkeypatch.setitem(accountant._ACCOUNTANTS, name, accountant._ACCOUNTANTS[name]._replace(epsilon=wrong))
    accountant._epsilon.cache_clear()
    try:
        with pytest.raises(PrivacyError, match=r"epsilon is [\d.]+ by pld but [\d.]+ by rdp"):
            guarantee(event, delta=DELTA)
    finally:
        accountant._epsilon.cache_clear()
    monkeypatch.undo()
    assert guarantee(event, delta=DELTA).epsilon == right["pld"](parts_of(event), DELTA, Relation.ADD_OR_REMOVE_ONE)


def test_results_are_remembered():
    accountant._epsilon.cache_clear()
    step, other = PoissonSampled(0.1, Gaussian(3.0)), Gaussian(7.0)
    first = epsilon(Composed((other, SelfComposed(step, 3))), delta=DELTA)
    second = epsilon(Composed((step, step, other, step, NoOp())), delta=DELTA)
    assert first == second
    assert accountant._epsilon.cache_info().hits == 1


def test_privacy_curve_is_monotone_and_ends_at_epsilon():
    def event_after(steps):
        return SelfComposed(STEP, steps)

    curve = privacy_curve(event_after, [0, 1, 10, 100, 100, 50], delta=DELTA)
    assert curve[0] == 0.0
    assert curve[3] == curve[4] == epsilon(event_after(100), delta=DELTA)
    assert curve[0] < curve[1] < curve[2] < curve[5] < curve[3]
    assert privacy_curve(event_after, [], delta=DELTA) == ()


def test_a_bound_that_falls_with_more_steps_also_holds_before():
    # A loose bound after one step, a tight one after two: what holds for both holds for the first.
    after = {1: Gaussian(1.0), 2: Gaussian(2.0)}
    loose, tight = privacy_curve(after.__getitem__, [1, 2], delta=DELTA)
    assert loose == tight == epsilon(Gaussian(2.0), delta=DELTA)
