"""The formulas of a DiT from its weights alone, in float64: what the models are held to."""

import math

import torch
from torch import Tensor


def normed(x: Tensor) -> Tensor:
    """LayerNorm without weights."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def affine(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return torch.einsum("...i,oi->...o", x, w[f"{name}.weight"]) + w[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def condition(w: dict[str, Tensor], t: Tensor, y: Tensor, style: Tensor | None) -> Tensor:
    waves = torch.empty(len(t), 256, dtype=torch.float64)
    for k in range(128):
        angle = t.double() * 10000 ** (-k / 128)
        waves[:, k], waves[:, 128 + k] = angle.cos(), angle.sin()
    hidden = affine(w, "t_embedder.mlp.0", waves)
    c = affine(w, "t_embedder.mlp.2", hidden * hidden.sigmoid()) + w["y_embedder.embedding_table.weight"][y]
    return c if style is None else c + w["style_embedder.embedding_table.weight"][style]


def attention(w: dict[str, Tensor], name: str, x: Tensor, heads: int) -> Tensor:
    """One head at a time, with the softmax written out."""
    width, answers = x.shape[-1], []
    qkv = affine(w, f"{name}.qkv", x)
    for h in range(heads):
        part = [slice(k * width + h * width // heads, k * width + (h + 1) * width // heads) for k in range(3)]
        q, k, v = (qkv[..., p] for p in part)
        scores = (q @ k.mT / math.sqrt(width // heads)).exp()
        answers.append(scores / scores.sum(-1, keepdim=True) @ v)
    return affine(w, f"{name}.proj", torch.cat(answers, -1))
