"""Terms and their translations: which of them a text has.

A term stands in a text where its words stand one behind the other, exactly as written, upper and lower case
included; white space between them is one as another. Words are those of `spelling`, so that "dog" is neither
in "dogs" nor in "hotdog", and a Chinese term is found inside a sentence. Of terms that overlap the one that
begins first is taken, of those that begin together the longest.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from nmt.data.text_lines import DataError, read_lines
from nmt.decoding.constraints.spelling import is_word_character

# A word, or a single other character that is no white space, and where it begins.
_Word = tuple[int, str]


@dataclass(frozen=True, slots=True)
class FoundTerm:
    """A term of the glossary in a text."""

    # Characters of the text before it.
    start: int
    # What the translation has to have.
    target: str


class Glossary:
    """Terms with the one translation that each of them has."""

    def __init__(self, terms: Mapping[str, str]) -> None:
        """Translations by term.

        Raises:
            ValueError: one side of a term is blank.
        """
        self.terms = dict(terms)
        # By their first words, longest first.
        self._by_first_word: dict[str, list[tuple[tuple[str, ...], str]]] = {}
        for source, target in self.terms.items():
            words = tuple(word for _, word in _words(source))
            if not (words and target.strip()):
                raise ValueError(f"term {source!r} with the translation {target!r}: a side is blank")
            self._by_first_word.setdefault(words[0], []).append((words, target.strip()))
        for own in self._by_first_word.values():
            own.sort(key=lambda term: -len(term[0]))

    @classmethod
    def read(cls, path: Path, check: Callable[[str], None]) -> "Glossary":
        """A text file of lines TERM<tabulator>TRANSLATION; blank lines are passed over.

        Args:
            check: raises ValueError for an impossible translation.

        Raises:
            DataError: a line is something else, gives a term another translation than a line before it, or
                one that is impossible.
        """
        terms: dict[str, str] = {}
        for number, line in _numbered(path):
            columns = [column.strip() for column in line.split("\t")]
            if not (len(columns) == 2 and all(columns)):
                raise DataError(
                    f"terms: {path}, line {number}: must be a term, a tabulator and its translation, not"
                    f" {line!r}"
                )
            source, target = columns
            if terms.setdefault(source, target) != target:
                raise DataError(
                    f"terms: {path}, line {number}: {source!r} is {target!r} here and {terms[source]!r} in a"
                    " line before; a term has one translation, leave one of them out"
                )
            try:
                check(target)
            except ValueError as error:
                raise DataError(f"terms: {path}, line {number}: {error}") from None
        if not terms:
            raise DataError(f"terms: {path} has no terms")
        return cls(terms)

    def find(self, text: str) -> Iterator[FoundTerm]:
        """The terms in a text, from left to right."""
        words = list(_words(text)) if self._by_first_word else []
        place = 0
        while place < len(words):
            start, first = words[place]
            for term, target in self._by_first_word.get(first, ()):
                if tuple(word for _, word in words[place : place + len(term)]) == term:
                    yield FoundTerm(start, target)
                    place += len(term) - 1
                    break
            place += 1


def _numbered(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not blank, with their numbers."""
    number = 0
    for block in read_lines(path, field="terms"):
        for line in block:
            number += 1
            if line.strip():
                yield number, line


def _words(text: str) -> Iterator[_Word]:
    start = 0
    for is_word, group in groupby(text, key=is_word_character):
        run = "".join(group)
        if is_word:
            yield start, run
        else:
            yield from ((start + n, character) for n, character in enumerate(run) if not character.isspace())
        start += len(run)
