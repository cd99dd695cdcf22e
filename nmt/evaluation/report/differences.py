"""What differs between two texts, word by word, short enough for thousands of sentences in a page."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from itertools import groupby

from nmt.evaluation.words import tokens

# Marks of segments: in the other text at this place, in it but elsewhere, not in it.
SAME, MOVED, OTHER = "=", "~", "-"


def segments(text: str, other: str) -> list[str]:
    """`text` cut where its relation to `other` changes: each segment is a mark and the text that it marks.

    Without the marks the segments joined are the text. White space takes the mark of its surroundings, so
    that words in a row are one segment.
    """
    own, theirs = tokens(text), _words(other)
    marked = _mark(own, theirs)
    return [
        "".join([mark, *(token for _, token in run)]) for mark, run in groupby(marked, lambda each: each[0])
    ]


def missing(text: str, others: Iterable[str]) -> list[str]:
    """`text` in segments marked SAME or OTHER: words that none of `others` has are OTHER."""
    known = {token for other in others for token in _words(other)}
    own = tokens(text)
    marks = [SAME if token in known else OTHER for token in own if not token.isspace()]
    marked = _with_blanks(own, marks)
    return [
        "".join([mark, *(token for _, token in run)]) for mark, run in groupby(marked, lambda each: each[0])
    ]


def nearest(text: str, references: Sequence[str]) -> str:
    """The reference that shares most words with a text."""
    own = Counter(_words(text))

    def shared(reference: str) -> float:
        other = Counter(_words(reference))
        return (own & other).total() / max(1, (own | other).total())

    return max(references, key=shared)


def _words(text: str) -> list[str]:
    return [token for token in tokens(text) if not token.isspace()]


def _mark(own: Sequence[str], theirs: Sequence[str]) -> list[tuple[str, str]]:
    words = [token for token in own if not token.isspace()]
    marks = [OTHER] * len(words)
    left = Counter(theirs)
    # Without the guess that frequent words are noise, which would leave out articles in long texts.
    for block in SequenceMatcher(None, words, theirs, autojunk=False).get_matching_blocks():
        for place in range(block.a, block.a + block.size):
            marks[place] = SAME
            left[words[place]] -= 1
    for place, word in enumerate(words):
        if marks[place] == OTHER and left[word] > 0:
            marks[place] = MOVED
            left[word] -= 1
    return _with_blanks(own, marks)


def _with_blanks(own: Sequence[str], marks: Sequence[str]) -> list[tuple[str, str]]:
    """Each token with its mark; white space between two words of the same mark has it too."""
    return list(_marked(own, iter(marks)))


def _marked(own: Sequence[str], marks: Iterator[str]) -> Iterator[tuple[str, str]]:
    before, blank = SAME, ""
    for token in own:
        if token.isspace():
            blank += token
            continue
        mark = next(marks)
        if blank:
            yield (mark if mark == before else SAME), blank
        yield mark, token
        before, blank = mark, ""
    if blank:
        yield SAME, blank
