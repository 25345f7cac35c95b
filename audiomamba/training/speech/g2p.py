"""Text to the voice model's phone ids, through the espeak-ng library.

espeak-ng is licensed GPL-3.0-or-later; it is an optional tool of preparing training texts (package
``espeakng-loader``), and nothing that listens or serves needs it.

The voice model's alphabet is IPA with one letter for each diphthong and affricate, so espeak is
asked for tie characters, by which a diphthong is told from two vowels.
"""

import ctypes
import re
from collections.abc import Mapping
from typing import Literal

from audiomamba.errors import BackendError

__all__ = ["Accent", "Phonemiser"]

Accent = Literal["us", "gb"]

# The library knows its voices by name; the language code en-gb is refused.
_VOICES: dict[Accent, bytes] = {"us": b"English (America)", "gb": b"English (Great Britain)"}
_BOTH = (
    ("ʔˌn̩", "ʔn"), ("ʔn̩", "ʔn"), ("a^ɪ", "I"), ("a^ʊ", "W"), ("d^ʒ", "ʤ"), ("e^ɪ", "A"),
    ("t^ʃ", "ʧ"), ("ɔ^ɪ", "Y"), ("ə^l", "ᵊl"), ("ʲ", ""), ("ɚ", "əɹ"), ("ɐ", "ə"), ("x", "k"),
    ("ç", "k"), ("ɬ", "l"), ("\u0303", ""), ("r", "ɹ"),
)  # fmt: skip
_LETTERS: dict[Accent, tuple[tuple[str, str], ...]] = {
    "us": (
        *_BOTH, ("o^ʊ", "O"), ("ɜːɹ", "ɜɹ"), ("ɜː", "ɜɹ"), ("ɪə", "iə"), ("ː", ""), ("ɾ", "T"),
        ("o", "ɔ"), ("e", "A"),
    ),
    "gb": (*_BOTH, ("e^ə", "ɛː"), ("iə", "ɪə"), ("ə^ʊ", "Q"), ("e", "A")),
}  # fmt: skip
# "a" beside another lone letter is the letter's name, not the article: a m, b a t.
_LETTER_A = re.compile(r"\ba\b(?=,? [b-hj-z]\b)|(?<=\b[b-hj-z] )a\b|(?<=\b[b-hj-z], )a\b")
_SYLLABIC = "\u0329"
_IPA_WITH_TIES = ord("^") << 8 | 0x82  # phoneme mode: IPA, tie character in bits 8 and up
_SYNCHRONOUS, _DONT_EXIT, _UTF8 = 2, 0x8000, 1


class Phonemiser:
    """Holds the espeak-ng library, of which a process can have one.

    Args:
        vocabulary: Phone letter to id, as the voice model has it.

    Raises:
        BackendError: the package ``espeakng-loader`` is not installed.
    """

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        try:
            import espeakng_loader  # type: ignore[import-untyped]
        except ImportError as error:
            raise BackendError("phonemes want espeak-ng: pip install espeakng-loader") from error
        self._vocabulary = vocabulary
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = str(espeakng_loader.get_data_path()).encode()
        self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, _DONT_EXIT)
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._accent: Accent | None = None

    def phonemes(self, text: str, accent: Accent) -> str:
        """Spell ``text`` in the voice model's letters; its punctuation is kept."""
        if accent != self._accent:
            if self._library.espeak_SetVoiceByName(_VOICES[accent]) != 0:
                raise BackendError(f"espeak-ng has no voice {_VOICES[accent].decode()}")
            self._accent = accent
        out = ""
        for part in re.findall(r"[^,.!?;:]+|[,.!?;:]", _LETTER_A.sub("eigh", text)):
            if part in ",.!?;:":  # the library drops marks, and the voice breathes by them
                out = out.rstrip() + part + " "
            elif part.strip():
                out += self._words(part.strip(), accent) + " "
        return out.strip()

    def ids(self, text: str, accent: Accent) -> list[int]:
        """Phone ids of ``text``; letters outside the vocabulary are left out."""
        letters = self.phonemes(text, accent)
        return [self._vocabulary[letter] for letter in letters if letter in self._vocabulary]

    def _words(self, text: str, accent: Accent) -> str:
        buffer = ctypes.create_string_buffer(text.encode())
        rest = ctypes.c_void_p(ctypes.addressof(buffer))
        said: list[str] = []
        while rest.value:
            clause = self._library.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, _IPA_WITH_TIES)
            if clause:
                said += clause.decode().split()
        letters = " ".join(said)
        for ours, theirs in _LETTERS[accent]:
            letters = letters.replace(ours, theirs)
        letters = re.sub(rf"(\S){_SYLLABIC}", r"ᵊ\1", letters)
        return letters.replace(_SYLLABIC, "").replace("^", "")
