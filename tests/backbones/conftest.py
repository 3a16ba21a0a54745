"""Lets the tests import the small models of diffusers' classes, and the laws beside them."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "cases"), str(HERE)]
