"""Spelling of numbers in American English, without "and": 105 is "one hundred five".

Own and small rather than num2words: normalisation must be importable where no extra is installed
(evaluation of a user's own recordings), and a transcript's spelling may not change with the
version of a dependency, because the vocabulary and every word error rate rest on it.
"""

__all__ = ["cardinal", "decimal", "digits", "ordinal", "plural", "year"]

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
_TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
_GROUPS = ("", "thousand", "million", "billion", "trillion")
_ORDINAL = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}

LARGEST = 10**15  # exclusive; longer numbers are identifiers and are read digit by digit


def _below_thousand(n: int) -> list[str]:
    words = []
    if n >= 100:
        words += [_SMALL[n // 100], "hundred"]
        n %= 100
    if n >= 20:
        words.append(_TENS[n // 10])
        n %= 10
        if n:
            words.append(_SMALL[n])
    elif n:
        words.append(_SMALL[n])
    return words


def cardinal(n: int) -> str:
    """Spell a count: 1234 is "one thousand two hundred thirty four".

    Args:
        n: Any integer; from 10^15 on it is read digit by digit.
    """
    if n < 0:
        return f"minus {cardinal(-n)}"
    if n == 0:
        return _SMALL[0]
    if n >= LARGEST:
        return digits(str(n))
    parts: list[str] = []
    for group in range(len(_GROUPS) - 1, -1, -1):
        value = n // 1000**group % 1000
        if value:
            parts += _below_thousand(value)
            if group:
                parts.append(_GROUPS[group])
    return " ".join(parts)


def ordinal(n: int) -> str:
    """Spell a rank: 21 is "twenty first"."""
    head, _, last = cardinal(n).rpartition(" ")
    if last in _ORDINAL:
        last = _ORDINAL[last]
    elif last.endswith("y"):
        last = f"{last[:-1]}ieth"
    else:
        last += "th"
    return f"{head} {last}".lstrip()


def year(n: int) -> str:
    """Spell a year the way it is said: 1905 is "nineteen oh five", 2007 "two thousand seven".

    Args:
        n: 1000 to 9999; outside of that it is a plain count.
    """
    century, rest = divmod(n, 100)
    if not 1000 <= n <= 9999 or century % 10 == 0 and rest < 10:
        return cardinal(n)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def digits(text: str) -> str:
    """Read digit by digit: "007" is "zero zero seven"; what is no digit is left out."""
    return " ".join(_SMALL[int(c)] for c in text if c in "0123456789")


def decimal(whole: str, fraction: str) -> str:
    """Spell a decimal number: "3" and "14" are "three point one four"; no whole part, no zero."""
    spoken = f"point {digits(fraction)}"
    return f"{cardinal(int(whole))} {spoken}" if whole else spoken


def plural(words: str) -> str:
    """Plural of the last word of a spelled number: "nineteen ninety" is "nineteen nineties"."""
    if words.endswith("y"):
        return f"{words[:-1]}ies"
    return f"{words}es" if words.endswith("six") else f"{words}s"
