"""The steps of a run, cut at checkpoints and evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloister.models import evaluate
from cloister.training.checkpoint import read_checkpoint, write_checkpoint
from cloister.training.diagnostics import DiagnosticsFile
from cloister.training.observer import Interrupted

if TYPE_CHECKING:
    from pathlib import Path

    from cloister.data import Loaded
    from cloister.training.observer import Observer
    from cloister.training.recipe import Recipe, Training
    from cloister.training.trainer import StepReport, Trainer

__all__ = ["Utility", "fit"]

Utility = tuple[tuple[int, dict[str, float]], ...]


def fit(trainer: Trainer, loaded: Loaded, *, recipe: Recipe, out: Path, observer: Observer) -> Utility:
    """Train to the last step, with a checkpoint wherever one is due, and return what was measured on the way.

    Raises:
        Interrupted: The observer asked to stop; the last finished step is in the checkpoint.
        Diverged: A weight is no longer finite.
    """
    found = read_checkpoint(out)
    utility = found.utility if found else ()
    observer.started(trainer.step, trainer.steps)
    with DiagnosticsFile(out, after_step=trainer.step) as diagnostics:

        def on_step(report: StepReport) -> bool:
            diagnostics.write(report)
            observer.stepped(report)
            return not observer.should_stop()

        while trainer.step < trainer.steps:
            trainer.run(_next_stop(trainer, recipe.training), on_step)
            diagnostics.flush()
            utility = _keep(trainer, loaded, utility, recipe=recipe, out=out, observer=observer)
            if observer.should_stop() and trainer.step < trainer.steps:
                raise Interrupted(
                    f"stopped after step {trainer.step} of {trainer.steps}; the checkpoint is in {out}",
                    hint="go on with the same command and --resume; the reserved budget stays reserved",
                )
    return utility


def _next_stop(trainer: Trainer, training: Training) -> int:
    periods = [period for period in (training.checkpoint_every, training.evaluate_every) if period]
    return min(trainer.steps, *((trainer.step // period + 1) * period for period in periods))


def _keep(
    trainer: Trainer, loaded: Loaded, utility: Utility, *, recipe: Recipe, out: Path, observer: Observer
) -> Utility:
    """Write a checkpoint, and only then look at the model: what is lost later has then not been seen."""
    write_checkpoint(out, trainer.checkpoint(utility))
    every = recipe.training.evaluate_every
    due = trainer.step == trainer.steps or (every and trainer.step % every == 0)
    if not due or loaded.test is None:
        return utility
    with trainer.released() as model:
        metrics = evaluate(
            model,
            trainer.loss_fn,
            loaded.test,
            batch_size=recipe.performance.physical_batch_size,
            task=loaded.spec.task,
            target_scale=loaded.spec.target_scale,
        )
    utility = (*utility, (trainer.step, metrics))
    write_checkpoint(out, trainer.checkpoint(utility))
    observer.evaluated(trainer.step, metrics)
    return utility
