"""Lets the laws import the zoo beside them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
