"""TeaCache: the first block's modulated input tells how far the output has moved since the last full step.

Feng Liu et al., "Timestep Embedding Tells: It's Time to Cache for Video Diffusion Model", arXiv 2411.19108, eq. 4-6:
the relative L1 change of that input from step to step, through a fitted polynomial, summed up until the threshold.
Held: what all blocks added and the last modulated input, two tensors (B, T, D) a stream.
The polynomial belongs to one model: FLUX (498.65, -283.78, 55.855, -3.820, 0.2642), HunyuanVideo (733.2, -401.1, 67.59,
-3.150, 0.0961), highest power first. FLUX as published: threshold 0.25 1.5x, 0.4 1.8x, 0.6 2.0x, 0.8 2.25x.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from skipdit.core.backbone import Backbone
from skipdit.core.check import number
from skipdit.core.policy import Flow, Memory, Moment, Policy, Site, Step, spell
from skipdit.core.what import residual
from skipdit.core.when import Guarded, relative_change
from skipdit.core.where import Inner

CONDITIONS = ("temb", "timestep", "timestep_proj", "c")  # how blocks call what modulates them


def teacache(
    threshold: float = 0.25, polynomial: tuple[float, ...] = (1.0, 0.0), warmup: int = 1, tail: int = 1
) -> Policy:
    """Add what all blocks last added, while the modulated input has moved little.

    threshold       delta: of the summed changes
    polynomial      from the input's change to the output's, highest power first; the default takes it as it is.
                    `teacache.fitted` fits one
    warmup, tail    full steps at the start and at the end

    For blocks that shift and scale their first norm by the condition: our DiT, and diffusers' with an AdaLayerNormZero
    or a scale_shift_table. Raises TypeError for others, when attached.
    """
    spelling = spell(teacache, locals())
    return Policy(Modulated(), Guarded(Accumulated(threshold, polynomial), warmup, tail), residual(), spelling)


def fitted(inputs: Sequence[float], outputs: Sequence[float], degree: int = 4) -> tuple[float, ...]:
    """The polynomial through measured relative changes by least squares, highest power first.

    Raises ValueError for fewer points than coefficients.
    """
    if len(inputs) != len(outputs) or len(inputs) <= degree:
        raise ValueError(f"teacache: {len(inputs)} inputs and {len(outputs)} outputs can't fix degree {degree}")
    x, y = (torch.tensor(list(values), dtype=torch.float64) for values in (inputs, outputs))  # (N,)
    powers = torch.stack([x**n for n in range(degree, -1, -1)], dim=1)  # (N, degree+1)
    return tuple(torch.linalg.lstsq(powers, y[:, None], driver="gelsd").solution[:, 0].tolist())


@dataclass(frozen=True)
class Modulated:
    """All blocks of a model whose first block has a modulated input."""

    def __call__(self, model: nn.Module, backbone: Backbone) -> list[Site]:
        first = backbone.blocks(model)[0]
        if _probe(first) is None:
            raise TypeError(
                f"teacache: {type(first).__name__} of {type(model).__name__} has no first norm that the condition "
                "modulates: use first_block or easycache, which need no such norm"
            )
        return Inner(0, 0)(model, backbone)


@dataclass(frozen=True)
class Accumulated:
    """Compute when the polynomial of the changes from step to step sums up to `threshold`. Waits for the device."""

    threshold: float
    polynomial: tuple[float, ...] = (1.0, 0.0)
    gate: ClassVar[bool] = True

    def __post_init__(self) -> None:
        number(self, "threshold", self.threshold, strict=True)
        if not self.polynomial:
            raise ValueError("Accumulated: polynomial=() is empty: give coefficients, highest power first")
        for coefficient in self.polynomial:
            number(self, "polynomial", coefficient, low=float("-inf"))

    def __call__(self, memory: Memory, step: Step, site: Site, moment: Moment | None) -> bool:
        assert moment is not None
        now, before = modulated(moment), memory.get("before")
        memory["before"] = now
        if before is None:
            return True
        change = relative_change(now, before)
        rescaled = 0.0
        for coefficient in self.polynomial:
            rescaled = rescaled * change + coefficient
        memory["sum"] = memory.get("sum", 0.0) + rescaled
        return not memory["sum"] < self.threshold

    def observe(self, memory: Memory, step: Step, site: Site, x: Flow, y: Flow) -> None:
        memory["sum"] = 0.0


# ---- the modulated input of a block's first norm, (B, T, D)


def modulated(moment: Moment) -> Tensor:
    """What the first block is about to give its attention."""
    block: Any = getattr(moment.block, "_orig_mod", moment.block)  # torch.compile's wrapper takes any arguments
    given = inspect.signature(type(block).forward).bind(block, *moment.args, **moment.kwargs).arguments
    probe = _probe(block)
    assert probe is not None
    return probe(block, moment.entry[0], {**given, **given.get("kwargs", {})})


def _probe(block: Any) -> Callable[[Any, Tensor, dict[str, Any]], Tensor] | None:
    """How the modulated input of a kind of block is had; None where there is none."""
    block = getattr(block, "_orig_mod", block)
    if not hasattr(block, "norm1"):
        return None
    if hasattr(block, "adaLN_modulation"):
        return _adaln
    if isinstance(getattr(block, "scale_shift_table", None), Tensor):
        return _table
    names = list(inspect.signature(type(block.norm1).forward).parameters)
    if "emb" in names:
        return _embedded
    return _joint if "temb" in names else None


def _condition(given: dict[str, Any]) -> Any:
    return next(given[name] for name in CONDITIONS if given.get(name) is not None)


def _adaln(block: Any, x: Tensor, given: dict[str, Any]) -> Tensor:
    shift, scale = block.adaLN_modulation(_condition(given)).chunk(6, dim=-1)[:2]  # each (B, D)
    return block.norm1(x) * (1 + scale[:, None]) + shift[:, None]


def _table(block: Any, x: Tensor, given: dict[str, Any]) -> Tensor:
    condition = _condition(given)  # (B, 6 D) or (B, 6, D)
    table = block.scale_shift_table.reshape(1, 6, -1) + condition.reshape(len(condition), 6, -1)  # (B, 6, D)
    return block.norm1(x) * (1 + table[:, 1:2]) + table[:, 0:1]


def _embedded(block: Any, x: Tensor, given: dict[str, Any]) -> Tensor:
    """AdaLayerNormZero: by an embedding, or, in diffusers' DiT, by timestep and class."""
    if given.get("class_labels") is not None:
        return block.norm1(x, given["timestep"], given["class_labels"], hidden_dtype=x.dtype)[0]
    condition = _condition(given)  # (B, D); Chroma's is (B, 12, D), the image's six modulations first
    y = block.norm1(x, emb=condition[:, :6] if condition.ndim == 3 else condition)
    return y if isinstance(y, Tensor) else y[0]


def _joint(block: Any, x: Tensor, given: dict[str, Any]) -> Tensor:
    """CogVideoX: one norm for video and text."""
    return block.norm1(x, given["encoder_hidden_states"], _condition(given))[0]


teacache.fitted = fitted  # type: ignore[attr-defined]
