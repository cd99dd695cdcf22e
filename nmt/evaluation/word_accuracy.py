"""How well words are translated by how often the model has met them: F-measure by training frequency.

The measure is that of compare-mt (Neubig et al., 2019): a word of a translation is right when the reference
has it too, as often as the reference has it, wherever it stands. Precision is the share of right words of the
translations, recall that of the references, in each bucket of words by themselves.

Shapes: N sentences, 3 statistics of each: right words, words of the translation, words of the reference.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from nmt.evaluation.evaluation import EvaluatedSet
from nmt.evaluation.resampling import RESAMPLES, Interval, bootstrap_intervals
from nmt.evaluation.statistics import Array, word_f_measure
from nmt.evaluation.word_frequency import WORD_BUCKETS, Bucket, WordFrequency
from nmt.evaluation.words import words

# As `nmt.evaluation.statistics` knows it.
MEASURE = "word F1"


@dataclass(kw_only=True, slots=True)
class WordAccuracy:
    """The words of one bucket."""

    bucket: Bucket
    # Running words of the references and of the translations.
    reference_words: int
    translation_words: int
    # From 0 to 100; precision and recall are None where there is nothing to divide by.
    precision: float | None
    recall: float | None
    f_measure: float
    interval: Interval


def word_accuracy(
    own: EvaluatedSet, frequency: WordFrequency, *, resamples: int = RESAMPLES
) -> list[WordAccuracy]:
    """The accuracy of each bucket that a reference or a translation has a word of, rare words first.

    Of several references each translation is compared with the one that shares most words with it.
    """
    counted = [_count(each.hypothesis, each.references) for each in own.sentences]
    found = []
    for bucket in WORD_BUCKETS:
        statistics_N3 = np.array([_within(sides, bucket, frequency) for sides in counted], dtype=np.float64)
        right, translation, reference = (int(each) for each in statistics_N3.sum(0))
        if translation + reference == 0:
            continue
        found.append(
            WordAccuracy(
                bucket=bucket,
                reference_words=reference,
                translation_words=translation,
                precision=100 * right / translation if translation else None,
                recall=100 * right / reference if reference else None,
                f_measure=float(word_f_measure(statistics_N3.sum(0))),
                interval=_interval(statistics_N3, resamples),
            )
        )
    return found


_Sides = tuple[Counter[str], Counter[str]]


def _count(hypothesis: str, references: list[str]) -> _Sides:
    """Words of a translation and of the reference that is nearest to it."""
    own = Counter(words(hypothesis))
    others = [Counter(words(text)) for text in references]
    return own, max(others, key=lambda other: 2 * (own & other).total() / max(1, (own + other).total()))


def _within(sides: _Sides, bucket: Bucket, frequency: WordFrequency) -> tuple[int, int, int]:
    own, other = (
        Counter({word: times for word, times in side.items() if frequency[word] in bucket}) for side in sides
    )
    return (own & other).total(), own.total(), other.total()


def _interval(statistics_N3: Array, resamples: int) -> Interval:
    return bootstrap_intervals({MEASURE: statistics_N3}, resamples=resamples)[MEASURE]
