"""The table against diffusers itself: no class is missing, every width is right, every span is cut where it must be."""

import importlib
import inspect
import pkgutil

import diffusers.models.transformers
import pytest
from case import CASES
from diffusers import ModelMixin
from laws_skips import learns
from laws_small import moving, run_all, small
from table import ABSENT, NO_GRADIENT

from skipdit.attach import attach
from skipdit.backbones.diffusers import TABLE
from skipdit.core.policy import Policy
from skipdit.core.what import hold
from skipdit.core.when import Every
from skipdit.core.where import Inner

NATIVE = {"HunyuanDiT2DModel", "UniDiffuserModel"}

PIECES = {  # of all blocks but the first and the last, where they are not one piece
    "AuraFlowTransformer2DModel": [(1, 3), (3, 6)],  # text and image become one stream
    "BriaFiboTransformer2DModel": [(1, 3), (3, 6)],
    "ChromaTransformer2DModel": [(1, 3), (3, 6)],
    "Flux2Transformer2DModel": [(1, 3), (3, 6)],
    "Flux3Transformer2DModel": [(1, 3), (3, 6)],
    "HiDreamImageTransformer2DModel": [(1, 3), (3, 5)],
    "MotifVideoTransformer3DModel": [(1, 6), (6, 8)],  # its decoder starts anew
    "RFD4ProteinaTransformer": [(1, 3), (3, 5)],  # it makes pairs from the stream after every other block
}


def test_every_transformer_is_in_the_table():
    folder = diffusers.models.transformers
    modules = [importlib.import_module(f"{folder.__name__}.{m.name}") for m in pkgutil.iter_modules(folder.__path__)]
    found = {
        name
        for module in modules
        for name, kind in vars(module).items()
        if inspect.isclass(kind) and issubclass(kind, ModelMixin) and kind.__module__ == module.__name__
    }
    assert not found - set(TABLE) - set(ABSENT), "add a line to the table and a small model to the cases"
    assert not set(ABSENT) & set(TABLE)
    assert set(ABSENT) <= found
    assert set(TABLE) - found == {"UniDiffuserModel"}  # it lives with its pipeline
    assert set(TABLE) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_width_of_the_main_stream(name):
    it, seen = small(name), set()
    contract = it.backbone.order(it.model)[0].contract
    names = list(inspect.signature(it.backbone.blocks(it.model)[0].forward).parameters)

    def look(_, args, kwargs):
        seen.add(dict(zip(names, args, strict=False), **kwargs)[contract.names[0]].shape[-1])

    hook = it.backbone.blocks(it.model)[0].register_forward_pre_hook(look, with_kwargs=True)
    run_all(it.model, moving(it)[:1])
    hook.remove()
    assert seen == {it.backbone.width_of(it.model)}


@pytest.mark.parametrize("name", CASES)
def test_a_span_is_cut_where_the_flow_changes(name):
    it = small(name)
    unit, depth = it.backbone.unit, len(it.backbone.order(it.model))
    with attach(it.model, Policy(Inner(1, 1), Every(2), hold())) as run:
        assert [(site.start, site.stop) for site in run.sites] == PIECES.get(name, [(unit, depth - unit)])


def test_two_classes_have_skips_of_their_own():
    assert {name for name in TABLE if TABLE[name].native(8)} == NATIVE


@pytest.mark.parametrize("name", [name for name in CASES if name not in NATIVE])
def test_fresh_branches_learn(name):
    if name in NO_GRADIENT:
        with pytest.raises(NotImplementedError, match="does not support backward on CPU"):
            learns(small(name))
    else:
        learns(small(name))
