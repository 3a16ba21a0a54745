"""What the README and the examples show runs as it stands."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_code_of_the_readme_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    assert len(code.splitlines()) <= 10
    scope = {}
    exec(code, scope)
    assert scope["images"].shape == (2, 3, 32, 32)
    printed, said = capsys.readouterr().out, re.search(r"# (50 steps: .*? stood in)", code)
    assert said.group(1) in printed


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.stem)
def test_examples_run(example, capsys):
    runpy.run_path(str(example), run_name="__main__")
    assert "stood in" in capsys.readouterr().out


def test_the_tree_names_every_folder():
    tree = re.search(r"## The tree\n\n```\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S).group(1)
    for unit in (ROOT / "skipdit").iterdir():
        if not unit.name.startswith("_") and unit.suffix in ("", ".py"):
            assert unit.name in tree, unit.name
    for page in re.findall(r"\]\((docs/[^)]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / page).exists(), page
