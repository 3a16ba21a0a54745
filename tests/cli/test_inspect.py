"""skipdit inspect: every method on our own model, and what diffusers saved, known to the table or not."""

import importlib
import json
import sys
from pathlib import Path

import pytest
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from PIL import Image
from typer.testing import CliRunner

from skipdit.backbones.diffusers import TABLE
from skipdit.backbones.latte import Latte
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


# ---- every method on a model of our own


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    """(what is told, the picture): all methods, two of them said otherwise."""
    path = tmp_path_factory.mktemp("drawn") / "methods.png"
    said = ("--policy", "dbcache(front=2, warmup=1)", "--policy", "skip_plan((0, 1, 2, 1, 0, 1))")
    return found("emoji-skip", "--methods", "--steps", 6, *said, "--draw", path), path


def test_every_method_is_told_once(every):
    from skipdit.catalog import Catalog

    told, path = every
    assert [each["policy"].partition("(")[0] for each in told["methods"]] == Catalog("skipdit.methods").names()
    assert (told["steps"], told["sampler"], len(told["timesteps"])) == (6, "ddim", 6)
    assert told["out"] == str(path)
    with Image.open(path) as page:
        assert page.format == "PNG"


def test_figures_bars_and_cells_agree(every):
    fitting = {each["policy"].partition("(")[0]: each for each in every[0]["methods"] if "refused" not in each}
    assert {"skip_cache", "fora", "dbcache", "skip_plan", "teacache", "speca"} <= set(fitting)
    for each in fitting.values():
        rows, report = each["computed"], each["report"]
        assert len(rows) == len(each["rows"]) in (8, 16)
        assert {len(row) for row in rows} == {6} == {len(each["plan"])}
        if len(rows) == 8:
            assert sum(row.count("1") for row in rows) == report["blocks_run"]
        assert sum(all(row[step] == "1" for row in rows) for step in range(6)) == report["computed"]
    assert fitting["skip_cache"]["plan"] == [1, 0, 1, 0, 1, 0]
    outer = ["111111", "101010", "100010", "100010"]  # K = 0, 1, 2, 1, 0, 1
    assert fitting["skip_plan"]["computed"] == outer + outer[::-1]
    assert [fitting[name]["pictures"] for name in ("skip_cache", "dbcache", "teacache")] == [0, 1, 1]
    assert [fitting[name]["stand_in"] for name in ("fora", "dbcache", "hermite")] == ["held", "residual", "forecast"]


def test_a_line_a_method_and_why_the_others_do_not_fit():
    text = call("emoji-skip", "--methods", "--steps", 6, "--policy", "fora(every=2)").output
    lines = {line.split("(")[0].split(" ")[0]: line for line in text.splitlines()}
    assert "█░█░█░" in lines["skip_cache"]
    assert "33/48" not in lines["fora"]
    assert "48/48" in lines["fora"]
    assert lines["skip_cache"].split()[2:5] == ["50%", "30/48", "1.60x"]
    assert "%*" in lines["teacache"]
    assert "measured on 1 picture" in text
    assert "needs ratios: skipdit methods magcache explains" in lines["magcache"]
    assert "has no part 'cross'; its parts are ['attn', 'mlp']" in lines["t_gate"]


def test_policies_side_by_side_without_the_others():
    told = found("emoji-skip", "--policy", "fora(every=2)", "--policy", "skip_cache(every=3)", "--steps", 4)
    assert [each["policy"] for each in told["methods"]] == ["fora(every=2)", "skip_cache(every=3)"]


def test_a_picture_of_one_policy(tmp_path):
    path = tmp_path / "one.png"
    gate = found("emoji-skip", "--policy", "first_block(threshold=0.3)", "--steps", 6)["policy"]
    assert (gate["plan"], gate["report"]) == (None, None)
    text = call("emoji-skip", "--policy", "first_block(threshold=0.3)", "--steps", 6, "--draw", path).output
    assert "t = 999 166" in text
    assert "measured on 1 picture" in text
    assert "of 6 steps computed" in text
    assert path.stat().st_size > 0


def test_a_bar_fits_the_window():
    from skipdit.cli.bar import folded
    from skipdit.cli.side_by_side import widths

    assert widths(50, 80) == (20, 2)
    assert widths(50, 120) == (34, 1)
    assert folded([1, 0, 1, 1, 0], 2) == [0.5, 1, 0]


def test_a_method_is_explained_in_its_files_words():
    text = CliRunner().invoke(app, ["methods", "fora"], env={"COLUMNS": "200"}).output
    for words in (
        "arXiv 2407.01425",
        "Held: one tensor",
        "fora(every=3, parts=('attn', 'mlp'))",
        "one full step, then",
    ):
        assert words in text
    assert text.rstrip().endswith('$ skipdit inspect MODEL --policy "fora(every=3)"')
    text = CliRunner().invoke(app, ["methods", "magcache"], env={"COLUMNS": "200"}).output
    assert text.rstrip().endswith('--policy "magcache(ratios=...)"')


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


def test_a_latte_of_ours(tmp_path):
    sizes = dict(input_size=8, patch_size=4, hidden_size=32, depth=8, num_heads=2, num_frames=3)
    Latte(**sizes, num_classes=5, skips="replace").save_pretrained(tmp_path)
    told = found(tmp_path, "--policy", "skip_cache(every=2)", "--steps", 4)
    assert told["input"] == [3, 4, 8, 8]
    assert told["blocks"]["count"] == 8
    assert told["skips"]["pairs"] == [[1, 6], [3, 4]]
    assert told["policy"]["report"]["blocks_run"] == 2 * 8 + 2 * 4
    assert "GFLOPs a pass and video" in call(tmp_path).stdout


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


def test_every_method_on_what_diffusers_saved(saved):
    folder = saved("pixart-alpha") / "transformer"
    told = {
        each["policy"].partition("(")[0]: each
        for each in found(folder, "--methods", "--steps", 4)["transformers"][""]["methods"]
    }
    assert told["skip_cache"]["plan"] == [1, 0, 1, 0]
    assert (told["skip_cache"]["run"], told["skip_cache"]["of"]) == (16, 24)
    assert (told["fora"]["run"], told["fora"]["of"]) == (24, 48)
    assert told["t_gate"]["plan"] is not None, "it has cross-attention"
    assert told["first_block"]["plan"] is None
    assert "reaches past" in told["blockdance"]["refused"]
    text = call(folder, "--methods", "--steps", 4).output
    assert "a gate: decides as it runs" in text
    assert "█░█░" in text


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
    assert "nothing does" in refused(folder, "--methods", "--draw", tmp_path / "x.png")
    assert "say --methods or --policy" in refused("emoji-skip", "--draw", tmp_path / "x.png")
    assert "leaves no block" in refused("emoji-skip", "--methods", "--policy", "skip_cache(branch=4)", "--steps", 2)
    assert "nonsense" in refused("emoji-skip", "--methods", "--sampler", "nonsense")
    assert "magcache needs ratios" in refused("emoji-skip", "--policy", "magcache")
    assert not (tmp_path / "x.png").exists()
    assert "leaves no block to spare" in refused(folder, "--policy", "skip_cache(branch=3)")
    (tmp_path / "config.json").write_text('{"_class_name": "NoTransformer"}')
    assert "NoTransformer, which the installed diffusers lacks" in refused(tmp_path)
    (tmp_path / "config.json").write_text("[")
    assert "config.json is no configuration" in refused(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "P", "unet": ["diffusers", "UNet1DModel"]}')
    assert "no transformer among unet (UNet1DModel)" in refused(tmp_path)


def test_a_pipeline_with_a_u_net(tmp_path):
    size = dict(block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1, attention_head_dim=4)
    types = dict(down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2)
    DDPMPipeline(UNet2DModel(8, **size, **types), DDPMScheduler()).save_pretrained(tmp_path)
    told = found(tmp_path, "--policy", "faster_diffusion(keys=2)", "--steps", 4)["transformers"]["unet"]
    assert [each["path"] for each in told["lists"]] == ["conv_in", "down_blocks", "mid_block", "up_blocks"]
    assert told["policy"]["sites"] == [[0, 1], [1, 2], [2, 3], [3, 4]]
    assert told["policy"]["spared"] == [0, 4, 0, 4]
    assert "a U-Net, differ in form" in refused(tmp_path, "--policy", "first_block(0.1)")
    every = found(tmp_path, "--methods", "--steps", 4)["transformers"]["unet"]["methods"]
    assert {each["policy"].partition("(")[0] for each in every if "plan" in each} == {
        "faster_diffusion",
        "skip_cache",
    }
