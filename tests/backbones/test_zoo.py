"""Every transformer of diffusers under every law, and docs/zoo.md held to what they say."""

import re
from pathlib import Path

import pytest
from case import CASES
from laws_small import VARIANTS, small
from table import ALL, FAILS, page

ZOO = Path(__file__).parents[2] / "docs" / "zoo.md"


@pytest.mark.parametrize("name", [*CASES, *VARIANTS])
@pytest.mark.parametrize("law", ALL)
def test_law(name, law):
    if (name, law) in FAILS:
        with pytest.raises(AssertionError, match=re.escape(FAILS[name, law])):
            ALL[law](small(name))
    else:
        ALL[law](small(name))


def test_the_page_says_what_holds():
    assert ZOO.read_text() == page(FAILS), "python tests/backbones/table.py > docs/zoo.md"
