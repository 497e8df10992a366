"""``cloister demo``: the life of a model on real data, in a few minutes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cloister.cli._options import json_option
from cloister.cli._output import emit_json, note
from cloister.errors import BudgetExceeded, InputError

if TYPE_CHECKING:
    from cloister.ledger import Ledger
    from cloister.records import TrainingRecord

__all__ = ["demo"]

_MARKER = ".cloister-demo"

_DIGITS = """\
# Handwritten digits, 8 x 8 pixels: a small network under epsilon 3.
[data]
train = "digits-train.npz"
test = "digits-test.npz"
dataset = "digits"
classes = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]

[model]
name = "mlp"
hidden = [64]

[privacy]
epsilon = 3.0
delta = 1e-4

[training]
epochs = 60
expected_batch_size = 256
clip_norm = 1.0
optimizer = "adam"
learning_rate = 0.01
evaluate_every = 60
ema = 0.95
"""

_CANCER = """\
# Breast cancer, 30 measurements of 455 tumors: what is known of the columns is declared, nothing is bought.
[data]
train = "cancer-train.csv"
test = "cancer-test.csv"
label = "diagnosis"
dataset = "breast-cancer"
classes = ["malignant", "benign"]

[model]
name = "linear"

[privacy]
epsilon = 3.0
delta = 1e-4

[training]
epochs = 30
expected_batch_size = 128
clip_norm = 1.0
learning_rate = 0.2
"""


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo"),
    show_default=True,
    help="Where everything goes, the ledger too; an earlier demo there is replaced.",
)
@json_option
def demo(out: Path, *, as_json: bool) -> None:
    """Train, spend, be refused, report: on real data.

    Everything is written to --out: data, recipes, runs, ledger, report. Takes less than a minute.
    """
    from cloister.ledger import Ledger

    _prepare(out)
    with Ledger.open(out / "home") as ledger:
        _budgets(ledger)
        records = {name: _train(out, name, name, ledger) for name in ("digits", "cancer")}
        refusal = _refused(out, ledger)
        head = ledger.verify()
    report = _report(out)
    note(f"\nThe ledger's chain is intact; its head is {head[:23]}.")
    note(f"Open {report} in a browser. The recipes are in {out}; change one and run: cloister train")
    if as_json:
        emit_json(
            {
                "report": str(report),
                "runs": {name: record.to_json() for name, record in records.items()},
                "refusal": refusal,
                "ledger_head": head,
            }
        )


def _prepare(out: Path) -> None:
    if out.exists() and any(out.iterdir()):
        if not (out / _MARKER).exists():
            raise InputError(f"{out} is not empty and no earlier demo", hint="choose another place with --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARKER).touch()
    _write_digits(out)
    _write_cancer(out)


def _write_digits(out: Path) -> None:
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images * 15).astype(np.uint8)[:, None]  # 0 to 16 in the original, 0 to 240 here
    parts = {"train": slice(0, 1437), "test": slice(1437, None)}
    for name, part in parts.items():
        np.savez(out / f"digits-{name}.npz", x=images[part], y=digits.target[part])
    (out / "digits.toml").write_text(_DIGITS)


def _write_cancer(out: Path) -> None:
    import csv

    import numpy as np
    from sklearn.datasets import load_breast_cancer

    cancer = load_breast_cancer()
    columns = [name.replace(" ", "_") for name in cancer.feature_names]
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(cancer.target))  # a public split
    for name, part in (("train", order[:455]), ("test", order[455:])):
        with (out / f"cancer-{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*columns, "diagnosis"])
            writer.writerows([*cancer.data[row], cancer.target_names[cancer.target[row]]] for row in part)
    ranges = "".join(_declared(name, low, high) for name, (low, high) in zip(columns, _RANGES, strict=True))
    (out / "cancer.toml").write_text(_CANCER + "\n[data.columns]\n" + ranges)


def _declared(name: str, low: float, high: float) -> str:
    return f"{name} = {{ low = {low}, high = {high} }}\n"


# Ranges a radiologist would give: mean, standard error and worst value of ten measurements, in the set's order.
_MEANS = ((6, 28), (9, 40), (40, 190), (140, 2500), (0.05, 0.17), (0, 0.35), (0, 0.45), (0, 0.2), (0.1, 0.3), (0, 0.1))
_ERRORS = ((0, 3), (0, 5), (0, 22), (0, 550), (0, 0.03), (0, 0.14), (0, 0.4), (0, 0.05), (0, 0.08), (0, 0.03))
_WORST = ((7, 36), (12, 50), (50, 250), (180, 4300), (0, 0.23), (0, 1.1), (0, 1.3), (0, 0.3), (0.15, 0.7), (0, 0.21))
_RANGES = (*_MEANS, *_ERRORS, *_WORST)


def _budgets(ledger: Ledger) -> None:
    from cloister.accounting import Budget

    for name in ("digits", "breast-cancer"):
        ledger.set_budget(name, Budget(epsilon=4.0, delta=1e-4))
        note(f"budget of {name!r}: epsilon 4 at delta 0.0001")


def _train(out: Path, recipe: str, run: str, ledger: Ledger) -> TrainingRecord:
    from cloister.cli._progress import TerminalObserver
    from cloister.training import train

    note(f"\n$ cloister train {out / recipe}.toml --out {out / run} --home {out / 'home'}")
    with TerminalObserver() as observer:
        record = train(out / f"{recipe}.toml", out=out / run, ledger=ledger, observer=observer)
    assert record.test is not None
    note(f"accuracy {record.test['accuracy']:.3f} on the test set, in {record.seconds:.1f} s")
    return record


def _refused(out: Path, ledger: Ledger) -> dict[str, Any]:
    """The second run on the same data does not fit in what is left of the budget."""
    try:
        _train(out, "digits", "digits-again", ledger)
    except BudgetExceeded as error:
        note(f"refused, as it must be: {error}")
        return {"error": str(error), "exit_code": error.exit_code}
    raise InputError("the demo overspent its budget", hint="please report this as a security defect")


def _report(out: Path) -> Path:
    from cloister.reports import write_report

    return write_report(out / "digits", out / "report.html")
