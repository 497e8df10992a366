"""Tokenizers: bytes, or a Hugging Face tokenizers file."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cloister.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["BytesTokenizer", "FileTokenizer", "Tokenizer", "load_tokenizer", "token_row", "tokenizer_from_json"]

_END_NAMES = ("<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>", "[SEP]")


class Tokenizer(Protocol):
    """Text to token numbers; documents begin and end with `end`."""

    vocab_size: int
    end: int
    padding: int

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, without `end` and `padding`."""

    def to_json(self) -> dict[str, Any]:
        """All that is needed to build the same tokenizer again."""


class BytesTokenizer:
    """The UTF-8 bytes of a text, and two tokens more: end of text (256) and padding (257).

    >>> BytesTokenizer().encode("aé")
    [97, 195, 169]
    """

    vocab_size = 258
    end = 256
    padding = 257

    def encode(self, text: str) -> list[int]:
        """One token for each byte."""
        return list(text.encode("utf-8", errors="replace"))

    def to_json(self) -> dict[str, Any]:
        """The stored form."""
        return {"kind": "bytes"}


class FileTokenizer:
    """A tokenizer.json of the Hugging Face tokenizers library.

    The end token is the file's own where it has one of the usual names; padding is a token of its own.

    Args:
        content: The JSON text.
        source: Its name, for errors.

    Raises:
        MissingExtra: The tokenizers library is not installed.
    """

    def __init__(self, content: str, *, source: str = "tokenizer") -> None:
        try:
            library = importlib.import_module("tokenizers")
        except ModuleNotFoundError:
            raise MissingExtra("tokenizers", extra="hf") from None
        try:
            self._tokenizer: Any = library.Tokenizer.from_str(content)
        except Exception as error:  # the library raises plain Exception
            raise InputError(f"{source} is not a tokenizers file") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._content = content
        known = int(self._tokenizer.get_vocab_size())
        ends = [number for number in map(self._tokenizer.token_to_id, _END_NAMES) if number is not None]
        self.end: int = ends[0] if ends else known
        self.padding = known + (not ends)
        self.vocab_size = self.padding + 1

    def encode(self, text: str) -> list[int]:
        """Tokens of the text without special tokens."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def to_json(self) -> dict[str, Any]:
        """The stored form, with the whole file in it."""
        return {"kind": "tokenizers", "content": self._content}


def load_tokenizer(name: str, base: Path) -> Tokenizer:
    """The tokenizer that a recipe names: "bytes" or a path, relative to `base`."""
    if name == "bytes":
        return BytesTokenizer()
    path = base / name
    if not path.is_file():
        raise InputError(f"tokenizer {path} does not exist", hint='name "bytes" or a tokenizer.json')
    return FileTokenizer(path.read_text(encoding="utf-8"), source=str(path))


def tokenizer_from_json(stored: dict[str, Any]) -> Tokenizer:
    """Read the stored form."""
    if stored.get("kind") == "bytes":
        return BytesTokenizer()
    if stored.get("kind") == "tokenizers":
        return FileTokenizer(str(stored["content"]))
    raise InputError(f"tokenizer is {stored.get('kind')!r}; expected 'bytes' or 'tokenizers'")


def token_row(text: str, tokenizer: Tokenizer, context: int, *, modeling: bool) -> NDArray[np.int32]:
    """One document as a row of fixed length, cut or padded at its end.

    For language modeling the row has ``context + 1`` tokens: `end`, the document, `end`, so that inputs and
    targets are the row without its last and without its first token, and the first token of the document is
    predicted too. Otherwise it has `context` tokens: the document and `end`, so that no row is padding alone.
    """
    tokens = [*tokenizer.encode(text), tokenizer.end]
    if modeling:
        tokens = [tokenizer.end, *tokens]
    row = np.full(context + modeling, tokenizer.padding, dtype=np.int32)
    kept = tokens[: len(row)]
    row[: len(kept)] = kept
    return row
