"""What a record means in sentences, for a data-protection officer and for an engineer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cloister.accounting import (
    Composed,
    Event,
    Gaussian,
    Laplace,
    NonPrivate,
    PoissonSampled,
    Relation,
    SelfComposed,
    TruncatedPoissonGaussian,
    Unit,
)
from cloister.reports.numbers import amount, at_most, delta, number, percent_at_most

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cloister.accounting import Guarantee
    from cloister.records import SpendingRecord, TrainingRecord

__all__ = [
    "GLOSSARY",
    "OTHER_WORLDS",
    "RELATIONS",
    "UNITS",
    "Node",
    "alerts",
    "event_tree",
    "is_overspent",
    "is_seeded",
    "not_protected",
    "protected",
    "verdict",
]

UNITS: Mapping[Unit, str] = {
    Unit.EXAMPLE: "any one example",
    Unit.USER: "everything that any one user contributed",
    Unit.CLIENT: "everything that any one client holds",
}

RELATIONS: Mapping[Relation, str] = {
    Relation.ADD_OR_REMOVE_ONE: "was in the training data or not",
    Relation.REPLACE_ONE: "was in the training data, or something else in its place",
    Relation.REPLACE_SPECIAL: "was in the training data, or had been blanked out",
}

OTHER_WORLDS: Mapping[Relation, str] = {
    Relation.ADD_OR_REMOVE_ONE: "it was not",
    Relation.REPLACE_ONE: "something else was in its place",
    Relation.REPLACE_SPECIAL: "it had been blanked out",
}

# The tiers are those of Ponomareva et al., "How to DP-fy ML", JAIR 2023 (arXiv:2303.00654), section 5.2.
STRONG, REASONABLE = 1.0, 10.0


@dataclass(frozen=True)
class Node:
    """A line of the event tree, and what is below it."""

    text: str
    children: tuple[Node, ...] = ()


def verdict(guarantee: Guarantee | None, accuracy: float | None, *, seeded: bool) -> tuple[str, str, str]:
    """Tone, headline and explanation.

    Args:
        guarantee: What is claimed.
        accuracy: Highest share of right guesses with even odds beforehand; None without a guarantee.
        seeded: Whether the recipe tells the seed of sampling and noise.
    """
    if guarantee is None or accuracy is None:
        return (
            "bad",
            "This model carries no privacy guarantee.",
            (
                "It was trained without clipping and noise. Nothing bounds what it can reveal about the data it was "
                "trained on; treat the model as confidential as the data itself."
            ),
        )
    thing, question = UNITS[guarantee.unit], RELATIONS[guarantee.relation]
    game = (
        f"Asked whether {thing} {question}, with even odds beforehand, nobody who sees the model is right more "
        f"than {percent_at_most(accuracy, places=0)} of the time, whatever else they know. "
        "A coin is right 50% of the time."
    )
    if seeded:
        return "weak", "The privacy of this model holds only against those who do not know its seed.", game
    if guarantee.epsilon <= STRONG:
        return "good", f"Anyone who sees this model learns almost the same whether {thing} {question}.", game
    if guarantee.epsilon <= REASONABLE:
        return "good", f"What this model can reveal about {thing} is limited by a proven bound.", game
    return "weak", f"The proven bound on what this model can reveal about {thing} is weak.", game


def alerts(record: TrainingRecord) -> list[str]:
    """What a reader must not overlook."""
    found = []
    claim = record.guarantee
    if claim and claim.delta * record.examples >= 1:
        found.append(
            f"Delta is {delta(claim.delta)}, and the data set has {amount(record.examples)} examples. A delta of "
            "one over the number of examples or more would allow publishing some example outright."
        )
    if is_seeded(record):
        found.append(
            "Sampling and noise were derived from a seed that stands in the recipe (insecure_seed). Whoever "
            "knows the seed can take the noise away: the guarantee does not hold against them."
        )
    spending = record.spending
    if spending and is_overspent(spending):
        found.append("The budget of this data set is overspent.")
    return found + [f"The ledger warns: {warning}" for warning in _sentences(spending.warnings if spending else ())]


def is_seeded(record: TrainingRecord) -> bool:
    """Whether sampling and noise came from a seed that the recipe tells."""
    training = record.recipe.get("training")
    return isinstance(training, dict) and bool(training.get("insecure_seed"))


def is_overspent(spending: SpendingRecord) -> bool:
    """Whether more was spent than the owner allows."""
    budget, spent = spending.budget, spending.epsilon_spent
    return budget is not None and (spent is None or spent > budget.epsilon * (1 + 1e-9))


_EACH: Mapping[Unit, str] = {
    Unit.EXAMPLE: "Each of the {examples} examples in the training set.",
    Unit.USER: "Each user, with everything they contributed to the {examples} examples in the training set.",
    Unit.CLIENT: "Each client, with everything it holds of the {examples} examples in the training set.",
}


def protected(record: TrainingRecord) -> list[str]:
    """What the guarantee covers."""
    claim = record.guarantee
    if claim is None:
        return []
    return [
        _EACH[claim.unit].format(examples=amount(record.examples)),
        (
            "The weights of the model and whatever is computed from them: predictions, distilled models, "
            "explanations. No later computation can weaken the guarantee."
        ),
        "Against anyone, whatever they know already, however much they compute, now or later.",
    ]


def not_protected(record: TrainingRecord) -> list[str]:
    """What the guarantee does not cover: what the record says, then what is always so."""
    if record.guarantee is None:
        return _sentences(record.not_protected) or ["Nothing is protected: the run was not private."]
    recorded = _sentences(record.not_protected)
    standing = [item for item in _STANDING if not any(said.startswith(item.partition(":")[0]) for said in recorded)]
    return [*recorded, *standing, *_by_unit(record.guarantee)]


def _sentences(items: Iterable[str]) -> list[str]:
    """Items as whole sentences, however they were written down."""
    return [item[:1].upper() + item[1:] + ("" if item.endswith((".", "!", "?")) else ".") for item in items]


def notes(record: TrainingRecord) -> list[str]:
    """What data set and run add, each said once, and not what stands under not protected already."""
    items = dict.fromkeys(_sentences((*record.dataset.notes, *record.notes)))
    return [item for item in items if item not in _sentences(record.not_protected)]


_STANDING = (
    (
        "General facts. A model that learns that smoking causes illness tells something about every smoker, whether "
        "or not they are in the data."
    ),
    "The file diagnostics.jsonl: it holds raw losses and gradient norms. It must stay with the data.",
    "The number of examples, the names of the columns and the recipe: they are treated as public.",
    "The test set: its metrics are released exactly and carry no noise.",
    (
        "Choices made by looking at the data elsewhere: a search for settings outside the ledger, features or "
        "thresholds picked by hand."
    ),
    (
        "Attacks on the last bits of floating-point numbers: the proof speaks of real numbers, the noise was drawn "
        "in floating point (Mironov 2012)."
    ),
    "The computer that trained the model and the people who run it: they saw the data.",
)


def _by_unit(guarantee: Guarantee) -> list[str]:
    if guarantee.unit != Unit.EXAMPLE:
        return []
    return [
        (
            "People with several examples: the unit is one example. For somebody with two, epsilon doubles to "
            f"{at_most(2 * guarantee.epsilon)}, and delta grows as well."
        )
    ]


def event_tree(event: Event) -> Node:
    """The event in words, from the outside in."""
    match event:
        case SelfComposed():
            return Node(f"{amount(event.count)} times, each with fresh randomness", (event_tree(event.event),))
        case Composed():
            return Node("all of these, one after the other", tuple(event_tree(part) for part in event.events))
        case PoissonSampled():
            head = f"take each unit independently with probability {number(event.sampling_prob)} (Poisson sampling)"
            return Node(head, (event_tree(event.event),))
        case TruncatedPoissonGaussian():
            head = (
                f"take each of {amount(event.num_examples)} units independently with probability "
                f"{number(event.sampling_prob)}, at most {amount(event.max_batch_size)} (truncated Poisson sampling)"
            )
            return Node(head, (event_tree(Gaussian(event.noise_multiplier)),))
    return Node(_leaf(event))


def _leaf(event: Event) -> str:
    match event:
        case Gaussian(noise_multiplier=noise):
            return f"release a sum with Gaussian noise of standard deviation {number(noise)} times its sensitivity"
        case Laplace(noise_multiplier=noise):
            return f"release a sum with Laplace noise of scale {number(noise)} times its sensitivity"
        case NonPrivate():
            return "release something without any guarantee"
    return "release nothing that depends on the data"


GLOSSARY: Mapping[str, str] = {
    "accountant": "Turns events into epsilon. pld follows the exact distribution of the privacy loss "
    "(numerically, rounded up); rdp uses Renyi divergences and is looser.",
    "clip norm": "The largest contribution that one unit may make to a sum. Longer ones are shortened to it.",
    "delta": "Probability with which the limit set by epsilon may fail. It should lie far below one over the "
    "number of examples.",
    "digest": "A fingerprint of a file. Two files with the same digest are the same file.",
    "epsilon": "How much the probability of any outcome may change when one unit changes: by a factor of at "
    "most e to the power epsilon. Zero means no influence at all; smaller is stronger.",
    "event": "The complete description of what was released about the data. Epsilon is computed from it, and "
    "can be computed again by anyone.",
    "ledger": "The append-only account of everything that was ever spent on a data set.",
    "neighboring relation": "Which two data sets must be hard to tell apart: with and without one unit "
    "(add-or-remove-one), with one unit exchanged (replace-one), or with one unit blanked out "
    "(replace-special).",
    "noise multiplier": "Standard deviation of the noise divided by the sensitivity.",
    "Poisson sampling": "Every unit joins a step by its own coin toss. The accountant relies on it.",
    "sensitivity": "How far one unit can move the sum that is released.",
    "unit": "What is protected as a whole: one example, one user or one client.",
}
