"""Skip-Cache with a linear correction, by hand, and the files that it refuses."""

import math

import pytest
import torch
from safetensors.torch import save_file
from zoo import dit, loop

from skipdit import attach, methods
from skipdit.core.policy import Policy, Step
from skipdit.core.what import residual
from skipdit.core.when import Every
from skipdit.core.where import Inner
from skipdit.methods.skip_correction import Corrected


@pytest.fixture
def stored(tmp_path):
    def store(**parts):
        path = tmp_path / "correction.safetensors"
        save_file({name: part.contiguous() for name, part in parts.items()}, path)
        return str(path)

    return store


def observed_and_predicted(what, x, y, now, step=1):
    memory = {}
    what.observe(memory, Step(0), (x, y), (y, x))
    return what.predict(memory, Step(step), (now, now))


def test_a_correction_by_hand(stored):
    torch.manual_seed(0)
    down, up, diagonal = torch.randn(2, 8), torch.randn(8, 2), torch.randn(8)
    x, y, now = torch.randn(3, 1, 5, 8)
    got = observed_and_predicted(Corrected(stored(down=down, up=up, diagonal=diagonal)), x, y, now)
    a = up @ down + diagonal.diag()
    assert torch.allclose(got[0], y + (now - x) @ a.T, atol=1e-5)
    assert got[1] is x  # another stream is held


def test_a_correction_of_each_step_s_own(stored):
    x, y, now = torch.zeros(1, 5, 8), torch.zeros(1, 5, 8), torch.ones(1, 5, 8)
    what = Corrected(stored(diagonal=torch.tensor([[0.0], [1.0], [2.0]])))
    assert [observed_and_predicted(what, x, y, now, step)[0].max().item() for step in (1, 2)] == [1, 2]
    with pytest.raises(ValueError, match="is fitted for 3 steps, but step 3 came"):
        observed_and_predicted(what, x, y, now, 3)


def test_a_correction_by_one_is_the_residual_and_by_nought_skip_cache(tmp_path):
    model = dit("replace")
    for scale, rival in ((1.0, Policy(Inner(1, 1), Every(3), residual())), (0.0, methods.skip_cache(every=3))):
        path = str(tmp_path / f"{scale}.safetensors")
        save_file({"diagonal": torch.tensor(scale)}, path)
        with attach(model, methods.skip_correction(path, every=3)) as run:
            got = loop(model, run)
        with attach(model, rival) as run:
            assert torch.allclose(got, loop(model, run), atol=1e-5)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"down": torch.ones(2, 8)}, "it needs diagonal, or down and up"),
        ({"scale": torch.ones(2)}, "it needs diagonal"),
        ({"down": torch.ones(2, 8), "up": torch.ones(2, 8)}, "not transposes in shape"),
        ({"diagonal": torch.tensor(math.nan)}, "diagonal in .* is not finite"),
    ],
)
def test_a_file_that_is_no_correction_is_refused(stored, parts, message):
    with pytest.raises(ValueError, match=message):
        methods.skip_correction(stored(**parts))


def test_a_missing_or_broken_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        methods.skip_correction(str(tmp_path / "none.safetensors"))
    (tmp_path / "text.safetensors").write_text("no tensors here")
    with pytest.raises(ValueError, match="is no safetensors file"):
        methods.skip_correction(str(tmp_path / "text.safetensors"))
