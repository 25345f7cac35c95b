import json
from collections.abc import Iterator

import pytest

from audiomamba.cli.results import Format, Heard, write
from audiomamba.text.events import Final, Word


def finals(*texts: str) -> Iterator[Final]:
    for i, text in enumerate(texts):
        words = tuple(
            Word(word, 10.0 * i + j, 10.0 * i + j + 0.5, 0.9) for j, word in enumerate(text.split())
        )
        yield Final(i, 10.0 * i, 10.0 * i + 5, text, 0.9, words, "endpoint")


def broken_off(*texts: str) -> Iterator[Final]:
    yield from finals(*texts)
    raise KeyboardInterrupt


def written(form: Format, texts: Iterator[Final], *, named: bool = False) -> str:
    parts: list[str] = []
    write(form, texts, Heard("a.wav", "m", 12.0), parts.append, named=named)
    return "".join(parts)


def test_text_is_one_line() -> None:
    assert written("txt", finals("zero one", "", "two")) == "zero one two\n"
    assert written("txt", finals("zero one", "two"), named=True) == "a.wav\tzero one two\n"


@pytest.mark.parametrize(("named", "line"), [(False, "\n"), (True, "a.wav\t\n")])
def test_silence_is_a_line_too(named: bool, line: str) -> None:
    assert written("txt", finals(), named=named) == line


def test_json_is_one_object_a_line() -> None:
    text = written("json", finals("zero ones", "über"))
    assert text.count("\n") == 1 and "über" in text
    assert json.loads(text)["text"] == "zero ones über"
    assert json.loads(text)["words"][2]["start"] == 10.0


@pytest.mark.parametrize("form", ["txt", "srt", "vtt"])
def test_what_is_broken_off_is_a_whole_beginning(form: Format) -> None:
    parts: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        write(form, broken_off("zero one", "two", "three"), Heard("a", "m"), parts.append)
    kept = "".join(parts)
    whole = written(form, finals("zero one", "two", "three"))
    assert kept.endswith("\n") and whole.startswith(kept.rstrip("\n"))
    assert "zero one" in kept and "three" in kept


def test_nothing_is_kept_of_an_object_that_is_broken_off() -> None:
    parts: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        write("json", broken_off("zero"), Heard("a", "m"), parts.append)
    assert parts == []
