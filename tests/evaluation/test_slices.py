"""Slices share out a test set, and their scores are those of their sentences."""

from collections.abc import Sequence

import pytest
import sacrebleu

from nmt.data.test_sets import TestSet
from nmt.evaluation.config import ScoringConfig
from nmt.evaluation.evaluation import EvaluatedSet, Provenance, Scoring, evaluate_outputs
from nmt.evaluation.slices import find_slices, length_label, score_slice
from nmt.evaluation.word_frequency import TrainingWords, WordFrequency

SOURCES = [
    "Does Anna know 3 dogs?",
    "he does not see the big dog .",
    "He sees the " + "very " * 40 + "old house.",
    "SHE SEES A HOUSE!",
    "",
    "Then she met Peter in the unheard-of house.",
]
REFERENCES = [f"reference {number} of the sentence" for number in range(len(SOURCES))]
# No two of them score alike.
OUTPUTS = [f"translation {number} of the sentence" + " more" * number for number in range(len(SOURCES))]


def evaluated(metrics: Sequence[str] | None = None, **more: object) -> EvaluatedSet:
    test_set = TestSet(
        name="news", sources=SOURCES, references=[[text] for text in REFERENCES], origin=["x"], **more
    )
    config = ScoringConfig(resamples=100, metrics=list(metrics) if metrics else None)
    scoring = Scoring.of([test_set], config, language="de")
    return evaluate_outputs({"news": OUTPUTS}, scoring, Provenance(system="x", files={})).test_sets[0]


TRAINING = TrainingWords(
    source=WordFrequency.of(["then she he sees the house dog in met peter anna"] * 10 + ["a big"]),
    target=WordFrequency.of([]),
    pairs=11,
    origin="x",
)


def test_each_sentence_is_in_one_slice_of_a_group() -> None:
    own = evaluated(corpora=[("a", 2), ("b", 4)])
    slices = find_slices(own, language="en", training=TRAINING)
    groups = {part.group for part in slices}
    assert groups == {
        "source length", "rarest source word in training", "numbers", "names", "questions", "negation",
        "casing", "corpus",
    }  # fmt: skip
    for group in groups:
        places = [place for part in slices if part.group == group for place in part.sentences]
        assert len(places) == len(set(places))
        # A blank has neither letters nor words.
        assert set(places) >= set(range(len(SOURCES))) - {4}
    found = {(part.group, part.label): part.sentences for part in slices}
    assert found["questions", "question"] == [0]
    assert found["names", "with a name"] == [0, 5]
    assert found["numbers", "with digits"] == [0]
    assert found["negation", "negated"] == [1]
    assert found["casing", "capital letters only"] == [3]
    assert found["corpus", "b"] == [2, 3, 4, 5]
    assert found["rarest source word in training", "never"] == [0, 1, 2, 5]
    assert found["rarest source word in training", "1-9 times"] == [3]


def test_a_slice_that_holds_all_or_nothing_is_none() -> None:
    own = evaluated()
    for part in find_slices(own, language="en"):
        assert 0 < len(part.sentences) < len(SOURCES)
    groups = {part.group for part in find_slices(own, language="zh")}
    assert not groups & {"corpus", "tag", "negation", "rarest source word in training"}


def test_scores_of_a_slice_are_those_of_its_sentences() -> None:
    own = evaluated()
    part = next(part for part in find_slices(own) if part.label == "6-10 words")
    outputs, references = ([texts[place] for place in part.sentences] for texts in (OUTPUTS, REFERENCES))
    bleu, chrf = score_slice(part, own, resamples=100)
    assert bleu.value == pytest.approx(sacrebleu.corpus_bleu(outputs, [references]).score)
    assert chrf.value == pytest.approx(sacrebleu.corpus_chrf(outputs, [references]).score)
    for score in (bleu, chrf):
        assert score.interval
        assert score.interval.low <= score.value <= score.interval.high
        assert "version:" in score.signature


def test_other_metrics_serve_where_bleu_and_chrf_are_missing() -> None:
    own = evaluated(["ter"])
    assert [score.name for score in score_slice(find_slices(own)[0], own, resamples=100)] == ["TER"]


def test_lengths_have_one_label_each() -> None:
    assert [length_label(count) for count in (0, 5, 6, 50, 51, 1000)] == [
        "1-5 words", "1-5 words", "6-10 words", "31-50 words", "over 50 words", "over 50 words",
    ]  # fmt: skip
