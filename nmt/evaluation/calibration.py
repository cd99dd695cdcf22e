"""Does a model know when it is wrong? Its confidence in a translation beside the score of that translation.

Confidence is the geometric mean of the probabilities of the pieces of a translation, its end included: what
the search has found anyway. It is compared with the chrF of the sentence.

Shapes: N sentences.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nmt.evaluation.evaluation import EvaluatedSet, EvaluationSentence
from nmt.evaluation.statistics import Array, sentence_scores

METRIC = "chrF"
_BINS = 10
# Of a bin; a mean of fewer says nothing.
_FEWEST_OF_BIN = 5
# A correlation of fewer says nothing.
_FEWEST = 10


@dataclass(kw_only=True, slots=True)
class CalibrationBin:
    """Sentences of similar confidence."""

    sentences: int
    # Range and mean of their confidence, from 0 to 1.
    lowest: float
    highest: float
    confidence: float
    # Mean of their chrF, and the standard error of that mean.
    score: float
    standard_error: float


@dataclass(kw_only=True, slots=True)
class Calibration:
    """How confidence and sentence chrF go together."""

    sentences: int
    # Correlation of the values (Pearson) and of their ranks (Spearman); None where one side never changes.
    pearson: float | None
    spearman: float | None
    bins: list[CalibrationBin]


def confidence(sentence: EvaluationSentence) -> float | None:
    """From 0 to 1; None where the model has not been asked: a file of translations, or a blank sentence."""
    if sentence.log_probability is None or sentence.pieces is None or not sentence.hypothesis.strip():
        return None
    # The end of the translation is a piece that the model has chosen, too.
    return math.exp(min(0.0, sentence.log_probability / (sentence.pieces + 1)))


def calibrate(own: EvaluatedSet) -> Calibration | None:
    """The calibration on a test set; None when too few sentences have a confidence, or there is no chrF."""
    statistics = own.statistics()
    known = [
        (place, value) for place, each in enumerate(own.sentences) if (value := confidence(each)) is not None
    ]
    if METRIC not in statistics or len(known) < _FEWEST:
        return None
    scores_N = sentence_scores(METRIC, statistics[METRIC][[place for place, _ in known]])
    confidence_N = np.array([value for _, value in known])
    return Calibration(
        sentences=len(known),
        pearson=correlation(confidence_N, scores_N),
        spearman=correlation(ranks(confidence_N), ranks(scores_N)),
        bins=_bins(confidence_N, scores_N),
    )


def correlation(first_N: Array, second_N: Array) -> float | None:
    """Pearson's r; None where one side never changes."""
    if np.ptp(first_N) == 0 or np.ptp(second_N) == 0:
        return None
    return float(np.corrcoef(first_N, second_N)[0, 1])


def ranks(values_N: Array) -> Array:
    """Ranks from 1, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: Array = (last - (counts - 1) / 2)[inverse]
    return means


def _bins(confidence_N: Array, scores_N: Array) -> list[CalibrationBin]:
    """Bins of as many sentences each as can be."""
    order = np.argsort(confidence_N, kind="stable")
    parts: Sequence[Array] = np.array_split(order, min(_BINS, len(order) // _FEWEST_OF_BIN))
    return [
        CalibrationBin(
            sentences=len(part),
            lowest=float(confidence_N[part].min()),
            highest=float(confidence_N[part].max()),
            confidence=float(confidence_N[part].mean()),
            score=float(scores_N[part].mean()),
            standard_error=float(scores_N[part].std(ddof=1) / math.sqrt(len(part))) if len(part) > 1 else 0.0,
        )
        for part in parts
    ]
