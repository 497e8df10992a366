"""A recipe: everything public about a run, read from one TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloister._validate import check_choice, check_count, check_fraction, check_positive
from cloister.accounting import Relation
from cloister.data.settings import DataSettings
from cloister.errors import InputError
from cloister.models.settings import ModelSettings
from cloister.training._tables import build_settings, refuse_unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Performance", "Privacy", "Recipe", "Training"]

CLIPPINGS = ("flat", "per_layer", "automatic", "adaptive", "value")


@dataclass(frozen=True, kw_only=True)
class Privacy:
    """The recipe's [privacy]: a budget for the run, or a noise, or neither, said out loud.

    Attributes:
        epsilon: Calibrate the noise so that the run costs at most this.
        noise_multiplier: Use this noise and compute epsilon.
        delta: Probability with which epsilon may fail; below one over the number of examples.
        private: False trains without clipping and noise, and without any guarantee.
        relation: Which data sets are neighbors.
    """

    epsilon: float | None = None
    noise_multiplier: float | None = None
    delta: float | None = None
    private: bool = True
    relation: str = "add_or_remove_one"

    def __post_init__(self) -> None:
        check_choice(list(Relation), relation=self.relation)
        given = [name for name in ("epsilon", "noise_multiplier") if getattr(self, name) is not None]
        if not self.private:
            if given:
                raise InputError(f"private = false contradicts {given[0]} in [privacy]", hint="remove one of the two")
            return
        if len(given) != 1:
            raise InputError(
                "[privacy] needs either epsilon or noise_multiplier" + (", not both" if given else ""),
                hint="private = false trains without any guarantee",
            )
        if self.delta is None:
            raise InputError(
                "[privacy] has no delta", hint="1e-5 is usual; it must lie below one over the number of examples"
            )
        check_positive(**{given[0]: getattr(self, given[0])})
        check_fraction(delta=self.delta)


@dataclass(frozen=True, kw_only=True)
class Training:
    """The recipe's [training].

    Attributes:
        steps: Number of updates; or `epochs`, times the number of examples over the batch size.
        expected_batch_size: Average size of the Poisson sample and divisor of its sum.
        max_batch_size: Cut larger samples (truncated Poisson sampling).
        clipping: flat, per_layer, automatic, adaptive or value.
        clip_norm: Bound on one example's gradient; the first one where clipping is adaptive.
        clip_low: Lower bound of each entry, for clipping by value.
        clip_high: Upper bound of each entry, for clipping by value.
        target_quantile: Share of gradients that adaptive clipping leaves whole.
        optimizer: sgd, adam or adamw.
        learning_rate: Step size at its highest.
        momentum: Of sgd.
        weight_decay: Decoupled for adamw, added to the gradient otherwise.
        schedule: constant or cosine.
        warmup_steps: Steps of linear increase at the start.
        ema: Decay of the average of the weights that is released instead of the last ones.
        augmentation: Random views of images: "crop" (shift by up to 4 pixels) and "flip" (left to right).
        augmentation_multiplicity: Views of each example; their mean gradient is clipped once.
        evaluate_every: Steps between evaluations on the test set; 0 evaluates at the end only.
        checkpoint_every: Steps between checkpoints.
        seed: With `insecure_seed`, makes a run reproducible, and predictable for an attacker.
        insecure_seed: Derive sampling, noise and initialization from `seed`.
    """

    steps: int | None = None
    epochs: float | None = None
    expected_batch_size: int = 256
    max_batch_size: int | None = None
    clipping: str = "flat"
    clip_norm: float = 1.0
    clip_low: float | None = None
    clip_high: float | None = None
    target_quantile: float = 0.5
    optimizer: str = "sgd"
    learning_rate: float = 0.5
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup_steps: int = 0
    ema: float | None = None
    augmentation: tuple[str, ...] = ()
    augmentation_multiplicity: int = 1
    evaluate_every: int = 0
    checkpoint_every: int = 200
    seed: int = 0
    insecure_seed: bool = False

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise InputError("[training] needs either steps or epochs" + (", not both" if self.steps else ""))
        if self.steps is not None:
            check_count(steps=self.steps)
        if self.epochs is not None:
            check_positive(epochs=self.epochs)
        check_count(
            expected_batch_size=self.expected_batch_size,
            augmentation_multiplicity=self.augmentation_multiplicity,
            checkpoint_every=self.checkpoint_every,
        )
        check_count(warmup_steps=self.warmup_steps, evaluate_every=self.evaluate_every, seed=self.seed, at_least=0)
        check_choice(CLIPPINGS, clipping=self.clipping)
        check_choice(("sgd", "adam", "adamw"), optimizer=self.optimizer)
        check_choice(("constant", "cosine"), schedule=self.schedule)
        check_positive(clip_norm=self.clip_norm, learning_rate=self.learning_rate)
        check_fraction(target_quantile=self.target_quantile)
        if self.ema is not None:
            check_fraction(ema=self.ema)
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum is {self.momentum!r}; expected a number from 0 to below 1")
        if self.weight_decay < 0:
            raise InputError(f"weight_decay is {self.weight_decay!r}; expected 0 or more")
        for kind in self.augmentation:
            check_choice(("crop", "flip"), augmentation=kind)
        self._check_value_clipping()

    def _check_value_clipping(self) -> None:
        bounds = (self.clip_low, self.clip_high)
        if self.clipping == "value" and None in bounds:
            raise InputError('clipping = "value" needs clip_low and clip_high', hint="for example -0.001 and 0.001")
        if self.clipping != "value" and bounds != (None, None):
            raise InputError(f'clip_low and clip_high belong to clipping = "value"; clipping is "{self.clipping}"')

    def num_steps(self, num_examples: int) -> int:
        """Number of updates for a data set of `num_examples`."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, round(self.epochs * num_examples / self.expected_batch_size))


@dataclass(frozen=True, kw_only=True)
class Performance:
    """The recipe's [performance]: settings that can never change a guarantee.

    Attributes:
        engine: bookkeeping or materialized.
        physical_batch_size: Examples computed at a time.
        device: auto, cpu or cuda.
        dtype: Of the model while it computes: float32 or bfloat16. Sums, noise and weights are float32.
        compile: Compile the model; not available with the engines of this version.
        memory_limit_mb: Data sets larger than this are kept on disk and memory-mapped.
    """

    engine: str = "bookkeeping"
    physical_batch_size: int = 256
    device: str = "auto"
    dtype: str = "float32"
    compile: bool = False
    memory_limit_mb: int = 2048

    def __post_init__(self) -> None:
        check_choice(("bookkeeping", "materialized"), engine=self.engine)
        check_choice(("auto", "cpu", "cuda"), device=self.device)
        check_choice(("float32", "bfloat16"), dtype=self.dtype)
        check_count(physical_batch_size=self.physical_batch_size, memory_limit_mb=self.memory_limit_mb)
        if self.compile:
            raise InputError(
                "compile = true is not available: per-example clipping works on operations that compilation merges",
                hint="remove it; the result is the same",
            )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All public settings of a run.

    >>> recipe = Recipe.from_table({
    ...     "data": {"train": "train.csv", "label": "income"},
    ...     "privacy": {"epsilon": 3.0, "delta": 1e-5},
    ...     "training": {"steps": 1000},
    ... })
    >>> recipe.training.expected_batch_size
    256
    >>> Recipe.from_table({"data": {"train": "a.csv"}, "trainin": {}})
    Traceback (most recent call last):
    ...
    cloister.errors.InputError: unknown key 'trainin' in the recipe
    """

    data: DataSettings
    privacy: Privacy
    training: Training
    model: ModelSettings = field(default_factory=ModelSettings)
    performance: Performance = field(default_factory=Performance)
    base: Path = Path()
    table: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a TOML file; relative paths in it are relative to its folder.

        Raises:
            InputError: The file is missing or no TOML, a key is unknown, a value has the wrong type or range.
        """
        file = Path(path)
        try:
            table = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot read recipe {file}: {(error.strerror or str(error)).lower()}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"recipe {file} is not valid TOML: {error}") from error
        return cls.from_table(table, base=file.parent)

    @classmethod
    def from_table(cls, table: Mapping[str, Any], *, base: Path | str = ".") -> Recipe:
        """Build a recipe from nested tables, as TOML gives them."""
        sections = {"data": DataSettings, "privacy": Privacy, "training": Training}
        sections |= {"model": ModelSettings, "performance": Performance}
        refuse_unknown(table, sections, "the recipe")
        for name in ("data", "privacy", "training"):
            if name not in table:
                raise InputError(f"the recipe has no [{name}]")
        parts = {
            name: build_settings(kind, table[name], f"[{name}]") for name, kind in sections.items() if name in table
        }
        return cls(**parts, base=Path(base), table=dict(table))
