"""Written English to the spoken form that the recogniser learns and is measured against.

The result holds only a-z, the apostrophe inside a word, and single spaces. It is needed by
training and evaluation, not by serving, but imports the standard library alone, so that a word
error rate can be taken wherever the package is. Applying it twice changes nothing.

The passes run from the most to the least specific; each one turns what it knows into words, so
that the last one may drop whatever is still no letter.
"""

import re
import unicodedata
from collections.abc import Callable

from audiomamba.text.numbers import LARGEST, cardinal, decimal, digits, ordinal, plural, year

__all__ = ["detokenize", "normalize"]

# Letters that compatibility decomposition leaves whole, and marks with an ASCII sense.
_FOLD = str.maketrans(
    {
        "ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l",
        "Ł": "L", "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ı": "i",
        "\u2018": "'", "\u2019": "'", "\u02bc": "'", "\u201b": "'", "\u2032": "'",
        "\u201c": '"', "\u201d": '"', "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-",
        "\u2014": " - ", "\u2015": " - ", "\u2212": "-", "\u2044": "/", "\u00d7": " times ",
    }
)  # fmt: skip

_MONTHS = (
    "january february march april may june july august september october november december"
).split()
_MONTH_SHORT = {m[:3]: m for m in _MONTHS} | {"sept": "september"}
_TITLES = {
    "mr": "mister", "mrs": "missus", "messrs": "messrs", "dr": "doctor", "prof": "professor",
    "capt": "captain", "lieut": "lieutenant", "sgt": "sergeant", "gov": "governor",
}  # fmt: skip
# Only with their dot: without it they are words or too short to tell.
_DOTTED = {
    "jr": "junior", "sr": "senior", "gen": "general", "col": "colonel", "lt": "lieutenant",
    "maj": "major", "rev": "reverend", "hon": "honorable", "sen": "senator",
    "rep": "representative", "esq": "esquire", "etc": "et cetera", "vs": "versus",
    "co": "company", "inc": "incorporated", "ltd": "limited", "corp": "corporation",
    "dept": "department", "mt": "mount", "ave": "avenue", "blvd": "boulevard", "rd": "road",
    "approx": "approximately", "vol": "volume", "ch": "chapter", "fig": "figure",
}  # fmt: skip
_CURRENCY = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "sen", "sen"),
}
_SCALES = {
    "k": "thousand", "m": "million", "mm": "million", "bn": "billion", "b": "billion",
}  # fmt: skip
_UNITS = {
    "kg": "kilogram", "g": "gram", "mg": "milligram", "km": "kilometer", "cm": "centimeter",
    "mm": "millimeter", "lb": "pound", "lbs": "pound", "oz": "ounce", "ft": "foot", "mi": "mile",
    "hr": "hour", "hrs": "hour", "min": "minute", "mins": "minute", "sec": "second",
    "ml": "milliliter",
    "ms": "millisecond", "kb": "kilobyte", "mb": "megabyte", "gb": "gigabyte", "tb": "terabyte",
}  # fmt: skip
_SAME_IN_PLURAL = {
    "hz": "hertz", "khz": "kilohertz", "mhz": "megahertz", "ghz": "gigahertz",
    "mph": "miles per hour", "km/h": "kilometers per hour", "kmh": "kilometers per hour",
}  # fmt: skip
_FRACTIONS = {2: "half", 4: "quarter"}
_ROMAN = {"I": 1, "V": 5, "X": 10}
_COUNTED = "chapter|book|part|volume|vol|act|scene|section|war|phase|type|appendix|article"
_MONARCHS = (
    "Alexander|Charles|Edward|Elizabeth|Frederick|George|Gregory|Henry|James|John|Leo|Louis|"
    "Napoleon|Nicholas|Paul|Philip|Pius|Ramses|Richard|William"
)

_NUMBER = r"\d{1,3}(?:,\d{3})+|\d+"
_MONTH = r"(?:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\.?|" + "|".join(_MONTHS)
_HALF_DAY = r"([ap])\.?\s?m\b\.?"

Replace = Callable[[re.Match[str]], str]


def detokenize(text: str) -> str:
    """Undo Treebank tokenisation (Project Gutenberg as NLTK splits it).

    "I ca n't see `` it '' , papa" becomes "I can't see it, papa". Text that was never split so is
    returned with its spaces only.
    """
    text = re.sub(r"``|''", " ", text)
    text = re.sub(r"\b(ca|wo|sha|\w+) (n't)\b", r"\1\2", text, flags=re.I)
    text = re.sub(r"(\w) ('(?:s|ll|re|ve|d|m))\b", r"\1\2", text, flags=re.I)
    text = re.sub(r"\b(gon|wan|got) (na|ta)\b", r"\1\2", text, flags=re.I)
    if re.search(r"\w ,|\w [.?!]$", text):
        text = re.sub(r"\b(can) (not)\b", r"\1\2", text, flags=re.I)
    return re.sub(r"\s+([,.;:?!])(?!\d)", r"\1", text)


def _count(text: str) -> int:
    return int(text.replace(",", ""))


def _spell(text: str) -> str:
    """A run of digits, with or without commas: a count, a year, or an identifier."""
    if "," not in text:
        if (text[0] == "0" and len(text) > 1) or int(text) >= LARGEST:
            return digits(text)
        if len(text) == 4 and 1100 <= int(text) <= 2099:
            return year(int(text))
    return cardinal(_count(text))


def _amount(whole: str, fraction: str | None) -> str:
    return decimal(whole.replace(",", ""), fraction) if fraction else cardinal(_count(whole))


def _clock(m: re.Match[str]) -> str:
    hour, minute, half = int(m[1]), int(m[2]), m[4]
    if hour > 24 or minute > 59:
        return f"{cardinal(hour)} {cardinal(minute)}"
    if minute:
        spoken = f"{cardinal(hour)} {'oh ' if minute < 10 else ''}{cardinal(minute)}"
    elif half:
        spoken = cardinal(hour)
    else:
        spoken = f"{cardinal(hour)} o'clock" if 0 < hour <= 12 else f"{cardinal(hour)} hundred"
    if m[3]:
        spoken += f" and {cardinal(int(m[3]))} seconds"
    return f" {spoken} {half.lower()} m " if half else f" {spoken} "


def _money(m: re.Match[str]) -> str:
    one, many, part, parts = _CURRENCY[m[1]]
    whole, fraction, scale = m[2], m[3], m[4]
    if scale:
        scale = _SCALES.get(scale.lower(), scale.lower())
        return f" {_amount(whole, fraction)} {scale} {many} "
    count = _count(whole)
    if fraction and len(fraction) != 2:
        return f" {_amount(whole, fraction)} {many} "
    spoken = f"{cardinal(count)} {one if count == 1 else many}"
    if fraction and int(fraction):
        cents = f"{cardinal(int(fraction))} {part if int(fraction) == 1 else parts}"
        spoken = f"{spoken} and {cents}" if count else cents
    return f" {spoken} "


def _date(month: str, day: str, of_year: str | None) -> str:
    spoken = f" {month} {ordinal(int(day))} "
    return f"{spoken}{year(int(of_year))} " if of_year else spoken


def _month_day(m: re.Match[str]) -> str:
    name = m[1].lower().rstrip(".")
    return _date(_MONTH_SHORT.get(name, name), m[2], m[3])


def _numeric_date(month: str, day: str, of_year: str, otherwise: str) -> str:
    if 1 <= int(month) <= 12 and 1 <= int(day) <= 31:
        return _date(_MONTHS[int(month) - 1], day, of_year)
    return otherwise


def _fraction(m: re.Match[str]) -> str:
    top, bottom = int(m[2]), int(m[3])
    if not 0 < top < bottom <= 100:
        return f" {cardinal(int(m[1] or 0))} {m[2]} over {m[3]} " if m[1] else f" {m[2]} {m[3]} "
    name = _FRACTIONS.get(bottom) or ordinal(bottom)
    if top > 1:
        name = f"{name}s"
    whole = f"{cardinal(int(m[1]))} and " if m[1] else ""
    # "a half" only after a whole number, where nobody says "one half".
    return f" {whole}{'a' if whole and top == 1 else cardinal(top)} {name} "


def _unit(m: re.Match[str]) -> str:
    amount, name = f"{m[1]}{m[2] or ''}", m[3].lower()
    if name in _SAME_IN_PLURAL:
        return f" {amount} {_SAME_IN_PLURAL[name]} "
    unit = _UNITS[name]
    if amount != "1":
        unit = "feet" if unit == "foot" else f"{unit}s"
    return f" {amount} {unit} "


def _roman(numeral: str) -> int | None:
    values = [_ROMAN[c] for c in numeral]
    total = sum(-v if v < max(values[i:]) else v for i, v in enumerate(values))
    return total if 0 < total < 40 else None


def _roman_count(m: re.Match[str]) -> str:
    value = _roman(m[2])
    return m[0] if value is None else f"{m[1]} {cardinal(value)} "


def _roman_rank(m: re.Match[str]) -> str:
    value = _roman(m[2])
    return m[0] if value is None else f"{m[1]} the {ordinal(value)} "


def _decade(m: re.Match[str]) -> str:
    tens = plural(cardinal(int(m[2])) if int(m[2]) else "hundred")
    return f" {cardinal(int(m[1]))} {tens} " if m[1] else f" {tens} "


def _version(m: re.Match[str]) -> str:
    return f" {' point '.join(cardinal(int(part)) for part in m[0].split('.'))} "


def _rules() -> list[tuple[re.Pattern[str], Replace | str]]:
    titles, dotted = "|".join(_TITLES), "|".join(_DOTTED)
    scales = r"hundred|thousand|million|billion|trillion|k|mm?|bn?"
    units = "|".join(re.escape(u) for u in (*_UNITS, *_SAME_IN_PLURAL))
    table: list[tuple[str, Replace | str]] = [
        # Before anything that looks at dots.
        (rf"\b({titles})\b\.?", lambda m: f"{_TITLES[m[1].lower()]} "),
        (r"\be\.\s?g\.", " for example "),
        (r"\bi\.\s?e\.", " that is "),
        (r"\bno\.\s?(?=\d)", " number "),
        (r"#\s?(?=\d)", " number "),
        (rf"\b({dotted})\.", lambda m: f"{_DOTTED[m[1].lower()]} "),
        (r"(?-i:\b(?:St|ST)\.?(?=\s+[A-Z]))", "saint "),
        (r"(?<=[a-z0-9])\s+st\.", " street "),
        (rf"\b({_COUNTED})\.?\s+(?-i:([IVX]+))\b", _roman_count),
        (rf"(?-i:\b({_MONARCHS})\s+([IVX]{{2,}}|V)\b)", _roman_rank),
        # Times and dates.
        (rf"\b(\d{{1,2}}):(\d\d)(?::(\d\d))?(?!\d)(?:\s?{_HALF_DAY})?", _clock),
        (rf"\b(\d{{1,2}})\s?{_HALF_DAY}", lambda m: f" {cardinal(int(m[1]))} {m[2].lower()} m "),
        (
            r"\b(\d{4})-(\d\d)-(\d\d)\b",
            lambda m: _numeric_date(m[2], m[3], m[1], f" {m[1]} {m[2]} {m[3]} "),
        ),
        (
            r"\b(\d{1,2})/(\d{1,2})/(\d{4})\b",
            lambda m: _numeric_date(m[1], m[2], m[3], f" {m[1]} {m[2]} {m[3]} "),
        ),
        (
            rf"\b({_MONTH})\s+(\d{{1,2}})(?:st|nd|rd|th)?\b(?![:.,]\d)(?:,?\s+([12]\d{{3}})\b)?",
            _month_day,
        ),
        (r"(?-i:\b(Jan|Feb|Apr|Aug|Sept?|Oct|Nov|Dec)\.)", lambda m: _MONTH_SHORT[m[1].lower()]),
        (r"(?<!\d)(?:\(\d{3}\)\s?|\d{3}[-.])\d{3}[-.]\d{4}\b", lambda m: f" {digits(m[0])} "),
        # Money and measures.
        (
            rf"(?:\bUS)?([$£€¥])\s?({_NUMBER})(?:\.(\d+))?(?:\s?({scales})\b)?",
            _money,
        ),
        (rf"({_NUMBER})\s?¢", r" \1 cents "),
        (r"%", " percent "),
        (r"°\s?(?-i:C)\b", " degrees celsius "),
        (r"°\s?(?-i:F)\b", " degrees fahrenheit "),
        (r"°", " degrees "),
        (rf"\b({_NUMBER})(\.\d+)?\s?({units})\b", _unit),
        # Numbers.
        (r"(?<!\w)'?(\d\d)?([1-9]?0)'?s\b", _decade),
        (rf"({_NUMBER})(?:st|nd|rd|th)\b", lambda m: f" {ordinal(_count(m[1]))} "),
        (r"\b\d+(?:\.\d+){2,}\b", _version),
        (r"\b(?:(\d+)\s+)?(\d{1,3})/(\d{1,3})\b", _fraction),
        (r"(?:(?<=\s)|^)-(?=\.?\d)", " minus "),
        (r"(?<=\d)\s?-\s?(?=\d)", " to "),
        (rf"({_NUMBER})?\.(\d+)", lambda m: f" {decimal((m[1] or '').replace(',', ''), m[2])} "),
        (rf"({_NUMBER})", lambda m: f" {_spell(m[1])} "),
        # Signs.
        (r"&", " and "),
        (r"\+", " plus "),
        (r"@", " at "),
        (r"=", " equals "),
    ]
    return [(re.compile(pattern, re.I | re.A), replacement) for pattern, replacement in table]


_RULES = _rules()


def _fold(text: str) -> str:
    text = unicodedata.normalize("NFKD", text.replace("\u00bd", " 1/2").replace("\u00bc", " 1/4"))
    return "".join(c for c in text.translate(_FOLD) if not unicodedata.combining(c))


def normalize(text: str) -> str:
    """Spell a text the way it is spoken.

    Args:
        text: Any text. Letters outside the Latin alphabet and unknown signs are dropped.

    Returns:
        Words of a-z and inner apostrophes, one space apart, no space at either end; "" if nothing
        can be spoken. Numbers, dates, times, money and common abbreviations are words; the
        "mister" and "missus" of LibriSpeech are kept so.
    """
    text = detokenize(_fold(text))
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    text = re.sub(r"[^a-z']+", " ", text.lower())
    text = re.sub(r"(?<![a-z])'+|'+(?![a-z])|'{2,}", " ", text)
    return " ".join(text.split())
