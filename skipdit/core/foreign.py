"""What diffusers has put on a model: taken into account, or refused by name where a policy can't work with it."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn


def refuse_other_cache(model: nn.Module) -> None:
    """Raises RuntimeError where a cache of diffusers is on: each would take what the other made up for computed."""
    if getattr(model, "is_cache_enabled", False):
        raise RuntimeError(f"{type(model).__name__} has a cache of diffusers enabled: call its disable_cache() first")


def refuse_split_groups(model: nn.Module, blocks: Sequence[str], spared: Iterable[Sequence[str]]) -> None:
    """Raises ValueError where blocks are offloaded in groups and one that always runs has its weights brought in by one
    that is spared: they would not be there.

    blocks    the paths of all blocks
    spared    those that are spared together, site by site
    """
    paths = {model.get_submodule(path): path for path in blocks}
    leaders = {path: paths.get(_bringer(block)) for block, path in paths.items()}
    for together in spared:
        for path, leader in leaders.items():
            if leader in together and path not in together:
                raise ValueError(
                    f"{type(model).__name__}: the weights of {path} are brought in with those of {leader}, which the "
                    f"policy spares without it: offload with num_blocks_per_group=1 or offload_type='leaf_level'"
                )


def _bringer(block: nn.Module) -> Any:
    """The block that brings in the weights of this one's group, where there are groups."""
    hook = getattr(getattr(block, "_diffusers_hook", None), "hooks", {}).get("group_offloading")
    return None if hook is None else hook.group.onload_leader


def shared_out(block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A block's arguments as they reach its own code: where context parallelism begins at this block, a hook inside
    its forward hands each process its share of the tokens (Wan, QwenImage)."""
    registry = vars(block).get("_diffusers_hook")  # vars: a module is slow to say that it lacks an attribute
    for name, hook in () if registry is None else registry.hooks.items():
        if name.startswith("cp_input"):
            args, kwargs = hook.pre_forward(block, *args, **kwargs)
    return args, kwargs
