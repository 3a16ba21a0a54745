"""The sampling loop: seeds, names, the scheduler; what a step asks of the model is in branches.py and passes/."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from skipdit.branches import Branches, Condition, Passes, Tally
from skipdit.catalog import Catalog, called, near
from skipdit.core.policy import Memory
from skipdit.core.run import active
from skipdit.diffusion import SAMPLERS, path_of

Label = int | str
OnStep = Callable[[int, int], None]  # (steps done, steps in all) over the whole call
FULL = Passes()


@torch.no_grad()
def sample(
    model: Any,
    labels: Sequence[Label] | Label,
    styles: Sequence[Label] | Label | None = None,
    steps: int = 50,
    guidance: float = 2.0,
    seed: int | Sequence[int] = 0,
    sampler: str | None = None,
    two_pass: bool = False,
    batch_size: int = 64,
    on_step: OnStep | None = None,
    passes: Passes | str | None = None,
    tally: Tally | None = None,
) -> Tensor:
    """Draw one image a label: (N, C, H, W) in [-1, 1], float32, on the model's device. Of a Latte, one video:
    (N, F, C, H, W), of `num_frames` frames. Latents (other than three channels) are not bounded.

    labels, styles    names or numbers; one style serves all labels. Without classes: 0 for each image
    guidance          scale of classifier-free guidance (arXiv 2207.12598); 1 draws without. The class is dropped in the
                      other branch, the style stays
    seed              every image has its own noise, drawn from the seed, its label, its style and how many of its kind
                      came before it: the same whatever the batch size or the order. A list gives each image its seed
    sampler           one of the model's: "ddim", "ddpm", "dpm++" or "euler" (flow)
    two_pass          the branches run one after the other, as streams "cond" and "uncond", in place of one batch
    passes            what a step asks of the model, such as `passes.reuse(every=2)` or its spelling. One that leaves a
                      branch out runs the branches one after the other where a policy is attached
    tally             counts the passes made

    Raises ValueError, with near matches, for an unknown name, and for settings that don't fit the model.
    """
    y, style = conditions(model, labels, styles)
    _check(model, steps, guidance, batch_size)
    asked = _passes(passes, guidance)
    device = next(model.parameters()).device
    config = model.config
    sampler = sampler or SAMPLERS[config.prediction][0]
    run = active(model)
    if run is not None and hasattr(run.policy.when, "refuse"):  # a plan belongs to one sampler and number of steps
        run.policy.when.refuse(sampler, steps)
    generators = [torch.Generator().manual_seed(s) for s in seeds(seed, y, style)]
    shape = shape_of(config)
    images = []
    batches = -(-len(y) // batch_size)
    was_training = model.training
    model.eval()
    try:
        for number in range(batches):
            rows = slice(number * batch_size, (number + 1) * batch_size)
            x = torch.stack([torch.randn(shape, generator=g) for g in generators[rows]]).to(device)  # (B, C, H, W)
            condition = (y[rows].to(device), None if style is None else style[rows].to(device))
            states = _denoise(model, x, condition, steps, guidance, sampler, two_pass, generators[rows], asked, tally)
            for done, x in enumerate(states, start=1):  # noqa: B007 (the last one is the image)
                if on_step:
                    on_step(number * steps + done, batches * steps)
            images.append(x)
    finally:
        model.train(was_training)
    drawn = torch.cat(images).float()  # (N, C, H, W)
    return drawn.clamp(-1, 1) if config.in_channels == 3 else drawn


def _denoise(
    model: Any,
    x: Tensor,
    condition: Condition,
    steps: int,
    guidance: float,
    sampler: str,
    two_pass: bool,
    generators: list[torch.Generator],
    passes: Passes = FULL,
    tally: Tally | None = None,
) -> Iterator[Tensor]:
    """The states x_t (B, C, H, W) of one batch, one a step, ending with the image."""
    path = path_of(model.config.prediction, model.config.learn_sigma)
    pixels = model.config.in_channels == 3
    scheduler = path.scheduler(sampler, clip_sample=pixels)
    scheduler.set_timesteps(steps, device=x.device)
    extra: dict[str, Any] = {"generator": generators} if sampler == "ddpm" else {}
    if sampler == "ddim":  # the noise must agree with a clipped image, or guidance drives colours away step by step
        extra["use_clipped_model_output"] = pixels
    apart = two_pass or (passes.drops and active(model) is not None)  # what is held has one batch shape a stream
    branches = Branches(model, condition, guidance, scheduler.timesteps, path.sigma, apart, tally)
    memory: Memory = {}
    for step, t in zip(branches.steps(), scheduler.timesteps, strict=True):
        output = passes(memory, branches, step, x).float()
        if model.config.learn_sigma and sampler != "ddpm":
            output = output.chunk(2, dim=-3)[0]  # (B, 2C, H, W) -> (B, C, H, W)
        # schedulers look for the channels behind the batch: (B, F, C, H, W) -> (B, C, F, H, W) and back
        state = passes.state(memory, step, x).movedim(-3, 1)
        x = scheduler.step(output.movedim(-3, 1), t, state, **extra).prev_sample.movedim(1, -3)
        yield x


# ---- what the caller says


def shape_of(config: Any) -> tuple[int, ...]:
    """Of one image (C, H, W), or of one video (F, C, H, W)."""
    image = (config.in_channels, config.input_size, config.input_size)
    frames = getattr(config, "num_frames", None)
    return image if frames is None else (frames, *image)


def conditions(model: Any, labels: Any, styles: Any) -> tuple[Tensor, Tensor | None]:
    """Class and style numbers (N,) for names or numbers. Raises ValueError, with near matches, for an unknown one."""
    config = model.config
    labels = [labels] if isinstance(labels, (int, str)) else list(labels)
    if not labels:
        raise ValueError("sample: labels is empty: name at least one class")
    y = torch.tensor([_number(v, config.class_names, max(1, config.num_classes), "label") for v in labels])
    if not getattr(config, "num_styles", 0):
        if styles is not None:
            raise ValueError(f"sample: this model knows no styles, but styles={styles!r} was given")
        return y, None
    if styles is None:
        raise ValueError(f"sample: this model needs a style: one of {', '.join(config.style_names or ())}")
    styles = [styles] * len(labels) if isinstance(styles, (int, str)) else list(styles)
    if len(styles) != len(labels):
        raise ValueError(f"sample: {len(styles)} styles for {len(labels)} labels: give one, or one a label")
    return y, torch.tensor([_number(v, config.style_names, config.num_styles, "style") for v in styles])


def seeds(seed: int | Sequence[int], y: Tensor, style: Tensor | None) -> list[int]:
    """A seed for each image: the given ones, or a hash of the seed, the condition and its how-manieth of its kind."""
    if not isinstance(seed, int):
        if len(seed) != len(y):
            raise ValueError(f"sample: {len(seed)} seeds for {len(y)} images: give one, or one an image")
        return [int(s) for s in seed]
    kinds = list(zip(y.tolist(), [-1] * len(y) if style is None else style.tolist(), strict=True))
    came: Counter[tuple[int, int]] = Counter()
    found = []
    for kind in kinds:
        digest = hashlib.sha256(f"{seed}|{kind[0]}|{kind[1]}|{came[kind]}".encode()).digest()
        found.append(int.from_bytes(digest[:8], "big") >> 1)
        came[kind] += 1
    return found


def _number(value: Label, names: Sequence[str] | None, count: int, what: str) -> int:
    if isinstance(value, str):
        folded = {name.casefold(): i for i, name in enumerate(names or ())}
        if value.casefold() in folded:  # first: a class may be called "7"
            return folded[value.casefold()]
        if not value.isdecimal() and not names:
            raise ValueError(f"sample: this model has no {what} names: give a number from 0 to {count - 1}")
        if not value.isdecimal():
            raise ValueError(f"unknown {what} {value!r}{near(value.casefold(), list(folded))}")
    if not 0 <= int(value) < count:
        raise ValueError(f"{what} {value} is outside 0...{count - 1}")
    return int(value)


def _passes(given: Passes | str | None, guidance: float) -> Passes:
    if isinstance(given, str):
        given = called(given, Catalog("skipdit.passes"), "passes", "reuse(every=2)")
    if given is not None and not isinstance(given, Passes):
        raise TypeError(f"sample: passes={given!r} is none: call one first, such as passes.reuse(every=2)")
    if given is not None and given.drops and guidance == 1:
        raise ValueError(f"sample: {given} leaves out the unconditional branch, but guidance=1 has none: leave it away")
    return given or FULL


def _check(model: Any, steps: int, guidance: float, batch_size: int) -> None:
    if steps < 1 or batch_size < 1:
        raise ValueError(f"sample: steps={steps} and batch_size={batch_size} must be at least 1")
    if not 0 <= guidance < math.inf:
        raise ValueError(f"sample: guidance={guidance} must be a number of at least 0; 1 draws without guidance")
    if guidance != 1 and not (model.config.num_classes and model.config.class_dropout_prob):
        raise ValueError("sample: this model was trained without label dropout, so guidance must be 1")
