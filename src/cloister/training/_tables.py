"""Settings from TOML tables: unknown keys and wrong types are errors that say what was expected."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any

from cloister.errors import InputError

__all__ = ["build_settings", "refuse_unknown"]


def refuse_unknown(table: Any, known: Any, where: str) -> None:
    if not isinstance(table, dict):
        raise InputError(f"{where} is {table!r}; expected a table")
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}"
            raise InputError(f"unknown key {key!r} in {where}", hint=hint)


def build_settings(kind: type, table: Any, where: str) -> Any:
    """A settings dataclass from a table; types are checked, nested tables become nested settings."""
    known = {f.name: f for f in dataclasses.fields(kind) if f.init}
    refuse_unknown(table, known, where)
    hints = typing.get_type_hints(kind, localns={"Mapping": Mapping})  # imported for typing only where it is used
    values = {key: _convert(value, hints[key], f"{key} in {where}") for key, value in table.items()}
    missing = [name for name, f in known.items() if name not in values and _is_required(f)]
    if missing:
        raise InputError(f"{where} has no {missing[0]}")
    return kind(**values)


def _is_required(part: dataclasses.Field[Any]) -> bool:
    return part.default is dataclasses.MISSING and part.default_factory is dataclasses.MISSING


def _convert(value: Any, hint: Any, where: str) -> Any:
    """`value` as the annotated type, or an error that says what was expected."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for option in options:
        converted = _match(value, option, where)
        if converted is not _NO_MATCH:
            return converted
    expected = " or ".join(_name(option) for option in options if option is not types.NoneType)
    raise InputError(f"{where} is {value!r}; expected {expected}")


_NO_MATCH = object()


def _match(value: Any, hint: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build_settings(hint, value, where) if isinstance(value, dict) else _NO_MATCH
    if origin is tuple:
        return tuple(_convert(item, arguments[0], where) for item in value) if isinstance(value, list) else _NO_MATCH
    if origin is not None and isinstance(value, dict):  # a mapping from names to settings
        return {key: _convert(item, arguments[1], f"{key} in {where}") for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    matches = isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
    return value if matches else _NO_MATCH


def _name(hint: Any) -> str:
    names = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}
    if typing.get_origin(hint) is tuple:
        return "a list"
    return names.get(hint, "a table")
