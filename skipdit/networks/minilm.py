"""all-MiniLM-L6-v2, a small encoder of sentences: 384 numbers a text, near each other where the meanings are."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from skipdit.networks.fetch import Unavailable, weights

WIDTH, HIDDEN, HEADS, DEPTH, WORDS, PLACES = 384, 1536, 12, 6, 30_522, 512
LONGEST = 256  # tokens it was trained with: longer texts are cut
NAMES = {  # in the file: here
    "embeddings.word_embeddings": "words",
    "embeddings.position_embeddings": "places",
    "embeddings.token_type_embeddings": "kinds",
    "embeddings.LayerNorm": "norm",
    "encoder.layer": "layers",
    "attention.self.": "",
    "attention.output.dense": "out",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "norm2",
}


def _norm() -> nn.LayerNorm:
    return nn.LayerNorm(WIDTH, eps=1e-12)


class Layer(nn.Module):
    """Attention, then an MLP, each added to its input and normalised behind (arXiv 1810.04805)."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.norm1, self.norm2 = _norm(), _norm()

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """x (B, T, D) and which tokens are there, (B, T) bool."""
        q, k, v = (part(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (self.query, self.key, self.value))
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=there[:, None, None])  # (B, H, T, D/H)
        x = self.norm1(x + self.out(y.transpose(1, 2).flatten(2)))  # (B, T, D)
        return self.norm2(x + self.down(functional.gelu(self.up(x))))


class MiniLM(nn.Module):
    """Tokens (B, T), and which are there, (B, T) bool -> unit vectors (B, 384) (arXiv 2002.10957, 1908.10084)."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places, self.kinds = (nn.Embedding(count, WIDTH) for count in (WORDS, PLACES, 2))
        self.norm = _norm()
        self.layers = nn.ModuleList(Layer() for _ in range(DEPTH))

    def forward(self, tokens: Tensor, there: Tensor) -> Tensor:
        x = self.norm(self.words(tokens) + self.places.weight[: tokens.shape[1]] + self.kinds.weight[0])  # (B, T, D)
        for layer in self.layers:
            x = layer(x, there)
        weight = there[..., None].to(x.dtype)
        return functional.normalize((x * weight).sum(1) / weight.sum(1), dim=-1)  # (B, D), the mean of the tokens


@cache
def minilm(device: str = "cpu") -> MiniLM:
    """The network with its weights, frozen. Raises Unavailable where they aren't there."""
    net, state = MiniLM(), {}
    for name, tensor in load_file(weights("minilm")).items():
        if not name.startswith("pooler") and name != "embeddings.position_ids":
            for theirs, ours in NAMES.items():
                name = name.replace(theirs, ours)
            state[name] = tensor
    net.load_state_dict(state)
    return net.requires_grad_(False).eval().to(device)


@cache
def tokenizer() -> Any:
    """Its tokenizer, which fills a batch up to its longest text. Raises Unavailable where it can't be had."""
    path = weights("minilm-words")
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise Unavailable("texts are read by the package tokenizers: pip install 'skipdit[metrics]'") from None
    made = Tokenizer.from_file(str(path))
    made.enable_truncation(LONGEST)
    made.enable_padding()
    return made


@torch.no_grad()
def read(
    texts: Sequence[str],
    device: str = "cpu",
    batch_size: int = 64,
    on_batch: Callable[[int], None] = lambda done: None,
) -> Tensor:
    """Texts -> unit vectors (N, 384) on the CPU. Raises ValueError for no texts."""
    if not texts:
        raise ValueError("minilm: there are no texts to read")
    net, parts = minilm(device), []
    for start in range(0, len(texts), batch_size):
        rows = tokenizer().encode_batch(list(texts[start : start + batch_size]))
        tokens, there = (torch.tensor([getattr(row, name) for row in rows]) for name in ("ids", "attention_mask"))
        parts.append(net(tokens.to(device), there.bool().to(device)).cpu())
        on_batch(min(len(texts), start + batch_size))
    return torch.cat(parts)
