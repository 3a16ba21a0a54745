"""The class-conditional video transformer (Latte, arXiv 2401.03048), with long skip branches and temporal options."""

from functools import partial
from typing import ClassVar

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from skipdit.backbones import dit, shift
from skipdit.backbones.dit import (
    DiTBlock,
    FinalLayer,
    LabelEmbedder,
    Named,
    PatchEmbed,
    TimestepEmbedder,
    check_sizes,
    initialize,
    modulate,
    sincos_2d,
    unpatchify,
    xavier,
)
from skipdit.backbones.shift import temporal_shift
from skipdit.core.backbone import Backbone, Contract, transposed
from skipdit.core.skips import JOINS, add_skips

PARTS = {"attn": "attn", "mlp": "mlp"}
PAIRED = Backbone(
    {"blocks": Contract(), "temporal_blocks": Contract(layout=transposed)},
    zipped=True,
    parts=PARTS,
    width="hidden_size",
)
FRAMEWISE = Backbone({"blocks": Contract()}, parts=PARTS, width="hidden_size")
BACKBONES = {"attention": PAIRED, "shift": FRAMEWISE, "none": FRAMEWISE}


def sincos_1d(width: int, length: int) -> Tensor:
    """Fixed position embedding (length, D): half each of sines and cosines."""
    powers = torch.arange(width // 2, dtype=torch.float64) / (width / 2)
    at = torch.arange(length, dtype=torch.float64)[:, None] / 10000**powers  # (F, D/2)
    return torch.cat([at.sin(), at.cos()], dim=1).float()  # (F, D)


def turned(x: Tensor, n: int) -> Tensor:
    """(B n, m, D) -> (B m, n, D): frames of patches become patches of frames, and back."""
    return x.unflatten(0, (-1, n)).transpose(1, 2).flatten(0, 1)


class TemporalBlock(DiTBlock):
    """A block over the frames of each patch; tokens behind the first `frames` are images and pass through."""

    def forward(self, x: Tensor, c: Tensor, frames: int | None = None) -> Tensor:
        if frames is None or frames == x.shape[1]:
            return super().forward(x, c)  # (B T, F, D)
        video = super().forward(x[:, :frames], c)  # (B T, F, D)
        return torch.cat([video, x[:, frames:]], dim=1)  # (B T, F + I, D)


class ShiftBlock(DiTBlock):
    """A block over the patches of each frame whose attention and MLP see channels of the neighbouring frames."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, portion: float, edges: str):
        super().__init__(width, heads, mlp_ratio)
        self.portion, self.edges = portion, edges

    def forward(self, x: Tensor, c: Tensor, frames: int = 1, images: int = 0) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, dim=-1)  # each (B F, D)
        near = self.mixed(self.norm1(x), frames, images)  # (B F, T, D)
        x = x + gate1[:, None] * self.attn(modulate(near, shift1, scale1))  # (B F, T, D)
        near = self.mixed(self.norm2(x), frames, images)  # (B F, T, D)
        return x + gate2[:, None] * self.mlp(modulate(near, shift2, scale2))  # (B F, T, D)

    def mixed(self, x: Tensor, frames: int, images: int) -> Tensor:
        """The first `frames` of each video shifted, the images behind them as they were."""
        x = x.unflatten(0, (-1, frames + images))  # (B, F + I, T, D)
        video = temporal_shift(x[:, :frames], self.portion, self.edges)  # (B, F, T, D)
        return torch.cat([video, x[:, frames:]], dim=1).flatten(0, 1)  # (B (F + I), T, D)


class Latte(Named):
    """A diffusion transformer for videos or their latents, frame by frame, conditioned on a class.

    input_size       side of the (square) frames, in pixels or latent cells
    depth            blocks in all: half of them spatial, half temporal, in turns, where temporal="attention"
    num_frames       the most frames of a video, where temporal="attention"; of any number without
    num_classes      0: unconditional, as most of the published weights are
    temporal         how frames see each other: "attention"; "shift", which moves channels between them and has no
                     weights (arXiv 2304.08477); "none". Without "attention" the weights are those of a DiT for images
    shift_portion    share of the channels that "shift" moves, half of it each way
    shift_edges      what the outermost frames get: "replicate" or "zero"

    The rest is as in DiT. Skip branches join pairs of a spatial and a temporal block, 7 for depth 28.
    Weights load and save in the Hugging Face folder form. Raises ValueError for sizes that don't fit together.
    """

    _no_split_modules: ClassVar[list[str]] = ["DiTBlock", "TemporalBlock", "ShiftBlock"]
    _repeated_blocks: ClassVar[list[str]] = ["DiTBlock", "TemporalBlock", "ShiftBlock"]

    @register_to_config
    def __init__(
        self,
        input_size: int = 32,
        patch_size: int = 2,
        in_channels: int = 4,
        hidden_size: int = 1152,
        depth: int = 28,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        num_frames: int = 16,
        class_dropout_prob: float = 0.1,
        num_classes: int = 1000,
        learn_sigma: bool = True,
        temporal: str = "attention",
        shift_portion: float = 0.25,
        shift_edges: str = "replicate",
        skips: str | None = None,
        prediction: str = "epsilon",
        class_names: list[str] | None = None,
        skip_pairs: list[tuple[int, int]] | None = None,
    ):
        super().__init__()
        check_sizes("Latte", input_size, patch_size, hidden_size, num_heads, skips)
        _check_temporal(temporal, depth, hidden_size, shift_portion, shift_edges)
        self.out_channels = in_channels * 2 if learn_sigma else in_channels
        self.backbone = BACKBONES[temporal]

        self.x_embedder = PatchEmbed(patch_size, in_channels, hidden_size)
        self.t_embedder = TimestepEmbedder(hidden_size)
        if num_classes:
            self.y_embedder = LabelEmbedder(num_classes, hidden_size, class_dropout_prob)
        side = input_size // patch_size
        self.pos_embed = nn.Parameter(sincos_2d(hidden_size, side)[None], requires_grad=False)  # (1, T, D)
        sizes = (hidden_size, num_heads, mlp_ratio)
        if temporal == "attention":
            self.temp_embed = nn.Parameter(sincos_1d(hidden_size, num_frames)[None], requires_grad=False)  # (1, F, D)
            self.blocks = nn.ModuleList(DiTBlock(*sizes) for _ in range(depth // 2))
            self.temporal_blocks = nn.ModuleList(TemporalBlock(*sizes) for _ in range(depth // 2))
        elif temporal == "shift":
            self.blocks = nn.ModuleList(ShiftBlock(*sizes, shift_portion, shift_edges) for _ in range(depth))
        else:
            self.blocks = nn.ModuleList(DiTBlock(*sizes) for _ in range(depth))
        self.final_layer = FinalLayer(hidden_size, patch_size, self.out_channels)
        initialize(self)
        if skips is not None:
            add_skips(self, hidden_size, JOINS[skips], skip_pairs)
        if skips == "replace":  # as published: the branches of DiT keep torch's own initial weights, these don't
            xavier(self.skip_branches)

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, y_image: Tensor | None = None, use_image_num: int = 0
    ) -> Tensor:
        """Noisy videos x (B, F, C, H, W), timesteps t (B,), classes y (B,) -> (B, F, C or 2C, H, W).

        use_image_num    so many images I follow the frames of each video, x (B, F + I, C, H, W): frames don't see them
                         nor they each other (joint training)
        y_image          their classes (B, I)
        """
        batch, frames = len(x), x.shape[1] - use_image_num
        self._check(frames, y, y_image, use_image_num)
        x = self.x_embedder(x.flatten(0, 1)) + self.pos_embed  # (B (F + I), T, D)
        video, each = self._conditions(t, y, y_image, frames, use_image_num)  # (B, D), (B (F + I), D)
        if self.config.temporal == "attention":
            x = self._in_turns(x, video, each, frames, use_image_num)
        else:
            mixing = (frames, use_image_num) if self.config.temporal == "shift" else ()
            for block in self.blocks:
                x = self._through(block, x, each, *mixing)
        x = unpatchify(self.final_layer(x, each), self.config.patch_size)  # (B (F + I), C or 2C, H, W)
        return x.unflatten(0, (batch, -1))  # (B, F + I, C or 2C, H, W)

    def _in_turns(self, x: Tensor, video: Tensor, each: Tensor, frames: int, images: int) -> Tensor:
        """Pairs of a spatial block over the patches and a temporal block over the frames; x is (B (F + I), T, D)."""
        patches = x.shape[1]
        along = video.repeat_interleave(patches, dim=0)  # (B T, D)
        at = F.pad(self.temp_embed[:, :frames], (0, 0, 0, images))  # (1, F + I, D)
        for number, (spatial, temporal) in enumerate(zip(self.blocks, self.temporal_blocks, strict=True)):
            x = self._through(spatial, x, each)  # (B (F + I), T, D)
            x = turned(x, frames + images)  # (B T, F + I, D)
            x = x + at if number == 0 else x
            x = self._through(temporal, x, along, frames)  # (B T, F + I, D)
            x = turned(x, patches)  # (B (F + I), T, D)
        return x

    def _conditions(
        self, t: Tensor, y: Tensor | None, y_image: Tensor | None, frames: int, images: int
    ) -> tuple[Tensor, Tensor]:
        """What a video is conditioned on (B, D), and what each of its frames and images is (B (F + I), D)."""
        time = self.t_embedder(t)  # (B, D)
        video = time + self.y_embedder(y) if self.config.num_classes else time  # (B, D)
        single = time[:, None].expand(-1, images, -1)  # (B, I, D)
        if y_image is not None:
            single = single + self.y_embedder(y_image)  # (B, I, D)
        each = torch.cat([video[:, None].expand(-1, frames, -1), single], dim=1)  # (B, F + I, D)
        return video, each.flatten(0, 1)

    def _check(self, frames: int, y: Tensor | None, y_image: Tensor | None, images: int) -> None:
        """Raises ValueError where labels are missing or unwanted, and for a number of frames that can't be."""
        most = self.config.num_frames if self.config.temporal == "attention" else frames
        if not 1 <= frames <= most or images < 0:
            raise ValueError(
                f"Latte: {frames} frames and use_image_num={images} images, but 1 ... {most} frames are known: pass "
                "x as (B, F, C, H, W), with the images behind the frames"
            )
        classes = self.config.num_classes
        wrong = y is None or (y_image is None) != (images == 0) if classes else y_image is not None
        if wrong or (y_image is not None and y_image.shape[1:] != (images,)):
            raise ValueError(
                f"Latte: num_classes={classes} and use_image_num={images}: pass y (B,) where there are classes, and "
                "y_image (B, use_image_num) with images"
            )


def _check_temporal(temporal: str, depth: int, width: int, portion: float, edges: str) -> None:
    if temporal not in BACKBONES:
        raise ValueError(f"Latte: temporal={temporal!r} is unknown: choose {', '.join(map(repr, BACKBONES))}")
    if temporal == "attention" and depth % 2:
        raise ValueError(f"Latte: depth={depth} is odd, but its blocks come in pairs, spatial and temporal")
    if temporal == "shift":
        shift.check(width, portion, edges)


# ---- the sizes of the DiT paper, as in the Latte paper --------------------------------------------------------------

SIZES: dict[str, partial[Latte]] = {
    name.replace("DiT", "Latte"): partial(Latte, **size.keywords) for name, size in dit.SIZES.items()
}
Latte_XL_2, Latte_L_2 = SIZES["Latte-XL/2"], SIZES["Latte-L/2"]
Latte_B_2, Latte_S_2 = SIZES["Latte-B/2"], SIZES["Latte-S/2"]
