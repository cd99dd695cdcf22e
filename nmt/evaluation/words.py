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


class WordCounter:
    """Counts words, case ignored.

    No word reaches across a blank, so that each distinct string between blanks is cut only once: a corpus of
    millions of lines takes little longer than splitting it.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._strings: Counter[str] = Counter()

    def add(self, texts: Iterable[str]) -> None:
        """Count the words of more texts."""
        for text in texts:
            self._strings.update(text.split())
            if len(self._strings) > _HELD_STRINGS:
                self._cut()

    def counts(self) -> Counter[str]:
        """How often each word, in small letters, has come so far."""
        self._cut()
        return self._counts

    def _cut(self) -> None:
        for string, times in self._strings.items():
            for word in words(string):
                self._counts[word.casefold()] += times
        self._strings.clear()
