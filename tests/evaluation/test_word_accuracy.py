"""Word accuracy by training frequency: right words of each bucket, counted by hand."""

import pytest

from nmt.data.test_sets import TestSet
from nmt.evaluation.config import ScoringConfig
from nmt.evaluation.evaluation import EvaluatedSet, Provenance, Scoring, evaluate_outputs
from nmt.evaluation.word_accuracy import word_accuracy
from nmt.evaluation.word_frequency import WordFrequency

FREQUENCY = WordFrequency.of(["common"] * 1500 + ["rare once"])


def evaluated(pairs: list[tuple[str, list[str]]]) -> EvaluatedSet:
    texts = [references for _, references in pairs]
    test_set = TestSet(name="x", sources=["s"] * len(pairs), references=texts, origin=["x"])
    scoring = Scoring.of([test_set], ScoringConfig(resamples=100, metrics=["bleu"]), language="de")
    outputs = {"x": [output for output, _ in pairs]}
    return evaluate_outputs(outputs, scoring, Provenance(system="x", files={})).test_sets[0]


def test_words_are_right_as_often_as_the_reference_has_them() -> None:
    own = evaluated(
        [
            ("common common rare unseen", ["rare common Rare other"]),
            ("common common", ["common common once"]),
        ]
    )
    found = {each.bucket.label: each for each in word_accuracy(own, FREQUENCY, resamples=100)}
    assert list(found) == ["never", "once", "1,000 times or more"]
    common = found["1,000 times or more"]
    assert (common.translation_words, common.reference_words) == (4, 3)
    assert (common.precision, common.recall) == (75, 100)
    assert common.f_measure == pytest.approx(2 * 75 * 100 / 175)
    # "Rare" has the frequency of "rare" but is another word.
    rare = found["once"]
    assert (rare.translation_words, rare.reference_words, rare.precision) == (1, 3, 100)
    assert rare.recall == pytest.approx(100 / 3)
    assert (found["never"].f_measure, found["never"].precision, found["never"].recall) == (0, 0, 0)
    for each in found.values():
        assert each.interval.low <= each.f_measure <= each.interval.high


def test_the_nearest_reference_counts() -> None:
    own = evaluated([("rare common", ["once once once", "rare common"])])
    assert [each.f_measure for each in word_accuracy(own, FREQUENCY, resamples=100)] == [100, 100]


def test_nothing_to_divide_by_is_no_figure() -> None:
    (only,) = word_accuracy(evaluated([("", ["rare"])]), FREQUENCY, resamples=100)
    assert (only.precision, only.recall, only.f_measure) == (None, 0, 0)
