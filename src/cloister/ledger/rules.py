"""The rules of the ledger, without any input or output.

 1. Terms. A data set has one unit, one neighboring relation and one delta: those of its budget or, without
    one, those of its first reservation. A plan for another unit or relation is refused (`PlanMismatch`).
 2. Counted is what was reserved and is still open, as reserved, and what was committed, as committed. What
    was released is not counted. A crash therefore leaves the reservation counted.
 3. Spent is the epsilon, at the data set's delta, of the composition of everything counted; it is never a
    sum of epsilons.
 4. A reservation fits if what is spent, composed with its event, is at most the budget's epsilon. There is no
    tolerance. What does not fit is refused (`BudgetExceeded`), and so is everything non-private.
 5. Without a budget nothing is too much, but everything is counted.
 6. A reservation ends once, by commit or by release, in its newest attempt. Each resume opens a new attempt
    and silences all earlier ones (`PlanMismatch`).
 7. What is committed is a part of what was reserved, or costs no more: not alone, and not together with
    everything else counted, unless all of it stays within the budget. Otherwise it is refused
    (`PlanMismatch`) and the reservation stays counted.
 8. A release says, with its reason, that nothing which depends on the data came out.
 9. A budget may be raised or lowered at any time, but unit and relation stay once something is counted. Where
    more is spent than the budget holds, nothing more fits.
10. Data that is known under another name is reserved with a warning: spending on one name spends on both.

Every decision is a function of one data set's `Account`; the numbers stand where the rule is applied.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from dataclasses import replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from typing import TYPE_CHECKING, Any

from cloister.accounting import Composed, NoOp, SelfComposed, compose, event_to_json
from cloister.errors import BudgetExceeded, InputError, PlanMismatch
from cloister.ledger.account import Status

if TYPE_CHECKING:
    from cloister.accounting import Budget, Event, Relation, Unit
    from cloister.ledger.account import Account, Claim, Plan

__all__ = [
    "budget_body",
    "check_text",
    "commit_body",
    "release_body",
    "reserve_body",
    "resume_body",
]

_LONGEST_TEXT = 500


def budget_body(account: Account, budget: Budget) -> dict[str, Any]:
    """Rule 9: the body of a budget_set entry.

    Raises:
        PlanMismatch: Something is counted under another unit or relation.
        PrivacyError: No accountant can say what is spent at the new delta.
    """
    if account.counted():
        _check_terms(account, unit=budget.unit, relation=budget.relation, what="the new budget")
    replace(account, budget=budget).spent()
    return {
        "epsilon": budget.epsilon,
        "delta": budget.delta,
        "unit": budget.unit.value,
        "relation": budget.relation.value,
    }


def reserve_body(account: Account, plan: Plan) -> dict[str, Any]:
    """Rules 1 and 4: the body of a reserve entry.

    Raises:
        BudgetExceeded: The plan does not fit.
        PlanMismatch: The data set is counted under another unit or relation.
        UnsupportedEvent: No accountant can say what the plan costs.
    """
    terms = account.terms or plan.terms
    _check_terms(account, unit=plan.terms.unit, relation=plan.terms.relation, what="this plan")
    total = terms.epsilon(compose(*account.counted(), plan.event))
    # Rule 4; written so that a NaN would be refused. Rule 5: without a budget nothing is.
    if account.budget is not None and not total <= account.budget.epsilon:
        raise _too_much(account, account.budget, terms.epsilon(plan.event), total)
    return {
        "run": plan.run,
        "event": event_to_json(plan.event),
        "unit": plan.terms.unit.value,
        "relation": plan.terms.relation.value,
        "delta": plan.terms.delta,
        "content": plan.content,
    }


def resume_body(account: Account, reservation: str) -> dict[str, Any]:
    """Rule 6: the body of a resume entry."""
    claim = _open_claim(account, reservation)
    return {"reservation": reservation, "attempt": claim.attempt + 1}


def commit_body(account: Account, reservation: str, attempt: int, event: Event) -> dict[str, Any]:
    """Rules 6 and 7: the body of a commit entry."""
    claim = _open_claim(account, reservation, attempt)
    terms = account.terms or claim.plan.terms
    # A part of what was reserved costs no more, whatever the last digit of an accountant says.
    if not _releases(event) <= _releases(claim.event):
        others = account.counted(without=reservation)
        _check_not_more(terms.epsilon(event), terms.epsilon(claim.event), claim, "alone")
        limit = terms.epsilon(compose(*others, claim.event))
        if account.budget is not None:
            limit = max(limit, account.budget.epsilon)
        _check_not_more(terms.epsilon(compose(*others, event)), limit, claim, "with everything else counted")
    return {"reservation": reservation, "attempt": attempt, "event": event_to_json(event)}


def release_body(account: Account, reservation: str, attempt: int, reason: str) -> dict[str, Any]:
    """Rules 6 and 8: the body of a release entry."""
    _open_claim(account, reservation, attempt)
    # Often the text of an error: shortened to one readable line rather than refused, but never empty.
    line = "".join(c if c.isprintable() else "?" for c in " ".join(reason.split()))[:_LONGEST_TEXT].strip()
    if not line:
        raise InputError("the reason of a release is empty", hint="say why nothing came out")
    return {"reservation": reservation, "attempt": attempt, "reason": line}


def check_text(name: str, text: str) -> None:
    """Raise `InputError` unless `text` is one line of readable text, written in one way only."""
    readable = isinstance(text, str) and text.isprintable() and text == text.strip()
    if not readable or not 0 < len(text) <= _LONGEST_TEXT:
        raise InputError(f"{name} is {text!r}; expected one line of text, at most {_LONGEST_TEXT} characters")
    if not unicodedata.is_normalized("NFC", text):
        raise InputError(f"{name} is {text!r}, which is not in Unicode's normal form NFC")


def _releases(event: Event) -> Counter[Event]:
    """How often each release was made; composition does not depend on the order."""
    inside: Counter[Event] = Counter()
    if isinstance(event, Composed):
        for part in event.events:
            inside.update(_releases(part))
    elif isinstance(event, SelfComposed):
        for release, count in _releases(event.event).items():
            inside[release] = count * event.count
    elif not isinstance(event, NoOp):
        inside[event] = 1
    return inside


def _open_claim(account: Account, reservation: str, attempt: int | None = None) -> Claim:
    claim = account.claim(reservation)
    if claim.status is not Status.RESERVED:
        raise PlanMismatch(f"the reservation of run {claim.plan.run!r} is already {claim.status}")
    if attempt is not None and attempt != claim.attempt:
        raise PlanMismatch(
            f"attempt {attempt} of run {claim.plan.run!r} was followed by attempt {claim.attempt}",
            hint="only the newest attempt may commit or release; end this process",
        )
    return claim


def _check_terms(account: Account, *, unit: Unit, relation: Relation, what: str) -> None:
    terms = account.terms
    if terms is not None and (terms.unit, terms.relation) != (unit, relation):
        raise PlanMismatch(
            f"data set {account.dataset!r} is counted {_named(terms.relation, terms.unit)}; "
            f"{what} is {_named(relation, unit)}",
            hint="one data set is counted in one way; plan for that, or keep the data under another name",
        )


def _check_not_more(ran: float, reserved: float, claim: Claim, how: str) -> None:
    if not ran <= reserved:
        raise PlanMismatch(
            f"what run {claim.plan.run!r} did costs epsilon {_number(ran, ROUND_CEILING)} {how}; "
            f"reserved was {_number(reserved, ROUND_FLOOR)}",
            hint="the reservation stays counted, and is too small; tell the data owner what ran",
        )


def _too_much(account: Account, budget: Budget, alone: float, total: float) -> BudgetExceeded:
    spent = account.spent()
    left = max(0.0, budget.epsilon - spent)
    needs = total - spent if math.isfinite(spent) and total >= spent else alone
    hint = "lower steps, raise noise_multiplier, or ask the data owner for a new budget"
    if not math.isfinite(needs):
        hint = "a release without a guarantee fits in no budget: train with privacy"
    return BudgetExceeded(
        f"data set {account.dataset!r} has epsilon {_number(left, ROUND_FLOOR)} of {_number(budget.epsilon)} "
        f"left (delta {_number(budget.delta)}, {_named(budget.relation, budget.unit)}); "
        f"this plan needs {_number(needs, ROUND_CEILING)}",
        hint=hint,
    )


def _named(relation: Relation, unit: Unit) -> str:
    return f"{relation.replace('_', '-')}, per {unit}"


def _number(value: float, rounding: str | None = None) -> str:
    """Four digits, rounded to the side on which the sentence stays true."""
    if not math.isfinite(value):
        return "infinity"
    shown = float(Context(prec=4, rounding=rounding).create_decimal(f"{value:.12g}"))
    return repr(shown).replace("e-0", "e-")
