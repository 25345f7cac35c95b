"""Phones laid along posteriors."""

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from audiomamba.errors import ModelError
from audiomamba.models.transcriber import Transcriber
from audiomamba.models.transcriber_config import TranscriberConfig
from audiomamba.nn import LayerConfig, StackConfig
from audiomamba.training.speech.alignment import Aligner, best_path

# One phone a letter; the ids are phones and not marks.
LETTERS = {letter: 60 + i for i, letter in enumerate("abcdefgh")}


class Spelling:
    """In the place of espeak: a word's letters are its phones; British has no h."""

    def ids(self, word: str, accent: str) -> list[int]:
        return [LETTERS[x] for x in word if x in LETTERS and not (accent == "gb" and x == "h")]


def model(phone_layer: int = 1, look_ahead: int = 0) -> Transcriber:
    torch.manual_seed(0)
    layer = LayerConfig(dynamics="lti", count=2, state_size=4, look_ahead=look_ahead)
    stack = StackConfig(width=16, layers=[layer])
    return Transcriber(
        TranscriberConfig(stack=stack, inter_layer=0, phone_layer=phone_layer, vocabulary=8)
    ).eval()


def heard(phones: list[tuple[int, int]], frames: int, lead: int) -> NDArray[np.float32]:
    """Posteriors that name each phone for so many frames, after ``lead`` frames of silence."""
    probs = np.full((frames, 178), 1e-4, np.float32)
    at = lead
    probs[:, 0] = 0.98
    for phone, lasting in phones:
        probs[at : at + lasting, 0] = 1e-4
        probs[at : at + lasting, phone] = 0.98
        at += lasting
    return np.log(probs)


def worth(
    scores: NDArray[np.float32], states: tuple[int, ...], optional: NDArray[np.bool_]
) -> float:
    """Of a way through, -inf where it is none."""
    S = scores.shape[1]
    firsts = {0, 1} if optional[0] else {0}
    lasts = {S - 1, S - 2} if optional[-1] else {S - 1}
    if states[0] not in firsts or states[-1] not in lasts:
        return -np.inf
    for before, now in itertools.pairwise(states):
        if now not in (before, before + 1) and not (now == before + 2 and optional[before + 1]):
            return -np.inf
    return float(scores[np.arange(len(states)), list(states)].sum())


@pytest.mark.parametrize("optional", [[0, 0, 0], [1, 0, 1], [0, 1, 0], [1, 0, 0]])
@pytest.mark.parametrize("frames", [2, 3, 5])
def test_the_path_is_the_best_of_all(frames: int, optional: list[int]) -> None:
    scores = np.random.default_rng(frames).normal(size=(frames, 3)).astype(np.float32)
    may_pass = np.array(optional, bool)
    best = max(
        worth(scores, states, may_pass) for states in itertools.product(range(3), repeat=frames)
    )
    path = best_path(scores, may_pass)
    if best == -np.inf:
        assert path is None
    else:
        assert path is not None
        assert worth(scores, tuple(path.tolist()), may_pass) == pytest.approx(best, rel=1e-6)


def test_words_are_found_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    aligner = Aligner(model(), Spelling(), delay_s=0.24)  # type: ignore[arg-type]
    # In frames of 40 ms; the first of them hears 0.5 s of padding and answers 0.24 s late.
    a, b, c, d = (LETTERS[x] for x in "abcd")
    posteriors = heard([(a, 3), (b, 5), (0, 4), (c, 2), (d, 6)], frames=60, lead=20)
    monkeypatch.setattr(aligner, "_posteriors", lambda samples: [posteriors])
    found = aligner.align(np.zeros(16_000, np.int16), ["ab", "cd"])
    assert found is not None
    first = 20 * 0.04 + 0.0125 - 0.02 - 0.24 - 0.5
    want = first + 0.04 * np.array([[0, 8], [12, 20]])
    np.testing.assert_allclose(found.words, want, atol=1e-9)
    assert found.phones.tolist() == [0, a, b, 0, c, d, 0]
    assert found.score > -0.1
    assert (np.diff(found.starts) > 0).all()


def test_the_accent_that_fits_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    aligner = Aligner(model(), Spelling())  # type: ignore[arg-type]
    a, h = LETTERS["a"], LETTERS["h"]
    for spoken in ([h, a], [a]):
        posteriors = heard([(phone, 4) for phone in spoken], frames=50, lead=20)
        monkeypatch.setattr(aligner, "_posteriors", lambda samples, p=posteriors: [p])
        found = aligner.align(np.zeros(16_000, np.int16), ["ha"])
        assert found is not None
        assert [p for p in found.phones if p] == spoken


def test_what_cannot_be_aligned_is_none() -> None:
    aligner = Aligner(model(), Spelling())  # type: ignore[arg-type]
    assert aligner.align(np.ones(1_600, np.int16), ["ab", "xyz"]) is None
    assert aligner.align(np.ones(1_600, np.int16), ["abcdefgh"] * 20) is None


def test_a_phone_is_sought_later_by_the_look_ahead_before_its_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starts = []
    for look_ahead in (0, 2):
        aligner = Aligner(model(look_ahead=look_ahead), Spelling())  # type: ignore[arg-type]
        posteriors = heard([(LETTERS["a"], 4)], frames=50, lead=30)
        monkeypatch.setattr(aligner, "_posteriors", lambda samples, p=posteriors: [p])
        found = aligner.align(np.zeros(16_000, np.int16), ["a"])
        assert found is not None
        starts.append(found.words[0, 0])
    assert starts[0] - starts[1] == pytest.approx(0.08)


def test_posteriors_cover_the_recording_and_its_padding() -> None:
    aligner = Aligner(model(), Spelling())  # type: ignore[arg-type]
    noise = np.random.default_rng(0).integers(-3000, 3000, 16_000).astype(np.int16)
    found = aligner.align(noise, ["abc", "d"])
    assert found is not None
    assert found.words.shape == (2, 2)
    assert 0 <= found.words.min() <= found.words.max() <= 2.0
    assert found.starts[0] == 0


def test_recordings_together_are_aligned_as_each_alone() -> None:
    aligner = Aligner(model(), Spelling())  # type: ignore[arg-type]
    random = np.random.default_rng(0)
    recordings = [
        (random.integers(-3000, 3000, n).astype(np.int16), words)
        for n, words in ((16_000, ["abc", "d"]), (9_000, ["f"]), (16_500, ["ab", "cd", "ef"]))
    ]
    for found, (samples, words) in zip(aligner.align_all(recordings), recordings, strict=True):
        alone = aligner.align(samples, words)
        assert found is not None and alone is not None
        np.testing.assert_array_equal(found.starts, alone.starts)
        np.testing.assert_array_equal(found.phones, alone.phones)


def test_a_model_without_phones_is_refused() -> None:
    with pytest.raises(ModelError, match="phone head"):
        Aligner(model(phone_layer=0), Spelling())  # type: ignore[arg-type]
