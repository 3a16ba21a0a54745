"""Every method is listed, spelled, parsed, documented, and refuses what makes no sense."""

import ast
import math
import re
from pathlib import Path

import pytest
import torch
from zoo import HALF, POLICIES, dit, loop, video

from skipdit import attach, methods, parse
from skipdit.catalog import Catalog

ROOT = Path(__file__).parents[2]
CATALOG = Catalog("skipdit.methods")
ROWS = re.findall(
    r"^\| `(.+?)` \| (.+?) \| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", (ROOT / "docs/methods.md").read_text(), re.M
)
SHOWN = re.findall(r"\| `(test_\w+)` \|$", (ROOT / "docs/methods.md").read_text(), re.M)
SPELLED = {name: policy for name, policy in POLICIES.items() if policy.spelling}


def made(spelling):
    return parse(spelling.replace("FILE", HALF))


@pytest.mark.parametrize("name", SPELLED)
def test_a_policy_prints_as_it_is_parsed(name):
    policy = SPELLED[name]
    assert parse(str(policy)) == policy
    assert str(parse(str(policy))) == str(policy)
    assert hash(policy) == hash(parse(str(policy)))


def test_the_laws_try_every_method():
    tried = {str(policy).split("(")[0] for policy in SPELLED.values()}
    assert tried == set(CATALOG.names())


def test_the_table_has_every_method():
    assert {row[0].split("(")[0] for row in ROWS} == set(CATALOG.names())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_says_what_its_policy_is_made_of(row):
    spelling, where, when, what, _, paper = row
    policy = made(spelling)
    inside = getattr(policy.when, "inside", None)
    kinds = sorted({type(schedule).__name__ for _, schedule in getattr(policy.when, "schedules", ())})
    parts = [type(policy.when).__name__, *([type(inside).__name__] if policy.when.gate and inside else []), *kinds]
    assert where == type(policy.where).__name__
    assert when.removesuffix(" (gate)") == " ".join(parts)
    assert when.endswith("(gate)") == policy.when.gate
    assert what == _named(policy.what)
    path = ROOT / f"skipdit/methods/{spelling.split('(')[0]}.py"
    for number in re.findall(r"\d{4}\.\d{5}", paper):
        assert number in ast.get_docstring(ast.parse(path.read_text()))


def _named(what):
    if type(what).__name__ != "Estimate":
        return type(what).__name__
    if what.keep == 1:
        return "residual" if what.change else "hold"
    return "forecast of change" if what.change else "forecast"


def names_in(pattern):
    return {name for path in ROOT.glob(pattern) for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)}


def test_what_differs_from_others_is_shown_by_a_test():
    assert len(SHOWN) == len(set(SHOWN)) > 30
    assert set(SHOWN) <= names_in("tests/methods/*.py") | names_in("tests/parity/*.py") | names_in("tests/passes/*.py")
    assert names_in("tests/parity/test_originals.py") | names_in("tests/parity/test_left_over.py") <= set(SHOWN)


@pytest.mark.parametrize("row", [row for row in ROWS if "t_gate" not in row[0]], ids=lambda row: row[0])
def test_a_row_says_how_much_is_held(row):
    model, policy = dit(None), made(row[0])
    with attach(model, policy) as run:
        loop(model, run)
    size = 2 * 4 * 32 * 4  # B, T, D, bytes
    want = eval(row[4].removesuffix(" + A"), {"L": 6})
    assert run.bytes_held // size == want
    assert run.bytes_held % size <= 4  # a number beside the tensors


def test_t_gate_holds_both_kinds_of_attention():
    model = video()
    with attach(model, methods.t_gate()) as run:
        loop(model, run)
        held = len(run._memories)
    assert held == len([site for site in run.sites if site.kind in ("cross", "attn")]) == 24


def test_every_file_gives_its_source_and_what_is_held():
    for name in CATALOG.names():
        text = ast.get_docstring(ast.parse((ROOT / f"skipdit/methods/{name}.py").read_text()))
        assert "Held:" in text, name
        assert "arXiv" in text or "no paper" in text or "authors' page" in text, name


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: methods.fora(0), "every=0"),
        (lambda: methods.fora(parts=()), r"names=\(\)"),
        (lambda: methods.delta_dit(every=-1), "every=-1"),
        (lambda: methods.delta_dit(blocks=0), "blocks=0"),
        (lambda: methods.delta_dit(switch=math.nan), "switch=nan"),
        (lambda: methods.delta_dit.budget(20, 28, 0.0), "share=0.0"),
        (lambda: methods.first_block(math.nan), "threshold=nan"),
        (lambda: methods.first_block(-1), "threshold=-1"),
        (lambda: methods.dbcache(front=0), "front=0"),
        (lambda: methods.dbcache(warmup=-1), "warmup=-1"),
        (lambda: methods.dbcache(most=0), "most=0"),
        (lambda: methods.dbcache(order=-1), "order=-1"),
        (lambda: methods.taylorseer(every=0), "every=0"),
        (lambda: methods.taylorseer(order=0), "order=0"),
        (lambda: methods.taylorseer(warmup=-1), "warmup=-1"),
        (lambda: methods.hermite(sigma=0.0), "sigma=0"),
        (lambda: methods.hermite(sigma=math.nan), "sigma=nan"),
        (lambda: methods.chebyshev(window=0.5), "window=0.5"),
        (lambda: methods.chebyshev(grow=math.nan), "grow=nan"),
        (lambda: methods.chebyshev(degree=-1), "degree=-1"),
        (lambda: methods.chebyshev(ridge=0), "ridge=0"),
        (lambda: methods.chebyshev(keep=0), "keep=0"),
        (lambda: methods.chebyshev(warmup=0), "warmup=0"),
        (lambda: methods.barycentric(keep=5), "keep=5"),
        (lambda: methods.barycentric(every=0), "every=0"),
        (lambda: methods.pab(spatial=0), "n=0"),
        (lambda: methods.pab(None, None, None), "all None"),
        (lambda: methods.pab(hi=100, lo=800), "lo=800 must be below hi=100"),
        (lambda: methods.t_gate(gate=0), "gate=0"),
        (lambda: methods.t_gate(every=0), "every=0"),
        (lambda: methods.blockdance(every=0), "every=0"),
        (lambda: methods.blockdance(blocks=0), "stop=0"),
        (lambda: methods.blockdance(hi=math.nan), "hi=nan"),
        (lambda: methods.faster_diffusion(keys=()), r"keys=\(\)"),
        (lambda: methods.faster_diffusion(keys=(1, -3)), "steps=-3"),
        (lambda: methods.faster_diffusion(keys=0), "keys=0"),
        (lambda: methods.magcache(()), r"ratios=\(\)"),
        (lambda: methods.magcache((1.0, math.nan)), "ratios=nan"),
        (lambda: methods.magcache((1.0,), most=0), "most=0"),
        (lambda: methods.magcache((1.0,), threshold=math.nan), "threshold=nan"),
        (lambda: methods.magcache((1.0,), retention=-0.1), "retention=-0.1"),
        (lambda: methods.smoothcache(""), "bits=''"),
        (lambda: methods.smoothcache("10a"), "bits='10a'"),
        (lambda: methods.smoothcache({}), "schedule={}"),
        (lambda: methods.smoothcache.schedule([], 0.1, 5), "0 rows"),
        (lambda: methods.smoothcache.schedule([[0.1]], math.nan, 5), "threshold=nan"),
        (lambda: methods.easycache(math.nan), "threshold=nan"),
        (lambda: methods.easycache(warmup=-1), "warmup=-1"),
        (lambda: methods.teacache(-0.1), "threshold=-0.1"),
        (lambda: methods.teacache(polynomial=()), r"polynomial=\(\)"),
        (lambda: methods.teacache(polynomial=(1.0, math.nan)), "polynomial=nan"),
        (lambda: methods.adacache(()), r"codebook=\(\)"),
        (lambda: methods.adacache(((0.3, 2), (0.1, 4))), "rising"),
        (lambda: methods.adacache(((math.nan, 2),)), "codebook=nan"),
        (lambda: methods.adacache(((0.1, 0),)), "codebook=0"),
        (lambda: methods.adacache(block=-1), "block=-1"),
        (lambda: methods.adacache(frame=-1), "frame=-1"),
        (lambda: methods.speca(threshold=0), "threshold=0"),
        (lambda: methods.speca(decay=math.nan), "decay=nan"),
        (lambda: methods.speca(most=0), "most=0"),
        (lambda: methods.skip_forecast(order=0), "order=0"),
        (lambda: methods.skip_forecast(branch=0), "branch=0"),
        (lambda: methods.skip_correction(HALF, every=0), "every=0"),
        (lambda: methods.skip_plan(()), r"branches=\(\)"),
        (lambda: methods.skip_plan((0, 0)), "names no step to spare"),
        (lambda: methods.skip_plan((0, -1)), "branches=-1"),
    ],
)
def test_a_senseless_parameter_is_refused_by_name(make, name):
    with pytest.raises((ValueError, TypeError), match=name):
        make()


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (methods.delta_dit(blocks=7), "reaches past the 6 blocks"),
        (methods.dbcache(), "leaves no block to spare"),
        (methods.blockdance(), "reaches past the last of 6 blocks"),
        (methods.skip_plan((0, 1, 3)), "leaves no block to spare"),
        (methods.pab(spatial=None, mlp=None), "matches nothing"),
    ],
)
def test_a_method_that_does_not_fit_is_refused_when_attached(policy, message):
    model = dit(None)
    bare = loop(model)
    with pytest.raises(ValueError, match=message), attach(model, policy):
        pytest.fail("attached")
    assert torch.equal(loop(model), bare)
