"""Faults of translations that can be counted without understanding them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

# Words, or characters of a text without spaces, that are taken for a loop when they come this often in a row.
_TIMES = 3
_LONGEST_UNIT = 4


@dataclass(kw_only=True, slots=True, frozen=True)
class Rates:
    """Shares of all sentences, from 0 to 1, and the ratio of lengths."""

    # Characters of the translations for each of the references; of several the one of the nearest length.
    length_ratio: float
    # Translations that repeat their source although no reference does; case and space do not count.
    copy_rate: float
    # Translations that say the same three times in a row although no reference does.
    repetition_rate: float
    # Translations without any text, of sources with text.
    empty_rate: float


def measure_rates(
    sources: Sequence[str], references: Sequence[Sequence[str]], hypotheses: Sequence[str]
) -> Rates:
    """The rates of a test set; each reference is a list of one or several."""
    count = max(1, len(sources))
    rows = list(zip(sources, references, hypotheses, strict=True))
    nearest = [
        min((len(text) for text in own), key=lambda length: abs(length - len(hypothesis)))
        for _, own, hypothesis in rows
    ]
    return Rates(
        length_ratio=sum(map(len, hypotheses)) / max(1, sum(nearest)),
        copy_rate=sum(is_copy(*row) for row in rows) / count,
        repetition_rate=sum(is_loop(hypothesis) and not any(map(is_loop, own)) for _, own, hypothesis in rows)
        / count,
        empty_rate=sum(bool(source.strip()) and not hypothesis.strip() for source, _, hypothesis in rows)
        / count,
    )


def is_copy(source: str, references: Sequence[str], hypothesis: str) -> bool:
    """True when a translation is its source, and should not be."""
    plain = _plain(hypothesis)
    return bool(plain) and plain == _plain(source) and plain not in map(_plain, references)


def is_loop(text: str) -> bool:
    """True when up to four words come three times in a row; marks alone, such as "...", do not count."""
    words = text.split()
    spaced = len(words) > 1
    units = words if spaced else list(text)
    # One character three times is common in words and numbers.
    for length in range(1 if spaced else 2, _LONGEST_UNIT + 1):
        for start in range(len(units) - _TIMES * length + 1):
            unit = units[start : start + length]
            if unit * _TIMES == units[start : start + _TIMES * length] and re.search(r"\w", "".join(unit)):
                return True
    return False


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
