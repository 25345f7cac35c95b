"""Curves that do not make much of little, and have gaps."""

from xml.etree import ElementTree

from audiomamba.models.wave.curves import ROW, Curve, draw


def lines(svg: str) -> list[list[tuple[float, float]]]:
    found = ElementTree.fromstring(svg).findall(".//{*}polyline")
    points = [[p.split(",") for p in line.attrib["points"].split()] for line in found]
    return [[(float(x), float(y)) for x, y in line] for line in points]


def test_what_hardly_moves_is_drawn_flat_and_what_moves_is_not() -> None:
    times = [0.0, 1.0, 2.0]
    flat, steep = lines(
        draw(
            times, {Curve("a", "a", 10.0): [5.0, 5.1, 5.0], Curve("b", "b", 1.0): [0, 50, 0]}, "min"
        )
    )
    assert max(y for _, y in flat) - min(y for _, y in flat) < 1
    assert max(y for _, y in steep) - min(y for _, y in steep) > ROW / 2
    assert [x for x, _ in flat] == [x for x, _ in steep] and flat[0][0] < flat[1][0] < flat[2][0]
    assert all(ROW < y < 2 * ROW for _, y in steep)


def test_a_missing_value_is_a_gap_and_a_lonely_one_is_seen() -> None:
    svg = draw([0.0, 1.0, 2.0, 3.0], {Curve("a", "words", 1.0, low=0.0): [1, 2, None, 3]}, "min")
    assert [len(line) for line in lines(svg)] == [2, 2]
    assert "words" in svg and "3 min" in svg


def test_nothing_is_a_picture_too() -> None:
    assert lines(draw([], {}, "min")) == []
