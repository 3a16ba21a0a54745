"""The training loop: Accelerate, AdamW, EMA, resumable bit for bit because every step draws from its own seed."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from skipdit.aside import written_aside
from skipdit.data.images import ImageSet
from skipdit.diffusion import path_of
from skipdit.train import checkpoint
from skipdit.train.draws import draw
from skipdit.train.ema import Ema
from skipdit.train.recipe import Recipe
from skipdit.train.stages import Stages, set_aside

Progress = Callable[[int, dict[str, Any]], None]  # called after each step with its number and figures


class Parts(NamedTuple):
    """What a step works on."""

    network: nn.Module  # the model as Accelerate wraps it
    ema: Ema
    optimizer: Any
    accelerator: Accelerator


def train(
    model: Any,
    data: ImageSet,
    recipe: Recipe,
    run: Path,
    resume: bool = False,
    max_minutes: float | None = None,
    save_every: int = 500,
    keep: int = 2,
    accelerator: Accelerator | None = None,
    on_step: Progress | None = None,
    on_save: Callable[[int, Any], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    held: ImageSet | None = None,
) -> int:
    """Train a DiT on images or a Latte on clips; return the step that was reached.

    Writes checkpoints and `metrics.jsonl` into `run`. With `resume` it goes on from the newest checkpoint, to the same
    weights, bit for bit, as if it had never stopped. `on_save(step, ema_model)` is called after each checkpoint; `stop`
    is asked before each step, and the run then ends with a checkpoint. With `recipe.two_stage` the losses on `held`
    decide when the first stage ends (see `stages`); without held-out images every 20th of `data` is kept from training.
    Raises FileExistsError where `run` holds another run, ValueError where it was begun with another recipe or model,
    FloatingPointError when the loss is no longer a number.
    """
    accelerator = accelerator or launched(recipe)
    if recipe.two_stage and not held:
        data, held = set_aside(data)
    about = {"recipe": asdict(recipe), "images": len(data), "processes": accelerator.num_processes}
    start = _begin(run, resume, about, model)
    accelerator.wait_for_everyone()  # every process has looked at the folder before one of them changes it
    if accelerator.is_main_process:
        _cut_metrics(run, start)
    accelerator.wait_for_everyone()
    path = path_of(model.config.prediction, model.config.learn_sigma)
    state = checkpoint.stored(start.folder)["stages"] if start else None
    stages = Stages.of(recipe, path, held if recipe.two_stage else None, state)
    parts = _prepare(model, recipe, accelerator, start, stages)
    stages.begin(parts.ema.model)
    deadline = time.monotonic() + 60 * max_minutes if max_minutes else float("inf")
    step = saved = start.step if start else 0

    def save() -> None:
        if accelerator.is_main_process:
            _save(run, step, parts, {**about, "stages": stages.state}, keep)
            if on_save:
                on_save(step, parts.ema.model)
        accelerator.wait_for_everyone()

    clock = time.perf_counter()
    with _log(run / "metrics.jsonl") as log:
        while step < recipe.steps and not _any(accelerator, stop() or time.monotonic() >= deadline):
            figures = _one_step(parts, path, data, recipe, step, stages)
            step, now = step + 1, time.perf_counter()
            figures["samples_per_s"] = recipe.batch_size * accelerator.num_processes / (now - clock)
            clock = now
            if seen := stages.look(parts.ema.model, step, partial(_any, accelerator)):
                figures |= seen
                parts = parts if stages.branches_alone else _thawed(parts)
                clock = time.perf_counter()
            if accelerator.is_main_process:
                log.write(json.dumps({"step": step, **figures, "time": time.time()}) + "\n")
                log.flush()
                if on_step:
                    on_step(step, figures)
            if step % save_every == 0 and step < recipe.steps:
                save()
                saved, clock = step, time.perf_counter()
        if saved != step:
            save()
    return step


def launched(recipe: Recipe) -> Accelerator:
    """Accelerate's view of this process. Under a launcher without GPUs it must be told, or each process runs alone."""
    alone = "RANK" not in os.environ or torch.cuda.is_available()
    return Accelerator(mixed_precision=recipe.precision, cpu=not alone)


def _prepare(
    model: Any, recipe: Recipe, accelerator: Accelerator, start: checkpoint.Resumed | None, stages: Stages
) -> Parts:
    """The model, its average and its optimizer, as new or as a checkpoint left them."""
    freeze(model, recipe.freeze)
    ema = Ema(model, recipe.ema)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    if start is not None:
        checkpoint.load_weights(model, start.folder / "model")
        checkpoint.load_weights(ema.model, start.folder / "ema")
        checkpoint.load_optimizer(optimizer, start.folder)
    if stages.branches_alone:
        freeze(model, "backbone")  # the optimizer knows all, and passes over what gets no gradient
    ema.model.to(accelerator.device)
    network, optimizer = accelerator.prepare(model.train(), optimizer)
    return Parts(network, ema, optimizer, accelerator)


def _thawed(parts: Parts) -> Parts:
    """The same, with everything to train that the optimizer knows."""
    for group in parts.optimizer.param_groups:
        for parameter in group["params"]:
            parameter.requires_grad_(True)
    if parts.accelerator.num_processes == 1:
        return parts
    model = parts.accelerator.unwrap_model(parts.network, keep_fp32_wrapper=False)
    return parts._replace(network=parts.accelerator.prepare(model))  # it had been told which gradients to share


def _save(run: Path, step: int, parts: Parts, about: dict[str, Any], keep: int) -> None:
    model = parts.accelerator.unwrap_model(parts.network)
    checkpoint.save(run, step, model, parts.ema.model, parts.optimizer.optimizer, about)
    checkpoint.prune(run, keep)


def _any(accelerator: Accelerator, flag: bool) -> bool:
    """Whether any process says so: all of them leave the loop at the same step."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device)).item())


def _one_step(parts: Parts, path: Any, data: ImageSet, recipe: Recipe, step: int, stages: Stages) -> dict[str, Any]:
    """Draw a batch, take one optimizer step, move the average; the step's figures."""
    network, ema, optimizer, accelerator = parts
    lr = recipe.lr_at(step, stages.begun)
    for group in optimizer.param_groups:
        group["lr"] = lr
    draws = draw(data, path, recipe, step, accelerator.process_index, accelerator.num_processes).to(accelerator.device)
    with plain_attention(accelerator.device):
        loss = draws.losses(network, path).mean()
        accelerator.backward(loss)
    norm = accelerator.clip_grad_norm_(network.parameters(), recipe.clip)
    optimizer.step()
    optimizer.zero_grad()
    value = loss.item()
    if value != value:
        raise FloatingPointError(f"the loss is NaN at step {step}: lower lr ({recipe.lr}) or train in float32")
    ema.update(accelerator.unwrap_model(network), step)
    stage = {"stage": stages.number} if recipe.two_stage else {}
    return {"loss": value, "grad_norm": float(norm), "lr": lr, **stage}


def freeze(model: nn.Module, names: str) -> None:
    """Freeze by name: "backbone" leaves only the skip branches to train; otherwise every parameter with one of the
    comma-separated words in its name stands still. Raises ValueError for a word that matches nothing."""
    for word in filter(None, (word.strip() for word in names.split(","))):
        hit = [
            parameter
            for name, parameter in model.named_parameters()
            if (not name.startswith("skip_branches.") if word == "backbone" else word in name)
        ]
        if not hit:
            raise ValueError(f"freeze={word!r} matches no parameter of {type(model).__name__}")
        for parameter in hit:
            parameter.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError(f"freeze={names!r} leaves nothing to train")


def plain_attention(device: torch.device) -> Any:
    """On a CPU, plain matrix products beat the fused attention's backward pass at a few dozen tokens."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def _begin(run: Path, resume: bool, about: dict[str, Any], model: Any) -> checkpoint.Resumed | None:
    """Make or reopen the run's folder; the checkpoint that it resumes from, if any."""
    run.mkdir(parents=True, exist_ok=True)
    found = checkpoint.latest(run)
    if not resume and (found or (run / "metrics.jsonl").exists()):
        raise FileExistsError(f"{run} holds a run already: go on with it (--resume) or name another folder")
    if found:
        checkpoint.refuse_another(found.folder, about, model)
    return found


@contextmanager
def _log(metrics: Path) -> Iterator[TextIO]:
    """To be added to; taken away where nothing was: a run that fails at its first step is none."""
    try:
        with metrics.open("a") as log:
            yield log
    finally:
        if metrics.exists() and not metrics.stat().st_size:
            metrics.unlink()


def _cut_metrics(run: Path, start: checkpoint.Resumed | None) -> None:
    """Cut the metrics back to the checkpoint that a run resumes from: for one process alone."""
    metrics = run / "metrics.jsonl"
    if metrics.exists():
        try:
            whole = [line for line in metrics.read_text().splitlines() if line.endswith("}")]
            kept = [line for line in whole if start and json.loads(line)["step"] <= start.step]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{metrics} is damaged ({error}): move it away, and --resume goes on without") from error
        with written_aside(metrics) as aside:
            aside.write_text("".join(line + "\n" for line in kept))
