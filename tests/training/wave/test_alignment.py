"""Parts of words where they sound alike."""

import numpy as np

from audiomamba.audio.mulaw import compand
from audiomamba.training.wave.alignment import aligned, divided
from audiomamba.training.wave.takes import Take

RATE = 8_000


def tones(*parts: tuple[float, float]) -> np.ndarray:
    """A word of tones: Hz and seconds each."""
    return np.concatenate(
        [0.5 * np.sin(2 * np.pi * hz * np.arange(round(s * RATE)) / RATE) for hz, s in parts]
    ).astype(np.float32)


def word(first_s: float, second_s: float, label: str = "a", speaker: str = "ann") -> Take:
    return Take(compand(tones((400, first_s), (1_500, second_s))), label, speaker, False)


def test_parts_begin_where_the_sound_changes() -> None:
    rng = np.random.default_rng(0)
    spans = [(float(a), float(b)) for a, b in rng.uniform(0.1, 0.3, (12, 2))]
    takes = [word(*span, speaker="ann" if n % 2 else "bob") for n, span in enumerate(spans)]
    for take, (first, second) in zip(aligned(takes, 2, RATE), spans, strict=True):
        [share] = take.words[0].parts
        frames = (first + second) / 0.01
        assert abs(share - first / (first + second)) < 2.5 / frames


def test_two_words_that_sound_otherwise_are_divided_apart() -> None:
    takes = [word(0.1, 0.3, "a"), word(0.3, 0.1, "b"), word(0.12, 0.3, "a"), word(0.28, 0.1, "b")]
    shares = [take.words[0].parts[0] for take in aligned(takes, 2, RATE)]
    assert max(shares[0], shares[2]) < 0.4 and min(shares[1], shares[3]) > 0.6


def test_what_cannot_be_divided_stays_as_it_is() -> None:
    short, string = word(0.02, 0.02), Take(word(0.1, 0.2).codes, None, "ann", False)
    empty = Take(np.zeros(0, np.uint8), "a", "ann", False)
    takes = [short, string, empty, word(0.1, 0.2)]
    found = aligned(takes, 2, RATE)
    assert found[:3] == takes[:3] and found[3].words[0].parts
    assert aligned([], 2, RATE) == [] and aligned(found, 2, RATE) == found


def test_every_part_has_frames_of_its_own_and_the_division_is_the_cheapest() -> None:
    rng = np.random.default_rng(1)
    steps = np.repeat([0.0, 4.0, 1.0, 6.0], [4, 9, 3, 7])
    words = [(steps + rng.normal(0, 0.1, len(steps)))[:, None].astype(np.float32) for _ in range(5)]
    words.append(np.repeat([0.0, 4.0, 1.0, 6.0], 2)[:, None].astype(np.float32))
    starts = divided(words, 4)
    assert starts[:5].tolist() == [[4, 13, 16]] * 5
    assert starts[5].tolist() == [2, 4, 6]
