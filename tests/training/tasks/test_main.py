"""The command trains, measures and prints."""

import pytest

from audiomamba.training.tasks.__main__ import main


@pytest.mark.parametrize("dynamics", ["lti", "selective"])
def test_a_few_steps_give_a_row(dynamics: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(
        ["--task", "induction_heads", "--preset", "small", "--steps", "2", "--powers", "6"]
        + ["--dynamics", dynamics, "--device", "cpu"]
    )
    row, tested = capsys.readouterr().out.splitlines()
    assert row.startswith(f"induction_heads | {dynamics} | ") and "length 256" in row
    assert tested.strip().startswith("2^6: ") and "bytes a stream" in tested


def test_a_preset_is_for_its_problem() -> None:
    with pytest.raises(SystemExit):
        main(["--task", "selective_copying", "--preset", "long"])
