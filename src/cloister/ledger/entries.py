"""The chain: how an entry is written down, and what proves that nobody has touched it since.

An entry is one JSON object with the keys body, dataset, kind, previous, sequence, time and version. It is
stored as canonical JSON; its digest is the SHA-256 of those bytes. ``previous`` is the digest of the entry
before it, so that each digest speaks for the whole book up to its entry. docs/specs/ledger.md is the full
text.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from cloister._canonical import canonical_json, digest_bytes
from cloister.errors import CloisterError, DigestMismatch

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ORIGIN", "Entry", "Kind", "Row", "read_entry"]

FORMAT_VERSION = 1
ORIGIN = "sha256:" + "0" * 64
"""What the first entry names as the digest before it."""

_KEYS = {"body", "dataset", "kind", "previous", "sequence", "time", "version"}


class Kind(enum.StrEnum):
    """What an entry says. A kind never changes its meaning: new meaning, new kind."""

    BUDGET_SET = "budget_set"
    RESERVE = "reserve"
    RESUME = "resume"
    COMMIT = "commit"
    RELEASE = "release"


class Row(NamedTuple):
    """An entry as it lies in the storage."""

    sequence: int
    entry: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the book.

    Attributes:
        sequence: Place in the book, from 1, without gaps.
        time: When it was written, UTC, ISO 8601; information only, no rule depends on it.
        kind: What it says.
        dataset: The data set it is about.
        body: The rest; its keys depend on `kind`.
        previous: Digest of the entry before it; `ORIGIN` for the first.
        digest: SHA-256 of the entry's canonical JSON.
    """

    sequence: int
    time: str
    kind: Kind
    dataset: str
    body: Mapping[str, Any]
    previous: str
    digest: str

    @classmethod
    def after(cls, last: Entry | None, *, kind: Kind, dataset: str, body: Mapping[str, Any]) -> Entry:
        """The entry that follows `last`, or the first of a book."""
        content = {
            "body": body,
            "dataset": dataset,
            "kind": kind.value,
            "previous": last.digest if last else ORIGIN,
            "sequence": last.sequence + 1 if last else 1,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "version": FORMAT_VERSION,
        }
        return cls._of(content, digest_bytes(canonical_json(content)))

    @classmethod
    def _of(cls, content: Mapping[str, Any], digest: str) -> Entry:
        values = {key: content[key] for key in _KEYS - {"kind", "version"}}
        return cls(kind=Kind(content["kind"]), digest=digest, **values)

    def to_row(self) -> Row:
        """The entry as it is stored."""
        content = {key: value for key, value in self.to_json().items() if key != "digest"}
        return Row(self.sequence, canonical_json(content).decode(), self.digest)

    def to_json(self) -> dict[str, Any]:
        """All of the entry, for people and programs that read JSON."""
        return {
            "sequence": self.sequence,
            "time": self.time,
            "kind": self.kind.value,
            "dataset": self.dataset,
            "body": dict(self.body),
            "previous": self.previous,
            "digest": self.digest,
            "version": FORMAT_VERSION,
        }


def read_entry(row: Row, last: Entry | None) -> Entry:
    """Read a stored entry that must follow `last`.

    Raises:
        DigestMismatch: The entry was changed, moved, or others before it are missing; the text names it.
        CloisterError: A newer version has written it.
    """
    place = last.sequence + 1 if last else 1
    if row.sequence != place:
        raise _broken(place, f"is missing, entry {row.sequence} stands in its place")
    if not isinstance(row.entry, str) or digest_bytes(row.entry.encode(errors="replace")) != row.digest:
        raise _broken(place, f"has been changed: its content does not have the digest {row.digest}")
    content = _parse(row.entry, place)
    if content["sequence"] != place:
        raise _broken(place, f"says that it is entry {content['sequence']}")
    if content["previous"] != (last.digest if last else ORIGIN):
        raise _broken(place, f"names {content['previous']} as the digest before it, which is another")
    return Entry._of(content, row.digest)  # noqa: SLF001 - the reading half of the class above


def _parse(text: str, place: int) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(text)
        canonical = canonical_json(content).decode()
    except ValueError as error:
        raise _broken(place, "is not JSON") from error
    version = content.get("version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise CloisterError(
            f"entry {place} of the ledger has format {version}; this cloister reads {FORMAT_VERSION}",
            hint="use the newer cloister that wrote it",
        )
    # One text for one entry: no repeated keys, which two readers could understand in two ways.
    if version != FORMAT_VERSION or canonical != text or set(content) != _KEYS:
        raise _broken(place, "is not an entry in canonical form")
    if content["kind"] not in set(Kind) or not isinstance(content["body"], dict):
        raise _broken(place, f"has the unknown kind {content['kind']!r}")
    return content


def _broken(place: int, fact: str) -> DigestMismatch:
    return DigestMismatch(
        f"entry {place} of the ledger {fact}",
        hint="the book was altered or damaged from there on; restore it from a copy that verifies",
    )
