"""skipdit inspect on what diffusers saved: models and pipelines, known to the table or not."""

import importlib
import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from skipdit.backbones.diffusers import TABLE
from skipdit.cli import app

sys.path.insert(0, str(Path(__file__).parents[1] / "pipelines"))
PIPELINES = importlib.import_module("small").PIPELINES


def call(*arguments, code=0):
    """The command's result, its exit code checked."""
    result = CliRunner().invoke(app, ["inspect", *map(str, arguments)], env={"COLUMNS": "200"})
    assert result.exit_code == code, (result.output, result.exception)
    return result


def found(*arguments):
    return json.loads(call(*arguments, "--json").stdout)


def refused(*arguments):
    """What a refusal says: one line, no traceback."""
    lines = [line for line in call(*arguments, code=2).stderr.splitlines() if line.strip()]
    assert len(lines) == 1, lines
    return lines[0]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of small pipelines, written once."""
    root = tmp_path_factory.mktemp("saved")

    def folder(name):
        if not (root / name).exists():
            PIPELINES[name]().pipe.save_pretrained(root / name)
        return root / name

    return folder


# ---- models


def test_a_model_of_one_list(saved):
    shown = found(saved("pixart-alpha") / "transformer")
    assert shown["class"] == "PixArtTransformer2DModel"
    model = shown["transformers"][""]
    assert model["lists"] == [
        {
            "path": "transformer_blocks",
            "count": 6,
            "class": "BasicTransformerBlock",
            "names": ["hidden_states"],
            "returns": None,
            "layout": None,
        }
    ]
    assert model["parts"] == {"attn": "attn1", "cross": "attn2", "mlp": "ff"}
    assert model["timestep"] == {"name": "timestep", "units": "t"}
    assert model["width"] == 32
    whole = PIPELINES["pixart-alpha"]().pipe.transformer.num_parameters()
    assert model["parameters"].pop("") == sum(model["parameters"].values()) == whole


def test_lists_one_after_the_other(saved):
    text = call(saved("flux") / "transformer").output
    assert "3 FluxTransformerBlock in .transformer_blocks" in text
    assert "4 FluxSingleTransformerBlock in .single_transformer_blocks" in text
    assert "enters as hidden_states, encoder_hidden_states, returns places 1, 0" in text
    assert "one list after the other" in text
    assert "timestep: t / 1000, where t falls" in text


def test_lists_that_take_turns(saved):
    text = call(saved("latte") / "transformer", "--policy", "skip_cache(every=2)", "--steps", 4).output
    assert "they take turns" in text
    assert "returns the main stream, transposed" in text
    assert "spares blocks 2 to 9 of 0 to 11" in text
    assert "█░█░" in text
    assert "2 of 4 steps computed in full; 16 of 48 blocks spared, 8 a step at most" in text


def test_long_skips_of_the_models_own(saved):
    folder = saved("hunyuan-dit") / "transformer"
    assert "0 -> 7, 1 -> 6, 2 -> 5" in call(folder).output
    model = found(folder, "--policy", "skip_cache(every=2)", "--steps", 4)["transformers"][""]
    assert model["native"] == [[0, 7], [1, 6], [2, 5]]
    assert model["policy"]["sites"] == [[1, 7]], "only block 0 feeds a block outside"
    assert model["policy"]["spared"] == [0, 6, 0, 6]


def test_branches_that_the_config_names(saved, tmp_path):
    """What converting writes beside the model's own keys."""
    config = json.loads((saved("pixart-alpha") / "transformer" / "config.json").read_text())
    pairs = [[0, 5], [1, 4], [2, 3]]
    (tmp_path / "config.json").write_text(json.dumps({**config, "skip_pairs": pairs, "skip_join": "join"}))
    assert found(tmp_path)["transformers"][""]["skips"] == {"form": "join", "pairs": pairs}
    assert "join: 0 -> 5, 1 -> 4, 2 -> 3" in call(tmp_path).output
    model = found(tmp_path, "--policy", "skip_cache(every=2, branch=2)")["transformers"][""]
    assert model["policy"]["sites"] == [[2, 4]]


def test_a_policy_that_spares_parts(saved):
    from skipdit.cli.describe import rehearsed
    from skipdit.cli.saved import _empty
    from skipdit.core.policy import Policy
    from skipdit.core.what import hold
    from skipdit.core.when import Drift, Every
    from skipdit.core.where import Inner, Parts

    model = _empty(saved("pixart-alpha") / "transformer")
    backbone = TABLE["PixArtTransformer2DModel"]
    plan = rehearsed(model, backbone, Policy(Parts(("attn", "mlp")), Every(3), hold()), 4)
    assert plan["sites"][:2] == ["transformer_blocks.0.attn1", "transformer_blocks.0.ff"]
    assert plan["spared"] == [0, 12, 12, 0]
    assert plan["timesteps"] == [1000, 750, 500, 250]
    gated = rehearsed(model, backbone, Policy(Inner(1, 1), Drift(0.1), hold()), 4)
    assert gated["plan"] is None


# ---- pipelines


def test_a_pipeline_with_one_transformer(saved):
    shown = found(saved("pixart-alpha"), "--policy", "skip_cache(every=2, hi=800)", "--steps", 10)
    assert shown["class"] == "PixArtAlphaPipeline"
    assert list(shown["transformers"]) == ["transformer"]
    plan = shown["transformers"]["transformer"]["policy"]
    assert plan["plan"] == [1, 1, 1, 0, 1, 0, 1, 0, 1, 0]
    assert plan["sites"] == [[1, 5]]


def test_a_pipeline_with_two(saved):
    shown = found(saved("wan22"))
    assert [each["class"] for each in shown["transformers"].values()] == ["WanTransformer3DModel"] * 2
    text = call(saved("wan22"), "--policy", "skip_cache(every=2)", "--steps", 6).output
    assert text.count("█░█░█░") == 2
    assert text.index("transformer (Wan") < text.index("transformer_2 (Wan")


# ---- classes that the table lacks


def test_an_unknown_class_is_inferred_from_one_step_of_its_pipeline(saved, monkeypatch):
    folder = saved("dit")
    known = found(folder)
    monkeypatch.delitem(TABLE, "DiTTransformer2DModel")
    assert "skipdit.infer(model, ...)" in refused(folder / "transformer")
    assert "--call" in refused(folder)
    said = '{"class_labels": [3], "output_type": "np"}'
    assert found(folder, "--call", said) == known
    assert "█░█░" in call(folder, "--call", said, "--policy", "skip_cache(every=2)", "--steps", 4).output
    assert "no JSON object" in refused(folder, "--call", "class_labels=3")


# ---- refusals


def test_what_can_not_be_shown_is_refused_by_name(saved, tmp_path):
    folder = saved("pixart-alpha") / "transformer"
    assert "evenly spaced" in refused(folder, "--sampler", "ddim")
    assert "leaves no block to spare" in refused(folder, "--policy", "skip_cache(branch=3)")
    (tmp_path / "config.json").write_text('{"_class_name": "NoTransformer"}')
    assert "NoTransformer, which the installed diffusers lacks" in refused(tmp_path)
    (tmp_path / "config.json").write_text("[")
    assert "config.json is no configuration" in refused(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "P", "unet": ["diffusers", "UNet2DConditionModel"]}')
    assert "no transformer among unet (UNet2DConditionModel)" in refused(tmp_path)
