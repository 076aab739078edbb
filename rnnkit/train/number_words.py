"""A small language pair made by rule: numbers in English words and in German ones."""

from __future__ import annotations

from rnnkit.data import Pairs

_ENGLISH = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_ENGLISH_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_GERMAN = (
    "null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn",
    "elf", "zwölf", "dreizehn", "vierzehn", "fünfzehn", "sechzehn", "siebzehn", "achtzehn",
    "neunzehn",
)  # fmt: skip
_GERMAN_TENS = (
    "zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig",
)  # fmt: skip


def generated_pairs() -> Pairs:
    """The numbers from 0 to 9999 as texts: sources English, targets German.

    The German words are cut into their parts: 1342 is "one thousand three hundred forty two" and
    "ein tausend drei hundert zwei und vierzig". German says the units before the tens, so that a
    translator has to reorder, and "ein" or "eins" for one, so that it has to look at what follows.
    """
    numbers = range(10_000)
    return Pairs([english(n) for n in numbers], [german(n) for n in numbers])


def english(number: int) -> str:
    """``number``, from 0 to 9999, in English words."""
    words = []
    for size, name in ((1000, "thousand"), (100, "hundred")):
        if number >= size:
            words += [_ENGLISH[number // size], name]
            number %= size
    if number >= 20:
        words.append(_ENGLISH_TENS[number // 10 - 2])
        number %= 10
    if number or not words:
        words.append(_ENGLISH[number])
    return " ".join(words)


def german(number: int) -> str:
    """``number``, from 0 to 9999, in German words cut into their parts."""
    words = []
    for size, name in ((1000, "tausend"), (100, "hundert")):
        if number >= size:
            words += [_before_another(number // size), name]
            number %= size
    if number >= 20:
        tens, units = divmod(number, 10)
        if units:
            words += [_before_another(units), "und"]
        words.append(_GERMAN_TENS[tens - 2])
    elif number or not words:
        words.append(_GERMAN[number])
    return " ".join(words)


def _before_another(digit: int) -> str:
    return "ein" if digit == 1 else _GERMAN[digit]
