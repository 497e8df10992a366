"""Small models that use every operation with a rule."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


def lenet(dtype=torch.float64):
    return nn.Sequential(
        nn.Conv2d(1, 4, 5, stride=2, padding=2),
        nn.Tanh(),
        nn.MaxPool2d(2, 1),
        nn.GroupNorm(2, 4),
        nn.Conv2d(4, 6, 3, padding="same", groups=2),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(54, 8),
        nn.Tanh(),
        nn.Linear(8, 3),
    ).to(dtype)


def images(examples, dtype=torch.float64):
    return torch.randn(examples, 1, 14, 14, dtype=dtype), torch.randint(0, 3, (examples,))


class Transformer(nn.Module):
    """Decoder with position table, fused attention, RMS and layer norm, and a head tied to the embedding."""

    def __init__(self, *, tokens=13, width=8, layers=2, length=6, tied=True, dtype=torch.float64):
        super().__init__()
        self.embedding = nn.Embedding(tokens, width, padding_idx=0)
        self.position = nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, tokens, bias=False)
        if tied:
            self.head.weight = self.embedding.weight
        self.register_buffer("places", torch.arange(length))
        self.to(dtype)

    def forward(self, x):
        places = self.places[: x.shape[1]].expand(len(x), -1)
        h = self.embedding(x) + self.position(places)
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h))


class Block(nn.Module):
    def __init__(self, width, heads=2):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.attention = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.wide = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)

    def forward(self, h):
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in self.attention(self.norms[0](h)).chunk(3, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.output(mixed.transpose(1, 2).flatten(2))
        return h + self.narrow(F.gelu(self.wide(self.norms[1](h))))


def tokens(examples, length=6, vocabulary=13):
    return torch.randint(0, vocabulary, (examples, length)), torch.randint(0, vocabulary, (examples, length))
