import json
import shutil
from pathlib import Path

import pytest

from audiomamba.cli.main import main
from audiomamba.models.registry import find


def test_the_table_has_a_head_and_a_line_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "KIND", "SIZE", "LICENCE", "FIGURES"]
    (row,) = [row for row in rows if row.startswith("listen-en ")]
    assert row.index("MB") + 2 == head.index("SIZE") + 4  # sizes stand to the right


def test_json_is_an_object_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"name", "kind", "folder", "size_bytes", "licence", "figures"} == set(records[0])
    assert "listen-en" in [record["name"] for record in records]


def test_a_card_is_shown_without_what_is_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "listen-en"]) == 0
    out = capsys.readouterr().out
    assert "# listen-en" in out and "library_name" not in out


def test_a_checkpoint_of_ones_own_is_described(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    shutil.copy(find("listen-en") / "config.json", tmp_path / "mine")
    assert main(["models", str(tmp_path / "mine")]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[1].startswith("mine ") and "no card" in out


def test_a_name_that_is_nobodys_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "nobody"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
