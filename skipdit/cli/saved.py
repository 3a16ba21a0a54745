"""Transformers and pipelines in folders that diffusers saved: what they are, from their configs; no weights loaded."""

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skipdit.cli import describe, planned
from skipdit.cli.rehearse import Asked

MODEL, PIPELINE = "config.json", "model_index.json"
BRANCHES = ("skip_pairs", "skip_join", "skip_width")  # what the config of a converted model says besides


def holds_foreign(folder: Path) -> bool:
    """Whether a folder is of diffusers: a pipeline, or a model that is not one of ours."""
    if (folder / PIPELINE).is_file():
        return True
    return (folder / MODEL).is_file() and _read(folder / MODEL).get("_class_name") not in ("DiT", "Latte", None)


def described(folder: Path, asked: Asked, call: str | None) -> dict[str, Any]:
    """Every transformer in a folder, by component ("" for a model's own folder), with what the policies would spare.

    Raises ValueError for what only a model of our own can be asked: its sampler's timesteps, and pictures.
    """
    if asked.sampler:
        raise ValueError(f"--sampler {asked.sampler}: timesteps are evenly spaced for models other than skipdit's own")
    if asked.draw:
        raise ValueError(f"--draw {asked.draw}: a picture tells what ran, and here nothing does: leave it out, or name "
                         "a model of skipdit's own")  # fmt: skip
    index = _read(folder / PIPELINE) if (folder / PIPELINE).is_file() else None
    models = {"": _empty(folder)} if index is None else _components(folder, index)
    backbones = _backbones(folder, models, index, call)
    found = {}
    for name, backbone in backbones.items():
        found[name] = describe.description(models[name], backbone, _read(folder / name / MODEL))
        model, pairs = models[name], found[name]["skips"]["pairs"]
        if asked.alone:
            rehearsed = describe.rehearsed(model, backbone, asked.alone, asked.steps, pairs)
            found[name]["policy"] = {"spelling": str(asked.alone), **rehearsed}
        elif asked.anything:
            found[name]["methods"] = [planned.plan(each, model, backbone, asked.steps, pairs) for each in asked.wanted]
    kind = (index or found[""])["_class_name" if index else "class"]
    return {"class": kind, "steps": asked.steps, "transformers": found}


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is no configuration that diffusers wrote: {error}") from error


def _empty(folder: Path, module: str = "diffusers") -> Any:
    """The model of a folder on the meta device: shapes alone. Raises ValueError for a class that is not to be had."""
    import torch

    config = {k: v for k, v in _read(folder / MODEL).items() if k not in BRANCHES}
    name = config.get("_class_name")
    kind = getattr(importlib.import_module(module), str(name), None)
    if kind is None:
        raise ValueError(f"{folder} holds a {name}, which the installed {module} lacks: update {module}, or load it in "
                         "Python and ask skipdit.infer(model, ...)")  # fmt: skip
    with torch.device("meta"):
        return kind.from_config(config).eval()


def _components(folder: Path, index: dict[str, Any]) -> dict[str, Any]:
    """The denoisers of a pipeline by component: what the tables know, or else what is called a transformer."""
    from skipdit.backbones.diffusers import LINES

    parts = {name: part for name, part in index.items() if isinstance(part, list) and None not in part}
    names = [
        name
        for name, (module, kind) in parts.items()
        if kind in LINES or ("Transformer" in kind and module != "transformers")
    ]
    if not names:
        kinds = ", ".join(f"{name} ({kind})" for name, (_, kind) in parts.items())
        raise ValueError(f"{folder} holds no transformer among {kinds or 'its parts'}: there is nothing to spare")
    return {name: _empty(folder / name, parts[name][0]) for name in names}


def _backbones(folder: Path, models: dict[str, Any], index: dict[str, Any] | None, call: str | None) -> dict[str, Any]:
    """Each model's description: from the table, or inferred from one step of the pipeline."""
    from skipdit.backbones.diffusers import backbone_of, known

    unknown = [name for name, model in models.items() if not known(model)]
    inferred = {}
    if unknown:
        kinds = ", ".join(type(models[name]).__name__ for name in unknown)
        if index is None:
            raise ValueError(
                f"{kinds} is not in skipdit's table, and a folder of weights tells no call: in Python, "
                "skipdit.infer(model, ...) finds out how it is laid out; or inspect the folder of its pipeline"
            )
        if call is None:
            raise ValueError(f"{kinds} is not in skipdit's table: to run one step and find out how it is laid out, "
                             """say how the pipeline is called, --call '{"prompt": "x"}'""")  # fmt: skip
        inferred = _inferred(folder, unknown, call)
    return {name: inferred.get(name) or backbone_of(model) for name, model in models.items()}


def _inferred(folder: Path, names: Sequence[str], call: str) -> dict[str, Any]:
    """Load a pipeline, run it for one step, and infer from the first call that each transformer gets."""
    from diffusers import DiffusionPipeline

    from skipdit import infer

    try:
        said = dict(json.loads(call))
    except (ValueError, TypeError) as error:
        raise ValueError(f"--call {call!r} is no JSON object of arguments: {error}") from error
    pipe = DiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    calls: dict[str, Any] = {}
    hooks = []
    for name in names:

        def note(model: Any, args: Any, kwargs: Any, name: str = name) -> None:
            calls.setdefault(name, (args, kwargs))

        hooks.append(getattr(pipe, name).register_forward_pre_hook(note, with_kwargs=True))
    try:
        pipe(**{"num_inference_steps": 1, **said})
    finally:
        for hook in hooks:
            hook.remove()
    idle = [name for name in names if name not in calls]
    if idle:
        raise ValueError(f"one step of {type(pipe).__name__} didn't call {idle[0]}: pass arguments in --call that do")
    return {name: infer(getattr(pipe, name), *args, **kwargs) for name, (args, kwargs) in calls.items()}
