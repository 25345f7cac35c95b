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
stop, fraction = parallel.agree(parallel.rank == 1, 0.25 + 0.5 * parallel.rank)
if parallel.first:
    print(json.dumps([model.weight.tolist(), gradient.tolist(), [stop, fraction], parallel.world]))
parallel.close()
"""

RUN = """
import json, sys, torch
from types import SimpleNamespace
from torch import nn
from audiomamba.training.config import OptimizerConfig, RunConfig
from audiomamba.training.loop import Run
from audiomamba.training.parallel import Parallel


class Line:
    terms, files, evaluate_every_s = ["loss"], {}, 0.0
    description = {"kind": "line", "model": {}}

    def __init__(self):
        self.model = nn.Linear(3, 1)
        self.fractions = []
        self.seconds = 0.0  # the run's clock: steps alone take time, however busy the machine is

    def attach(self, gradient, alone):
        pass

    def begin(self):
        pass

    def batch(self, step):
        draw = torch.Generator().manual_seed(2 * step + parallel.rank)
        x = torch.randn(8, 3, generator=draw)
        return SimpleNamespace(x=x, seconds=1.0, tensors=lambda: [x])

    def step(self, batch, fraction):
        self.seconds += 0.02
        self.fractions.append(fraction)
        self.model.zero_grad(set_to_none=False)
        loss = (self.model(batch.x).squeeze(1) - batch.x.sum(1)).pow(2).mean()
        loss.backward()
        return loss.detach().reshape(1)

    def evaluate(self, weights):
        return []


parallel = Parallel.from_environment("cpu")
config = RunConfig(
    out=sys.argv[1], device="cpu", budget_s=3.0, reserve_s=0.5,
    optimizer=OptimizerConfig(lr=1e-2, warmup_steps=1, decay_share=1.0),
)
# The second process believes that it began later, so that its own rates would be higher.
line = Line()
run = Run(line, config, parallel, started=float(parallel.rank), say=lambda text: None)
run._clock.now = lambda: line.seconds
progress = run.run()
# A file each: two processes that write into one pipe can run into each other's lines.
with open(f"{sys.argv[2]}/rank-{parallel.rank}.json", "w") as file:
    json.dump([progress.step, line.fractions, line.model.weight.tolist()], file)
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
    assert (world, stop) == (1, [False, 0.25])
    assert (world2, stop2) == (2, [True, 0.75])
    assert weight2 == weight
    np.testing.assert_allclose(np.array(gradient2), np.array(gradient), rtol=1e-5)


@pytest.mark.slow
def test_two_processes_whose_clocks_differ_keep_the_same_weights(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(RUN)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    subprocess.run(
        [*launcher, "--nproc_per_node=2", str(script), str(tmp_path / "out"), str(tmp_path)],
        capture_output=True, check=True,
    )  # fmt: skip
    ranks = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1)]
    (steps, fractions, weights), (steps2, fractions2, weights2) = ranks
    assert steps == steps2 > 1
    assert fractions == fractions2
    assert weights == weights2
    assert fractions[-1] > fractions[0]
