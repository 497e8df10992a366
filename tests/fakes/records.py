"""Realistic records: a tabular run of a thousand steps, the third on its data set."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math

from cloister.accounting import (
    Budget,
    Event,
    Gaussian,
    Guarantee,
    NonPrivate,
    PoissonSampled,
    Relation,
    SelfComposed,
    TruncatedPoissonGaussian,
    Unit,
    compose,
)
from cloister.accounting.accountant import epsilon
from cloister.records import DatasetRecord, PlanRecord, SpendingLine, SpendingRecord, TrainingRecord

EXAMPLES, STEPS, BATCH, NOISE, DELTA = 32_561, 1_000, 512, 1.04, 1e-5
RUN = "r-20260131-120509-7f3a"


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def step_event(noise_multiplier: float = NOISE) -> Event:
    return PoissonSampled(BATCH / EXAMPLES, Gaussian(noise_multiplier))


@functools.cache
def cost(event: Event, relation: Relation = Relation.ADD_OR_REMOVE_ONE) -> float:
    return epsilon(event, delta=DELTA, relation=relation)


def dataset_record(**changes) -> DatasetRecord:
    record = DatasetRecord(
        name="adult",
        digest=digest("adult-train.csv"),
        examples=EXAMPLES,
        unit=Unit.EXAMPLE,
        relation=Relation.ADD_OR_REMOVE_ONE,
        notes=("14 columns; ranges and categories are declared in the recipe.",),
    )
    return dataclasses.replace(record, **changes)


def plan_record(**changes) -> PlanRecord:
    record = PlanRecord(
        steps=STEPS,
        sampling="poisson",
        sampling_prob=BATCH / EXAMPLES,
        expected_batch_size=BATCH,
        clipping="flat",
        clip_norm=1.0,
        sensitivity=1.0,
        noise_multiplier=NOISE,
        noise_stddev=NOISE,
        optimizer="sgd",
        learning_rate=0.5,
        engine="bookkeeping",
    )
    return dataclasses.replace(record, **changes)


def spending_record(**changes) -> SpendingRecord:
    runs = [
        ("r-20260112-091433-02bd", "committed", SelfComposed(step_event(1.6), 600), "2026-01-12T09:20:51+00:00"),
        ("r-20260120-164502-c9e1", "committed", SelfComposed(step_event(1.3), 800), "2026-01-20T16:58:07+00:00"),
        (RUN, "committed", SelfComposed(step_event(), STEPS), "2026-01-31T12:05:50+00:00"),
    ]
    spent = cost(compose(*(event for _, _, event, _ in runs)))
    record = SpendingRecord(
        budget=Budget(epsilon=8.0, delta=DELTA),
        epsilon_spent=spent,
        epsilon_remaining=8.0 - spent,
        lines=tuple(SpendingLine(run=r, status=s, epsilon=cost(e), time=t) for r, s, e, t in runs),
        head=digest("head"),
        entry=digest("entry"),
    )
    return dataclasses.replace(record, **changes)


def training_record(**changes) -> TrainingRecord:
    """The run itself; `changes` replace fields."""
    marks = [1, 10, 25, 50, *range(100, STEPS + 1, 100)]
    record = TrainingRecord(
        run=RUN,
        created="2026-01-31T12:05:50+00:00",
        recipe={
            "data": {"train": "adult-train.csv", "test": "adult-test.csv", "label": "income", "dataset": "adult"},
            "model": {"name": "mlp", "hidden": [128]},
            "privacy": {"epsilon": 3.0, "delta": DELTA},
            "training": {"steps": STEPS, "expected_batch_size": BATCH, "clip_norm": 1.0, "learning_rate": 0.5},
        },
        dataset=dataset_record(),
        plan=plan_record(),
        event=SelfComposed(step_event(), STEPS),
        guarantee=Guarantee(epsilon=cost(SelfComposed(step_event(), STEPS)), delta=DELTA),
        steps=STEPS,
        examples=EXAMPLES,
        seconds=41.23,
        test=_utility(STEPS),
        privacy_curve=tuple((n, cost(SelfComposed(step_event(), n))) for n in marks),
        utility_curve=tuple((n, _utility(n)) for n in marks if n >= 50),
        spending=spending_record(),
        model_digest=digest("model.safetensors"),
        parameters=14_210,
        versions={"cloister": "0.1.0", "dp-accounting": "0.6.0", "python": "3.11.9", "torch": "2.13.0"},
        device="cpu",
        not_protected=("Names and ranges of the columns: they are declared in the recipe.",),
    )
    return dataclasses.replace(record, **changes)


def non_private_record(**changes) -> TrainingRecord:
    """The same run without clipping and noise."""
    plan = plan_record(
        clipping="none", clip_norm=None, sensitivity=None, noise_multiplier=None, noise_stddev=None, engine="autograd"
    )
    settings = {"plan": plan, "event": NonPrivate(), "guarantee": None, "privacy_curve": (), "spending": None}
    settings |= {"not_protected": ()}
    return training_record(**(settings | changes))


def truncated_record(**changes) -> TrainingRecord:
    """A run with truncated Poisson sampling, under replace-special."""
    event = SelfComposed(TruncatedPoissonGaussian(EXAMPLES, BATCH / EXAMPLES, 640, NOISE), 20)
    special = Relation.REPLACE_SPECIAL
    settings = {
        "event": event,
        "steps": 20,
        "dataset": dataset_record(relation=special),
        "plan": plan_record(sampling="truncated_poisson", max_batch_size=640, steps=20),
        "guarantee": Guarantee(epsilon=cost(event, special), delta=DELTA, relation=special),
        "privacy_curve": (),
        "spending": None,
    }
    return training_record(**(settings | changes))


def _utility(step: int) -> dict[str, float]:
    wobble = 0.002 * math.sin(step / 37)
    return {
        "accuracy": 0.8471 - 0.075 * math.exp(-step / 160) + wobble * math.exp(-step / 600) * 2,
        "loss": 0.33127 + 0.16 * math.exp(-step / 180) - wobble * math.exp(-step / 600),
    }
