"""Compile what a policy switches, never the switch: every block of the trunk and every skip branch by itself."""

from typing import Any

from torch import nn

from skipdit.backbones.diffusers import backbone_of
from skipdit.core.backbone import Backbone
from skipdit.core.policy import Leaf
from skipdit.core.where import Parts


def compile_blocks(
    model: nn.Module, parts: tuple[str, ...] = (), backbone: Backbone | None = None, **options: Any
) -> nn.Module:
    """Compile a model's blocks and skip branches, in place, each by itself, and give the model back.

    parts      compile these parts of every block instead, such as ("attn", "mlp"): for a policy that decides on parts
    backbone   how an unknown class is laid out
    options    of torch.compile: fullgraph=True, dynamic=False, backend="inductor" ...

    Blocks of one class share their graphs, so it takes little longer than compiling one. Policies can be attached and
    taken off again before and after; a policy on parts only where the parts were compiled, and after that.
    Raises TypeError for a model of unknown layout, ValueError for a part that it lacks, RuntimeError where a policy on
    parts is attached.
    """
    backbone = backbone or backbone_of(model)
    paths = _parts(model, backbone, parts) if parts else _blocks(model, backbone)
    for path in paths:
        if any("_skipdit_shadow" in vars(module) for module in model.get_submodule(path).modules()):
            raise RuntimeError(
                f"{type(model).__name__}: a policy that decides on {path} is attached: compile before you attach"
            )
    for path in (*paths, *_branches(model)):
        model.get_submodule(path).compile(**options)
    return model


def _blocks(model: nn.Module, backbone: Backbone) -> list[str]:
    """Paths of what is called in running order: every block, or what runs in it where it is a ModuleDict."""
    return [
        path
        for place in backbone.order(model)
        for path in ([f"{place.path}.{name}" for name in place.contract.within] or [place.path])
    ]


def _parts(model: nn.Module, backbone: Backbone, parts: tuple[str, ...]) -> list[str]:
    return [site.path for site in Parts(parts)(model, backbone) if isinstance(site, Leaf)]


def _branches(model: nn.Module) -> list[str]:
    return [f"skip_branches.{name}" for name in getattr(model, "skip_branches", {})]
