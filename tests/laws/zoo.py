"""The models and policies that every law is tried on: tiny, random, on the CPU."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import save_file
from torch import nn

from skipdit import methods
from skipdit.backbones.dit import DiT
from skipdit.backbones.latte import Latte
from skipdit.core.backbone import Backbone, Contract, transposed
from skipdit.core.policy import Policy
from skipdit.core.skips import Join, add_skips
from skipdit.core.what import adams_bashforth, forecast, hold, residual, taylor
from skipdit.core.when import At, Drift, Every, Window
from skipdit.core.where import Inner, Parts, Range

STEPS = 9
TIMES = [float(t) for t in range(900, 0, -100)]


def shaken(model: nn.Module) -> nn.Module:
    """Random weights everywhere, so that no block and no branch is the identity."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    return model.eval()


def dit(skips: str | None, depth: int = 6) -> DiT:
    torch.manual_seed(0)
    return shaken(
        DiT(
            input_size=8,
            patch_size=4,
            in_channels=3,
            hidden_size=32,
            depth=depth,
            num_heads=2,
            num_classes=5,
            skips=skips,
        )
    )


class TwoStreamBlock(nn.Module):
    """Takes image and text by keyword and gives back (text, image)."""

    def __init__(self, width: int):
        super().__init__()
        self.image, self.text = nn.Linear(2 * width, width), nn.Linear(width, width)

    def forward(self, hidden_states, encoder_hidden_states, temb=None):
        text = encoder_hidden_states + self.text(encoder_hidden_states)
        pooled = text.mean(1, keepdim=True).expand_as(hidden_states)
        both = torch.cat([hidden_states + temb, pooled], -1)  # (B, T, 2D)
        return text, hidden_states + torch.tanh(self.image(both))


class TwoStream(nn.Module):
    """A stand-in for the dual-stream models of the wild: other names, two tensors in the flow, a swapped tuple."""

    backbone: ClassVar[Backbone] = Backbone(
        {"transformer_blocks": Contract(("hidden_states", "encoder_hidden_states"), (1, 0))},
        parts={"attn": "image", "mlp": "text"},
        timestep="timestep",
    )

    def __init__(self, width: int = 16, depth: int = 6):
        super().__init__()
        self.transformer_blocks = nn.ModuleList(TwoStreamBlock(width) for _ in range(depth))
        self.into = nn.Linear(3, width)

    def forward(self, x, timestep, y):
        x = self.into(x.flatten(2).transpose(1, 2))  # (B, T, D)
        e = x[:, :2] + y[:, None, None]
        temb = (timestep / 1000)[:, None, None]
        for block in self.transformer_blocks:
            e, x = block(x, encoder_hidden_states=e, temb=temb)
        return x + e.mean(1, keepdim=True)


def two_stream(skips: bool) -> TwoStream:
    torch.manual_seed(0)
    model = TwoStream()
    return shaken(add_skips(model, 16, Join) if skips else model)


class CrossedBlock(nn.Module):
    """Attention, cross-attention and an MLP, each in miniature."""

    def __init__(self, width: int):
        super().__init__()
        self.attn1, self.attn2, self.ff = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x, context, temb):
        x = x + torch.tanh(self.attn1(x + temb + x.mean(1, keepdim=True)))
        x = x + self.attn2(context).mean(1)[: len(x)].repeat(len(x) // len(context), 1)[:, None]  # (B n, 1, D)
        return x + torch.tanh(self.ff(x))


class Video(nn.Module):
    """A stand-in for video models: blocks over patches and blocks over frames take turns, all see a text."""

    backbone: ClassVar[Backbone] = Backbone(
        {"spatial": Contract(), "temporal": Contract(layout=transposed)},
        zipped=True,
        parts={"attn": "attn1", "cross": "attn2", "mlp": "ff"},
    )

    def __init__(self, width: int = 16, depth: int = 6):
        super().__init__()
        self.spatial = nn.ModuleList(CrossedBlock(width) for _ in range(depth))
        self.temporal = nn.ModuleList(CrossedBlock(width) for _ in range(depth))
        self.into, self.words = nn.Linear(3, width), nn.Embedding(5, width)

    def forward(self, x, t, y):
        x = self.into(x.flatten(2).transpose(1, 2)).unflatten(1, (4, 16)).flatten(0, 1)  # (B frames, patches, D)
        context, temb = self.words(y)[:, None], (t[0] / 1000)
        for spatial, temporal in zip(self.spatial, self.temporal, strict=True):
            x = spatial(x, context, temb)
            x = x.unflatten(0, (-1, 4)).transpose(1, 2).flatten(0, 1)  # (B patches, frames, D)
            x = temporal(x, context, temb)
            x = x.unflatten(0, (-1, 16)).transpose(1, 2).flatten(0, 1)  # (B frames, patches, D)
        return x


def video() -> Video:
    torch.manual_seed(0)
    return shaken(Video())


class Clips(Latte):
    """Takes the three channels of an image for three frames of one channel."""

    def forward(self, x, t, y):
        return super().forward(x[:, :, None], t, y)  # (B, 3, H, W) -> (B, F, 1, H, W)


def latte() -> Clips:
    torch.manual_seed(0)
    sizes = dict(input_size=8, patch_size=4, in_channels=1, hidden_size=32, depth=12, num_heads=2, num_frames=3)
    return shaken(Clips(**sizes, num_classes=5, skips="replace"))


_folder = tempfile.TemporaryDirectory()  # goes when the tests do
HALF = str(Path(_folder.name) / "half.safetensors")
save_file({"diagonal": torch.tensor(0.5)}, HALF)

BACKBONES = {
    "dit": lambda: dit(None),
    "dit-join": lambda: dit("join"),
    "dit-replace": lambda: dit("replace"),
    "dit-replace-odd": lambda: dit("replace", depth=7),
    "two-stream": lambda: two_stream(False),
    "two-stream-join": lambda: two_stream(True),
    "video": video,
    "latte-replace": latte,
}

POLICIES = {
    "skip_cache": methods.skip_cache(every=2),
    "skip_cache K=2": methods.skip_cache(every=3, branch=2),
    "skip_cache window": methods.skip_cache(every=2, hi=700, lo=150),
    "skip_cache fractions": methods.skip_cache(every=3, hi=0.8, lo=0.2),
    "skip_cache paper": methods.skip_cache(every=2, hi=700, lo=150, paper=True),
    "residual": Policy(Inner(1, 1), Every(3), residual()),
    "forecast": Policy(Inner(1, 1), Every(3, warmup=2), forecast(1)),
    "forecast of change": Policy(Inner(1, 0), Every(2), forecast(2, change=True)),
    "taylor": Policy(Inner(1, 1), Every(3, warmup=3, tail=1), forecast(2, rule=taylor)),
    "adams_bashforth": Policy(Inner(1, 1), At((0, 1, 2, 5)), forecast(2, rule=adams_bashforth)),
    "first block": Policy(Inner(1, 0), Drift(1.2), residual()),
    "parts": Policy(Parts(("attn",)), Window(Every(2), 700), hold()),
    "range": Policy(Range(2, 4), Every(2), hold()),
    "sources inside": Policy(Inner(0, 1), Every(2), hold()),  # skips blocks whose output joins a block outside
    "fora": methods.fora(every=3),
    "delta_dit": methods.delta_dit(every=2, blocks=2),
    "delta_dit overlap": methods.delta_dit(every=3, blocks=5, switch=4),
    "first_block": methods.first_block(threshold=1.2),
    "dbcache": methods.dbcache(threshold=1.2, front=1, back=1, warmup=2, most=2),
    "dbcache forecast": methods.dbcache(threshold=1.2, front=2, warmup=3, order=1),
    "taylorseer": methods.taylorseer(every=3, order=2, warmup=2),
    "taylorseer lite": methods.taylorseer(every=3, lite=True),
    "hermite": methods.hermite(every=3, order=2, warmup=3),
    "chebyshev": methods.chebyshev(steps=STEPS, warmup=3),
    "barycentric": methods.barycentric(every=2, keep=3),
    "barycentric paper": methods.barycentric(every=3, keep=3, paper=True),
    "pab": methods.pab(spatial=2, temporal=3, cross=4, mlp=2),
    "t_gate": methods.t_gate(gate=5, every=2),
    "blockdance": methods.blockdance(blocks=4),
    "faster_diffusion": methods.faster_diffusion(blocks=3, keys=(0, 1, 4)),
    "magcache": methods.magcache(ratios=(1.0, 1.0, 0.99, 0.98, 0.97, 0.97, 0.95, 0.9, 0.8)),
    "smoothcache": methods.smoothcache({"attn": "101010101", "mlp": "100100101"}),
    "easycache": methods.easycache(threshold=3.0, warmup=3),
    "teacache": methods.teacache(threshold=3.0),
    "adacache": methods.adacache(codebook=((2.0, 3), (9.0, 2)), block=2),
    "adacache motion": methods.adacache(codebook=((1.0, 3), (9.0, 2)), block=2, frame=1),
    "speca": methods.speca(threshold=2.0, order=1, warmup=2),
    "skip_forecast": methods.skip_forecast(every=3, order=2),
    "skip_correction": methods.skip_correction(HALF, every=3),
    "skip_plan": methods.skip_plan((0, 1, 2, 0, 2, 1, 0, 1, 1)),
}
ONLY = {  # where a method needs what not every model has
    "t_gate": ("video",),  # cross-attention
    "teacache": ("dit", "dit-join", "dit-replace", "dit-replace-odd", "latte-replace"),  # a modulated first norm
}
OWN = {  # FLOPs that a policy spends by itself, which are not the model's and not in the report
    "teacache": lambda run: STEPS * run.flops()["blocks.0.adaLN_modulation"],
}

CASES = [(b, p) for b in BACKBONES for p in POLICIES if b in ONLY.get(p, BACKBONES)]


def always(policy: Policy) -> Policy:
    """The same policy, computing at every step."""
    return replace(policy, when=Every(1))


def inputs(step: int, batch: int = 2, seed: int = 0):
    """One call's arguments at a step of a run."""
    generator = torch.Generator().manual_seed(1000 * seed + step)
    x = torch.randn(batch, 3, 8, 8, generator=generator)
    return x, torch.full((batch,), TIMES[step]), torch.arange(batch) % 5


@torch.no_grad()
def loop(model: nn.Module, run=None, stream: str = "main", seed: int = 0, steps: int = STEPS, batch: int = 2):
    """A denoising loop in miniature: the outputs of every step. With a run it names the clock as a sampler does."""
    outputs = []
    for step in range(steps):
        if run is not None:
            run.begin(step, TIMES[step], stream, STEPS)
        outputs.append(model(*inputs(step, batch, seed)))
    return torch.stack(outputs)


class Counted:
    """Counts the calls of every block by a read-only hook."""

    def __init__(self, model: nn.Module):
        blocks = model.backbone.blocks(model)
        self.calls = [0] * len(blocks)
        self.hooks = [
            block.register_forward_hook(lambda *_, i=i: self.calls.__setitem__(i, self.calls[i] + 1))
            for i, block in enumerate(blocks)
        ]

    def __enter__(self) -> list[int]:
        return self.calls

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()
