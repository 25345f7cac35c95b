"""What the synthetic voices say: sentences of the text pool, and numbers, digits, commands, lists.

Every line exists twice: ``text`` is the normalised label, and ``spoken`` the same words with the
punctuation that steers the voice's pauses and intonation. Both are made from one spelling of
numbers and dates, so that what is said and what is written cannot differ.
"""

import lzma
import random
import re
import tarfile
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

from audiomamba.text.normalize import normalize

__all__ = ["COMMANDS", "MIXTURE", "Line", "lines", "pieces", "speak"]

MIN_WORDS, MAX_WORDS = 3, 22
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COMMANDS = (
    "yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "backward",
    "forward", "follow", "learn", "bed", "bird", "cat", "dog", "happy", "house", "marvin",
    "sheila", "tree", "wow", "visual",
    *DIGITS,
)  # the 35 words of Speech Commands v0.02  # fmt: skip

MIXTURE = {  # share of utterances
    "books": 0.53,
    "prompts": 0.12,
    "dialogue": 0.15,
    "speeches": 0.05,
    "digits": 0.05,
    "commands": 0.04,
    "figures": 0.04,
    "salad": 0.02,
}
_POOL = ("books", "prompts", "dialogue", "speeches")

# A mark that ends a part: not inside 3:45 or 13.62, not after an abbreviation or an initial.
_PART = re.compile(r"(?<!\b[A-Z])(?<!\b[DMS][rt])(?<!\bMrs)(?<!\bvs)([,.!?;:]+)(?=\s|$)")
_BROKEN = (
    "Mr.",
    "Mrs.",
    "Dr.",
    "St.",
    "Messrs.",
    "Capt.",
    "Col.",
    "Gen.",
    "Rev.",
    "Lieut.",
    "Prof.",
)
_CLAUSE = re.compile(r"(?<=[,;:])\s+|\s+(?=(?:and|but|or|which|because|when|while|so)\s)")


class Line(NamedTuple):
    """One utterance to be spoken."""

    kind: str  # a key of MIXTURE
    text: str  # a-z, apostrophe and space
    spoken: str  # the same words, with punctuation


def speak(sentence: str, kind: str) -> Line | None:
    """Spell a sentence out; None where nothing speakable is left of it."""
    words: list[str] = []
    spoken = ""
    for part, mark in _parts(sentence):
        spelt = normalize(part)
        if not spelt:
            continue
        words.append(spelt)
        spoken = f"{spoken} {spelt}{mark}" if spoken else f"{spelt}{mark}"
    return Line(kind, " ".join(words), spoken) if words else None


def _parts(sentence: str) -> Iterator[tuple[str, str]]:
    fields = _PART.split(sentence)
    marks = [*fields[1::2], ""]
    for part, mark in zip(fields[::2], marks, strict=False):
        if part.strip():
            yield part, mark[:1]


def pieces(sentence: str) -> Iterator[str]:
    """Clean a sentence of the pool and cut it, at clause marks, to 3 to 22 words.

    Book text comes tokenised (spaces before marks), with dashes, brackets and lone quotation marks;
    headings, and sentences broken off after an abbreviation, are left out.
    """
    text = re.sub(r"[\"“”()\[\]_*{}<>|~^#]|``|''", " ", sentence)
    text = re.sub(r"\s*--+\s*|\s+-\s+", ", ", text)
    text = re.sub(r"(\d),(?=[A-Za-z])", r"\1, ", text)
    text = re.sub(r"(?<=[a-z])([.!?;])(?=[A-Z])", r"\1 ", text)
    text = re.sub(r"\s+(?='(?:s|ll|ve|re|d|m|t)\b)|\s+(?=n't\b)", "", text)
    text = re.sub(r"\s+([,.!?;:])", r"\1", text)
    text = re.sub(r"([,;:])(?:\s*[,;:])+", r"\1", " ".join(text.split())).strip(" ,;:-")
    if not text or not text.isascii() or text.isupper() or text.endswith(_BROKEN):
        return
    held: list[str] = []
    for clause in _CLAUSE.split(text):
        words = clause.split()
        if held and len(held) + len(words) > MAX_WORDS:
            if len(held) >= MIN_WORDS:
                yield " ".join(held)
            held = []
        held += words
    if MIN_WORDS <= len(held) <= MAX_WORDS:
        yield " ".join(held)


def _pool(tar: Path, name: str, rng: random.Random) -> Iterator[Line]:
    with tarfile.open(tar) as files:
        member = files.extractfile(f"{name}.txt.xz")
        assert member is not None, "a member of that name is a file"
        sentences = lzma.decompress(member.read()).decode("ascii").splitlines()
    rng.shuffle(sentences)
    seen: set[str] = set()
    for sentence in sentences:
        for piece in pieces(sentence):
            line = speak(piece, name)
            # Task dialogues repeat their stock answers thousands of times.
            if line and line.text not in seen:
                seen.add(line.text)
                yield line


def _digits(rng: random.Random) -> str:
    said = [rng.choice(DIGITS) for _ in range(rng.randint(1, 10))]
    if rng.random() < 0.15:
        said = ["oh" if digit == "zero" else digit for digit in said]
    grouped = rng.random() < 0.4
    marks = ["," if grouped and i % 3 == 2 else "" for i in range(len(said) - 1)]
    return " ".join(d + m for d, m in zip(said, [*marks, "."], strict=True))


def _commands(rng: random.Random) -> str:
    count = rng.choice((1, 1, 1, 2, 3, 4, 6, 8))
    glue = rng.choice((" ", ", ", ". "))
    return glue.join(rng.choice(COMMANDS) for _ in range(count)) + rng.choice((".", ".", "!", "?"))


_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
_DAYS = (
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
)  # fmt: skip
_NAMES = (
    "James", "Mary", "Robert", "Patricia", "John", "Jennifer", "Michael", "Linda", "David",
    "Elizabeth", "William", "Barbara", "Richard", "Susan", "Joseph", "Jessica", "Thomas",
    "Sarah", "Charles", "Karen", "Daniel", "Nancy", "Matthew", "Lisa", "Anthony", "Betty",
    "Mark", "Helen", "Paul", "Sandra", "Steven", "Ashley", "Andrew", "Emily", "Kenneth",
    "Donna", "George", "Michelle", "Joshua", "Carol", "Kevin", "Amanda", "Brian", "Melissa",
    "Edward", "Deborah", "Ronald", "Stephanie", "Timothy", "Rebecca", "Jason", "Laura",
    "Priya", "Wei", "Fatima", "Carlos", "Olga", "Kenji", "Aisha", "Ivan", "Sofia", "Ahmed",
)  # fmt: skip
_SURNAMES = (
    "Smith", "Johnson", "Williams", "Brown", "Jones", "Garcia", "Miller", "Davis", "Martinez",
    "Wilson", "Anderson", "Taylor", "Thomas", "Moore", "Jackson", "Martin", "Lee", "Thompson",
    "White", "Harris", "Clark", "Lewis", "Robinson", "Walker", "Young", "Allen", "King",
    "Wright", "Scott", "Torres", "Hill", "Green", "Adams", "Nelson", "Baker", "Hall",
    "Campbell", "Mitchell", "Carter", "Roberts", "Patel", "Nguyen", "Kim", "Singh", "Chen",
    "Murphy", "Kelly", "Hughes", "Edwards", "Cooper",
)  # fmt: skip
_FRAMES = (
    "{}.",
    "it is {}.",
    "the answer is {}.",
    "make it {}, please.",
    "was it {}?",
    "i said {}.",
    "that would be {}.",
    "we need {}.",
    "call {}.",
    "remind me about {}.",
)


def _figure(rng: random.Random) -> str:
    def number() -> int:
        return rng.randint(0, 10 ** rng.randint(1, 6))

    day, month, year = rng.randint(1, 28), rng.choice(_MONTHS), rng.randint(1700, 2040)
    letters = [chr(ord("a") + rng.randrange(26)) for _ in range(rng.randint(2, 6))]
    kinds: tuple[Callable[[], str], ...] = (
        lambda: f"{number()}",
        lambda: f"{number()} and {number()}",
        lambda: f"{rng.randint(0, 99)} point {' '.join(str(rng.randint(0, 9)) for _ in range(2))}",
        lambda: f"{month} {day}, {year}",
        lambda: f"{rng.choice(_DAYS)}, {month} {day}",
        lambda: f"{rng.randint(1, 12)}:{rng.randint(0, 59):02d} {rng.choice(('am', 'pm'))}",
        lambda: f"${rng.randint(1, 999)}.{rng.randint(1, 99):02d}",
        lambda: f"{rng.randint(1, 100)} percent",
        lambda: ", ".join(letters),
        lambda: " ".join(letters),
        lambda: f"{rng.choice(_NAMES)} {rng.choice(_SURNAMES)}",
        lambda: f"{rng.choice(_NAMES)} and {rng.choice(_NAMES)} {rng.choice(_SURNAMES)}",
    )
    return rng.choice(_FRAMES).format(rng.choice(kinds)())


def lines(tar: Path, seed: int) -> Iterator[Line]:
    """Draw lines without end, in the shares of ``MIXTURE``.

    Args:
        tar: The text pool: ``books.txt.xz`` and its like, a sentence a line.
        seed: The same seed gives the same lines.
    """
    rng = random.Random(seed)
    generated = {"digits": _digits, "commands": _commands, "figures": _figure}
    pool = {name: cycle(_pool(tar, name, random.Random(f"{seed}/{name}"))) for name in _POOL}
    heard: list[str] = []  # recent words, from which word salad is mixed
    kinds, shares = list(MIXTURE), list(MIXTURE.values())
    while True:
        kind = rng.choices(kinds, shares)[0]
        if kind in pool:
            line: Line | None = next(pool[kind])
            heard = [*heard[-4000:], *(line.text.split() if line else ())]
        elif kind == "salad":
            count = rng.randint(1, 12)
            line = speak(" ".join(rng.choices(heard, k=count)) + ".", kind) if heard else None
        else:
            line = speak(generated[kind](rng), kind)
        if line:
            yield line
