"""The sentences that a system translates worst, and what can be seen to be wrong with them."""

from dataclasses import dataclass

import numpy as np
import regex

from nmt.evaluation.evaluation import EvaluatedSet, EvaluationSentence
from nmt.evaluation.metrics import higher_is_better
from nmt.evaluation.rates import is_copy, is_loop
from nmt.evaluation.statistics import Array, sentence_scores
from nmt.evaluation.words import words

# A translation whose length is so far from that of every reference is too short or too long.
_SHORT, _LONG = 0.6, 1.6
_NUMBER = regex.compile(r"\p{Nd}+")


@dataclass(kw_only=True, slots=True)
class WorstSentence:
    """A sentence and why it stands here."""

    # Place in the test set, from 0.
    place: int
    score: float
    faults: list[str]


def sentence_metric(own: EvaluatedSet) -> str:
    """What sentences are ordered by: chrF, or the first metric where it is missing."""
    names = [score.name for score in own.scores]
    return "chrF" if "chrF" in names else names[0]


def scores_of_sentences(own: EvaluatedSet) -> Array:
    """The score of each sentence by `sentence_metric`."""
    name = sentence_metric(own)
    return sentence_scores(name, own.statistics()[name])


def worst_sentences(own: EvaluatedSet, count: int) -> list[WorstSentence]:
    """The `count` worst translations, the worst first; of equal ones the longer, where more is wrong."""
    scores_N = scores_of_sentences(own)
    sign = 1 if higher_is_better(sentence_metric(own)) else -1
    lengths = np.array([len(words(each.source)) for each in own.sentences])
    order = np.lexsort((-lengths, sign * scores_N))[:count]
    return [
        WorstSentence(
            place=int(place), score=float(scores_N[place]), faults=faults(own.sentences[int(place)])
        )
        for place in order
    ]


def faults(sentence: EvaluationSentence) -> list[str]:
    """What is wrong with a translation as far as it can be counted."""
    hypothesis, references = sentence.hypothesis, sentence.references
    if not hypothesis.strip():
        return ["empty"] if sentence.source.strip() else []
    found = []
    if is_copy(sentence.source, references, hypothesis):
        found.append("copied")
    if is_loop(hypothesis) and not any(map(is_loop, references)):
        found.append("repeating")
    ratios = [len(hypothesis) / max(1, len(text)) for text in references]
    if all(ratio < _SHORT for ratio in ratios):
        found.append("too short")
    if all(ratio > _LONG for ratio in ratios):
        found.append("too long")
    # A number is missed where a reference keeps it.
    numbers = set(_NUMBER.findall(sentence.source))
    if any(numbers & set(_NUMBER.findall(text)) - set(_NUMBER.findall(hypothesis)) for text in references):
        found.append("number lost")
    return found
