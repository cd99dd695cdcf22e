"""Words of a text in any language, as its slices, its word accuracy and its marked differences see them.

A word is a run of letters, marks and digits, with the apostrophes, hyphens, decimal points and commas inside
it. Scripts without spaces between words (Han, Kana, Thai, Lao, Burmese, Khmer) are taken character by
character.
"""

from collections import Counter
from collections.abc import Iterable

import regex

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Myanmar}\p{Khmer}"
_LETTER = rf"[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]"
_WORD = rf"(?:[{_UNSPACED}]|{_LETTER}+(?:(?:['’\-]|(?<=\p{{N}})[.,](?=\p{{N}})){_LETTER}+)*)"
_WORDS = regex.compile(rf"(?V1){_WORD}")
_TOKENS = regex.compile(rf"(?V1){_WORD}|\s+|.", regex.DOTALL)
# Distinct strings between blanks that are held before they are cut into words.
_HELD_STRINGS = 1 << 20


def words(text: str) -> list[str]:
    """The words of a text, without punctuation."""
    found: list[str] = _WORDS.findall(text)
    return found


def tokens(text: str) -> list[str]:
    """Words, runs of white space and all other characters one by one: joined they are the text."""
    found: list[str] = _TOKENS.findall(text)
    return found


def count_words(texts: Iterable[str]) -> Counter[str]:
    """How often each word occurs, case ignored.

    No word reaches across a blank, so that each distinct string between blanks is cut only once: a corpus of
    millions of lines takes little longer than splitting it.
    """
    counts: Counter[str] = Counter()
    strings: Counter[str] = Counter()
    for text in texts:
        strings.update(text.split())
        if len(strings) > _HELD_STRINGS:
            _fold(strings, counts)
            strings.clear()
    _fold(strings, counts)
    return counts


def _fold(strings: Counter[str], counts: Counter[str]) -> None:
    for string, times in strings.items():
        for word in words(string):
            counts[word.casefold()] += times
