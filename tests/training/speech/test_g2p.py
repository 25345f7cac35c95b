"""Text to phone ids."""

import pytest

from audiomamba.training.speech.g2p import Accent, Phonemiser

LETTERS = {
    letter: i + 1
    for i, letter in enumerate(".,?! ˈˌːAIOQWYTabdfhijklmnpstuvwzæðŋɑɔəɛɡɪɹʃʊʌʒʤʧθᵊᵻɒ")
}


@pytest.fixture(scope="module")
def phonemiser() -> Phonemiser:
    pytest.importorskip("espeakng_loader", reason="espeak-ng is an optional tool")
    return Phonemiser(LETTERS)


@pytest.mark.parametrize(
    ("text", "accent", "letters"),
    [
        ("hello, world.", "us", "həlˈO, wˈɜɹld."),
        ("go home", "gb", "ɡˌQ hˈQm"),
        ("better", "us", "bˈɛTəɹ"),
        ("jump?", "us", "ʤˈʌmp?"),
        ("eight a m", "us", "ˈAt ˈA ˈɛm"),
        ("b, a, t", "gb", "bˈiː, ˈA, tˈiː"),
        ("a cat", "us", "ə kˈæt"),
    ],
)
def test_words_are_spelt_in_the_voice_models_letters(
    phonemiser: Phonemiser, text: str, accent: Accent, letters: str
) -> None:
    assert phonemiser.phonemes(text, accent) == letters


def test_letters_outside_the_vocabulary_are_left_out(phonemiser: Phonemiser) -> None:
    assert phonemiser.ids("so.", "us")[-1] == LETTERS["."]
    assert 0 not in phonemiser.ids("world, hello", "us")
