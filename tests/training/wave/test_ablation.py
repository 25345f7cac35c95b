"""Rows of the ablation, trained one after another."""

import json
from pathlib import Path

import pytest

from audiomamba.errors import ConfigError
from audiomamba.training.wave.ablation import Row, run, table

SMALL = [
    "model=wave_miniature", "data=wave_miniature", "train=wave_miniature",
    "data.made.kinds=[ambience]", "data.length=256",
]  # fmt: skip


@pytest.mark.slow
def test_rows_are_trained_once_and_the_table_has_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [Row("complex", "selective", 256, 0), Row("real", "complex", 512, 0)]
    first = run(rows[:1], tmp_path, steps=2, overrides=SMALL)
    results = run(rows, tmp_path, steps=2, overrides=SMALL)
    assert results[0] == first[0]
    assert [r["outer"] for r in results] == ["complex", "real"]
    assert all(0 < r["bits"] < 12 and r["steps"] == 2 and r["cpu_us"] > 0 for r in results)
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == results
    assert "| real | complex |" in table(results)
    config = json.loads((tmp_path / "real-complex-512-0" / "export" / "config.json").read_text())
    layers = [stage["layers"][0] for stage in config["model"]["stages"]]
    kinds = [(layer["dynamics"], layer["values"]) for layer in layers]
    assert kinds == [("lti", "real"), ("lti", "real"), ("lti", "complex")]


def test_no_row_is_begun_that_the_budget_does_not_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 11.0])
    row = Row("complex", "real", 256, 0)
    assert run([row], tmp_path, steps=1, budget_s=10, now=lambda: next(clock)) == []
    assert "no time left" in capsys.readouterr().err


def test_means_and_spreads_are_over_seeds() -> None:
    results = [
        {"outer": "complex", "centre": "real", "length": n, "seed": seed, "bits": bits,
         "parameters": 1234, "cpu_us": 3.21}
        for n, seed, bits in ((256, 0, 2.0), (256, 1, 2.2), (512, 0, 1.9))
    ]  # fmt: skip
    assert table(results).splitlines()[2] == (
        "| complex | real | 1,234 | 3.2 | 2.100 ± 0.141 | 1.900 |"
    )


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there are complex, real"):
        run([Row("complex", "attention", 256, 0)], tmp_path, steps=1, overrides=SMALL)


def test_a_length_that_does_not_divide_the_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not divide"):
        run([Row("complex", "real", 300, 0)], tmp_path, steps=1, overrides=SMALL)
