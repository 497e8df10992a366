"""Text files as documents, one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from cloister.data.delimited import undecodable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["TextFiles"]


@dataclass(frozen=True, kw_only=True)
class TextFiles:
    """Documents in one or more text files.

    Attributes:
        paths: The files, in order.
        split: A document is a line that is not blank ("line"), lines between blank lines ("blank_line") or a
            whole file ("file").
    """

    paths: tuple[Path, ...]
    split: str

    @cached_property
    def rows_per_file(self) -> tuple[int, ...]:
        """Number of documents in each file."""
        return tuple(sum(1 for _ in self._documents(path)) for path in self.paths)

    def documents(self) -> Iterator[tuple[int, str]]:
        """Index of the file and text of each document.

        Raises:
            InputError: A file is not UTF-8 (named by line).
        """
        for index, path in enumerate(self.paths):
            for document in self._documents(path):
                yield index, document

    def _documents(self, path: Path) -> Iterator[str]:
        try:
            with path.open(encoding="utf-8-sig") as file:
                if self.split == "file":
                    yield from filter(str.strip, [file.read()])
                elif self.split == "line":
                    yield from (line.rstrip("\n") for line in file if line.strip())
                else:
                    yield from _paragraphs(file)
        except UnicodeDecodeError:
            raise undecodable(path) from None


def _paragraphs(lines: Iterator[str]) -> Iterator[str]:
    paragraph: list[str] = []
    for line in lines:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield "".join(paragraph).rstrip("\n")
            paragraph = []
    if paragraph:
        yield "".join(paragraph).rstrip("\n")
