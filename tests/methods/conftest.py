"""Lets the tests of methods import the zoo of the laws and the small pipelines."""

import sys
from pathlib import Path

for folder in ("laws", "pipelines"):
    sys.path.insert(0, str(Path(__file__).parents[1] / folder))
