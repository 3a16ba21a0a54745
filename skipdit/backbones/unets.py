"""The U-Nets of diffusers as a table: conv_in, down blocks and mid block encode, up blocks decode. No import.

Their blocks change the size of what they are given, so each is held by itself, whatever it gives back: a down block the
main stream and a tuple of skips, each (B, C, H, W), or (B F, C, H, W) where there are frames.
"""

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, ClassVar

from torch import Tensor, nn

from skipdit.core.backbone import Backbone, Contract
from skipdit.core.policy import Flow


@dataclass(frozen=True)
class Copied(Contract):
    """A block that is held as a copy, and given back as another: the model writes into what it gets from a block
    (FreeU, T2I-Adapters)."""

    def leaving(self, returned: Any) -> Flow:
        return (_copied(returned, {}),)

    def returned(self, flow: Flow) -> Any:
        return _copied(flow[0], {})


def _copied(value: Any, made: dict[int, Tensor]) -> Any:
    """The same tensors anew; what was one tensor in two places is so again: the last skip is often the main stream."""
    if isinstance(value, tuple):
        return tuple(_copied(each, made) for each in value)
    if isinstance(value, Tensor) and id(value) not in made:
        made[id(value)] = value.clone()
    return made.get(id(value), value)


H = Copied(("hidden_states",))
ENCODER = {"conv_in": Copied(("input",)), "down_blocks": H, "mid_block": H}
UNET = Backbone({**ENCODER, "up_blocks": H}, timestep="timestep", encoder=tuple(ENCODER))
CLASSES = (
    "UNet2DModel UNet2DConditionModel UNet3DConditionModel UNetMotionModel I2VGenXLUNet "
    "UNetSpatioTemporalConditionModel"
)
UNETS: dict[str, Backbone] = dict.fromkeys(CLASSES.split(), UNET)


class Prompted(nn.Module):
    """A U-Net that takes a text, such as Stable Diffusion's, told the number of a prompt as our models are told a
    label: `passes.parallel` and the other passes then work in a loop around it (examples/unet.py). Attach to this
    model, not to the U-Net in it.

    prompts    (N + 1, T, D) embeddings; the last is the empty prompt's, for the unconditional branch
    """

    backbone: ClassVar[Backbone] = replace(
        UNET,
        stacks={f"unet.{path}": contract for path, contract in UNET.stacks.items()},
        encoder=tuple(f"unet.{path}" for path in UNET.encoder),
        timestep="t",
    )
    prompts: Tensor

    def __init__(self, unet: Any, prompts: Tensor):
        super().__init__()
        self.unet = unet
        self.register_buffer("prompts", prompts, persistent=False)
        self.config = SimpleNamespace(in_channels=unet.config.in_channels, num_classes=len(prompts) - 1)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """The noise (B, C, H, W) in x (B, C, H, W), at timesteps t (B,), for prompts of the numbers y (B,)."""
        return self.unet(x, t, self.prompts[y], return_dict=False)[0]
