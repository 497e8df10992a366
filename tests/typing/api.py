"""The types that callers may rely on; checked by mypy, never run."""

from pathlib import Path
from typing import assert_type

import cloister
from cloister.accounting import Event, Guarantee
from cloister.ledger import Ledger, Reservation, Statement
from cloister.records import TrainingRecord
from cloister.training import DPSGD, Plan, Recipe


def plan() -> None:
    budget = cloister.Budget(epsilon=3.0, delta=1e-5)
    settings = cloister.DPSGD(num_examples=1000, steps=10, expected_batch_size=10)
    calibrated = settings.calibrate(budget)
    assert_type(calibrated, DPSGD)
    assert_type(calibrated.plan(), Plan)
    assert_type(calibrated.event(), Event)
    assert_type(calibrated.guarantee(delta=1e-5), Guarantee)


def train(home: Path) -> None:
    recipe = Recipe.load("recipe.toml")
    with cloister.Ledger.open(home) as ledger:
        assert_type(ledger, Ledger)
        record = cloister.train(recipe, out="run", ledger=ledger, resume=True)
        assert_type(record, TrainingRecord)
        assert_type(record.guarantee, Guarantee | None)
        assert_type(ledger.statement("ward-7"), Statement)
    assert_type(cloister.report(record), str)


def reserve(ledger: Ledger, settings: DPSGD) -> None:
    reservation = ledger.reserve(
        "ward-7", settings.event(), run="r", unit=settings.unit, relation=settings.relation, delta=1e-5
    )
    assert_type(reservation, Reservation)
    assert_type(reservation.event, Event)
