"""One pass over a small model of each class of diffusers tells what the table says of it."""

import importlib
import sys
from pathlib import Path

import pytest

from skipdit import infer
from skipdit.backbones.diffusers import TABLE
from skipdit.core.backbone import as_given, thousandths

CASES_FOLDER = str(Path(__file__).parent / "backbones" / "cases")
sys.path.insert(0, CASES_FOLDER)
for module in ("image_a", "image_b", "video_a", "video_b", "audio"):
    importlib.import_module(module)
CASES = importlib.import_module("case").CASES

# ---- what one pass can't know: {class: {what of its line: why}}

UNKNOWABLE = {
    "Cosmos3OmniTransformer": {
        "stacks": "both streams are normed behind the blocks; that one of them is thrown away then is not to be seen",
        "parts": "for the same reason: those of the text are taken for the main ones",
    },
    "HeliosTransformer3DModel": {"parts": "attn2 gets the frames to come alone, a part of the main stream"},
    "Kandinsky6Transformer3DModel": {"parts": "the cross-attention to the sound is found besides that to the text"},
    "LTX2VideoTransformer3DModel": {"parts": "the attention to the sound is found besides that to itself"},
    "SD3Transformer2DModel": {"parts": "the second self-attention of SD3.5's blocks is found besides the first"},
    "TransformerTemporalModel": {"parts": "attn2 is a second self-attention here, and found too"},
    "T5FilmDecoder": {"parts": "found a level up, where the residual is added"},
}
UNITS = "up to 1 may mean t / 1000 or 1 - t / 1000, and more may mean t, t - 1 or 1000 - t"
FIELDS = ("stacks", "zipped", "parts", "timestep", "time", "native", "breaks", "width")


def fields(backbone, model):
    """A description as plain values, those that depend on the model worked out."""
    found = {name: getattr(backbone, name) for name in ("zipped", "timestep", "time")}
    return found | {
        "stacks": list(backbone.stacks.items()),  # in running order
        "parts": dict(backbone.parts),
        "native": sorted(backbone.native(len(backbone.order(model)))),
        "breaks": tuple(backbone.breaks(model)),
        "width": backbone.width_of(model),
    }


@pytest.mark.parametrize("name", CASES)
def test_the_table_is_what_one_pass_shows(name):
    model = CASES[name].model()
    found = fields(infer(model, **CASES[name].call(0, 500.0)), model)
    table = fields(TABLE[name], model)
    unknowable = dict(UNKNOWABLE.get(name, {}))
    if table["time"] not in (as_given, thousandths):
        unknowable["time"] = UNITS
    assert {field for field in FIELDS if found[field] != table[field]} == set(unknowable), (found, table)


def test_the_exceptions_are_few_and_about_classes_that_exist():
    assert set(UNKNOWABLE) <= set(CASES)
    assert [name for name, why in UNKNOWABLE.items() if "stacks" in why] == ["Cosmos3OmniTransformer"]
