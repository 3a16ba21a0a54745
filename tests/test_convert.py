"""Conversion: a pretrained transformer with branches is the same model, saves, loads, trains, compiles and caches."""

import copy
import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import diffusers
import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

import skipdit
from skipdit import Join, Replace, attach, methods
from skipdit.backbones.dit import DiT
from skipdit.convert import stored_dtype
from skipdit.core.backbone import Backbone, Contract

sys.path.insert(0, str(Path(__file__).parent / "backbones" / "cases"))
sys.path.insert(0, str(Path(__file__).parent / "pipelines"))

import audio
import image_a
import image_b
import video_a
import video_b
from case import CASES

assert audio
assert image_a
assert image_b
assert video_a
assert video_b

FAMILIES = {  # class -> the pairs it is given
    "DiTTransformer2DModel": [(0, 5), (1, 4), (2, 3)],
    "PixArtTransformer2DModel": [(0, 5), (1, 4), (2, 3)],
    "LatteTransformer3DModel": [(1, 4)],  # rounds of a spatial and a temporal block; a middle round has no partner
    "SD3Transformer2DModel": [(0, 5), (1, 4), (2, 3)],
    "FluxTransformer2DModel": [(0, 6), (1, 5), (2, 4)],  # across both lists
    "AuraFlowTransformer2DModel": [(0, 2), (3, 6), (4, 5)],  # the stream changes: a mirror for each list
    "ChromaTransformer2DModel": [(0, 2), (3, 6), (4, 5)],
    "HunyuanVideoTransformer3DModel": [(0, 6), (1, 5), (2, 4)],
    "CogVideoXTransformer3DModel": [(0, 5), (1, 4), (2, 3)],
    "WanTransformer3DModel": [(0, 5), (1, 4), (2, 3)],
    "LTXVideoTransformer3DModel": [(0, 5), (1, 4), (2, 3)],
    "SanaTransformer2DModel": [(0, 5), (1, 4), (2, 3)],
    "QwenImageTransformer2DModel": [(0, 5), (1, 4), (2, 3)],
    "MotifVideoTransformer3DModel": [(0, 8), (1, 7), (2, 6), (3, 5)],
    "ErnieImageTransformer2DModel": [(0, 5), (1, 4), (2, 3)],  # tokens before samples
    "StableAudioDiTModel": [(0, 5), (1, 4), (2, 3)],
}
ROUNDED = ("ConsisIDTransformer3DModel", "WanAnimateTransformer3DModel")  # loaded ones differ by 5e-7, plain ones too
NATIVE = ("HunyuanDiT2DModel", "UniDiffuserModel")  # with long skips of their own
families = pytest.mark.parametrize("name", FAMILIES)
quick = pytest.mark.parametrize("name", ["LatteTransformer3DModel", "FluxTransformer2DModel", "WanTransformer3DModel"])


def output(model: nn.Module, call: dict) -> list[Tensor]:
    with torch.no_grad():
        return [y for y in tree_leaves(model(**call)) if isinstance(y, Tensor)]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def learnt(model: nn.Module) -> nn.Module:
    """With branches that say something."""
    torch.manual_seed(1)
    for branch in model.skip_branches.values():
        nn.init.normal_(branch.linear.weight, std=0.05)
    return model


def converted(name: str) -> nn.Module:
    return learnt(skipdit.add_skips(CASES[name].model()))


def in_own_memory(model: nn.Module) -> nn.Module:
    """Weights mapped from a file lie at odd addresses, and some CPU kernels then round another way."""
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model.eval()


def said(model: nn.Module) -> dict:
    """The config as JSON gives it back, without what diffusers adds to it."""
    return json.loads(json.dumps({key: value for key, value in model.config.items() if key[0] != "_"}))


# ---- the same model


@families
def test_a_converted_model_is_what_it_was_bit_for_bit(name):
    model = CASES[name].model()
    keys, call = set(model.state_dict()), CASES[name].call(0, 500.0, 2)
    before = output(model, call)
    assert skipdit.add_skips(model) is model
    assert same(output(model, call), before)
    added = set(model.state_dict()) - keys
    assert keys < set(model.state_dict())
    assert all(key.startswith("skip_branches.") for key in added)
    assert model.config.skip_pairs == FAMILIES[name]
    assert model.config.skip_join == "join"
    assert not same(output(learnt(model), call), before)


@pytest.mark.parametrize("name", ["WanTransformer3DModel", "Kandinsky5Transformer3DModel", "SD3Transformer2DModel"])
def test_branches_have_the_streams_dtype_though_some_parts_are_kept_in_float32(name, tmp_path):
    case = CASES[name]
    case.model().save_pretrained(tmp_path)
    model = skipdit.from_pretrained(tmp_path, torch_dtype=torch.bfloat16).eval()
    call = tree_map(lambda v: v.bfloat16() if isinstance(v, Tensor) and v.dtype == torch.float32 and v.ndim > 1 else v,
                    case.call(0, 500.0))  # fmt: skip
    before = output(model, call)
    skipdit.add_skips(model)
    assert {p.dtype for p in model.skip_branches.parameters()} == {torch.bfloat16}
    assert same(output(model, call), before)


# ---- save and load


@pytest.mark.parametrize("name", [name for name in CASES if name not in (*NATIVE, "Transformer2DModel")])
def test_what_is_saved_is_what_is_loaded(name, tmp_path):
    model, call = converted(name), CASES[name].call(0, 500.0, 2)
    model.save_pretrained(tmp_path)
    again = skipdit.from_pretrained(tmp_path, kind=None if hasattr(diffusers, name) else type(model))
    assert type(again) is type(model)
    assert said(again) == said(model)
    assert model.state_dict().keys() == again.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())
    loaded, before = output(in_own_memory(again), call), output(model, call)
    torch.testing.assert_close(loaded, before, rtol=0, atol=2e-6)
    assert same(loaded, before) or name in ROUNDED


@quick
@pytest.mark.parametrize("how", [dict(max_shard_size="20KB"), dict(variant="fp16"), dict(subfolder="transformer")])
def test_sharded_variant_and_subfolder(name, how, tmp_path):
    model, call = converted(name), CASES[name].call(0, 500.0)
    subfolder = how.pop("subfolder", "")
    model.save_pretrained(tmp_path / subfolder, **how)
    shards = len(list((tmp_path / subfolder).glob("*.safetensors")))
    assert (shards > 1) == ("max_shard_size" in how)
    load = {"variant": how["variant"]} if "variant" in how else {}
    again = skipdit.from_pretrained(tmp_path, **load, **({"subfolder": subfolder} if subfolder else {}))
    assert same(output(in_own_memory(again), call), output(model, call))


@quick
def test_bfloat16(name, tmp_path):
    model = converted(name).to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    assert stored_dtype(tmp_path) == torch.bfloat16
    again = skipdit.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert again.skip_branches.state_dict().keys() == model.skip_branches.state_dict().keys()
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key].to(value.dtype), value), key


def test_a_plain_model_loads_plain(tmp_path):
    CASES["DiTTransformer2DModel"].model().save_pretrained(tmp_path)
    assert not hasattr(skipdit.from_pretrained(tmp_path), "skip_branches")


def test_a_class_under_its_old_name(tmp_path):
    """diffusers loads such a Transformer2DModel as a PixArtTransformer2DModel."""
    model = converted("Transformer2DModel")
    model.save_pretrained(tmp_path)
    again = in_own_memory(skipdit.from_pretrained(tmp_path))
    assert type(again).__name__ == "PixArtTransformer2DModel"
    call = CASES["Transformer2DModel"].call(0, 500.0)
    assert same(output(again, call), output(model, call))


class Scaled(Join):
    """A branch of one's own."""

    def forward(self, x, s):
        return x + 2 * (super().forward(x, s) - x)


def test_a_branch_of_ones_own_is_asked_for_when_loading(tmp_path):
    model = learnt(skipdit.add_skips(CASES["DiTTransformer2DModel"].model(), join=Scaled, pairs=[(1, 4)]))
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="made by Scaled: pass that as join="):
        skipdit.from_pretrained(tmp_path)
    again, call = skipdit.from_pretrained(tmp_path, join=Scaled), CASES["DiTTransformer2DModel"].call(0, 500.0)
    assert list(again.skip_branches) == ["4"]
    assert same(output(in_own_memory(again), call), output(model, call))


@pytest.mark.parametrize("pairs", [None, [(0, 5), (2, 4)]])
@pytest.mark.parametrize("join", ["join", "replace", Join, Replace])
def test_our_own_dit(pairs, join, tmp_path):
    torch.manual_seed(0)
    plain = DiT(8, 4, 3, 32, 6, 2, num_classes=5, learn_sigma=False)
    for parameter in plain.parameters():
        nn.init.normal_(parameter, std=0.2)
    call = dict(x=torch.randn(2, 3, 8, 8), t=torch.tensor([5, 900]), y=torch.tensor([0, 4]))
    before = output(plain.eval(), call)
    model = skipdit.add_skips(plain, join=join, pairs=pairs)
    assert same(output(model, call), before) == (join in ("join", Join))
    learnt(model).save_pretrained(tmp_path)
    for load in (DiT.from_pretrained, skipdit.from_pretrained):
        again = load(tmp_path)
        assert sorted(map(int, again.skip_branches)) == ([3, 4, 5] if pairs is None else [4, 5])
        assert same(output(in_own_memory(again), call), output(model, call))


def test_shipped_models_load_by_name():
    assert skipdit.from_pretrained("emoji-skip").config.skips == "replace"


# ---- a pipeline


def test_a_pipeline_of_which_the_transformer_was_converted(tmp_path):
    """Saved with it; loaded with the transformer from skipdit.from_pretrained."""
    from diffusers import DiTPipeline
    from small import PIPELINES
    from small_parts import output as drawn

    small = PIPELINES["dit"]()
    plain = drawn(small)
    skipdit.add_skips(small.pipe.transformer)
    assert torch.equal(drawn(small), plain)
    learnt(small.pipe.transformer)
    small.pipe.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="subfolder='transformer'"):
        skipdit.from_pretrained(tmp_path)
    transformer = in_own_memory(skipdit.from_pretrained(tmp_path, subfolder="transformer"))
    pipe = DiTPipeline.from_pretrained(tmp_path, transformer=transformer)
    again = drawn(replace(small, pipe=pipe))
    assert torch.allclose(again, drawn(small), atol=1e-5)
    assert not torch.allclose(again, plain, atol=1e-3)


# ---- what one does with a model


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"ChromaTransformer2DModel"}))  # it drops its own mask
def test_gradient_checkpointing_gives_equal_gradients(name):
    def gradients(checkpointed: bool) -> dict[str, Tensor]:
        model = converted(name).train().requires_grad_(True)
        if checkpointed:
            model.enable_gradient_checkpointing()
        torch.manual_seed(3)
        returned = tree_leaves(model(**CASES[name].call(0, 500.0)))
        sum(y.square().mean() for y in returned if isinstance(y, Tensor)).backward()
        return {key: p.grad for key, p in model.named_parameters() if p.grad is not None}

    plain, replayed = gradients(False), gradients(True)
    assert plain.keys() == replayed.keys()
    assert sum(key.startswith("skip_branches.") for key in plain) == 4 * len(FAMILIES[name])
    for key, gradient in plain.items():
        torch.testing.assert_close(replayed[key], gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["FluxTransformer2DModel", "WanTransformer3DModel", "SD3Transformer2DModel"])
def test_lora_by_name(name, tmp_path):
    from peft import LoraConfig

    call, target = CASES[name].call(0, 500.0), r".*skip_branches\.\d+\.linear|.*\.to_q"
    model = converted(name)
    before = output(model, call)
    model.add_adapter(LoraConfig(r=2, target_modules=target, init_lora_weights=False))
    adapted = output(model, call)
    assert not same(adapted, before)
    trained = {key for key, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in key for key in trained)
    assert sum("skip_branches" in key for key in trained) == 2 * len(FAMILIES[name])
    model.save_lora_adapter(tmp_path)
    again = converted(name)
    again.load_lora_adapter(tmp_path, prefix=None, weight_name="pytorch_lora_weights.safetensors")
    assert same(output(in_own_memory(again), call), adapted)
    model.disable_adapters()
    assert same(output(model, call), before)


@families
def test_copies_and_pickles_are_models_of_their_own(name):
    model, call = converted(name), CASES[name].call(0, 500.0)
    before = output(model, call)
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert same(output(again, call), before)
        for branch in again.skip_branches.values():
            nn.init.zeros_(branch.linear.weight)
        assert not same(output(again, call), before)
    assert same(output(model, call), before)


@families
def test_skip_cache_spares_what_lies_between_the_outermost_branches(name):
    model, call = converted(name), CASES[name].call
    order = model.backbone.order(model)
    unit = model.backbone.unit
    with attach(model, methods.skip_cache(every=2)) as run:
        returned = [output(model, call(0, t)) for t in (900.0, 900.0, 800.0, 700.0, 600.0)[1:]]
    report = run.report()
    assert report.blocks_run == 2 * len(order) + 2 * 2 * unit
    fresh = [output(model, call(0, t)) for t in (900.0, 800.0, 700.0, 600.0)]
    assert [same(a, b) for a, b in zip(returned, fresh, strict=True)] == [True, False, True, False]


@pytest.mark.parametrize("name", ["WanTransformer3DModel", "FluxTransformer2DModel"])
def test_regional_compilation_finds_the_blocks(name):
    model, call = converted(name), CASES[name].call(0, 500.0)
    before = output(model, call)
    model.compile_repeated_blocks(backend="eager", fullgraph=True)
    blocks = model.backbone.blocks(model)
    assert all(block._compiled_call_impl is not None for block in blocks)
    torch._dynamo.reset()
    assert same(output(model, call), before)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


# ---- refusals


@pytest.mark.parametrize("name", NATIVE)
def test_long_skips_of_its_own_are_named(name):
    with pytest.raises(ValueError, match=rf"{name} has long skips of its own.*attach a policy"):
        skipdit.add_skips(CASES[name].model())


class Unknown(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))

    def forward(self, x, t):
        for layer in self.layers:
            x = layer(x)
        return x


def test_refusals_name_the_thing_and_the_way_out(tmp_path):
    with pytest.raises(TypeError, match=r"Unknown carries no Backbone.*skipdit\.infer"):
        skipdit.add_skips(Unknown())
    model = CASES["DiTTransformer2DModel"].model()
    with pytest.raises(ValueError, match="join='add' is unknown: choose 'join', 'replace'"):
        skipdit.add_skips(model, join="add")
    with pytest.raises(ValueError, match=r"pair \(5, 0\)"):
        skipdit.add_skips(model, pairs=[(5, 0)])
    assert "skip_pairs" not in model.config
    skipdit.add_skips(model)
    with pytest.raises(ValueError, match="already"):
        skipdit.add_skips(model)
    with pytest.raises(ValueError, match="'join' or 'replace', of its own hidden_size"):
        skipdit.add_skips(DiT(8, 4, 3, 32, 4, 2), join=Scaled)
    with pytest.raises(FileNotFoundError, match="no model"):
        skipdit.from_pretrained(tmp_path / "nothing")
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "Foreign"}))
    with pytest.raises(ValueError, match="holds a Foreign, no model of diffusers: pass kind="):
        skipdit.from_pretrained(tmp_path)


def test_an_unknown_class_with_its_backbone():
    model = Unknown()
    x, backbone = torch.randn(1, 3, 4), Backbone({"layers": Contract(("input",))})
    before = model(x, None)
    skipdit.add_skips(model, 4, backbone=backbone)
    assert torch.equal(model(x, None), before)
    assert model.backbone == backbone
    with attach(model, methods.skip_cache(every=2)) as run:
        for t in (900.0, 800.0):
            model(x, torch.tensor(t))
    assert run.report().blocks_run == 4 + 2
