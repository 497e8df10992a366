"""From a recipe to a trained model: plan, steps, checkpoints, record."""

from cloister.training.dpsgd import DPSGD, Plan
from cloister.training.gradient import NoisyGradient, noisy_gradient
from cloister.training.observer import Interrupted, Observer
from cloister.training.planning import RunPlan, plan_run
from cloister.training.recipe import Performance, Privacy, Recipe, Training
from cloister.training.rehearsal import Memory, estimate_memory
from cloister.training.run import train
from cloister.training.trainer import Diverged, StepReport, Trainer

__all__ = [
    "DPSGD",
    "Diverged",
    "Interrupted",
    "Memory",
    "NoisyGradient",
    "Observer",
    "Performance",
    "Plan",
    "Privacy",
    "Recipe",
    "RunPlan",
    "StepReport",
    "Trainer",
    "Training",
    "estimate_memory",
    "noisy_gradient",
    "plan_run",
    "train",
]
