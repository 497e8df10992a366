"""What a finished run leaves behind: weights, configuration, record."""

from __future__ import annotations

import math
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from cloister._canonical import digest_file
from cloister._version import __version__
from cloister.accounting import Relation, Unit
from cloister.mechanisms import AdaptiveClip, Value
from cloister.models import ModelConfig, save_model
from cloister.records import DatasetRecord, PlanRecord, SpendingLine, SpendingRecord, TrainingRecord, write_record

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from cloister.data import Loaded
    from cloister.ledger import Statement
    from cloister.training.planning import RunPlan
    from cloister.training.recipe import Recipe

__all__ = ["Outcome", "save_run"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the plan could not know.

    Attributes:
        run: Identifier of the run.
        dataset: Name of the data set in the ledger.
        content: Digest of the training data.
        seconds: Time spent in steps.
        engine: Which clipping engine computed the gradients.
        device: Where.
        utility: (step, metrics) on the test set.
        committed: Digest of the ledger's entry for this run.
        statement: The ledger's statement after it.
    """

    run: str
    dataset: str
    content: str
    seconds: float
    engine: str
    device: str
    utility: tuple[tuple[int, dict[str, float]], ...]
    committed: str
    statement: Statement


def save_run(
    out: Path, *, recipe: Recipe, plan: RunPlan, loaded: Loaded, model: nn.Module, outcome: Outcome
) -> TrainingRecord:
    """Write ``model.safetensors``, ``config.json`` and, last, ``record.json``."""
    save_model(out, model, ModelConfig(settings=recipe.model, spec=loaded.spec, preprocessing=loaded.preprocessing))
    record = TrainingRecord(
        run=outcome.run,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe=dict(recipe.table),
        dataset=DatasetRecord(
            name=outcome.dataset,
            digest=outcome.content,
            examples=plan.num_examples,
            unit=Unit(recipe.data.unit),
            relation=Relation(recipe.privacy.relation),
            notes=loaded.notes,
        ),
        plan=_plan_record(recipe, plan, model, outcome),
        event=plan.event_after(plan.steps),
        guarantee=plan.guarantee,
        steps=plan.steps,
        examples=plan.num_examples,
        seconds=round(outcome.seconds, 3),
        test=outcome.utility[-1][1] if outcome.utility else None,
        privacy_curve=plan.curve,
        utility_curve=outcome.utility,
        spending=_spending_record(outcome),
        model_digest=digest_file(out / "model.safetensors"),
        parameters=sum(p.numel() for p in model.parameters()),
        versions=_versions(),
        device=outcome.device,
        not_protected=_not_protected(recipe, loaded),
        notes=plan.notes,
    )
    write_record(out, record)
    return record


def _plan_record(recipe: Recipe, plan: RunPlan, model: nn.Module, outcome: Outcome) -> PlanRecord:
    training, dpsgd = recipe.training, plan.dpsgd
    common: dict[str, Any] = {
        "steps": plan.steps,
        "expected_batch_size": float(training.expected_batch_size),
        "max_batch_size": training.max_batch_size,
        "sampling": "poisson" if training.max_batch_size is None else "truncated_poisson",
        "sampling_prob": min(1.0, training.expected_batch_size / plan.num_examples),
        "optimizer": training.optimizer,
        "learning_rate": training.learning_rate,
        "engine": outcome.engine,
        "views": training.augmentation_multiplicity,
    }
    if dpsgd is None:
        return PlanRecord(clipping="none", **common)
    bound = dpsgd.plan()
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    sensitivity = bound.first_clip.sensitivity(parameters)
    is_value, is_adaptive = isinstance(bound.first_clip, Value), isinstance(dpsgd.clipping, AdaptiveClip)
    return PlanRecord(
        clipping=training.clipping,
        clip_norm=None if is_value else training.clip_norm,
        clip_low=training.clip_low,
        clip_high=training.clip_high,
        sensitivity=sensitivity,
        noise_multiplier=dpsgd.noise_multiplier,
        # With adaptive clipping it moves with the clip norm.
        noise_stddev=None if is_adaptive else bound.gradient_noise_multiplier * sensitivity,
        **common,
    )


def _spending_record(outcome: Outcome) -> SpendingRecord:
    statement = outcome.statement

    def finite(epsilon: float) -> float | None:
        return epsilon if math.isfinite(epsilon) else None

    return SpendingRecord(
        budget=statement.budget,
        epsilon_spent=finite(statement.spent),
        epsilon_remaining=statement.remaining,
        lines=tuple(
            SpendingLine(run=line.run, status=line.status.value, epsilon=finite(line.epsilon), time=line.time)
            for line in statement.lines
        ),
        head=statement.head,
        entry=outcome.committed,
        warnings=statement.warnings,
    )


def _versions() -> dict[str, str]:
    packages = ("torch", "dp-accounting", "numpy", "cryptography")
    return {"cloister": __version__, "python": platform.python_version()} | {name: version(name) for name in packages}


def _not_protected(recipe: Recipe, loaded: Loaded) -> tuple[str, ...]:
    if not recipe.training.insecure_seed:
        return loaded.notes
    return ("sampling and noise follow from a seed in the recipe: who knows it can subtract the noise", *loaded.notes)
