"""Confidence that goes with the score, against it, or nowhere."""

import math
import random

import numpy as np
import pytest

from nmt.data.test_sets import TestSet
from nmt.evaluation.calibration import Calibration, calibrate, confidence, correlation, ranks
from nmt.evaluation.config import ScoringConfig
from nmt.evaluation.evaluation import Decoded, EvaluatedSet, Scoring

REFERENCE = [*"abcdefghijkl"]


def scored(confidences: list[float | None], right_words: list[int]) -> EvaluatedSet:
    """Translations with so many right words of twelve, each found with the given probability of a piece."""
    count = len(confidences)
    test_set = TestSet(
        name="x", sources=["s"] * count, references=[[" ".join(REFERENCE)]] * count, origin=["x"]
    )
    decoded = [
        Decoded(
            text=" ".join([*REFERENCE[:right], *["zzz"] * (12 - right)]),
            log_probability=None if value is None else 12 * math.log(value),
            pieces=11,
        )
        for value, right in zip(confidences, right_words, strict=True)
    ]
    config = ScoringConfig(resamples=100, metrics=["chrf"])
    return Scoring.of([test_set], config, language="de").score(test_set, decoded, None)


def calibration(confidences: list[float | None], right_words: list[int]) -> Calibration:
    found = calibrate(scored(confidences, right_words))
    assert found
    return found


def test_a_model_that_knows_its_faults_has_a_rising_curve() -> None:
    right = [number % 13 for number in range(100)]
    found = calibration([0.1 + 0.05 * each for each in right], right)
    assert found.spearman == pytest.approx(1)
    assert found.pearson == pytest.approx(1, abs=0.05)
    scores = [each.score for each in found.bins]
    assert scores == sorted(scores)
    assert sum(each.sentences for each in found.bins) == found.sentences == 100
    assert max(each.sentences for each in found.bins) - min(each.sentences for each in found.bins) <= 1
    for each in found.bins:
        assert each.lowest <= each.confidence <= each.highest


def test_a_model_that_is_sure_of_the_wrong_ones_is_told() -> None:
    right = [number % 13 for number in range(60)]
    found = calibration([0.9 - 0.05 * each for each in right], right)
    assert found.spearman == pytest.approx(-1)


def test_confidence_without_relation_is_near_zero() -> None:
    draw = random.Random(1)
    right = [draw.randrange(13) for _ in range(400)]
    found = calibration([draw.uniform(0.1, 1) for _ in right], right)
    assert abs(found.spearman or 0) < 0.15


def test_what_never_changes_has_no_correlation() -> None:
    found = calibration([0.5] * 20, [number % 13 for number in range(20)])
    assert (found.pearson, found.spearman) == (None, None)


def test_sentences_without_confidence_do_not_count() -> None:
    right = [number % 13 for number in range(30)]
    some = calibration([None] * 15 + [0.5] * 15, right)
    assert some.sentences == 15
    assert calibrate(scored([None] * 30, right)) is None
    assert calibrate(scored([0.5] * 5, [1] * 5)) is None


def test_confidence_is_the_probability_of_a_piece() -> None:
    own = scored([0.25] * 2, [3, 4])
    assert confidence(own.sentences[0]) == pytest.approx(0.25)
    # Rounding must not make it more than certain, and nobody is confident of nothing.
    own.sentences[0].log_probability = 1e-6
    assert confidence(own.sentences[0]) == 1
    own.sentences[0].hypothesis = " "
    assert confidence(own.sentences[0]) is None


def test_equal_values_share_their_ranks() -> None:
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1, 3.5, 2]
    assert correlation(np.array([1.0, 2, 3]), np.array([2.0, 4, 6])) == pytest.approx(1)
