"""Draw docs/samples.png: a grid of the shipped Skip-DiT's concepts, each in one of the six styles, none chosen by eye.

python docs/samples.py
"""

import argparse
from pathlib import Path

import skipdit
from skipdit import pictures
from skipdit.backbones.dit import DiT


def main() -> None:
    for name in ("emoji-skip", "emoji-plain"):
        model = DiT.from_pretrained(name)
        names, styles = model.config.class_names, model.config.style_names
        labels = names[::2]
        chosen = [styles[i % len(styles)] for i in range(len(labels))]
        images = skipdit.sample(model, labels, chosen, steps=50, guidance=2.0, seed=0)
        path = Path(__file__).with_name("samples.png" if name == "emoji-skip" else "samples_plain.png")
        pictures.save(pictures.grid(images, columns=19), path)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()
