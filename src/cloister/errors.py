"""The exceptions of cloister, one tree.

    CloisterError
      InputError(ValueError)    wrong argument, file, row or column
      PrivacyError              BudgetExceeded, UnsupportedLayer, UnsupportedEvent, PlanMismatch
      TrustError                SignatureInvalid, DigestMismatch, KeyUnknown, PolicyRefused
      ProtocolError             TooFewParticipants, StaleRound, MaskMismatch
      AccessError               NotAuthenticated, NotPermitted, QuotaExceeded

The text of an error is a fact with its values; the hint, where there is one, says what to do about it.
"""

from __future__ import annotations

__all__ = [
    "BudgetExceeded",
    "CloisterError",
    "DigestMismatch",
    "InputError",
    "MissingExtra",
    "PlanMismatch",
    "PrivacyError",
    "TrustError",
    "UnsupportedEvent",
    "UnsupportedLayer",
]


class CloisterError(Exception):
    """Root of all errors that cloister raises on purpose.

    Args:
        fact: What is wrong, with the values concerned; lower case, no full stop.
        hint: What the reader can do about it.

    >>> error = CloisterError("delta is 2.0", hint="delta is a probability, below 1")
    >>> print(error)
    delta is 2.0
    >>> error.hint
    'delta is a probability, below 1'
    """

    exit_code = 1

    def __init__(self, fact: str, *, hint: str | None = None) -> None:
        super().__init__(fact)
        self.hint = hint


class InputError(CloisterError, ValueError):
    """An argument, file, row or column is not what it must be."""


class MissingExtra(InputError):  # noqa: N818 - named after what is missing
    """A dependency that belongs to an optional extra is not installed."""

    def __init__(self, module: str, *, extra: str) -> None:
        super().__init__(f"{module} is not installed", hint=f"pip install 'cloister[{extra}]'")

    @classmethod
    def of(cls, error: ModuleNotFoundError) -> MissingExtra | None:
        """The same for a failed import, if the module belongs to an extra."""
        module = (error.name or "").partition(".")[0]
        return cls(module, extra=_EXTRAS[module]) if module in _EXTRAS else None


_EXTRAS = {
    "jinja2": "report",
    "psycopg": "postgres",
    "pyarrow": "train",
    "safetensors": "train",
    "sklearn": "train",
    "tokenizers": "hf",
    "torch": "train",
    "tqdm": "train",
    "transformers": "hf",
}


class PrivacyError(CloisterError):
    """A privacy claim cannot be made, or would no longer hold."""


class BudgetExceeded(PrivacyError):  # noqa: N818 - public name
    """The budget of a data set does not cover what was asked for."""

    exit_code = 3


class UnsupportedLayer(PrivacyError):  # noqa: N818 - public name
    """A layer or operation has no per-example gradient, or none that can be proven."""


class UnsupportedEvent(PrivacyError):  # noqa: N818 - public name
    """No accountant can turn this event into an epsilon under this neighboring relation."""


class PlanMismatch(PrivacyError):  # noqa: N818 - public name
    """What is about to run is not what was planned or reserved."""

    exit_code = 3


class TrustError(CloisterError):
    """Something that claims integrity or origin does not have it."""

    exit_code = 3


class DigestMismatch(TrustError):  # noqa: N818 - public name
    """Content does not have the digest that was recorded for it."""
