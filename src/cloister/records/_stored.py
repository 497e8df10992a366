"""One type-directed reader and writer for all records, for values and for their stored form alike."""

from __future__ import annotations

import dataclasses
import textwrap
import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Self

from cloister._validate import check_choice
from cloister.accounting import Event, event_from_json, event_to_json
from cloister.errors import InputError

__all__ = ["Record"]

_LARGEST = 1.7976931348623157e308


class Record:
    """Base of all records: every field is read by its annotation, on construction as from a file."""

    def __post_init__(self) -> None:
        for name, kind in _field_types(type(self)).items():
            object.__setattr__(self, name, _read(kind, getattr(self, name), name))

    def to_json(self) -> dict[str, Any]:
        """The stored form: plain dictionaries, lists, text, numbers and None."""
        return {name: _write(getattr(self, name)) for name in _field_types(type(self))}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read the stored form back.

        Raises:
            InputError: A field is missing, unknown, of another type or out of range.
        """
        record: Self = _build(cls, stored, "")
        return record


def _field_types(record: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(record)
    return {field.name: hints[field.name] for field in dataclasses.fields(record)}


def _write(value: Any) -> Any:
    if isinstance(value, Event):
        return event_to_json(value)
    if dataclasses.is_dataclass(value):
        return {name: _write(getattr(value, name)) for name in _field_types(type(value))}
    if isinstance(value, Mapping):
        return {name: _write(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_write(item) for item in value]
    return value.value if isinstance(value, StrEnum) else value


def _build(kind: Any, stored: Any, name: str) -> Any:
    """A dataclass of cloister from a mapping with exactly its fields; those with a default may be absent."""
    known = _field_types(kind)
    _expect(isinstance(stored, Mapping), stored, "a table", name or "the record")
    if unknown := set(stored) - set(known):
        raise InputError(f"unknown field {min(map(str, unknown))!r} in {name or 'the record'}")
    defaults = {field.name for field in dataclasses.fields(kind) if field.default is not dataclasses.MISSING}
    if missing := set(known) - set(stored) - defaults:
        raise InputError(f"{name or 'the record'} has no field {min(missing)!r}")
    prefix = f"{name}." if name else ""
    return kind(**{field: _read(known[field], value, prefix + field) for field, value in stored.items()})


def _read(kind: Any, value: Any, name: str) -> Any:
    """`value` as the annotated type: from its stored form, or as it is given to a constructor."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return None if value is None else _read(arguments[0], value, name)
    if origin is tuple:
        return _read_tuple(arguments, value, name)
    if origin is Mapping:
        return _read_mapping(arguments[1], value, name)
    if kind is Any:
        return _read_plain(value, name)
    return _read_dataclass(kind, value, name) if dataclasses.is_dataclass(kind) else _read_scalar(kind, value, name)


def _read_dataclass(kind: Any, value: Any, name: str) -> Any:
    if kind is Event:
        return value if isinstance(value, Event) else event_from_json(value)
    if isinstance(value, Record):
        _expect(type(value) is kind, value, f"a {kind.__name__}", name)
        return value
    return _build(kind, vars(value) if isinstance(value, kind) else value, name)


def _read_mapping(kind: Any, value: Any, name: str) -> dict[str, Any]:
    """In the order of canonical JSON, so that equal records also iterate alike."""
    _expect(isinstance(value, Mapping), value, "a table", name)
    _expect(all(isinstance(key, str) for key in value), value, "names that are text", name)
    return {key: _read(kind, value[key], f"{name}.{key}") for key in sorted(value)}


def _read_tuple(arguments: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    _expect(isinstance(value, (list, tuple)), value, "a list", name)
    kinds = [arguments[0]] * len(value) if arguments[-1] is ... else list(arguments)
    _expect(len(value) == len(kinds), value, f"{len(kinds)} items", name)
    return tuple(_read(kind, item, f"{name}[{i}]") for i, (kind, item) in enumerate(zip(kinds, value, strict=True)))


def _read_plain(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return _read_mapping(Any, value, name)
    if isinstance(value, (list, tuple)):
        return [_read_plain(item, f"{name}[{i}]") for i, item in enumerate(value)]
    if value is None or isinstance(value, bool):
        return value
    kind = next((kind for kind in (str, int, float) if isinstance(value, kind)), None)
    _expect(kind is not None, value, "text, a number, true, false, a list or a table", name)
    return _read_scalar(kind, value, name)


def _read_scalar(kind: Any, value: Any, name: str) -> Any:
    if kind is float:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        _expect(is_number and abs(value) <= _LARGEST, value, "a finite number", name)
        return float(value)
    if kind is int:
        _expect(isinstance(value, int) and not isinstance(value, bool), value, "a whole number", name)
        return int(value)
    _expect(isinstance(value, str), value, "text", name)
    if issubclass(kind, StrEnum):
        check_choice(list(kind), **{name: value})
    return kind(value)


def _expect(condition: bool, value: Any, expected: str, name: str) -> None:
    if not condition:
        shown = textwrap.shorten(repr(value), 60, placeholder="...")
        raise InputError(f"{name} is {shown}; expected {expected}")
