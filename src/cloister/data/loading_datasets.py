"""A torch Dataset that a function of the recipe's folder returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from cloister.data.examples import DatasetExamples, DataSpec, Loaded
from cloister.data.readers import DatasetFunction
from cloister.errors import InputError

if TYPE_CHECKING:
    from cloister.data.settings import DataSettings
    from cloister.data.source import Source

__all__ = ["load_dataset"]

_FEWEST_CLASSES = 2


def load_dataset(source: Source) -> Loaded:
    """Examples that are fetched one by one when they are needed.

    For classification, targets are class numbers; for regression they are used as they are; for language modeling
    inputs and targets are rows of tokens (-100 where a target has no loss) and the Dataset has an attribute
    `vocab_size`, and `padding` if it has a padding token.
    """
    settings = source.settings
    datasets = [reader.dataset for reader in (source.train, source.test) if isinstance(reader, DatasetFunction)]
    target_dtype = torch.float32 if settings.task == "regression" else torch.int64
    examples = [DatasetExamples(dataset, target_dtype) for dataset in datasets]
    classes, notes = _classes(settings, examples)
    vocab_size = getattr(datasets[0], "vocab_size", None)
    if settings.task == "language_modeling" and vocab_size is None:
        raise InputError(f"{settings.train}: the Dataset has no vocab_size", hint="set it as an attribute")
    inputs, _ = examples[0].batch(np.zeros(0, dtype=np.int64))
    spec = DataSpec(
        task=str(settings.task),
        input_shape=tuple(inputs.shape[1:]),
        num_outputs=len(classes) if classes else int(vocab_size or 1),
        classes=classes,
        vocab_size=vocab_size,
        context=inputs.shape[1] if vocab_size is not None else None,
        padding=getattr(datasets[0], "padding", None),
    )
    return Loaded(
        train=examples[0],
        test=examples[1] if len(examples) > 1 else None,
        spec=spec,
        preprocessing={
            "kind": "dataset",
            "task": settings.task,
            "classes": None if classes is None else list(classes),
            "target": None,
        },
        notes=notes,
    )


def _classes(settings: DataSettings, examples: list[DatasetExamples]) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Class names and notes. Every target is looked at once, so that none is out of range later."""
    if settings.task != "classification":
        return None, ()
    largest = [_largest_target(each, role) for each, role in zip(examples, ("train", "test"), strict=False)]
    if settings.classes is not None:
        count = len(settings.classes)
        for found, role in zip(largest, ("train", "test"), strict=False):
            if found >= count:
                raise InputError(f"the {role} Dataset has a target that is not below {count}, the number of classes")
        return settings.classes, ()
    count = largest[-1] + 1
    if count < _FEWEST_CLASSES or largest[0] >= count:
        raise InputError(f"the Datasets' targets name {count} class or disagree", hint="declare classes in [data]")
    note = "the number of classes was taken from the targets and is treated as public: declare classes to avoid this"
    return tuple(str(index) for index in range(count)), (note,)


def _largest_target(examples: DatasetExamples, role: str) -> int:
    largest = 0
    for index in range(len(examples)):
        _, target = examples.batch(np.array([index]))
        if target.numel() != 1 or int(target) < 0:
            raise InputError(f"item {index} of the {role} Dataset has a target that is not a class number")
        largest = max(largest, int(target))
    return largest
