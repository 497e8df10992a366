"""From what a recipe names to a reader: which files there are, of what kind, and how many examples they hold."""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cloister.data._nearest import nearest_hint
from cloister.data.arrays import ArrayHeader, idx_header, npz_arrays
from cloister.data.documents import TextFiles
from cloister.data.settings import ImageFiles
from cloister.data.tables import TABLE_FORMATS, TableFiles
from cloister.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from cloister.data.settings import DataSettings

__all__ = ["DatasetFunction", "ImagePair", "NpzFile", "Reader", "open_reader"]

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_FORMATS = (*TABLE_FORMATS, "npz", "txt")
_DEFAULT_ARRAYS = (("x", "y"), ("features", "labels"))


@dataclass(frozen=True, kw_only=True)
class ImagePair:
    """IDX images and their labels."""

    images: Path
    labels: Path

    @property
    def paths(self) -> tuple[Path, ...]:
        """Both files."""
        return (self.images, self.labels)

    @cached_property
    def header(self) -> ArrayHeader:
        """Header of the images, checked against that of the labels."""
        images, labels = idx_header(self.images), idx_header(self.labels)
        if len(images.shape) not in (3, 4) or images.dtype.itemsize != 1:
            raise InputError(f"{self.images} has shape {images.shape} of {images.dtype}; expected images of bytes")
        if len(labels.shape) != 1:
            raise InputError(f"{self.labels} has shape {labels.shape}; expected one label for each image")
        if images.shape[0] != labels.shape[0]:
            raise InputError(f"{self.images} holds {images.shape[0]} images and {self.labels} {labels.shape[0]} labels")
        return images

    @property
    def rows_per_file(self) -> tuple[int, ...]:
        """Number of images."""
        return (self.header.shape[0],)


@dataclass(frozen=True, kw_only=True)
class NpzFile:
    """Two arrays of an .npz file: inputs and labels."""

    path: Path
    label: str | None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)

    @cached_property
    def names(self) -> tuple[str, str]:
        """Names of the input and the label array.

        Raises:
            InputError: There is no such array, or more than one could be the input.
        """
        known = list(self._headers)
        if self.label is None:
            for inputs, labels in _DEFAULT_ARRAYS:
                if inputs in known and labels in known:
                    return inputs, labels
            raise InputError(f"{self.path} has arrays {known}", hint="name them x and y, or set label")
        if self.label not in known:
            raise InputError(f"{self.path} has no array {self.label!r}", hint=nearest_hint(self.label, known))
        others = [name for name in known if name != self.label]
        for name in ("x", "features"):
            if name in others:
                return name, self.label
        if len(others) != 1:
            raise InputError(
                f"{self.path} has arrays {known}; which one is the input?", hint="name it x, or keep only one more"
            )
        return others[0], self.label

    @cached_property
    def inputs(self) -> ArrayHeader:
        """Header of the input array, checked against that of the labels."""
        inputs, labels = (self._headers[name] for name in self.names)
        if not inputs.shape or inputs.dtype.kind not in "biuf":
            raise InputError(f"{self.path} array {self.names[0]!r} holds {inputs.dtype}; expected numbers")
        if len(labels.shape) != 1 or labels.shape[0] != inputs.shape[0]:
            raise InputError(
                f"{self.path} arrays {self.names[0]!r} and {self.names[1]!r} have shapes {inputs.shape} and "
                f"{labels.shape}; expected one label for each input"
            )
        return inputs

    @property
    def rows_per_file(self) -> tuple[int, ...]:
        """Number of rows."""
        return (self.inputs.shape[0],)

    @cached_property
    def _headers(self) -> dict[str, ArrayHeader]:
        return npz_arrays(self.path)


@dataclass(frozen=True, kw_only=True)
class DatasetFunction:
    """A function that returns a torch map-style Dataset, called without arguments once."""

    name: str
    base: Path

    @property
    def paths(self) -> tuple[Path, ...]:
        """No files that are known."""
        return ()

    @cached_property
    def dataset(self) -> Any:
        """The Dataset.

        Raises:
            InputError: There is no such module or function, or what it returns has no length.
        """
        module_name, _, function_name = self.name.partition(":")
        sys.path.insert(0, str(self.base))
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise InputError(f"{self.name}: {error}", hint=f"modules are looked up in {self.base} first") from error
        finally:
            sys.path.remove(str(self.base))
        function = getattr(module, function_name, None)
        if not callable(function):
            raise InputError(f"module {module_name!r} has no function {function_name!r}")
        dataset = function()
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise InputError(f"{self.name} returned {type(dataset).__name__}; expected a map-style Dataset")
        return dataset

    @property
    def rows_per_file(self) -> tuple[int, ...]:
        """Length of the Dataset."""
        return (len(self.dataset),)


Reader = DatasetFunction | ImagePair | NpzFile | TableFiles | TextFiles


def open_reader(named: str | ImageFiles, settings: DataSettings, base: Path) -> Reader:
    """The reader for what `train` or `test` names.

    Raises:
        InputError: A file does not exist, or its kind is not known.
    """
    if isinstance(named, ImageFiles):
        return ImagePair(images=_existing(base / named.images), labels=_existing(base / named.labels))
    path = base / named
    if not path.exists() and _FUNCTION.fullmatch(named):
        return DatasetFunction(name=named, base=base)
    paths = _files_of(path, settings.files) if path.is_dir() else (_existing(path),)
    formats = {settings.format or _format(file) for file in paths}
    if len(formats) > 1:
        raise InputError(f"{path} holds files of kinds {', '.join(sorted(formats))}", hint="set files or format")
    (file_format,) = formats
    if file_format == "npz":
        if len(paths) > 1:
            raise InputError(f"{path} holds several .npz files", hint="client files are tables or text")
        return NpzFile(path=paths[0], label=settings.label)
    if file_format == "txt":
        return TextFiles(paths=paths, split=settings.text.split if settings.text else "line")
    return TableFiles(paths=paths, format=file_format, header=settings.header)


def _existing(path: Path) -> Path:
    if path.is_file():
        return path
    siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = nearest_hint(path.name, siblings) if siblings else f"there is no folder {path.parent}"
    raise InputError(f"{path} does not exist", hint=hint)


def _files_of(directory: Path, pattern: str) -> tuple[Path, ...]:
    found = sorted(path for path in directory.glob(pattern) if path.is_file() and not path.name.startswith("."))
    if not found:
        raise InputError(f"{directory} has no files that match {pattern!r}", hint="one file for each client")
    return tuple(found)


def _format(path: Path) -> str:
    ending = path.suffix.removeprefix(".").lower()
    if ending not in _FORMATS:
        known = ", ".join(f".{name}" for name in sorted(_FORMATS))
        hint = f"expected {known}; for IDX images name {{ images = ..., labels = ... }}; or set format"
        raise InputError(f"{path} is of no known kind", hint=hint)
    return ending
