"""The ablation: time-invariant or selective, complex or real, by stage and by length.

    python -m audiomamba.training.wave.ablation --out runs/a --steps 20000 --budget-s 1500
    python -m audiomamba.training.wave.ablation --out runs/a --steps 8000 --lengths 2048 131072

Rows are trained one after another on the same recordings, with as many steps and as many samples a
step each. A row that is done is a line of ``results.jsonl`` and is not done again, so the command
goes on where its budget ended. It prints bits a sample on held-out recordings.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from audiomamba.errors import BackendError, ConfigError
from audiomamba.models.wave.native import NativeWave
from audiomamba.models.wave.sampling import Sampling, stream_seeds
from audiomamba.nn import LayerConfig
from audiomamba.training.experiment import compose
from audiomamba.training.wave import ablation_plot
from audiomamba.training.wave.config import WaveExperiment
from audiomamba.training.wave.objective import Waveform
from audiomamba.training.wave.run import gather_takes, train_wave
from audiomamba.training.wave.takes import Take

__all__ = ["KINDS", "ROWS", "Row", "run", "table"]

KINDS: dict[str, dict[str, Any]] = {
    "complex": {"dynamics": "lti", "state_size": 32, "values": "complex"},
    "real": {"dynamics": "lti", "state_size": 32, "values": "real"},
    "selective": {"dynamics": "selective", "state_size": 16},
    "ssd": {"dynamics": "ssd", "state_size": 32, "head_width": 32},
    "mamba3": {"dynamics": "mamba3", "state_size": 32, "head_width": 32},
}
"""What a stage may be made of."""

ROWS = [
    ("complex", "selective"), ("complex", "complex"), ("selective", "selective"),
    ("complex", "mamba3"), ("complex", "real"), ("real", "selective"), ("real", "complex"),
    ("selective", "complex"),
]  # fmt: skip
"""Outer and centre stages, the most telling first."""

_MEASURED = 2_000  # samples drawn for the speed


@dataclass(frozen=True, slots=True)
class Row:
    """One model of the table."""

    outer: str
    centre: str
    length: int
    seed: int


def run(
    rows: Sequence[Row],
    out: Path,
    *,
    steps: int,
    budget_s: float = 0.0,
    overrides: Sequence[str] = (),
    now: Callable[[], float] = time.monotonic,
) -> list[dict[str, Any]]:
    """Train the rows that ``out/results.jsonl`` lacks, as far as the budget goes; all results.

    Raises:
        ConfigError: an override or a kind is not known.
    """
    out.mkdir(parents=True, exist_ok=True)
    file, started = out / "results.jsonl", now()
    results = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {Row(**{k: r[k] for k in ("outer", "centre", "length", "seed")}) for r in results}
    takes: list[Take] | None = None
    longest = 0.0
    for row in rows:
        if row in done:
            continue
        began = now()
        if budget_s and began - started + longest > budget_s:
            print(f"{_name(row)}: no time left; call again", file=sys.stderr)
            break
        config = _config(row, out, steps, overrides)
        takes = takes or gather_takes(config.data, config.model.sample_rate)
        progress, objective = train_wave(config, takes=takes)
        result = {
            "outer": row.outer, "centre": row.centre, "length": row.length, "seed": row.seed,
            "bits": round(objective.last_bits["all"], 4), "steps": progress.step,
            "parameters": sum(p.numel() for p in objective.model.parameters()),
            "seconds": round(now() - began, 1), "cpu_us": _cpu_us(objective),
        }  # fmt: skip
        with file.open("a") as lines:
            lines.write(json.dumps(result) + "\n")
        print(json.dumps(result), flush=True)
        results.append(result)
        longest = max(longest, now() - began)
    return results


def table(results: Sequence[dict[str, Any]]) -> str:
    """Bits a sample by row and length, means over seeds with their spread, as Markdown."""
    lengths = sorted({r["length"] for r in results})
    lines = ["| outer | centre | parameters | CPU µs | " + " | ".join(map(str, lengths)) + " |"]
    lines.append("|---|---|---:|---:|" + "---:|" * len(lengths))
    kinds = {(r["outer"], r["centre"]): r for r in results}
    for (outer, centre), one in kinds.items():
        cells = [_cell(results, outer, centre, length) for length in lengths]
        us = "" if one["cpu_us"] is None else f"{one['cpu_us']:.1f}"
        lines.append(
            f"| {outer} | {centre} | {one['parameters']:,} | {us} | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines)


def _cell(results: Sequence[dict[str, Any]], outer: str, centre: str, length: int) -> str:
    want = (outer, centre, length)
    bits = [r["bits"] for r in results if (r["outer"], r["centre"], r["length"]) == want]
    if not bits:
        return ""
    spread = f" ± {statistics.stdev(bits):.3f}" if len(bits) > 1 else ""
    return f"{statistics.mean(bits):.3f}{spread}"


def _config(row: Row, out: Path, steps: int, overrides: Sequence[str]) -> WaveExperiment:
    config = compose(["experiment=wave_ablation", f"train.steps={steps}", *overrides])
    assert isinstance(config, WaveExperiment)
    samples = config.data.length * config.data.batch  # a step, for every length
    if samples % row.length:
        raise ConfigError(f"lengths: {row.length} does not divide the {samples} samples of a step")
    config.data.length, config.data.batch = row.length, samples // row.length
    config.train.seed, config.train.out = row.seed, str(out / _name(row))
    if (out / _name(row) / "last").exists():  # trained, but ended before its line was written
        config.train.resume = "last"
    *outer, centre = config.model.stages
    for stage in outer:
        stage.layers = [_layer(layer, row.outer) for layer in stage.layers]
    centre.layers = [_layer(layer, row.centre) for layer in centre.layers]
    return config


def _layer(layer: LayerConfig, kind: str) -> LayerConfig:
    if kind not in KINDS:
        raise ConfigError(f"rows: no kind {kind!r}; there are {', '.join(KINDS)}")
    return replace(layer, **KINDS[kind])


def _name(row: Row) -> str:
    return f"{row.outer}-{row.centre}-{row.length}-{row.seed}"


def _cpu_us(objective: Waveform) -> float | None:
    """CPU microseconds a sample of one stream on the native engine; None where it cannot run."""
    model = objective.model
    weights = {name: t.detach().float().cpu().numpy() for name, t in model.state_dict().items()}
    try:
        engine = NativeWave(model.config, weights)
    except (BackendError, ValueError):
        return None
    state, last = engine.begin([-1], [-1]), np.full(1, 128, np.uint8)
    began = time.process_time()
    engine.draw(state, last, Sampling(), stream_seeds(0, 1), np.zeros(1, np.int64), _MEASURED)
    return round((time.process_time() - began) / _MEASURED * 1e6, 2)


def _rows(options: argparse.Namespace) -> Iterator[Row]:
    kinds = [tuple(name.split("-")) for name in options.rows] or ROWS
    for seed in options.seeds:
        for length in options.lengths:
            for outer, centre in kinds:
                yield Row(outer, centre, length, seed)


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description="Train the rows of the ablation, print the table.")
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and results.jsonl")
    parser.add_argument("--steps", type=int, required=True, help="of every row")
    parser.add_argument(
        "--budget-s", type=float, default=0.0, help="start no row that would end later"
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[8192], help="samples of a row")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="+", default=[], metavar="OUTER-CENTRE")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="Hydra overrides")
    parser.add_argument("--plot", type=Path, help="SVG of all results")
    options = parser.parse_args()
    results = run(
        list(_rows(options)),
        options.out,
        steps=options.steps,
        budget_s=options.budget_s,
        overrides=options.set,
    )
    if results:
        print(table(results))
        if options.plot:
            options.plot.write_text(ablation_plot.draw(results), encoding="utf-8")


if __name__ == "__main__":
    main()
