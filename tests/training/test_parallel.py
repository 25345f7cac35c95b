"""Two processes train as one does on both their batches."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = """
import json, sys, torch
from torch import nn
from audiomamba.training.parallel import Parallel
parallel = Parallel.from_environment("cpu")
torch.manual_seed(parallel.rank)
model = nn.Linear(3, 1)
parallel.share_(model)
x = torch.arange(12.0).view(4, 3)
rows = x[parallel.rank :: parallel.world]
model(rows).pow(2).mean().backward()
gradient = model.weight.grad.clone()
parallel.mean_(gradient)
stop = parallel.any(parallel.rank == 1)
if parallel.first:
    print(json.dumps([model.weight.tolist(), gradient.tolist(), stop, parallel.world]))
parallel.close()
"""


def _run(folder: Path, processes: int) -> list[object]:
    script = folder / "step.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script)]
    if processes > 1:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command = [*launcher, f"--nproc_per_node={processes}", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])  # type: ignore[no-any-return]


@pytest.mark.slow
def test_two_processes_average_to_the_gradient_of_one(tmp_path: Path) -> None:
    weight, gradient, stop, world = _run(tmp_path, 1)
    weight2, gradient2, stop2, world2 = _run(tmp_path, 2)
    assert (world, world2, stop, stop2) == (1, 2, False, True)
    assert weight2 == weight
    np.testing.assert_allclose(np.array(gradient2), np.array(gradient), rtol=1e-5)
