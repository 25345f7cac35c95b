"""The ablation, drawn."""

from xml.etree import ElementTree

import pytest

from audiomamba.training.wave import ablation_plot


def test_the_plot_has_a_dot_a_seed_where_its_bits_are() -> None:
    results = [
        {"outer": "complex", "centre": "selective", "length": 64, "bits": 2.0},
        {"outer": "complex", "centre": "selective", "length": 64, "bits": 4.0},
        {"outer": "real", "centre": "ssd", "length": 256, "bits": 3.0},
    ]
    root = ElementTree.fromstring(ablation_plot.draw(results))
    places = [float(e.attrib["cx"]) for e in root.findall(".//{*}circle")]
    assert len(places) == 3 and places[2] == pytest.approx((places[0] + places[1]) / 2)
    words = [e.text for e in root.findall(".//{*}text")]
    assert "256 samples a row" in words and "real LTI, centre ssd" in words
