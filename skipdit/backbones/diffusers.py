"""The transformers of diffusers as a table: where each has its blocks, and how the flow passes through one. No import.

A line holds for every class it names. `h` is hidden_states, `e` encoder_hidden_states, in the order in which a block
gives them back. Lists of refiners and embedders that run before the trunk are not in it: they always run.
tests/backbones/test_diffusers.py holds the table against what one call of each class shows.
"""

from collections import ChainMap
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from skipdit.backbones.unets import UNETS
from skipdit.core.backbone import (
    Backbone,
    Contract,
    Pairs,
    as_given,
    falling,
    rising,
    thousandths,
    transposed,
)

H = Contract(("hidden_states",))
X = Contract(("x",))
HE = Contract(("hidden_states", "encoder_hidden_states"), (0, 1))
EH = Contract(("hidden_states", "encoder_hidden_states"), (1, 0))
HEADS = "num_attention_heads*attention_head_dim"
ATTN_FF = {"attn": "attn", "mlp": "ff"}
CROSSED = {"attn": "attn1", "cross": "attn2", "mlp": "ff"}
WAN = {"attn": "attn1", "cross": "attn2", "mlp": "ffn"}
JOINT = {"transformer_blocks": EH, "single_transformer_blocks": EH}
HUNYUAN = {"transformer_blocks": HE, "single_transformer_blocks": HE}
AS_ONE = {
    "transformer_blocks": EH,
    "single_transformer_blocks": H,
}  # text and image become one stream between the lists

TABLE: dict[str, Backbone] = {}


def _line(
    classes: str,
    stacks: Mapping[str, Contract],
    parts: Mapping[str, str | tuple[str, ...]],
    time: Callable[[float], float] = as_given,
    width: str = HEADS,
    **more: Any,
) -> None:
    more = {"timestep": "timestep", **more}
    TABLE.update(dict.fromkeys(classes.split(), Backbone(stacks, parts=parts, time=time, width=width, **more)))


def _hunyuan_dit(depth: int) -> Pairs:
    """Blocks 0 ... L/2-2 feed L-1 ... L/2+1; the two in the middle have no partner."""
    return [(i, depth - 1 - i) for i in range(depth // 2 - 1)]


def _u_shaped(depth: int) -> Pairs:
    return [(i, depth - 1 - i) for i in range(depth // 2)]


def _one_less(t: float) -> float:
    """The model is given t - 1."""
    return t + 1


def _proteina(model: Any) -> tuple[int, ...]:
    """After some blocks the model makes pairs from the main stream, for all blocks to come."""
    return tuple(int(number) + 1 for number in model.pair_update_layers)


def _motif(model: Any) -> tuple[int, ...]:
    """The last single blocks decode: their main stream starts anew, the encoded one comes in as the second."""
    return (len(model.transformer_blocks) + len(model.single_transformer_blocks) - model.config.num_decoder_layers,)


# ---- one stream -----------------------------------------------------------------------------------------------------

_line(
    "PixArtTransformer2DModel AllegroTransformer3DModel LTXVideoTransformer3DModel SanaTransformer2DModel "
    "SanaVideoTransformer3DModel SanaWMLTX2RefinerTransformer3DModel Transformer2DModel",
    {"transformer_blocks": H},
    CROSSED,
)
_line("CosmosTransformer3DModel StableAudioDiTModel", {"transformer_blocks": H}, CROSSED, thousandths)
_line(
    "DiTTransformer2DModel PriorTransformer TransformerTemporalModel",
    {"transformer_blocks": H},
    {"attn": "attn1", "mlp": "ff"},
)
_line("Krea2Transformer2DModel", {"transformer_blocks": H}, ATTN_FF, thousandths)
_line("MiniMaxH3Transformer3DModel", {"transformer_blocks": H}, ATTN_FF, rising, "hidden_size")
_line("MiniMaxMusic3Transformer1DModel", {"transformer_blocks": H}, {"attn": "attn"}, rising)
_line("NucleusMoEImageTransformer2DModel", {"transformer_blocks": H}, {"attn": "attn", "mlp": "img_mlp"}, thousandths)
_line("QwenImage21Transformer2DModel", {"transformer_blocks": H}, {"attn": "attn", "mlp": "img_mlp"}, thousandths)
_line(
    "StableAudio3DiTModel",
    {"transformer_blocks": H},
    {"attn": "self_attn", "cross": "cross_attn", "mlp": "ff"},
    thousandths,
    "embed_dim",
)
_line(
    "WanTransformer3DModel WanVACETransformer3DModel WanAnimateTransformer3DModel ChronoEditTransformer3DModel "
    "SkyReelsV2Transformer3DModel HeliosTransformer3DModel AnyFlowTransformer3DModel AnyFlowFARTransformer3DModel",
    {"blocks": H},
    WAN,
)
_line(
    "WanAnimate2Transformer3DModel",
    {"blocks": H},
    {"attn": "self_attn", "cross": "cross_attn", "mlp": "ffn"},
    width="dim",
)
_line("HunyuanDiT2DModel", {"blocks": H}, CROSSED, native=_hunyuan_dit)
_line("PRXTransformer2DModel", {"blocks": H}, {"attn": "attention"}, thousandths, "hidden_size")
_line(
    "SanaWMTransformer3DModel",
    {"blocks": X},
    {"attn": "attn", "cross": "cross_attn", "mlp": "mlp"},
    width="hidden_size",
)
_line(
    "LongCatAudioDiTTransformer",
    {"blocks": H},
    {"attn": "self_attn", "cross": "cross_attn", "mlp": "ffn"},
    thousandths,
    "dit_dim",
)
_line(
    "LuminaNextDiT2DModel",
    {"layers": H},
    {"attn": "attn1", "cross": "attn2", "mlp": "feed_forward"},
    rising,
    "hidden_size",
)
_line("Lumina2Transformer2DModel", {"layers": H}, {"attn": "attn", "mlp": "feed_forward"}, rising, "hidden_size")
_line("Ideogram4Transformer2DModel", {"layers": H}, {"attn": "attention", "mlp": "feed_forward"}, rising)
_line("OmniGenTransformer2DModel", {"layers": H}, {"attn": "self_attn", "mlp": "mlp"}, rising, "hidden_size")
_line(
    "ZImageTransformer2DModel", {"layers": X}, {"attn": "attention", "mlp": "feed_forward"}, rising, "dim", timestep="t"
)
_line("ErnieImageTransformer2DModel", {"layers": X}, {"attn": "self_attention", "mlp": "mlp"}, width="hidden_size")
_line(
    "BriaFibo2Transformer2DModel",
    {"layers": X},
    {"attn": "attention", "cross": "cross_attention", "mlp": "feed_forward"},
    thousandths,
    "dim",
)
_line(
    "AceStepTransformer1DModel",
    {"layers": H},
    {"attn": "self_attn", "cross": "cross_attn", "mlp": "mlp"},
    thousandths,
    "hidden_size",
)
_line(
    "Kandinsky5Transformer3DModel",
    {"visual_transformer_blocks": Contract(("visual_embed",))},
    {"attn": "self_attention", "cross": "cross_attention", "mlp": "feed_forward"},
    width="model_dim",
)
_line(
    "Kandinsky6SRTransformer3DModel",
    {"visual_transformer_blocks": H},
    {"attn": "self_attention", "mlp": "feed_forward"},
    width="model_dim",
)
_line(
    "T5FilmDecoder",
    {"decoders": Contract(("hidden_states",), (0,))},
    {"attn": "layer.0.attention", "cross": "layer.1.attention", "mlp": "layer.2.DenseReluDense"},
    thousandths,
    "d_model",
    timestep="decoder_noise_time",
)
_line(
    "RFD4ProteinaTransformer",
    {"transformer_layers": Contract(("values",))},
    {"attn": "mhba", "mlp": "transition"},
    rising,
    "token_dim",
    timestep="bb_ca_time",
    breaks=_proteina,
)

# ---- two streams ----------------------------------------------------------------------------------------------------

_line(
    "CogVideoXTransformer3DModel ConsisIDTransformer3DModel CogView3PlusTransformer2DModel "
    "EasyAnimateTransformer3DModel",
    {"transformer_blocks": HE},
    {"attn": "attn1", "mlp": "ff"},
)
_line("CogView4Transformer2DModel", {"transformer_blocks": HE}, {"attn": "attn1"})
_line("GlmImageTransformer2DModel", {"transformer_blocks": HE}, {"attn": "attn1"}, _one_less)
_line("HunyuanVideo15Transformer3DModel", {"transformer_blocks": HE}, ATTN_FF)
_line("MochiTransformer3DModel", {"transformer_blocks": HE}, {"attn": "attn1", "mlp": "ff"}, falling)
_line("SD3Transformer2DModel", {"transformer_blocks": EH}, ATTN_FF)
_line("QwenImageTransformer2DModel", {"transformer_blocks": EH}, {"attn": "attn", "mlp": "img_mlp"}, thousandths)
_line(
    "JoyImageEditTransformer3DModel JoyImageEditPlusTransformer3DModel",
    {"double_blocks": HE},
    {"attn": "attn", "mlp": "img_mlp"},
    width="hidden_size",
)
_line(
    "LTX2VideoTransformer3DModel",
    {"transformer_blocks": Contract(("hidden_states", "audio_hidden_states"), (0, 1))},
    CROSSED,
)
_line(
    "Kandinsky6Transformer3DModel",
    {"visual_transformer_blocks": Contract(("vis", "aud"), (0, 1))},
    {
        f"{part}": f"video_dec_block.{name}"
        for part, name in (("attn", "self_attention"), ("cross", "cross_attention"), ("mlp", "feed_forward"))
    },
    width="model_dim",
)
_line(
    "Cosmos3OmniTransformer",
    {"layers": Contract(("gen_seq", "und_seq"), (1, 0))},
    {"mlp": "mlp_moe_gen"},
    width="hidden_size",
    timestep="vision_timesteps",
)

# ---- two lists ------------------------------------------------------------------------------------------------------

_line("FluxTransformer2DModel LongCatImageTransformer2DModel OvisImageTransformer2DModel", JOINT, ATTN_FF, thousandths)
_line("BriaTransformer2DModel", JOINT, ATTN_FF)
_line(
    "HunyuanVideoTransformer3DModel HunyuanVideoFramepackTransformer3DModel HunyuanImageTransformer2DModel",
    HUNYUAN,
    ATTN_FF,
)
_line("MotifVideoTransformer3DModel", HUNYUAN, {**ATTN_FF, "cross": "cross_attn"}, breaks=_motif)
_line("ChromaTransformer2DModel Flux2Transformer2DModel", AS_ONE, ATTN_FF, thousandths)
_line("BriaFiboTransformer2DModel", AS_ONE, ATTN_FF)
_line(
    "AuraFlowTransformer2DModel",
    {"joint_transformer_blocks": EH, "single_transformer_blocks": H},
    ATTN_FF,
    thousandths,
)
_line("Flux3Transformer2DModel", {"mode_blocks.image": H, "single_transformer_blocks": EH}, ATTN_FF, thousandths)
_line(
    "HiDreamImageTransformer2DModel",
    {"double_stream_blocks": HE, "single_stream_blocks": H},
    {"attn": "block.attn1", "mlp": "block.ff_i"},
    timestep="timesteps",
)

# ---- lists that take turns, and a U ---------------------------------------------------------------------------------

_line(
    "LatteTransformer3DModel",
    {"transformer_blocks": H, "temporal_transformer_blocks": Contract(("hidden_states",), layout=transposed)},
    CROSSED,
    zipped=True,
)
_line(
    "UniDiffuserModel",
    {
        "transformer.transformer_in_blocks": H,
        "transformer.transformer_mid_block": H,
        "transformer.transformer_out_blocks": Contract(("hidden_states",), within=("skip", "block")),
    },
    {"attn": ("attn1", "block.attn1"), "mlp": ("ff", "block.ff")},
    timestep="timestep_img",
    native=_u_shaped,
)


LINES = ChainMap(TABLE, UNETS)


def backbone_of(model: nn.Module) -> Backbone:
    """A model's description: what it carries itself, or its line in a table. Raises TypeError where there is none."""
    model = _unwrapped(model)
    return Backbone.of(model) if carries_one(model) else _listed(model) or Backbone.of(model)


def carries_one(model: Any) -> bool:
    """Whether a model says by itself how it is laid out."""
    return isinstance(getattr(type(model), "backbone", None) or vars(model).get("backbone"), Backbone)


def known(model: Any) -> bool:
    """Whether a model can be attached to without being told how it is laid out."""
    model = _unwrapped(model)
    return isinstance(model, nn.Module) and (carries_one(model) or _listed(model) is not None)


def _listed(model: nn.Module) -> Backbone | None:
    """The line of a model's class, or of one that it derives from."""
    names = (kind.__name__ for kind in type(model).__mro__)
    return next((LINES[name] for name in names if name in LINES), None)


def _unwrapped(model: Any) -> Any:
    """The model itself, where torch.compile has wrapped it: that is refused when attached, by the model's name."""
    return getattr(model, "_modules", {}).get("_orig_mod", model)
