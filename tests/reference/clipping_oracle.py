"""One example at a time, plain autograd, in the words of the definition: what every engine must reproduce."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from cloister.mechanisms.clip import Automatic, Flat, PerLayer, Value

MARGIN = 1 - 1e-5
CLIPS = (Flat(clip_norm=0.3), PerLayer(clip_norm=0.3), Automatic(clip_norm=0.7))
VALUE = Value(low=-0.01, high=0.02)


def gradients(model, loss_fn, batch, views=1):
    """Each example's gradient, {name: tensor} for each."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    result = []
    for i in range(len(batch[0]) // views):
        loss = loss_fn(model, tuple(t[i * views : (i + 1) * views] for t in batch)).mean()
        grads = torch.autograd.grad(loss, list(named.values()), allow_unused=True, materialize_grads=True)
        result.append(dict(zip(named, grads, strict=True)))
    return result


def clipped(gradient, clip):
    """One example's clipped gradient."""
    match clip:
        case Value():
            return {name: g.clamp(clip.low, clip.high) for name, g in gradient.items()}
        case Flat() | Automatic():
            groups = dict.fromkeys(gradient, "all")
            bound = clip.clip_norm
        case PerLayer():
            groups = {name: name.rpartition(".")[0] for name in gradient}
            bound = clip.clip_norm / math.sqrt(len(set(groups.values())))
    norms = {g: norm({n: v for n, v in gradient.items() if groups[n] == g}) for g in groups.values()}
    if isinstance(clip, Automatic):
        factors = {g: bound / (value + clip.stability) for g, value in norms.items()}
    else:
        factors = {g: min(1.0, bound / value) if value else 1.0 for g, value in norms.items()}
    return {name: v * factors[groups[name]] * MARGIN for name, v in gradient.items()}


def norm(gradient):
    return math.sqrt(sum(float(g.double().square().sum()) for g in gradient.values()))


def assert_reproduces(engine, model, loss_fn, batch, clip, *, views=1, tolerance=1e-10):
    """The engine's result is the sum of clipped one-at-a-time gradients, to a tolerance relative to its size."""
    singles = gradients(model, loss_fn, batch, views)
    parts = [clipped(g, clip) for g in singles]
    expected = {name: sum(part[name] for part in parts) for name in singles[0]}
    result = engine.clipped_sum(model, loss_fn, batch, clip, views=views)
    assert list(result.grads) == list(expected)
    scale = sum(max(float(g.abs().max()) for g in part.values()) for part in parts)
    for name, grad in expected.items():
        assert result.grads[name].shape == grad.shape
        error = float((result.grads[name] - grad).abs().max())
        assert error <= tolerance * scale, (engine, name, error / scale)
    norms = torch.tensor([norm(g) for g in singles], dtype=torch.float64)
    assert torch.allclose(result.norms_B.double(), norms, rtol=max(tolerance, 1e-12), atol=0)
    losses = loss_fn(model, batch).detach().reshape(-1, views).mean(dim=1).double()
    assert torch.allclose(result.losses_B.double(), losses, rtol=max(10 * tolerance, 1e-12))
    return result


def cross_entropy(forward, batch):
    inputs, labels = batch
    return F.cross_entropy(forward(inputs), labels, reduction="none")


def next_token_loss(forward, batch):
    tokens, targets = batch
    losses = F.cross_entropy(forward(tokens).transpose(1, 2), targets, reduction="none", ignore_index=-100)
    counts = (targets != -100).sum(dim=1).clamp(min=1)
    return losses.sum(dim=1) / counts
