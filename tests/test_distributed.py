"""Two gloo processes: gates agree by one reduction, schedules stay silent, tokens or weights may be split."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).parent / "distributed" / "worker.py"


@pytest.mark.parametrize("task", ["gates", "context", "sharded"])
def test_in_two_processes(task):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(WORKER), task]
    one = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, env=one)
    assert done.returncode == 0, done.stderr
