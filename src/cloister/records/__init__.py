"""Frozen results: what a run did, what it spent and what may be claimed about it.

A record holds no private value and no code. It is stored as canonical JSON, so that equal records have equal
bytes and one digest; it is read back through one type-directed reader that refuses whatever it does not know.
A claim travels with the event it was computed from: `TrainingRecord.check` computes it again.
"""

from cloister.records.parts import DatasetRecord, PlanRecord, SpendingLine, SpendingRecord
from cloister.records.run_directory import read_record, write_record
from cloister.records.training import TrainingRecord

__all__ = [
    "DatasetRecord",
    "PlanRecord",
    "SpendingLine",
    "SpendingRecord",
    "TrainingRecord",
    "read_record",
    "write_record",
]
