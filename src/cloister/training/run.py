"""The main job: from a recipe to a trained model, its record, and what it cost.

 1. The run directory is claimed; a run that is already there is only touched by `resume`.
 2. Files are opened: names, headers and counts are checked, no value is interpreted.
 3. The plan is made from the recipe and the number of examples; noise is calibrated.
 4. The ledger reserves the whole event, or refuses. Only now are private rows read.
 5. Column statistics are bought where none are declared; rows are encoded; the model is built and checked.
 6. The steps run; the model is evaluated on the test set only where a checkpoint has been written.
 7. The ledger commits what ran; model, configuration and record are written.

An error before anything private was released gives the reservation back. After that it stays counted until
the run is resumed: a crash fails closed.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from cloister._canonical import digest_json
from cloister._rng import SecureStream
from cloister.accounting import Relation, Unit, event_to_json
from cloister.clipping import engine_for
from cloister.data import load, open_source
from cloister.data.encodings import encoding_from_json, encoding_to_json
from cloister.errors import CloisterError, InputError, PlanMismatch
from cloister.ledger import Kind, Status
from cloister.models import build, loss_for
from cloister.training.checkpoint import read_checkpoint
from cloister.training.fitting import fit
from cloister.training.observer import Observer
from cloister.training.planning import RunPlan, plan_run
from cloister.training.recipe import Recipe
from cloister.training.rehearsal import rehearse
from cloister.training.results import Outcome, save_run
from cloister.training.rundir import RunState, abandon_run, claim_run, new_run_id, write_state
from cloister.training.trainer import Diverged, Trainer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cloister.data import ColumnEncoding, Loaded, Source
    from cloister.ledger import Ledger, Reservation
    from cloister.records import TrainingRecord

__all__ = ["train"]

_DELTA_OF_NON_PRIVATE_RUNS = 1e-5  # the ledger wants one; epsilon is infinite at any


def train(
    recipe: Recipe | str | Path,
    *,
    out: str | Path,
    ledger: Ledger,
    resume: bool = False,
    observer: Observer | None = None,
) -> TrainingRecord:
    """Train a model as the recipe says, and account for it.

    Args:
        recipe: The recipe, or the path of its TOML file.
        out: The run directory; must not hold a run unless `resume`.
        ledger: Where the budget is kept.
        resume: Go on with an interrupted run in `out`. Nothing is spent twice, no noise or sample repeats.
        observer: Watches the run and may ask it to stop.

    Returns:
        The record, as written to ``out/record.json``.

    Raises:
        InputError: Recipe, files or data are not what they must be.
        BudgetExceeded: The data set's budget does not cover the plan; nothing was read.
        UnsupportedLayer: The model mixes examples, or has an operation without a clipping rule.
        Interrupted: The observer asked to stop.
        Diverged: The weights are no longer finite; what ran has been committed.
    """
    if not isinstance(recipe, Recipe):
        recipe = Recipe.load(recipe)
    job = _Job.open(recipe, Path(out), ledger, observer or Observer(), resume=resume)
    with torch.random.fork_rng(devices=[]):
        return job.run()


@dataclass(kw_only=True)
class _Job:
    """One run on its way; the numbers are those of the module's docstring."""

    recipe: Recipe
    out: Path
    ledger: Ledger
    observer: Observer
    source: Source
    plan: RunPlan
    state: RunState
    stream: SecureStream
    trainer: Trainer | None = None

    @classmethod
    def open(cls, recipe: Recipe, out: Path, ledger: Ledger, observer: Observer, *, resume: bool) -> _Job:
        source = open_source(recipe.data, recipe.base)  # 2
        plan = plan_run(recipe, source)  # 3
        planned = RunState(
            run=new_run_id(),
            recipe=digest_json(dict(recipe.table)),
            content=source.digest(),
            event=digest_json(event_to_json(plan.event_after(plan.steps))),
        )
        state = claim_run(out, planned, resume=resume)  # 1, last because a bad recipe must not leave a directory
        observer.planned(plan)
        for note in plan.notes:
            observer.note(note)
        return cls(
            recipe=recipe,
            out=out,
            ledger=ledger,
            observer=observer,
            source=source,
            plan=plan,
            state=state,
            stream=_stream(recipe),
        )

    @property
    def dataset(self) -> str:
        return self.recipe.data.dataset or "data-" + self.state.content.removeprefix("sha256:")[:16]

    def run(self) -> TrainingRecord:
        reservation = self._reserve()  # 4
        with self._giving_back(reservation):
            loaded = self._load(reservation)  # 5
            self.trainer = trainer = self._trainer(loaded)
            if reservation is None and trainer.step < self.plan.steps:
                raise PlanMismatch(f"run {self.state.run} was committed, but its checkpoint is at step {trainer.step}")
            try:
                utility = fit(trainer, loaded, recipe=self.recipe, out=self.out, observer=self.observer)  # 6
            except Diverged as error:
                self._end_early(trainer.step, reservation, str(error))
                raise
        committed = self._commit(reservation)  # 7
        with trainer.released() as model:
            outcome = Outcome(
                run=self.state.run,
                dataset=self.dataset,
                content=self.state.content,
                seconds=trainer.seconds,
                engine=trainer.engine.name if trainer.engine else "autograd",
                device=str(trainer.device),
                utility=utility,
                committed=committed,
                statement=self.ledger.statement(self.dataset),
            )
            return save_run(self.out, recipe=self.recipe, plan=self.plan, loaded=loaded, model=model, outcome=outcome)

    def _reserve(self) -> Reservation | None:
        """The reservation of this run: made now, taken up again, or None if it was committed already."""
        for line in self.ledger.statement(self.dataset).lines:
            if line.run == self.state.run:
                return self.ledger.resume(line.reservation) if line.status == Status.RESERVED else None
        try:
            reservation = self.ledger.reserve(
                self.dataset,
                self.plan.event_after(self.plan.steps),
                run=self.state.run,
                unit=Unit(self.recipe.data.unit),
                relation=Relation(self.recipe.privacy.relation),
                delta=self.recipe.privacy.delta or _DELTA_OF_NON_PRIVATE_RUNS,
                content=self.state.content,
            )
        except CloisterError:
            abandon_run(self.out)
            raise
        for warning in reservation.warnings:
            self.observer.note(warning)
        return reservation

    @contextlib.contextmanager
    def _giving_back(self, reservation: Reservation | None) -> Iterator[None]:
        """Commit no more than the bought statistics, or nothing, if the run fails before its first step is done."""
        try:
            yield
        except Exception as error:
            reason = f"failed before the first step: {type(error).__name__}"
            stepped = self.trainer is not None and self.trainer.step > 0
            if reservation and not self.state.ended and not stepped and read_checkpoint(self.out) is None:
                if self.state.encodings is not None:
                    self._end_early(0, reservation, reason)
                else:
                    reservation.release(reason)
                    abandon_run(self.out)
            raise

    def _load(self, reservation: Reservation | None) -> Loaded:
        purchase, source = self.plan.purchase, self.source
        encodings = {name: encoding_from_json(stored) for name, stored in (self.state.encodings or {}).items()}
        if purchase.columns and not encodings:
            encodings = self._buy(reservation)
        loaded = load(
            source,
            encodings,
            scratch=self.out / "scratch",
            memory_limit_bytes=self.recipe.performance.memory_limit_mb << 20,
        )
        for note in loaded.notes:
            self.observer.note(note)
        if encodings and self.state.encodings is None:
            stored = {name: encoding_to_json(encoding) for name, encoding in encodings.items()}
            self.state = replace(self.state, encodings=stored)
            write_state(self.out, self.state)
        return loaded

    def _buy(self, reservation: Reservation | None) -> dict[str, ColumnEncoding]:
        """Column encodings from noisy statistics. That they say nothing is an answer too, and is paid for."""
        encodings = dict(self.plan.purchase.run(self.source, self.stream))
        if any(encoding.width for encoding in encodings.values()) or len(encodings) < len(self.source.input_columns):
            return encodings
        reason = f"{self.source.num_examples} are too few examples to tell anything about the columns at this noise"
        self._end_early(0, reservation, reason)
        raise InputError(
            reason,
            hint="declare columns in [data.columns], or raise share in [data.statistics]; the statistics are spent",
        )

    def _trainer(self, loaded: Loaded) -> Trainer:
        recipe, training = self.recipe, self.recipe.training
        torch.manual_seed(int(self.stream.derive("initialization").uint64(0, 1)[0] >> 1))
        model = build(recipe.model, loaded.spec, base=recipe.base)
        loss_fn = loss_for(loaded.spec.task)
        engine = None
        if self.plan.dpsgd is not None:
            engine = engine_for("materialized" if training.clipping == "value" else recipe.performance.engine)
            if engine.name != recipe.performance.engine:
                self.observer.note(f"clipping by value needs the {engine.name} engine; using it")
            rehearse(model, loss_fn, loaded.spec, engine)
        trainer = Trainer(
            model=model,
            loss_fn=loss_fn,
            examples=loaded.train,
            steps=self.plan.steps,
            expected_batch_size=training.expected_batch_size,
            training=training,
            performance=recipe.performance,
            stream=self.stream,
            plan=self.plan.dpsgd.plan() if self.plan.dpsgd else None,
            engine=engine,
            run_id=self.state.run,
        )
        found = read_checkpoint(self.out)
        if found is not None:
            trainer.restore(found)
        return trainer

    def _end_early(self, step: int, reservation: Reservation | None, reason: str) -> None:
        """Commit the steps that ran; there is no way on from here."""
        if reservation is not None:
            reservation.commit(self.plan.event_after(step))
        self.state = replace(self.state, ended=reason)
        write_state(self.out, self.state)

    def _commit(self, reservation: Reservation | None) -> str:
        """Commit what ran; returns the digest of the ledger's entry."""
        if reservation is not None:
            return reservation.commit(self.plan.event_after(self.plan.steps)).digest
        line = next(line for line in self.ledger.statement(self.dataset).lines if line.run == self.state.run)
        entries = self.ledger.history(self.dataset)
        return next(
            entry.digest
            for entry in entries
            if entry.kind == Kind.COMMIT and entry.body["reservation"] == line.reservation
        )


def _stream(recipe: Recipe) -> SecureStream:
    """A stream under a new key; under the recipe's seed only where it says `insecure_seed`."""
    if not recipe.training.insecure_seed:
        return SecureStream()
    return SecureStream(hashlib.sha256(b"cloister insecure seed %d" % recipe.training.seed).digest())
