"""Lets the tests import the small pipelines of tests/pipelines."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "pipelines"))
