"""Records: what they refuse, and what their check finds."""

import json
import math
from dataclasses import replace

import pytest

from cloister._canonical import digest_file
from cloister.accounting import Budget, Composed, Gaussian, Guarantee, Relation, SelfComposed
from cloister.errors import CloisterError, DigestMismatch, InputError, PlanMismatch
from cloister.records import TrainingRecord, read_record, write_record
from fakes.records import (
    DELTA,
    NOISE,
    RUN,
    STEPS,
    dataset_record,
    non_private_record,
    plan_record,
    spending_record,
    step_event,
    training_record,
    truncated_record,
)


def test_json_has_what_other_programs_read():
    stored = training_record().to_json()
    assert stored["schema"] == "cloister.training-record/1"
    assert set(stored["guarantee"]) == {"epsilon", "delta", "unit", "relation", "accountant"}
    assert stored["guarantee"]["relation"] == "add_or_remove_one"
    assert (stored["steps"], stored["examples"], stored["seconds"]) == (1000, 32561, 41.23)
    assert set(stored["test"]) == {"accuracy", "loss"}
    assert non_private_record().to_json()["guarantee"] is None


@pytest.mark.parametrize("make", [training_record, non_private_record, truncated_record])
def test_a_record_survives_its_file(make, tmp_path):
    record = make()
    path = write_record(tmp_path, record)
    assert read_record(tmp_path) == record
    assert digest_file(path) == record.digest
    assert [entry.name for entry in tmp_path.iterdir()] == ["record.json"]


def test_whole_numbers_given_for_fractions_do_not_change_the_bytes():
    record = training_record(seconds=41, spending=spending_record(budget=Budget(epsilon=8, delta=DELTA)))
    assert TrainingRecord.from_json(json.loads(record.to_bytes())).to_bytes() == record.to_bytes()


def test_a_diverged_run_has_a_record_without_nan():
    record = training_record(test={"accuracy": 0.1, "loss": math.nan}, utility_curve=((5, {"loss": math.inf}),))
    assert record.test == {"accuracy": 0.1, "loss": None}
    assert record.utility_curve == ((5, {"loss": None}),)
    assert b"NaN" not in record.to_bytes()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seconds": math.nan}, "seconds"),
        ({"privacy_curve": ((1, math.inf),)}, "privacy_curve[0][1]"),
        ({"recipe": {"training": {"learning_rate": math.inf}}}, "recipe.training.learning_rate"),
        ({"recipe": {"data": {"train": object()}}}, "recipe.data.train"),
        ({"steps": True}, "steps"),
        ({"steps": -1}, "steps"),
        ({"created": "2026-01-31T12:00:00"}, "created"),
        ({"created": "2026-01-31T12:00:00+02:00"}, "created"),
        ({"model_digest": "sha256:12"}, "model_digest"),
        ({"versions": {"torch": 2}}, "versions.torch"),
        ({"plan": dataset_record()}, "plan"),
        ({"guarantee": Guarantee(epsilon=math.inf, delta=DELTA)}, "inf"),
        ({"guarantee": Guarantee(epsilon=3.0, delta=DELTA, relation=Relation.REPLACE_ONE)}, "replace_one"),
    ],
)
def test_construction_refuses_and_names(changes, named):
    with pytest.raises(InputError, match=named.replace("[", r"\[")):
        training_record(**changes)


def _set(*path, to):
    def change(stored):
        for key in path[:-1]:
            stored = stored[key]
        stored[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_set("schema", to="cloister.training-record/2"), "schema 'cloister.training-record/2'"),
        (lambda stored: stored.pop("schema"), "schema None"),
        (lambda stored: stored.pop("event"), "no field 'event'"),
        (lambda stored: stored["plan"].pop("steps"), "plan has no field 'steps'"),
        (_set("surprise", to=1), "unknown field 'surprise'"),
        (_set("guarantee", "comment", to=1), "unknown field 'comment' in guarantee"),
        (_set("dataset", "examples", to=True), "dataset.examples is True"),
        (_set("dataset", "unit", to="person"), "dataset.unit is 'person'"),
        (_set("event", "type", to="cloister.evil.Event"), "unknown event type"),
        (_set("privacy_curve", to=[[1, 2, 3]]), r"privacy_curve\[0\]"),
        (_set("spending", "lines", to=[7]), r"spending.lines\[0\]"),
        (_set("test", to=[]), "test is"),
    ],
)
def test_reading_refuses_and_names_the_file(change, named, tmp_path):
    stored = json.loads(training_record().to_bytes())
    change(stored)
    (tmp_path / "record.json").write_text(json.dumps(stored))
    with pytest.raises(InputError, match=named) as caught:
        read_record(tmp_path)
    assert str(tmp_path / "record.json") in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b'{"schema": NaN}',
        b'{"schema": "a", "schema": "b"}',
        b"[" * 100_000,
        b'{"seconds": 1' + b"0" * 5000 + b"}",
    ],
)
def test_a_bad_file_is_an_input_error_that_names_it(content, tmp_path):
    (tmp_path / "record.json").write_bytes(content)
    with pytest.raises(InputError, match=r"record\.json"):
        read_record(tmp_path)


def test_a_number_beyond_all_floats_is_refused(tmp_path):
    text = training_record().to_bytes().replace(b'"seconds":41.23', b'"seconds":1e999')
    (tmp_path / "record.json").write_bytes(text)
    with pytest.raises(InputError, match="seconds is inf"):
        read_record(tmp_path)


def test_a_missing_file_says_what_a_run_directory_is(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*record\.json: no such file") as caught:
        read_record(tmp_path)
    assert "cloister train" in caught.value.hint


def test_half_a_surrogate_pair_is_refused(tmp_path):
    with pytest.raises(InputError, match="not Unicode"):
        write_record(tmp_path, training_record(notes=("\ud800",)))
    assert not list(tmp_path.iterdir())


def test_writing_into_no_directory_is_an_error(tmp_path):
    with pytest.raises(CloisterError, match="cannot write"):
        write_record(tmp_path / "absent", training_record())


def test_an_honest_record_passes_its_check():
    training_record().check()
    truncated_record().check()
    non_private_record().check()
    again = training_record().recompute()
    assert again.epsilon == pytest.approx(training_record().guarantee.epsilon, rel=1e-9)


def test_a_claim_may_be_weaker_than_the_event_but_not_stronger():
    claim = training_record().guarantee
    training_record(guarantee=replace(claim, epsilon=claim.epsilon * 1.1)).check()
    for epsilon in (claim.epsilon * 0.999, claim.epsilon / 2, 0.0):
        with pytest.raises(DigestMismatch, match="its event gives"):
            training_record(guarantee=replace(claim, epsilon=epsilon)).check()
    with pytest.raises(DigestMismatch):
        training_record(guarantee=replace(claim, delta=1e-8)).check()


@pytest.mark.parametrize(
    "changes",
    [
        {"event": SelfComposed(step_event(), STEPS - 1)},
        {"event": SelfComposed(step_event(NOISE * 1.01), STEPS)},
        {"event": Gaussian(NOISE * 1.01)},
        {"plan": plan_record(sampling_prob=0.02)},
        {"plan": plan_record(noise_stddev=NOISE * 0.9)},
        {"plan": plan_record(sensitivity=2.0)},
        {"plan": plan_record(noise_multiplier=None)},
        {"plan": plan_record(noise_stddev=None)},
        {"plan": plan_record(sampling="truncated_poisson", max_batch_size=600)},
    ],
)
def test_an_event_that_does_not_pay_for_the_plan_is_refused(changes):
    with pytest.raises(PlanMismatch):
        training_record(**changes).check()


def test_what_a_run_bought_besides_its_steps_is_no_contradiction():
    event = Composed((Gaussian(20.0), SelfComposed(step_event(), STEPS)))
    record = training_record(event=event, guarantee=Guarantee(epsilon=4.0, delta=DELTA))
    record.check()
    assert record.recompute().epsilon > training_record().guarantee.epsilon


def test_a_cut_sample_must_be_cut_as_accounted():
    with pytest.raises(PlanMismatch):
        truncated_record(plan=replace(truncated_record().plan, max_batch_size=700)).check()


def test_this_run_is_in_its_own_statement():
    assert RUN in [line.run for line in training_record().spending.lines]
