"""Train models on private data, account for every release, and show what was promised.

Public names are loaded when they are first used: ``import cloister`` reaches neither torch nor any other heavy
dependency.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cloister._version import __version__ as __version__
from cloister.errors import MissingExtra

if TYPE_CHECKING:
    from cloister.accounting import Budget, Guarantee
    from cloister.errors import CloisterError
    from cloister.ledger import Ledger
    from cloister.reports import report
    from cloister.training import DPSGD, train

_HOMES = {
    "Budget": "cloister.accounting",
    "CloisterError": "cloister.errors",
    "DPSGD": "cloister.training",
    "Guarantee": "cloister.accounting",
    "Ledger": "cloister.ledger",
    "report": "cloister.reports",
    "train": "cloister.training",
}

__all__ = ["DPSGD", "Budget", "CloisterError", "Guarantee", "Ledger", "report", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cloister' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        raise MissingExtra.of(error) or error from error


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
