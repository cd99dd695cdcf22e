"""What is known about the translation of a text, put together from the hypotheses of its parts."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from nmt.decoding.sentences import Part, first_words, join

# A sum over the first parts of a text: score, log-probability, finished, and the way it came about.
_Sum = tuple[float, float, bool, "_Link | None"]
_Link = tuple["_Link | None", "Candidate"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One translation that the search has found.

    The figures of a text that was translated in parts are sums over its parts; those of a blank text are 0.
    """

    text: str
    # Log-probability over length penalty, by which candidates are ranked.
    score: float
    # Natural logarithm of the probability that the model gives to the pieces.
    log_probability: float
    # False when a part of it is as long as the settings of decoding allow.
    finished: bool
    # Links (source word, word of this text), words counted from 0 between blanks, by the second; None when
    # nobody has asked for them, for a blank text, and where a part is too long to be aligned.
    alignment: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Translation(Candidate):
    """The best translation of a text, and others."""

    # Further candidates, the best first, no two of them with the same text.
    alternatives: tuple[Candidate, ...] = ()


def combine(parts: Sequence[Part], candidates: Sequence[Sequence[Candidate]], count: int) -> list[Candidate]:
    """The `count` best candidates for a text, from those of its parts, each list the best first.

    Of candidates that read the same only the best is kept, so that there may be fewer; never none.
    """
    sums: list[_Sum] = [(0.0, 0.0, True, None)]
    for own in candidates:
        longer = [
            (score + each.score, log_prob + each.log_probability, finished and each.finished, (link, each))
            for score, log_prob, finished, link in sums
            for each in own[:count]
        ]
        sums = heapq.nlargest(count, longer, key=lambda found: found[0])
    found: dict[str, Candidate] = {}
    for score, log_prob, finished, link in sums:
        chosen = _followed(link)
        stretches = join([each.text for each in chosen], [part.text for part in parts])
        text = "".join(stretches)
        if text not in found:
            found[text] = Candidate(
                text=text,
                score=score,
                log_probability=log_prob,
                finished=finished,
                alignment=_alignment(parts, chosen, stretches),
            )
    return list(found.values())


def _alignment(
    parts: Sequence[Part], chosen: Sequence[Candidate], stretches: Sequence[str]
) -> tuple[tuple[int, int], ...] | None:
    """The links of the parts, with the numbers that the words have in the whole."""
    links: dict[tuple[int, int], None] = {}
    if not parts:
        return None
    for part, each, first_word in zip(parts, chosen, first_words(stretches), strict=True):
        if each.alignment is None:
            return None
        links |= dict.fromkeys((part.first_word + s, first_word + t) for s, t in each.alignment)
    return tuple(links)


def _followed(link: _Link | None) -> list[Candidate]:
    chosen = []
    while link is not None:
        link, candidate = link
        chosen.append(candidate)
    return chosen[::-1]
