"""Long skip branches for any pretrained transformer: put in, kept in its config, and there again when it is loaded."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from skipdit.backbones.diffusers import backbone_of, carries_one
from skipdit.core import skips
from skipdit.core.backbone import Backbone
from skipdit.core.skips import JOINS, Join

KEPT = ("skip_pairs", "skip_join", "skip_width")  # what the config of a converted model says; ours have their own keys
DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}  # of safetensors
Made = str | Callable[[int], nn.Module]  # "join", "replace", or what makes a branch of a width


def add_skips(
    model: nn.Module,
    width: int | None = None,
    join: Made = Join,
    pairs: Iterable[tuple[int, int]] | None = None,
    backbone: Backbone | None = None,
) -> nn.Module:
    """Give a model long skip branches, in place, and return it: one of ours, a transformer of diffusers, or your own.

    width       channels D of the main stream (B, T, D); from the model's config when left out
    join        Join or "join": the model stays bit for bit as it was at first. Replace or "replace": the published
                form, for training from scratch. Or what makes a module (x, s) -> x of a width
    pairs       (source, target) places in the running order; the paper's mirror pairs when left out
    backbone    how an unknown class is laid out: `skipdit.infer(model, ...)` finds it out

    The branches are `model.skip_branches`, keyed by the target (arXiv 2411.17616, sec. 3.2). The config, where there is
    one, says the pairs and the form, so that `save_pretrained` and `skipdit.from_pretrained` give the same model.
    Raises TypeError for an unknown class, ValueError for a model that has long skips already or has blocks that no
    branch can join, and for pairs that don't run forward.
    """
    form = _named(join) if isinstance(join, str) else join
    found = backbone or backbone_of(model)
    pairs = None if pairs is None else [(int(source), int(target)) for source, target in pairs]
    config = _config(model, found, form, pairs, width)
    skips.add_skips(model, width, form, pairs, found)
    if config:
        model.register_to_config(**config)  # type: ignore[operator]
    if not carries_one(model):
        model.backbone = found  # type: ignore[assignment]
    return model


def from_pretrained(
    name: str | Path,
    kind: Any = None,
    join: Made | None = None,
    backbone: Backbone | None = None,
    **kwargs: Any,
) -> Any:
    """Load a saved model with the skip branches that its config tells of: a shipped name, a folder, or owner/name.

    kind        the model's class, where diffusers doesn't export one of that name
    join        what makes a branch, for a model that was given branches of another form than "join" and "replace"
    backbone    how an unknown class is laid out, as it was given to `add_skips`
    kwargs      as for `from_pretrained` of diffusers: subfolder, torch_dtype, variant, revision, device_map ...

    Raises FileNotFoundError where there is no such model, ValueError for a pipeline's folder or an unknown class.
    """
    from skipdit.backbones.dit import described

    if (Path(name) / kwargs.get("subfolder", "") / "model_index.json").is_file():
        raise ValueError(f"{name} holds a whole pipeline: load its transformer, subfolder='transformer'")
    source, config = described(name, **kwargs)
    own = own_class(config.get("_class_name"))
    if own is not None and kind is None:
        return own.from_pretrained(name, **kwargs)
    kind = kind or _class_of(name, config)
    if not config.get("skip_pairs"):
        return kind.from_pretrained(source, **kwargs)
    return _with_branches(kind, join, backbone).from_pretrained(source, **kwargs)


def own_class(name: str | None) -> Any:
    """The class of ours that a config names; None for another's."""
    from skipdit.backbones.dit import DiT
    from skipdit.backbones.latte import Latte

    return {"DiT": DiT, "Latte": Latte}.get(name or "")


def _named(join: str) -> Callable[[int], nn.Module]:
    if join not in JOINS:
        raise ValueError(f"join={join!r} is unknown: choose {', '.join(map(repr, JOINS))}, or pass a module's class")
    return JOINS[join]


def _config(
    model: Any, backbone: Backbone, form: Callable[[int], nn.Module], pairs: list[tuple[int, int]] | None, width: Any
) -> dict[str, Any]:
    """What the model's config has to say of the branches, {} where it has none."""
    if not hasattr(model, "register_to_config"):
        return {}
    spelled = next((name for name, kind in JOINS.items() if kind is form), None)
    if "skips" in model.config:  # a model of ours, which builds its branches by itself
        if spelled is None or width not in (None, model.config.hidden_size):
            raise ValueError(f"{type(model).__name__}: its branches are 'join' or 'replace', of its own hidden_size")
        return {"skips": spelled, "skip_pairs": pairs}
    pairs = skips.mirrored(backbone, model) if pairs is None else pairs
    width = backbone.width_of(model) if width is None else width
    return dict(zip(KEPT, (pairs, spelled or getattr(form, "__qualname__", repr(form)), width), strict=True))


def _with_branches(kind: Any, join: Made | None, backbone: Backbone | None) -> Any:
    """The class, but what it makes from a config has the branches in it before diffusers loads the weights."""

    def from_config(cls: Any, config: dict[str, Any], **kwargs: Any) -> Any:
        pairs, spelled, width = (config[key] for key in KEPT)
        form = join or JOINS.get(spelled)
        if form is None:
            raise ValueError(f"{kind.__name__}: its branches were made by {spelled}: pass that as join=")
        made = kind.from_config({key: value for key, value in config.items() if key not in KEPT}, **kwargs)
        add_skips(made[0] if isinstance(made, tuple) else made, width, form, pairs, backbone)
        return made

    return type(kind.__name__, (kind,), {"from_config": classmethod(from_config), "__module__": kind.__module__})


def stored_dtype(folder: str | Path) -> torch.dtype | None:
    """The narrowest floating dtype in a model folder's weights: some parts are kept wider. None where none is here."""
    from safetensors import safe_open

    found = set()
    for file in Path(folder).glob("*.safetensors"):
        with safe_open(file, "pt") as weights:
            found |= {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
    return next((dtype for name, dtype in DTYPES.items() if name in found), None)


def _class_of(name: str | Path, config: dict[str, Any]) -> Any:
    """diffusers' class of a saved model. Raises ValueError where there is none of that name."""
    import diffusers
    from diffusers.models import model_loading_utils, modeling_utils

    said = config.get("_class_name")
    kind = getattr(diffusers, said, None) if said else None
    if not isinstance(kind, type) or not issubclass(kind, diffusers.ModelMixin):
        raise ValueError(f"{name} holds a {said or 'model without a class name'}, no model of diffusers: pass kind=")
    if issubclass(kind, modeling_utils.LegacyModelMixin):  # an old name of several classes
        return model_loading_utils._fetch_remapped_cls_from_config(config, kind)
    return kind
