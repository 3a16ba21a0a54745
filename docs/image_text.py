"""Train the heads of the image-text score on the six-style emoji, and measure them on concepts that they never saw.

    skipdit weights fetch efficientnet minilm minilm-words
    skipdit data emoji
    python docs/image_text.py data/emoji    # writes networks/weights/image_text.safetensors, records/image_text.jsonl

Features are looked at once and kept in out/image_text. 190 concepts, chosen by a hash of their names, are held out in
all their styles; 190 others (--choose) are what settings were chosen on, and are trained on in the end.
"""

import argparse
import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch
from kept import by_efficientnet
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from skipdit.aside import written_aside
from skipdit.data.images import ImageSet, read_images
from skipdit.evaluate.images import of_data
from skipdit.metrics.image_text import image_text
from skipdit.networks.image_text import FILE, ImageText
from skipdit.networks.minilm import read
from skipdit.results import Provenance, Record, write

HERE, OUT = Path(__file__).parent, Path("out/image_text")
RECORDS = HERE / "records" / "image_text.jsonl"
SIDES = (64, 32)  # pixels: our models draw 32
HELD_OUT = 190  # concepts
BATCH, RATE, DECAY, DROPOUT = 512, 1e-3, 0.05, 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--choose", action="store_true", help="hold out the other 190, print, and write nothing")
    said = parser.parse_args()
    torch.manual_seed(said.seed)
    data = read_images(said.data)
    tags = captions(said.data, data)
    seen = {s: by_efficientnet(OUT / f"images-{s}.safetensors", of_data(said.data, data.resized(s))) for s in SIDES}
    texts = [read(data.class_names), read(tags)]
    final, other = held_out(data.class_names)
    held = final | other if said.choose else final
    known = torch.tensor([name not in held for name in data.class_names])  # (C,)
    net = trained(seen, texts, data.y, known, said.epochs)
    judged = other if said.choose else final
    records = list(_measured(net, seen, texts[0], data, known, judged, said))
    for record in records:
        print(record.name, {name: round(value, 3) for name, value in record.figures.items()})
    if not said.choose:
        with written_aside(FILE) as aside:
            save_file({name: tensor.half().contiguous() for name, tensor in net.state_dict().items()}, aside)
        write(RECORDS, records)


# ---- data -----------------------------------------------------------------------------------------------------------


def captions(folder: Path, data: ImageSet) -> list[str]:
    """Each concept's label with its tags behind."""
    import json

    tags = {row["label"]: row["tags"] for row in json.loads((folder / "rows.json").read_text(encoding="utf-8"))}
    return [", ".join([name, *(tag for tag in tags[name] if tag != name)]) for name in data.class_names]


def held_out(names: tuple[str, ...]) -> tuple[set[str], set[str]]:
    """Two sets of concepts, by a hash of their names: the same for everybody."""
    order = sorted(names, key=lambda name: hashlib.sha256(f"image-text|{name}".encode()).digest())
    return set(order[:HELD_OUT]), set(order[HELD_OUT : 2 * HELD_OUT])


# ---- train ----------------------------------------------------------------------------------------------------------


def trained(seen: dict[int, Tensor], texts: list[Tensor], y: Tensor, known: Tensor, epochs: int) -> ImageText:
    """Symmetric InfoNCE (arXiv 2103.00020, figure 3) over the pictures (N,) whose concepts (C,) are known."""
    net = ImageText(DROPOUT)
    rows = known[y].nonzero().flatten()
    total = epochs * (len(rows) // BATCH)
    best = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
    plan = torch.optim.lr_scheduler.OneCycleLR(best, RATE, total_steps=total, pct_start=0.1)
    for images, sentences, concepts in tqdm(_batches(seen, texts, y, rows, epochs), total=total, desc="training"):
        cosines = net.see(images) @ net.read(sentences).T  # (B, B)
        loss = info_nce(net.scale.exp().clamp(max=100) * cosines, concepts)
        best.zero_grad()
        loss.backward()
        best.step()
        plan.step()
    return net.eval()


def info_nce(logits: Tensor, concepts: Tensor) -> Tensor:
    """Of images (rows) and texts (columns) (B, B). Others of one's own concept aren't wrong: they are left out."""
    same = concepts[:, None] == concepts  # (B, B)
    logits = logits.masked_fill(same & ~torch.eye(len(same), dtype=torch.bool), -torch.inf)
    right = torch.arange(len(logits))
    return (functional.cross_entropy(logits, right) + functional.cross_entropy(logits.T, right)) / 2


def _batches(
    seen: dict[int, Tensor], texts: list[Tensor], y: Tensor, rows: Tensor, epochs: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Pictures at a size by chance, their label with tags or without by chance, their concepts."""
    sizes, kinds = torch.stack(list(seen.values())), torch.stack(texts)  # (S, N, 1280), (2, C, 384)
    for _ in range(epochs):
        order = rows[torch.randperm(len(rows))]
        for batch in order[: len(order) // BATCH * BATCH].split(BATCH):
            size, kind = (torch.randint(0, len(each), (BATCH,)) for each in (sizes, kinds))
            yield sizes[size, batch], kinds[kind, y[batch]], y[batch]


# ---- measure --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def _measured(
    net: ImageText,
    seen: dict[int, Tensor],
    labels: Tensor,
    data: ImageSet,
    known: Tensor,
    judged: set[str],
    said: argparse.Namespace,
) -> Iterator[Record]:
    """Recall among the captions of the concepts held out, by size and style; and among all of what was trained on."""
    where = Provenance.here("float32", BATCH, said.epochs, said.seed)
    assert data.style is not None
    held = torch.tensor([name in judged for name in data.class_names])  # (C,)
    for side, found in seen.items():
        for name, concepts in (("held out", held), ("trained on", known)):
            number = torch.cumsum(concepts, 0) - 1  # of each concept among these
            texts = net.read(labels[concepts])
            for style in (None, *range(len(data.style_names))) if name == "held out" else (None,):
                rows = concepts[data.y] & (True if style is None else data.style == style)
                score = image_text(net.see(found[rows]), texts, number[data.y[rows]])
                which = "all styles" if style is None else data.style_names[style]
                figures = {**score._asdict(), "pictures": int(rows.sum()), "captions": len(texts)}
                yield Record(f"image_text, {name}, {side} x {side}, {which}", "", figures, where)


if __name__ == "__main__":
    main()
