"""Utility on real data: train a recipe several times and report mean and spread.

    python -m benchmarks.utility examples/recipes/adult.toml --data ../shared/data --runs 3

Every run has fresh randomness from the system's secure generator and a ledger of its own. ``--epsilon`` replaces
the recipe's epsilon; ``--epsilon none`` trains the same model without privacy.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from cloister.ledger import Ledger
from cloister.training import Observer, Recipe, train


class _Watch(Observer):
    def evaluated(self, step: int, metrics: Any) -> None:
        print(f"  step {step}: {metrics}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, help="folder that relative paths of the recipe start at")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--epsilon", help="a number, or none")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="a TOML value")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    table = _table(arguments)
    records = [_run(table, arguments.data or arguments.recipe.parent) for _ in range(arguments.runs)]
    document = _document(arguments.recipe.name, table, records)
    print(json.dumps(document, indent=2) if arguments.json else _markdown(document))


def _table(arguments: argparse.Namespace) -> dict[str, Any]:
    table = tomllib.loads(arguments.recipe.read_text())
    if arguments.epsilon == "none":
        table["privacy"] = {"private": False}
    elif arguments.epsilon:
        table["privacy"]["epsilon"] = float(arguments.epsilon)
    for assignment in arguments.set:
        name, _, value = assignment.partition("=")
        section, _, key = name.partition(".")
        table.setdefault(section, {})[key] = tomllib.loads(f"value = {value}")["value"]
    return table


def _run(table: dict[str, Any], base: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder) / "home") as ledger:
        record = train(Recipe.from_table(table, base=base), out=Path(folder) / "run", ledger=ledger, observer=_Watch())
        return record.to_json()


def _document(name: str, table: dict[str, Any], records: list[dict[str, Any]]) -> dict[str, Any]:
    accuracies = [record["test"]["accuracy"] for record in records]
    return {
        "recipe": name,
        "privacy": table["privacy"],
        "training": table["training"],
        "guarantee": records[0]["guarantee"],
        "noise_multiplier": records[0]["plan"]["noise_multiplier"],
        "accuracies": accuracies,
        "mean": statistics.mean(accuracies),
        "stdev": statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0,
        "seconds": [record["seconds"] for record in records],
        "versions": records[0]["versions"],
        "machine": f"{platform.machine()}, {platform.system()}",
    }


def _markdown(document: dict[str, Any]) -> str:
    guarantee = document["guarantee"]
    claim = f"epsilon {guarantee['epsilon']:.3f}, delta {guarantee['delta']:g}" if guarantee else "not private"
    accuracies = ", ".join(f"{100 * value:.2f}" for value in document["accuracies"])
    mean = f"{100 * document['mean']:.2f} +- {100 * document['stdev']:.2f}"
    return f"| {document['recipe']} | {claim} | {mean} | {accuracies} | {max(document['seconds']):.0f} s |"


if __name__ == "__main__":
    main()
