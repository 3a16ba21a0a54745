"""Several processes train one model: the same weights everywhere, one writer, and a resume that is bit for bit."""

import json
import os
import subprocess
import sys

from test_loop import equal, weights

WORKER = """
import sys, torch
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from accelerate import Accelerator
from test_loop import data, model, recipe
from skipdit.train import train
torch.set_num_threads(1)
run, halves = Path(sys.argv[1]), sys.argv[3] == "halves"
accelerator = Accelerator(cpu=True)
net = model()
stop = (lambda: (run / "checkpoint-0000002").exists()) if halves else (lambda: False)
train(net, data(), recipe(steps=4), run, save_every=2, resume=True, accelerator=accelerator, stop=stop)
total = torch.stack([p.detach().double().sum() for p in net.parameters()]).sum()
everyone = accelerator.gather(total.reshape(1))
assert len(everyone) == 2 and everyone[0] == everyone[1], everyone
torch.distributed.destroy_process_group()
"""


def launch(run, mode):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-"]
    script = run.parent / "worker.py"
    script.write_text(WORKER)
    command[-1:] = [str(script), str(run), os.path.dirname(__file__), mode]
    one = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=one)
    assert done.returncode == 0, done.stderr


def test_two_processes_train_and_resume_alike(tmp_path):
    launch(tmp_path / "whole", "whole")
    launch(tmp_path / "halves", "halves")
    assert [json.loads(line)["step"] for line in (tmp_path / "halves" / "metrics.jsonl").open()] == [1, 2]
    launch(tmp_path / "halves", "whole")
    for which in ("model", "ema"):
        assert equal(weights(tmp_path / "whole", 4, which), weights(tmp_path / "halves", 4, which))
    assert [json.loads(line)["step"] for line in (tmp_path / "halves" / "metrics.jsonl").open()] == [1, 2, 3, 4]
