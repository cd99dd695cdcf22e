"""What the search is asked for: the parts of each line, and what the translation of each has to have."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from nmt.data.tokenizer import Tokenizer
from nmt.decoding.constraint_text import prefix_pieces, term_pieces
from nmt.decoding.constraints.terms import Terms
from nmt.decoding.glossary import FoundTerm, Glossary
from nmt.decoding.guidance import ConstraintError
from nmt.decoding.sentences import Part, divide
from nmt.decoding.windows import Window


@dataclass(frozen=True, slots=True)
class AskedPart:
    """A part of a line, with the constraints on its translation as pieces."""

    part: Part
    prefix: list[int]
    terms: list[list[int]]


@dataclass(frozen=True, slots=True)
class LineParts:
    """Divides lines into parts short enough for the model."""

    tokenizer: Tokenizer
    language: str
    # Pieces of a part, END included.
    limit: int
    # Raises ConstraintError for a prefix and terms, as pieces, that no translation can have.
    check: Callable[[Sequence[int], Terms], None]
    glossary: Glossary | None = None

    def of(self, window: Window) -> Iterator[list[AskedPart]]:
        """The parts of each line, none of a blank line, whose prefix and terms are left aside.

        A prefix is that of the first part, a term of the glossary that of the part in which it begins.

        Raises:
            ConstraintError: a line with a prefix or terms that it cannot have, named by its number.
        """
        texts = [line.strip() for line in window.lines]
        for number, (text, pieces) in enumerate(zip(texts, self.tokenizer.encode_source(texts), strict=True)):
            parts = self._divide(text, pieces)
            prefix = window.prefixes[number] if window.prefixes else ""
            terms = window.terms[number] if window.terms else ()
            try:
                yield self._ask(text, parts, prefix, terms) if parts else []
            except ConstraintError as error:
                raise ConstraintError(f"line {window.first_line + number:,}: {error}") from None

    def _divide(self, text: str, pieces: list[int]) -> list[Part]:
        parts = [Part(text, pieces)]
        if len(pieces) > self.limit:
            parts = divide(
                text,
                language=self.language,
                limit=self.limit,
                encode=self.tokenizer.encode_source,
                normalize=self.tokenizer.normalize,
            )
        # Of some characters, as of a blank line, normalisation leaves nothing.
        return [part for part in parts if len(part.pieces) > 1 and part.text.strip()]

    def _ask(self, text: str, parts: list[Part], prefix: str, terms: Sequence[str]) -> list[AskedPart]:
        if terms and len(parts) > 1:
            raise ConstraintError(
                "is translated in parts, and nothing says which of them has its terms; give terms with what"
                " they translate, as a mapping"
            )
        found = [FoundTerm(0, term) for term in terms]
        if self.glossary is not None:
            found += self.glossary.find(text)
        asked = [AskedPart(part, [], []) for part in parts]
        asked[0].prefix.extend(prefix_pieces(self.tokenizer, prefix.strip()))
        starts = [part.start for part in parts]
        for term in found:
            own = asked[max(0, bisect_right(starts, term.start) - 1)]
            own.terms.extend(term_pieces(self.tokenizer, [term.target]))
        for own in asked:
            self.check(own.prefix, own.terms)
        return asked
