"""What happened to the data: a closed table of private events, and their stored form.

An event describes a randomized operation so completely that an accountant needs nothing else. Events are
stored, epsilon is computed from them: a better accountant can restate an old guarantee. The stored form is
JSON with a tag for each kind; a tag never changes its meaning and is never removed. New meaning, new tag.
Reading looks the tag up in the table below and nowhere else: stored data can name no code.

Noise is stated relative to sensitivity. With a sum in which one unit contributes a vector of norm at most C,
``noise_multiplier`` is the standard deviation of each coordinate's noise divided by C (for Laplace noise its
scale divided by C). It never contains the neighboring relation: that two different units lie up to 2C apart
under REPLACE_ONE is the accountant's business.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from cloister._validate import check_count
from cloister.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "MAX_DEPTH",
    "Composed",
    "Event",
    "Gaussian",
    "Laplace",
    "NoOp",
    "NonPrivate",
    "PoissonSampled",
    "SelfComposed",
    "TruncatedPoissonGaussian",
    "compose",
    "event_from_json",
    "event_to_json",
]


@dataclass(frozen=True)
class Event:
    """Base of all events. Compare them by value; store them with `event_to_json`."""

    tag: ClassVar[str]


@dataclass(frozen=True)
class NoOp(Event):
    """Nothing that depends on the data was released."""

    tag: ClassVar[str] = "no_op"


@dataclass(frozen=True)
class NonPrivate(Event):
    """Something was released without any guarantee; epsilon is infinite."""

    tag: ClassVar[str] = "non_private"


@dataclass(frozen=True)
class Gaussian(Event):
    """Releases ``sum_i v_i + N(0, (noise_multiplier * C)^2 I)`` where every ``|v_i|_2 <= C``."""

    noise_multiplier: float
    tag: ClassVar[str] = "gaussian"

    def __post_init__(self) -> None:
        _check_noise(self)


@dataclass(frozen=True)
class Laplace(Event):
    """Releases ``sum_i v_i`` with Laplace noise of scale ``noise_multiplier * C``, ``|v_i|_1 <= C``."""

    noise_multiplier: float
    tag: ClassVar[str] = "laplace"

    def __post_init__(self) -> None:
        _check_noise(self)


@dataclass(frozen=True)
class PoissonSampled(Event):
    """Applies `event` to a sample that holds each unit independently with probability `sampling_prob`."""

    sampling_prob: float
    event: Event
    tag: ClassVar[str] = "poisson_sampled"

    def __post_init__(self) -> None:
        _check_probability(self)
        _check_events(event=self.event)


@dataclass(frozen=True)
class TruncatedPoissonGaussian(Event):
    """`Gaussian` on a Poisson sample cut to `max_batch_size` by a uniformly random choice.

    Source: arXiv:2508.15089. The number of examples (for other units: of units) is public here, so the event
    has a guarantee only under REPLACE_ONE and REPLACE_SPECIAL.
    """

    num_examples: int
    sampling_prob: float
    max_batch_size: int
    noise_multiplier: float
    tag: ClassVar[str] = "truncated_poisson_gaussian"

    def __post_init__(self) -> None:
        check_count(num_examples=self.num_examples, max_batch_size=self.max_batch_size)
        _check_probability(self)
        _check_noise(self)


@dataclass(frozen=True)
class SelfComposed(Event):
    """`event`, `count` times in a row, each with fresh randomness."""

    event: Event
    count: int
    tag: ClassVar[str] = "self_composed"

    def __post_init__(self) -> None:
        check_count(count=self.count, at_least=0)
        _check_events(event=self.event)


@dataclass(frozen=True)
class Composed(Event):
    """All of `events`, in order; each may be chosen in the light of the earlier results."""

    events: tuple[Event, ...]
    tag: ClassVar[str] = "composed"

    def __post_init__(self) -> None:
        if not isinstance(self.events, (tuple, list)):
            raise InputError(f"events is {self.events!r}; expected a sequence of events")
        object.__setattr__(self, "events", tuple(self.events))
        _check_events(**{f"events[{index}]": event for index, event in enumerate(self.events)})


MAX_DEPTH = 32
"""How deep stored events may nest; what cloister writes stays below 6."""

_TABLE: dict[str, type[Event]] = {
    kind.tag: kind
    for kind in (
        NoOp,
        NonPrivate,
        Gaussian,
        Laplace,
        PoissonSampled,
        TruncatedPoissonGaussian,
        SelfComposed,
        Composed,
    )
}


def compose(*events: Event) -> Event:
    """One event for several, flat and without the ones in which nothing happened.

    >>> compose(NoOp(), Gaussian(2.0))
    Gaussian(noise_multiplier=2.0)
    """
    parts: list[Event] = []
    for event in events:
        parts.extend(event.events if isinstance(event, Composed) else (event,))
    parts = [event for event in parts if not isinstance(event, NoOp)]
    if not parts:
        return NoOp()
    return parts[0] if len(parts) == 1 else Composed(tuple(parts))


def event_to_json(event: Event) -> dict[str, Any]:
    """The stored form of an event.

    Raises:
        InputError: Not one of cloister's events, or nested deeper than `MAX_DEPTH`.

    >>> event_to_json(PoissonSampled(0.01, Gaussian(1.0)))
    {'type': 'poisson_sampled', 'sampling_prob': 0.01, 'event': {'type': 'gaussian', 'noise_multiplier': 1.0}}
    """
    return _event_to_json(event, depth=1)


def _event_to_json(event: Event, *, depth: int) -> dict[str, Any]:
    _check_depth(depth)
    if _TABLE.get(getattr(event, "tag", "")) is not type(event):
        raise InputError(f"{type(event).__name__} is not one of cloister's events")
    values = {field.name: _value_to_json(getattr(event, field.name), depth=depth) for field in fields(event)}
    return {"type": event.tag, **values}


def event_from_json(stored: Mapping[str, Any]) -> Event:
    """Read an event back.

    Raises:
        InputError: An unknown tag, fields that are missing, unknown or out of range, or nesting deeper than
            `MAX_DEPTH`.
    """
    return _event_from_json(stored, depth=1)


def _event_from_json(stored: Mapping[str, Any], *, depth: int) -> Event:
    _check_depth(depth)
    tag = stored.get("type") if hasattr(stored, "get") else None
    kind = _TABLE.get(tag) if isinstance(tag, str) else None
    if kind is None:
        raise InputError(f"unknown event type {tag!r}", hint="a newer cloister may have written it")
    expected = {field.name for field in fields(kind)}
    if set(stored) - {"type"} != expected:
        raise InputError(f"event {tag!r} has fields {sorted(set(stored) - {'type'})}; expected {sorted(expected)}")
    return kind(**{name: _value_from_json(stored[name], depth=depth) for name in expected})


def _value_to_json(value: Any, *, depth: int) -> Any:
    if isinstance(value, Event):
        return _event_to_json(value, depth=depth + 1)
    if isinstance(value, tuple):
        return [_event_to_json(item, depth=depth + 1) for item in value]
    return value


def _value_from_json(value: Any, *, depth: int) -> Any:
    if isinstance(value, dict):
        return _event_from_json(value, depth=depth + 1)
    if isinstance(value, list):
        return tuple(_event_from_json(item, depth=depth + 1) for item in value)
    return value


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InputError(f"event is nested more than {MAX_DEPTH} deep", hint="flatten it with compose")


# The checks also turn a whole number into a float: equal events then have equal canonical JSON and one
# digest.


def _check_noise(event: Gaussian | Laplace | TruncatedPoissonGaussian) -> None:
    noise_multiplier = _as_float(event.noise_multiplier)
    if not math.isfinite(noise_multiplier) or noise_multiplier <= 0:
        raise InputError(
            f"noise_multiplier is {event.noise_multiplier!r}; expected a finite number above 0",
            hint="an operation without noise is NonPrivate, and must be said out loud",
        )
    object.__setattr__(event, "noise_multiplier", noise_multiplier)


def _check_probability(event: PoissonSampled | TruncatedPoissonGaussian) -> None:
    sampling_prob = _as_float(event.sampling_prob)
    if not 0 < sampling_prob <= 1:
        raise InputError(f"sampling_prob is {event.sampling_prob!r}; expected a number above 0, at most 1")
    object.__setattr__(event, "sampling_prob", sampling_prob)


def _as_float(value: object) -> float:
    """`value` as a float; not a number if it is none, or an integer beyond every float."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def _check_events(**events: object) -> None:
    for name, event in events.items():
        if not isinstance(event, Event):
            raise InputError(f"{name} is {event!r}; expected an event")
