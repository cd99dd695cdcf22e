"""Texts too long for the model: where they are divided, and how the translations are joined again.

A part is a sentence (`sentencex`, by the rules of the source language); what is still too long is divided at
white space or a comma without space, and where there is none, anywhere. Nothing is lost: the parts of a text
one behind the other are the text.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate

# Sentences are looked for in so many characters at a time: some rules of the library take time with the
# square of the text's length.
_BLOCK_CHARACTERS = 2000
# White space that ends a paragraph for the library; here a text is one paragraph.
_PARAGRAPH_MARKS = re.compile(r"[\n\r\x0b\x0c\x1c-\x1f\x85\u2028\u2029]")
# Places inside a sentence where it may be divided: after white space, after the commas that have none.
_PAUSE = re.compile(r"\s+|[、，；：]")
# Marks that belong to the character before them are not parted from it; text made of nothing else is.
_LONGEST_CLUSTER = 8
# Thai, Lao, Tibetan, Burmese, Khmer: words without spaces between them.
_SPACELESS_BLOCKS = ((0x0E00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF))

Encode = Callable[[Sequence[str]], list[list[int]]]


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a text, white space at its ends included, and the pieces of what is between them."""

    text: str
    # With END_ID.
    pieces: list[int]
    # Characters of the text before it, and the number that its first word has in the text.
    start: int = 0
    first_word: int = 0


def divide(
    text: str, *, language: str, limit: int, encode: Encode, normalize: Callable[[str], str]
) -> list[Part]:
    """Divide a text into sentences, or less, of at most `limit` pieces each.

    `normalize` is applied to a single character that is still too long: a ligature can stand for a phrase.
    """
    parts = list(_fitting(list(sentences(text, language)), limit, encode, normalize))
    starts = accumulate((len(part.text) for part in parts), initial=0)
    words = first_words([part.text for part in parts])
    return [replace(part, start=s, first_word=w) for part, s, w in zip(parts, starts, words, strict=False)]


def sentences(text: str, language: str) -> Iterator[str]:
    """The sentences of a text, white space included; `language` is a code such as `de`."""
    import sentencex

    # The same number of characters, so that lengths carry over.
    plain = _PARAGRAPH_MARKS.sub(" ", text).encode("utf-8", "replace").decode("utf-8")
    start, end = 0, _BLOCK_CHARACTERS
    while start < len(text):
        block = plain[start:end]
        found = list(filter(None, sentencex.segment(language, block)))
        if "".join(found) != block:
            found = [block]
        # The last sentence may go on in the next block.
        if end < len(text) and len(found) > 1:
            found.pop()
        for sentence in found:
            yield text[start : start + len(sentence)]
            start += len(sentence)
        end = start + _BLOCK_CHARACTERS


def join(translations: Sequence[str], parts: Sequence[str]) -> list[str]:
    """The translations of parts, with a space in front where the language they are in has one.

    One behind the other they are the translation of the text. A word that was divided because it did not fit
    is put together without a space.
    """
    joined: list[str] = []
    last = ""
    for number, translation in enumerate(translations):
        space = ""
        if last and translation and not _inside_word(parts[number - 1], parts[number]):
            before, after = last[-1], translation[0]
            if not (before.isspace() or after.isspace() or _is_wide(before) or _is_wide(after)):
                space = " "
        joined.append(space + translation)
        last = translation or last
    return joined


def first_words(stretches: Iterable[str]) -> list[int]:
    """Of stretches of a text the number, between blanks and from 0, that the first word of each has in it."""
    numbers = []
    words, last = 0, " "
    for stretch in stretches:
        # A word that two stretches share is one word.
        inside = not (last.isspace() or stretch[:1].isspace() or not stretch)
        numbers.append(words - inside)
        words += len(stretch.split()) - inside
        last = stretch[-1:] or last
    return numbers


def _fitting(texts: list[str], limit: int, encode: Encode, normalize: Callable[[str], str]) -> Iterator[Part]:
    for text, pieces in zip(texts, encode([text.strip() for text in texts]), strict=True):
        if len(pieces) <= limit:
            yield Part(text, pieces)
        elif len(text.strip()) > 1:
            shorter = _divide_evenly(text, math.ceil(1.1 * len(pieces) / limit))
            yield from _fitting(shorter, limit, encode, normalize)
        elif len(normal := normalize(text)) > 1:
            yield from _fitting([normal], limit, encode, normalize)
        else:
            yield Part(text, pieces)


def _divide_evenly(text: str, count: int) -> list[str]:
    """Divide a text of at least two characters into `count` parts of about one length, or fewer."""
    count = max(2, min(count, len(text)))
    # How far from the even place a pause may be.
    reach = len(text) // (2 * count)
    cuts = {0, len(text)}
    for number in range(1, count):
        even = number * len(text) // count
        pauses = [match.end() for match in _PAUSE.finditer(text, even - reach, even + reach)]
        cuts.add(min(pauses, key=lambda cut: abs(cut - even)) if pauses else _before_cluster(text, even))
    places = sorted(cuts)
    return [text[start:end] for start, end in zip(places, places[1:], strict=False)]


def _before_cluster(text: str, cut: int) -> int:
    """The nearest place, `cut` or to its left, with no combining mark behind it and no joiner beside it."""
    for place in range(cut, max(0, cut - _LONGEST_CLUSTER), -1):
        if unicodedata.category(text[place])[0] != "M" and "\u200d" not in text[place - 1 : place + 1]:
            return place
    return cut


def _inside_word(left: str, right: str) -> bool:
    ends = (left[-1], right[0])
    return not any(char.isspace() or _is_wide(char) or _is_spaceless(char) for char in ends)


def _is_spaceless(char: str) -> bool:
    return any(first <= ord(char) <= last for first, last in _SPACELESS_BLOCKS)


@lru_cache(maxsize=1024)
def _is_wide(char: str) -> bool:
    """Chinese characters, kana and their punctuation, which have no spaces beside them; Korean has."""
    return (
        unicodedata.east_asian_width(char) in "WF"
        and unicodedata.category(char) != "So"
        and not unicodedata.name(char, "").startswith("HANGUL")
    )
