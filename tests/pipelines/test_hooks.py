"""Offloading, casting and other caches on the same model: all works as without, or is refused by name."""

import accelerate
import pytest
import torch
from accelerate.hooks import remove_hook_from_module
from diffusers import FirstBlockCacheConfig, TaylorSeerCacheConfig
from diffusers.hooks import apply_group_offloading, apply_layerwise_casting
from small import PIPELINES, output
from torch import nn
from watch import same

import skipdit
from skipdit.core.policy import Policy
from skipdit.core.what import hold
from skipdit.core.when import Every
from skipdit.core.where import Inner, Parts

CPU = torch.device("cpu")
POLICIES = {
    "blocks": Policy(Inner(1, 1), Every(2), hold()),
    "parts": Policy(Parts(("attn",)), Every(2), hold()),
}
SHORT = dict(steps=3, output_type="latent")


def sequential(pipe, model):
    """Accelerate: weights on no device but while a module runs. All parts, or the pipe takes `meta` for its device."""
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            accelerate.cpu_offload(part, execution_device=CPU)


def whole(pipe, model):
    accelerate.cpu_offload_with_hook(model, CPU)


def dispatched(pipe, model):
    accelerate.dispatch_model(model, {"": "cpu"}, main_device="cpu", force_hooks=True)


def by_block(pipe, model):
    apply_group_offloading(model, CPU, CPU, offload_type="block_level", num_blocks_per_group=1)


def by_leaf(pipe, model):
    apply_group_offloading(model, CPU, CPU, offload_type="leaf_level")


def cast(pipe, model):
    apply_layerwise_casting(model, torch.bfloat16, torch.float32)


def snapshot(model):
    return (
        [(path, id(module)) for path, module in model.named_modules()],
        [path for path, module in model.named_modules() if "forward" in vars(module)],
        [(path, len(m._forward_hooks), len(m._forward_pre_hooks)) for path, m in model.named_modules()],
        sorted(vars(model)),
    )


CASES = [("flux-cfg", "blocks"), ("flux-cfg", "parts"), ("latte", "blocks")]


@pytest.mark.parametrize("how", [sequential, whole, dispatched, by_block, by_leaf, cast], ids=lambda how: how.__name__)
@pytest.mark.parametrize(("name", "policy"), CASES)
def test_an_offloaded_model_is_cached_alike_and_left_as_it_was(name, policy, how):
    small, policy = PIPELINES[name](), POLICIES[policy]
    model = small.pipe.transformer
    if how is cast:  # rounds the weights, so that it goes before what it is held against
        how(small.pipe, model)
    bare = output(small, **SHORT)
    with skipdit.attach(small.pipe, policy) as run:
        want = output(small, **SHORT)
        figures = run.report()
    assert not torch.equal(want, bare)
    if how is not cast:
        how(small.pipe, model)
    before = snapshot(model)
    with skipdit.attach(small.pipe, policy) as run:
        assert same(output(small, **SHORT), want)
        assert run.report() == figures  # the FLOPs too: a pass for real, as weights come and go
        assert same(output(small, **SHORT), want)
    assert snapshot(model) == before
    assert same(output(small, **SHORT), bare)


@pytest.mark.parametrize("how", [sequential, whole, by_block, by_leaf], ids=lambda how: how.__name__)
@pytest.mark.parametrize(("name", "policy"), CASES)
def test_offloading_may_begin_while_a_policy_is_attached_and_outlasts_it(name, policy, how):
    small, policy = PIPELINES[name](), POLICIES[policy]
    model = small.pipe.transformer
    bare, types = output(small, **SHORT), [type(module) for module in model.modules()]
    with skipdit.attach(small.pipe, policy):
        want = output(small, **SHORT)
        how(small.pipe, model)
        assert same(output(small, **SHORT), want)
    assert [type(module) for module in model.modules()] == types
    assert all(("forward" in vars(module)) == wrapped(module) for module in model.modules())
    assert same(output(small, **SHORT), bare)
    with skipdit.attach(small.pipe, policy):
        assert same(output(small, **SHORT), want)
    assert same(output(small, **SHORT), bare)


def wrapped(module):
    """Whether accelerate or diffusers has wrapped its forward."""
    return hasattr(module, "_hf_hook") or bool(getattr(getattr(module, "_diffusers_hook", None), "hooks", None))


def test_accelerates_hooks_come_off_a_model_that_a_policy_was_on():
    small = PIPELINES["flux-cfg"]()
    bare, before = output(small, **SHORT), snapshot(small.pipe.transformer)
    whole(small.pipe, small.pipe.transformer)
    with skipdit.attach(small.pipe, POLICIES["parts"]):
        output(small, **SHORT)
    remove_hook_from_module(small.pipe.transformer, recurse=True)
    vars(small.pipe.transformer).pop("forward")  # accelerate leaves the class's own there
    assert snapshot(small.pipe.transformer) == before
    assert same(output(small, **SHORT), bare)


@pytest.mark.parametrize("name", ["sd3", "latte"])
def test_groups_on_disk_are_really_brought_in_or_refused_where_a_span_cuts_one(name, tmp_path):
    """Blocks are offloaded to files, so that a block whose group wasn't brought in would compute on nothing."""
    small, policy = PIPELINES[name](), POLICIES["blocks"]
    bare = output(small, **SHORT)
    with skipdit.attach(small.pipe, policy):
        want = output(small, **SHORT)
    offload = dict(offload_type="block_level", offload_to_disk_path=str(tmp_path / "one"))
    apply_group_offloading(small.pipe.transformer, CPU, CPU, **offload, num_blocks_per_group=1)
    with skipdit.attach(small.pipe, policy):
        assert same(output(small, **SHORT), want)
    assert same(output(small, **SHORT), bare)

    small = PIPELINES[name]()
    offload["offload_to_disk_path"] = str(tmp_path / "two")
    apply_group_offloading(small.pipe.transformer, CPU, CPU, **offload, num_blocks_per_group=2)
    cut = (
        r"the weights of \S*transformer_blocks.5 are brought in with those of \S*transformer_blocks.4, .*num_blocks_per"
    )
    with pytest.raises(ValueError, match=cut), skipdit.attach(small.pipe, policy):
        output(small, **SHORT)
    assert same(output(small, **SHORT), bare)
    even = Policy(Inner(2, 2), Every(2), hold())  # spares whole groups
    with skipdit.attach(small.pipe, even):
        got = output(small, **SHORT)
    plain = PIPELINES[name]()
    with skipdit.attach(plain.pipe, even):
        assert same(output(plain, **SHORT), got)


OTHERS = [FirstBlockCacheConfig(threshold=0.5), TaylorSeerCacheConfig(cache_interval=2)]


@pytest.mark.parametrize("config", OTHERS, ids=lambda config: type(config).__name__)
def test_a_cache_of_diffusers_is_refused_by_name_before_and_inside(config):
    small, policy = PIPELINES["flux-cfg"](), POLICIES["blocks"]
    model = small.pipe.transformer
    bare = output(small, **SHORT)
    refused = r"FluxTransformer2DModel has a cache of diffusers enabled: call its disable_cache\(\) first"
    model.enable_cache(config)
    for go in ("__enter__", "enable"):
        with pytest.raises(RuntimeError, match=refused):
            getattr(skipdit.attach(small.pipe, policy), go)()
    model.disable_cache()
    with skipdit.attach(small.pipe, policy):
        want = output(small, **SHORT)
        model.enable_cache(config)
        with pytest.raises(RuntimeError, match=refused):
            output(small, **SHORT)
        model.disable_cache()
        assert same(output(small, **SHORT), want)
    assert same(output(small, **SHORT), bare)
