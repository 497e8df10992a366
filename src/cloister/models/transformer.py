"""A small transformer: a causal decoder for language modeling, an encoder for classification of text.

Shapes: B examples, T tokens, D model width, H heads, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from cloister.errors import InputError

if TYPE_CHECKING:
    from cloister.models.settings import ModelSettings, Spec

__all__ = ["TextClassifier", "TextDecoder", "transformer"]

_EXPANSION = 4
_INIT_STD = 0.02


def transformer(settings: ModelSettings, spec: Spec) -> nn.Module:
    """The transformer for the task of `spec`, whose inputs must be tokens."""
    if spec.vocab_size is None or spec.context is None:
        raise InputError(f"transformer needs text and inputs have shape {spec.input_shape}", hint="use mlp or cnn")
    if spec.task == "language_modeling":
        return TextDecoder(settings, vocab_size=spec.vocab_size, context=spec.context)
    return TextClassifier(
        settings,
        vocab_size=spec.vocab_size,
        context=spec.context,
        num_outputs=spec.num_outputs,
        padding=spec.padding,
    )


class TextDecoder(nn.Module):
    """Tokens ``(B, T)`` to logits of the next token ``(B, T, V)``; position t sees positions up to t only.

    Padding stands at the end, so causality already hides it from every real token.
    """

    def __init__(self, settings: ModelSettings, *, vocab_size: int, context: int) -> None:
        super().__init__()
        self.embedding = _Embedding(settings, vocab_size=vocab_size, context=context)
        self.blocks = nn.ModuleList(_Block(settings) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(settings.width)
        self.head = nn.Linear(settings.width, vocab_size, bias=False)
        self.apply(_initialize)
        if settings.tie_embeddings:
            self.head.weight = self.embedding.token.weight

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits, ``(B, T, V)``."""
        x_BTD = self.embedding(tokens_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD, None)
        logits_BTV: Tensor = self.head(self.norm(x_BTD))
        return logits_BTV


class TextClassifier(nn.Module):
    """Tokens ``(B, T)`` to outputs ``(B, K)``: every token sees all but padding; their mean is classified."""

    def __init__(
        self, settings: ModelSettings, *, vocab_size: int, context: int, num_outputs: int, padding: int | None
    ) -> None:
        super().__init__()
        self.padding = padding
        self.embedding = _Embedding(settings, vocab_size=vocab_size, context=context)
        self.blocks = nn.ModuleList(_Block(settings) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(settings.width)
        self.head = nn.Linear(settings.width, num_outputs)
        self.apply(_initialize)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Outputs, ``(B, K)``."""
        seen_BT = self._seen(tokens_BT)
        x_BTD = self.embedding(tokens_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD, seen_BT)
        weights_BT1 = seen_BT.to(x_BTD.dtype)[:, :, None]
        mean_BD = (self.norm(x_BTD) * weights_BT1).sum(dim=1) / weights_BT1.sum(dim=1)
        outputs_BK: Tensor = self.head(mean_BD)
        return outputs_BK

    def _seen(self, tokens_BT: Tensor) -> Tensor:
        """True for tokens; the first position counts always, so that no mean is over nothing."""
        seen_BT = torch.ones_like(tokens_BT, dtype=torch.bool)
        if self.padding is not None:
            first_BT = torch.arange(tokens_BT.shape[1], device=tokens_BT.device).expand_as(tokens_BT) == 0
            seen_BT = (tokens_BT != self.padding) | first_BT
        return seen_BT


class _Embedding(nn.Module):
    """Token plus position embedding.

    Positions are looked up for every example, ``(B, T)``, not once for the batch, so that the gradient of each
    example's use of the position table can be told apart.
    """

    def __init__(self, settings: ModelSettings, *, vocab_size: int, context: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab_size, settings.width)
        self.position = nn.Embedding(context, settings.width)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        positions_BT = torch.arange(tokens_BT.shape[1], device=tokens_BT.device).expand_as(tokens_BT)
        x_BTD: Tensor = self.dropout(self.token(tokens_BT) + self.position(positions_BT))
        return x_BTD


class _Block(nn.Module):
    """Attention and a feed-forward layer, each after a normalization and added to its input."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(settings.width)
        self.attention = _Attention(settings)
        self.feed_forward_norm = nn.LayerNorm(settings.width)
        self.feed_forward = nn.Sequential(
            nn.Linear(settings.width, _EXPANSION * settings.width),
            nn.GELU(),
            nn.Linear(_EXPANSION * settings.width, settings.width),
        )
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x_BTD: Tensor, seen_BT: Tensor | None) -> Tensor:
        x_BTD = x_BTD + self.dropout(self.attention(self.attention_norm(x_BTD), seen_BT))
        y_BTD: Tensor = x_BTD + self.dropout(self.feed_forward(self.feed_forward_norm(x_BTD)))
        return y_BTD


class _Attention(nn.Module):
    """Multi-head attention: causal, or over the tokens that `seen_BT` names."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.heads = settings.heads
        self.query_key_value = nn.Linear(settings.width, 3 * settings.width)
        self.out = nn.Linear(settings.width, settings.width)

    def forward(self, x_BTD: Tensor, seen_BT: Tensor | None) -> Tensor:
        joined = self.query_key_value(x_BTD).unflatten(-1, (3, self.heads, -1))
        query, key, value = (part.transpose(1, 2) for part in joined.unbind(dim=2))
        mask = None if seen_BT is None else seen_BT[:, None, None, :]
        mixed_BHTd = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=seen_BT is None
        )
        mixed_BTD: Tensor = self.out(mixed_BHTd.transpose(1, 2).flatten(2))
        return mixed_BTD


def _initialize(module: nn.Module) -> None:
    if isinstance(module, (nn.Embedding, nn.Linear)):
        nn.init.normal_(module.weight, std=_INIT_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
