"""Lets the tests import the small pipelines of tests/pipelines, the small models of tests/laws and what lies beside."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "pipelines"), str(HERE.parent / "laws")]
