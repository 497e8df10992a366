"""The one door to the transformers library: pretrained models from a local directory, safetensors only."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from cloister.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from pathlib import Path

    from cloister.models.settings import Spec

__all__ = ["HuggingFaceModel", "load_hugging_face"]


class HuggingFaceModel(nn.Module):
    """Tokens ``(B, T)`` to logits: ``(B, T, V)`` for language modeling, ``(B, K)`` for classification.

    Args:
        model: A model of the transformers library.
        padding: The padding token of the data; it is masked, and need not be in the model's vocabulary.
    """

    def __init__(self, model: nn.Module, *, padding: int | None) -> None:
        super().__init__()
        self.model = model
        self.padding = padding

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits."""
        if self.padding is None:
            logits: Tensor = self.model(input_ids=tokens_BT).logits
            return logits
        is_padding_BT = tokens_BT == self.padding
        tokens_BT = tokens_BT.masked_fill(is_padding_BT, 0)
        logits = self.model(input_ids=tokens_BT, attention_mask=(~is_padding_BT).long()).logits
        return logits


def load_hugging_face(directory: Path, spec: Spec) -> HuggingFaceModel:
    """A pretrained model with its weights; nothing is fetched, no code of the directory is run.

    Raises:
        MissingExtra: The transformers library is not installed.
        InputError: No model there, or the task has no such model.
    """
    try:
        transformers: Any = importlib.import_module("transformers")
    except ModuleNotFoundError:
        raise MissingExtra("transformers", extra="hf") from None
    if not (directory / "config.json").is_file():
        raise InputError(f"{directory} holds no config.json", hint="name the directory of a saved model")
    options: dict[str, Any] = {"local_files_only": True, "use_safetensors": True, "trust_remote_code": False}
    try:
        if spec.task == "language_modeling":
            model = transformers.AutoModelForCausalLM.from_pretrained(str(directory), **options)
        elif spec.task == "classification":
            model = transformers.AutoModelForSequenceClassification.from_pretrained(
                str(directory), num_labels=spec.num_outputs, **options
            )
        else:
            raise InputError(f"hf models do not know the task {spec.task!r}")
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{directory} is not a model that transformers can load: {error}") from error
    if getattr(model.config, "pad_token_id", None) is None and spec.task == "classification":
        model.config.pad_token_id = 0  # what masked padding is replaced by
    return HuggingFaceModel(model, padding=spec.padding)
