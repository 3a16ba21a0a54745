"""A rehearsal tells what really ran: cells against counted calls, figures against the report of a real run."""

import copy

import pytest
import torch
from PIL import Image

import skipdit
from skipdit import parse
from skipdit.backbones.dit import DiT
from skipdit.core.flops import count_flops
from skipdit.rehearse import picture
from skipdit.rehearse.every import Refused, default, lined_up, rehearsals
from skipdit.rehearse.rehearsal import LARGE, brief, one_image, rehearse

STEPS = 8
SCHEDULES = ("skip_cache(every=2)", "fora(every=3)", "pab(spatial=2)", "delta_dit(blocks=4)", "skip_forecast(every=3)")
GATES = ("first_block(threshold=0.3)", "teacache(threshold=0.25)", "speca(threshold=0.3, warmup=1)")
SHARES = ("flops", "spared_flops", "bytes_held")  # of a batch: two branches of guidance


@pytest.fixture(scope="module")
def model():
    return DiT.from_pretrained("emoji-skip").eval()


@pytest.fixture(scope="module")
def plain():
    """Tiny, without styles and without guidance."""
    torch.manual_seed(0)
    sizes = dict(hidden_size=32, depth=4, num_heads=2, num_classes=3, class_dropout_prob=0.0, learn_sigma=False)
    return DiT(input_size=8, in_channels=3, **sizes).eval()


def counted(model, policy, rows):
    """Row by row, how often something inside was called while a picture was drawn, and the run's report."""
    counts = [0] * len(rows)
    hooks = []
    for at, (block, part) in enumerate(rows):
        inside = getattr(model.blocks[block], part or "mlp").children()

        def count(*_, at=at):
            counts[at] += 1

        hooks.append(next(iter(inside)).register_forward_hook(count))
    with skipdit.attach(model, policy) as run:
        skipdit.sample(model, 0, 0, steps=STEPS, guidance=2.0, seed=0)
    for hook in hooks:
        hook.remove()
    return counts, run.report().as_dict()


@pytest.mark.parametrize("spelling", [*SCHEDULES, *GATES])
def test_what_is_told_is_what_runs_while_a_picture_is_drawn(spelling, model):
    policy = parse(spelling)
    told = rehearse(model, policy, STEPS)
    counts, report = counted(model, policy, told.rows)
    assert [sum(row) for row in told.computed] == counts
    assert any(not all(row) for row in told.computed)
    own = told.report.as_dict()
    for name, value in report.items():
        assert own[name] == pytest.approx(value // 2 if name in SHARES else value), name
    assert told.pictures == policy.when.gate


def test_rows_are_blocks_or_all_their_parts(model):
    blocks = rehearse(model, parse("skip_cache(every=2)"), 2)
    assert blocks.rows == tuple((number, "") for number in range(8))
    parts = rehearse(model, parse("pab(spatial=2, hi=1001, lo=0)"), 2)
    assert parts.rows == tuple((number, part) for number in range(8) for part in ("attn", "mlp"))
    assert parts.computed[:2] == ((True, False), (True, True))


def test_the_plan_is_the_share_of_what_is_ever_spared(model):
    assert rehearse(model, parse("skip_cache(every=2)"), 4).plan == [1, 0, 1, 0]
    assert rehearse(model, parse("delta_dit(blocks=4, switch=0.5)"), 4).plan == [1, 0.5, 1, 0.5]
    assert rehearse(model, parse("fora(every=1)"), 3).plan == [1, 1, 1]


def test_a_large_model_is_told_from_its_shapes(model, monkeypatch):
    near = rehearse(model, parse("skip_cache(every=2)"), 4)
    monkeypatch.setattr("skipdit.rehearse.rehearsal.LARGE", 1)
    assert LARGE > 1
    assert rehearse(model, parse("skip_cache(every=2)"), 4) == near


def test_a_pass_has_the_model_s_dtype(plain):
    half = copy.deepcopy(plain).to(torch.bfloat16)
    assert count_flops(half, (one_image(half), {}))[""] == count_flops(plain, (one_image(plain), {}))[""] > 0


def test_a_model_without_styles_and_guidance(plain):
    told = rehearse(plain, parse("first_block(threshold=0.5)"), 4)
    assert told.pictures == 1
    assert told.report.passes == 4


@pytest.mark.parametrize(
    ("spelling", "word"),
    [
        ("fora", "held"),
        ("first_block", "residual"),
        ("taylorseer", "forecast"),
        ("dbcache(front=1, order=1)", "forecast"),
    ],
)
def test_what_stands_in(spelling, word):
    from skipdit.rehearse.rehearsal import stand_in

    assert stand_in(parse(spelling).what) == word


def test_methods_come_by_name_and_what_was_said_takes_their_place():
    said = [parse("fora(every=2)"), parse("emoji-skip/plan-2x.json"), parse("fora(every=4)")]
    order = [each if isinstance(each, str) else str(each) for each in lined_up(said)]
    assert order[0] == "emoji-skip/plan-2x.json"
    assert order.count("fora") == 0
    assert order[order.index("first_block") + 1 :][:3] == ["fora(every=2)", "fora(every=4)", "hermite"]


def test_a_misfit_gives_its_reason_and_what_was_said_is_refused(model, plain):
    assert default("magcache") == Refused("magcache", "needs ratios: skipdit methods magcache explains")
    told = list(rehearsals(plain, ["fora", "t_gate", "blockdance", "skip_plan"], 4))
    assert [isinstance(each, Refused) for each in told] == [False, True, True, True]
    assert "has no part 'cross'" in told[1].reason
    assert "reaches past the last of 4 blocks" in told[2].reason
    assert told[3].reason.startswith("is for 2 steps")
    with pytest.raises(ValueError, match="reaches past"):
        list(rehearsals(plain, [parse("blockdance")], 4))
    with pytest.raises(ValueError, match="nonsense"):
        list(rehearsals(plain, ["fora"], 4, "nonsense"))


def test_headings_leave_long_values_out():
    assert brief("adacache(codebook=((0.1, 2), (1.0, 1)), block=3)") == "adacache(codebook=..., block=3)"
    assert brief("skip_plan(branches=(0, 1, 2))") == "skip_plan(branches=...)"
    assert brief("fora(every=3)") == "fora(every=3)"


# ---- the picture


@pytest.fixture(scope="module")
def told(plain):
    return list(rehearsals(plain, ["fora", "skip_cache", "t_gate"], 6))


def test_a_panel_each_filled_where_computed(told, tmp_path):
    path = tmp_path / "new" / "folder" / "picture.png"
    picture.draw(told, path, "three")
    assert [each.name for each in path.parent.iterdir()] == ["picture.png"]
    with Image.open(path) as page:
        colours = {colour for _, colour in page.convert("RGB").getcolors(1 << 20)}
    assert {(0x2F, 0x6F, 0x4F), (0xE3, 0xE4, 0xDE)} <= colours
    assert (0xF3, 0xD9, 0xA4) not in colours, "nothing adds a residual here"


def test_a_picture_is_written_whole_or_not_at_all(told, tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    path.write_bytes(b"the old one")

    def breaks(self, aside, **_):
        aside.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", breaks)
    with pytest.raises(OSError, match="disk full"):
        picture.draw(told, path, "three")
    assert path.read_bytes() == b"the old one"


def test_refusals_alone_are_a_picture_too(told, tmp_path):
    picture.draw(told[2:], tmp_path / "picture.png", "none")
    assert (tmp_path / "picture.png").stat().st_size > 0


def test_many_cells_are_drawn_without_lines_between_them(told, tmp_path):
    from dataclasses import replace

    rows = tuple((block, part) for block in range(28) for part in ("attn", "mlp"))
    deep = replace(told[0], rows=rows, computed=told[0].computed[:1] * 56)
    picture.draw([deep], tmp_path / "picture.png", "deep")
    with Image.open(tmp_path / "picture.png") as page:
        counts = {colour: count for count, colour in page.convert("RGB").getcolors(1 << 20)}
    assert counts[(0x2F, 0x6F, 0x4F)] + counts[(0xE3, 0xE4, 0xDE)] > 90_000, "of about 700 x 132"
