"""The class-conditional diffusion transformer (DiT, arXiv 2212.09748), with long skip branches as an option."""

import math
import re
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self, TypedDict

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F

from skipdit.core.backbone import Backbone, Contract
from skipdit.core.skips import JOINS, add_skips

WEIGHTS = Path(__file__).parents[1] / "weights"  # a folder for each model that ships with the package
WHERE = ("subfolder", "revision", "cache_dir", "token", "local_files_only", "force_download", "proxies")
HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")


# ---- embedders ------------------------------------------------------------------------------------------------------


class TimestepEmbedder(nn.Module):
    """Timesteps (B,) -> (B, D): sinusoids of 256 frequencies, then a small MLP."""

    def __init__(self, width: int, frequencies: int = 256):
        super().__init__()
        self.frequencies = frequencies
        self.mlp = nn.Sequential(nn.Linear(frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        half = self.frequencies // 2
        powers = torch.arange(half, dtype=torch.float32, device=t.device) / half
        angles = t.float()[:, None] * torch.exp(-math.log(10000) * powers)  # (B, half)
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1)  # (B, frequencies)
        return self.mlp(waves.to(next(self.mlp.parameters()).dtype))  # (B, D)


class LabelEmbedder(nn.Module):
    """Class numbers (B,) -> (B, D). While training, a label is dropped for guidance: it becomes the extra last row."""

    def __init__(self, classes: int, width: int, dropout: float):
        super().__init__()
        self.classes, self.dropout = classes, dropout
        self.embedding_table = nn.Embedding(classes + (dropout > 0), width)

    def forward(self, y: Tensor) -> Tensor:
        if self.training and self.dropout > 0:
            dropped = torch.rand(y.shape, device=y.device) < self.dropout
            y = torch.where(dropped, self.classes, y)
        return self.embedding_table(y)  # (B, D)


class PatchEmbed(nn.Module):
    """Images (B, C, H, W) -> tokens (B, T, D), row by row."""

    def __init__(self, patch: int, channels: int, width: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)  # (B, T, D)


def sincos_2d(width: int, side: int) -> Tensor:
    """Fixed position embedding (side * side, D): a quarter each of sin x, cos x, sin y, cos y."""
    powers = torch.arange(width // 4, dtype=torch.float64) / (width / 4)
    at = torch.arange(side, dtype=torch.float64)[:, None] / 10000**powers  # (side, D/4)
    wave = torch.cat([at.sin(), at.cos()], dim=1)  # (side, D/2)
    across = wave[None, :, :].expand(side, side, -1)
    down = wave[:, None, :].expand(side, side, -1)
    return torch.cat([across, down], dim=-1).reshape(side * side, width).float()  # (T, D)


# ---- the transformer ------------------------------------------------------------------------------------------------


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale[:, None]) + shift[:, None]  # (B, T, D)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, H, T, D/H)
        y = F.scaled_dot_product_attention(q, k, v)  # (B, H, T, D/H)
        return self.proj(y.transpose(1, 2).flatten(2))  # (B, T, D)


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))  # (B, T, D)


class DiTBlock(nn.Module):
    """Attention and MLP, each shifted, scaled and gated by the condition (adaLN-Zero)."""

    def __init__(self, width: int, heads: int, mlp_ratio: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, dim=-1)  # each (B, D)
        x = x + gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1))  # (B, T, D)
        return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))  # (B, T, D)


class FinalLayer(nn.Module):
    def __init__(self, width: int, patch: int, channels: int):
        super().__init__()
        self.norm_final = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(width, patch * patch * channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c).chunk(2, dim=-1)  # each (B, D)
        return self.linear(modulate(self.norm_final(x), shift, scale))  # (B, T, p*p*C)


def unpatchify(x: Tensor, patch: int) -> Tensor:
    """Tokens (B, T, p*p*C), row by row, of square images -> (B, C, H, W)."""
    side = math.isqrt(x.shape[1])
    x = x.unflatten(1, (side, side)).unflatten(-1, (patch, patch, -1))  # (B, h, w, p, p, C)
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)  # (B, C, H, W)


def xavier(model: nn.Module) -> None:
    """Xavier linears and convolutions with zero biases, normal embeddings."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.xavier_uniform_(module.weight.flatten(1))
            nn.init.constant_(module.bias, 0.0)  # type: ignore[arg-type]
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)


def initialize(model: nn.Module) -> None:
    """As in the DiT paper: Xavier linears, normal embeddings, and zeros wherever a block or the output begins."""
    xavier(model)
    for name, parameter in model.named_parameters():
        if name.startswith("t_embedder") and name.endswith("weight"):
            nn.init.normal_(parameter, std=0.02)
        elif "adaLN_modulation" in name or name.startswith("final_layer.linear"):
            nn.init.zeros_(parameter)


def check_sizes(kind: str, input_size: int, patch_size: int, hidden_size: int, num_heads: int, skips: Any) -> None:
    """Raises ValueError for sizes that don't fit together, and for an unknown form of skips."""
    if input_size % patch_size or hidden_size % num_heads or hidden_size % 4:
        raise ValueError(
            f"{kind}: patch_size={patch_size} must divide input_size={input_size}, and num_heads={num_heads} "
            f"and 4 must divide hidden_size={hidden_size}"
        )
    if skips is not None and skips not in JOINS:
        raise ValueError(f"{kind}: skips={skips!r} is unknown: choose None, {', '.join(map(repr, JOINS))}")


class Named(ModelMixin, ConfigMixin):
    """A model of ours: it loads by name, and checkpoints its blocks where it is told to."""

    _supports_gradient_checkpointing = True
    gradient_checkpointing = False

    @classmethod
    def from_pretrained(cls, name: str | Path, **kwargs: Any) -> Self:
        """Load a shipped model ("emoji-skip"), a folder, or "owner/name" of the Hugging Face hub.

        Weights come as float32 whatever they are stored as; `torch_dtype` asks for another type.
        Raises FileNotFoundError where there is none, ValueError for a model of another class.
        """
        source, config = described(name, **kwargs)
        kind = config.get("_class_name")
        if kind != cls.__name__:
            raise ValueError(f"{name} holds a {kind}, not a {cls.__name__}")
        return super().from_pretrained(source, **{"torch_dtype": torch.float32, **kwargs})

    def _through(self, block: Any, *given: Any) -> Tensor:
        """A block's output; with gradient checkpointing it is computed again in the backward pass."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(block, *given)
        return block(*given)


class DiT(Named):
    """A diffusion transformer for images or latents, conditioned on a class and, where `styles` > 0, a style.

    input_size     side of the (square) input, in pixels or latent cells
    skips          None, "join" (identity at first) or "replace" (the published Skip-DiT)
    skip_pairs     (source, target) block numbers of the branches; the mirror pairs when left out
    learn_sigma    the output has 2 x channels: prediction, then the interpolated log-variance
    prediction     what the network was trained to predict: "epsilon", "v_prediction" or "flow"
    names          what the class and style numbers mean, for sampling by name

    Weights load and save in the Hugging Face folder form. Raises ValueError for sizes that don't fit together.
    """

    backbone: ClassVar[Backbone] = Backbone(
        {"blocks": Contract(("x",))}, parts={"attn": "attn", "mlp": "mlp"}, width="hidden_size"
    )
    _no_split_modules: ClassVar[list[str]] = ["DiTBlock"]
    _repeated_blocks: ClassVar[list[str]] = ["DiTBlock"]

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
        class_dropout_prob: float = 0.1,
        num_classes: int = 1000,
        num_styles: int = 0,
        learn_sigma: bool = True,
        skips: str | None = None,
        prediction: str = "epsilon",
        class_names: list[str] | None = None,
        style_names: list[str] | None = None,
        skip_pairs: list[tuple[int, int]] | None = None,
    ):
        super().__init__()
        check_sizes("DiT", input_size, patch_size, hidden_size, num_heads, skips)
        self.out_channels = in_channels * 2 if learn_sigma else in_channels

        self.x_embedder = PatchEmbed(patch_size, in_channels, hidden_size)
        self.t_embedder = TimestepEmbedder(hidden_size)
        self.y_embedder = LabelEmbedder(num_classes, hidden_size, class_dropout_prob)
        if num_styles:
            self.style_embedder = LabelEmbedder(num_styles, hidden_size, class_dropout_prob)
        side = input_size // patch_size
        self.pos_embed = nn.Parameter(sincos_2d(hidden_size, side)[None], requires_grad=False)  # (1, T, D)
        self.blocks = nn.ModuleList(DiTBlock(hidden_size, num_heads, mlp_ratio) for _ in range(depth))
        self.final_layer = FinalLayer(hidden_size, patch_size, self.out_channels)
        initialize(self)
        if skips is not None:
            add_skips(self, hidden_size, JOINS[skips], skip_pairs)

    def unpatchify(self, x: Tensor) -> Tensor:
        return unpatchify(x, self.config.patch_size)

    def forward(self, x: Tensor, t: Tensor, y: Tensor, style: Tensor | None = None) -> Tensor:
        """Noisy images x (B, C, H, W), timesteps t (B,), classes y (B,), styles (B,) -> (B, C or 2C, H, W)."""
        if (style is not None) != bool(self.config.num_styles):
            raise ValueError(
                f"DiT: num_styles={self.config.num_styles}, but style is {'left out' if style is None else 'given'}"
            )
        x = self.x_embedder(x) + self.pos_embed  # (B, T, D)
        c = self.t_embedder(t) + self.y_embedder(y)  # (B, D)
        if style is not None:
            c = c + self.style_embedder(style)  # (B, D)
        for block in self.blocks:
            x = self._through(block, x, c)
        return self.unpatchify(self.final_layer(x, c))  # (B, C or 2C, H, W)


def shipped() -> list[str]:
    """Names of the models that ship with the package."""
    return sorted(folder.parent.name for folder in WEIGHTS.glob("*/config.json"))


def located(name: str | Path) -> str | Path:
    """The folder of a shipped model, or the folder or hub id itself. Raises FileNotFoundError for none of them."""
    if str(name) in shipped():
        return WEIGHTS / str(name)
    if (Path(name) / "config.json").is_file():
        return name
    if Path(name).is_dir():
        inside = "the folder that a model was saved in, such as RUN/checkpoint-0000500/ema"
        raise FileNotFoundError(f"{name} holds no config.json: name {inside}")
    if HUB_ID.fullmatch(str(name)) and not Path(name).parent.is_dir():
        return name
    ours = ", ".join(shipped()) or "none in this package"
    raise FileNotFoundError(f"no model {str(name)!r}: name a shipped one ({ours}), a folder, or owner/name of the hub")


def described(name: str | Path, **kwargs: Any) -> tuple[str | Path, dict[str, Any]]:
    """Where a saved model lies, and its config. Raises FileNotFoundError where there is none, ValueError for another
    file in its place."""
    inside = Path(name) / kwargs.get("subfolder", "")
    source = name if (inside / "config.json").is_file() else located(name)
    try:
        config = Named.load_config(source, **{k: kwargs[k] for k in WHERE if k in kwargs})
    except OSError as error:
        reason = str(error).strip().split("\n")[0]
        raise FileNotFoundError(f"no model {str(name)!r}, neither a folder here nor on the hub: {reason}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{name}: its config.json holds a {type(config).__name__}, not a model's configuration")
    return source, config


# ---- the sizes of the DiT paper (table 1) ---------------------------------------------------------------------------


class Size(TypedDict):
    depth: int
    hidden_size: int
    num_heads: int


XL: Size = {"depth": 28, "hidden_size": 1152, "num_heads": 16}
L: Size = {"depth": 24, "hidden_size": 1024, "num_heads": 16}
B: Size = {"depth": 12, "hidden_size": 768, "num_heads": 12}
S: Size = {"depth": 12, "hidden_size": 384, "num_heads": 6}

DiT_XL_2 = partial(DiT, patch_size=2, **XL)
DiT_XL_4 = partial(DiT, patch_size=4, **XL)
DiT_XL_8 = partial(DiT, patch_size=8, **XL)
DiT_L_2 = partial(DiT, patch_size=2, **L)
DiT_L_4 = partial(DiT, patch_size=4, **L)
DiT_L_8 = partial(DiT, patch_size=8, **L)
DiT_B_2 = partial(DiT, patch_size=2, **B)
DiT_B_4 = partial(DiT, patch_size=4, **B)
DiT_B_8 = partial(DiT, patch_size=8, **B)
DiT_S_2 = partial(DiT, patch_size=2, **S)
DiT_S_4 = partial(DiT, patch_size=4, **S)
DiT_S_8 = partial(DiT, patch_size=8, **S)

SIZES: dict[str, partial[DiT]] = {
    "DiT-XL/2": DiT_XL_2, "DiT-XL/4": DiT_XL_4, "DiT-XL/8": DiT_XL_8,
    "DiT-L/2": DiT_L_2, "DiT-L/4": DiT_L_4, "DiT-L/8": DiT_L_8,
    "DiT-B/2": DiT_B_2, "DiT-B/4": DiT_B_4, "DiT-B/8": DiT_B_8,
    "DiT-S/2": DiT_S_2, "DiT-S/4": DiT_S_4, "DiT-S/8": DiT_S_8,
}  # fmt: skip
