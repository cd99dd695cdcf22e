"""The worst sentences come first, with what is wrong with them."""

from collections.abc import Callable

import pytest

from nmt.evaluation.evaluation import Evaluation, EvaluationSentence
from nmt.evaluation.words import words
from nmt.evaluation.worst_sentences import faults, scores_of_sentences, worst_sentences


def test_worst_are_those_of_the_lowest_score(make_evaluation: Callable[..., Evaluation]) -> None:
    own = make_evaluation(0.5).test_sets[0]
    scores = scores_of_sentences(own)
    found = worst_sentences(own, 10)
    assert [each.score for each in found] == sorted(scores)[:10]
    assert all(scores[each.place] == each.score for each in found)
    assert len(worst_sentences(own, 1000)) == len(own.sentences)


def test_of_equal_scores_the_longer_source_comes_first(make_evaluation: Callable[..., Evaluation]) -> None:
    own = make_evaluation(0.0).test_sets[0]
    lengths = [len(words(own.sentences[each.place].source)) for each in worst_sentences(own, 20)]
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize(
    ("source", "reference", "hypothesis", "expected"),
    [
        ("the old dog", "der alte Hund", "", ["empty"]),
        ("", "", "", []),
        ("the old dog", "der alte Hund", "the old dog", ["copied"]),
        ("the dog", "der Hund", "der Hund der Hund der Hund", ["repeating", "too long"]),
        ("the old dog sleeps", "der alte Hund schläft", "Hund", ["too short"]),
        ("3 dogs and 4", "3 Hunde und vier", "Hunde und vier 4 x", ["number lost"]),
        ("3 dogs", "drei Hunde", "der Hunde", []),
        ("the dog", "der Hund", "der Hund", []),
    ],
)
def test_faults_are_named(source: str, reference: str, hypothesis: str, expected: list[str]) -> None:
    sentence = EvaluationSentence(
        source=source,
        references=[reference],
        hypothesis=hypothesis,
        log_probability=None,
        pieces=None,
        statistics={},
    )
    assert faults(sentence) == expected
