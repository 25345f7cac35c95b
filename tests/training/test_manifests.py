"""Lists of recordings in the forms people have them in."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from audiomamba.errors import AudioError
from audiomamba.training.manifests import files, read


def test_lines_of_json_with_our_names_and_nemos(tmp_path: Path) -> None:
    manifest = tmp_path / "a.jsonl"
    rows = [
        {"path": "x.flac", "text": "one two", "speaker": "s"},
        {"audio_filepath": "y.wav", "text": "Room 12, please.", "offset": 1.5, "duration": 2.0},
    ]
    manifest.write_text("\n".join(json.dumps(r) for r in rows) + "\n\n")
    assert list(read(manifest)) == [
        rows[0],
        {"path": "y.wav", "text": "room twelve please", "offset": 1.5, "duration": 2.0},
    ]


@pytest.mark.parametrize(("suffix", "mark"), [(".tsv", "\t"), (".csv", ",")])
def test_tables_as_common_voice_has_them(tmp_path: Path, suffix: str, mark: str) -> None:
    manifest = tmp_path / f"train{suffix}"
    rows = [["client_id", "path", "sentence"], ["me", "a.mp3", '"It\'s me" "2" times']]
    manifest.write_text("\n".join(mark.join(row) for row in rows).replace('"', ""))
    assert list(read(manifest)) == [{"speaker": "me", "path": "a.mp3", "text": "it's me two times"}]


@pytest.mark.parametrize("content", ["{", '{"text": "no path"}\n', '{"path": ""}\n', "[1]\n"])
def test_what_is_no_manifest_is_refused_by_name(tmp_path: Path, content: str) -> None:
    manifest = tmp_path / "bad.jsonl"
    manifest.write_text(content)
    with pytest.raises(AudioError, match=r"bad\.jsonl: cannot be read"):
        list(read(manifest))
    with pytest.raises(AudioError, match=r"none\.jsonl"):
        list(read(tmp_path / "none.jsonl"))


def test_files_are_found_in_a_tar_beside_the_manifest_or_in_its_clips(tmp_path: Path) -> None:
    manifest = tmp_path / "set.jsonl"
    (tmp_path / "a.wav").write_bytes(b"a")
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "b.mp3").write_bytes(b"b")
    assert list(files(manifest, ["a.wav", "b.mp3"])) == [("a.wav", b"a"), ("b.mp3", b"b")]
    assert list(files(manifest, [str(tmp_path / "a.wav")]))[0][1] == b"a"
    with pytest.raises(AudioError, match="c.wav"):
        list(files(manifest, ["a.wav", "c.wav"]))

    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        for name in ("two", "one", "other"):
            member = tarfile.TarInfo(name)
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))
    assert list(files(manifest, ["one", "two"])) == [("two", b"two"), ("one", b"one")]
    with pytest.raises(AudioError, match="has no three"):
        list(files(manifest, ["one", "three"]))
