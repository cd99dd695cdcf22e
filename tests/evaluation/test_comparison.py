"""Verdicts about systems of which it is known which one is better."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from nmt.evaluation.comparison import ComparisonError, compare
from nmt.evaluation.evaluation import Evaluation
from nmt.evaluation.provenance import differences
from nmt.evaluation.tables import comparison_table

MakeEvaluation = Callable[..., Evaluation]
FEW = {"resamples": 200, "trials": 500}


def test_a_better_system_is_significantly_so_and_an_equal_one_is_not(make_evaluation: MakeEvaluation) -> None:
    systems = [make_evaluation(0.2, 1), make_evaluation(0.2, 2), make_evaluation(0.1, 3)]
    equal, better = compare(systems, ["a", "b", "c"], **FEW).pairs
    assert [found.metric for found in better.metrics] == ["BLEU", "chrF", "chrF++", "TER"]
    for found in equal.metrics:
        assert found.verdict.startswith("not significant (p = 0.")
    for found in better.metrics:
        assert found.verdict.startswith("significant (p = 0.0")
        assert found.verdict.endswith(", paired approximate randomisation)")
        # Fewer edits are better.
        assert (found.significance.difference > 0) == (found.metric != "TER")
        assert found.wins > found.losses
        assert found.wins + found.ties + found.losses == 120


def test_the_sentences_that_differ_most_are_gains_then_losses(make_evaluation: MakeEvaluation) -> None:
    (pair,) = compare([make_evaluation(0.2, 1), make_evaluation(0.2, 2)], ["a", "b"], show=4, **FEW).pairs
    changes = [each.second_score - each.first_score for each in pair.sentences]
    assert len(changes) == 8
    assert changes[:4] == sorted(changes[:4], reverse=True)
    assert min(changes[:4]) > 0 > max(changes[4:])
    assert changes[4:] == sorted(changes[4:])
    for each in pair.sentences:
        assert each.source.startswith(f"source {each.number - 1}:")


def test_seeds_of_one_configuration_are_summarised(make_evaluation: MakeEvaluation) -> None:
    common = {"model.width": 8, "run.folder": "x", "seed": 1}
    systems = [
        make_evaluation(0.2, seed, training={**common, "seed": seed, "run.folder": f"{seed}"})
        for seed in (1, 2, 3)
    ]
    systems.append(make_evaluation(0.2, 4, training={**common, "model.width": 16}))
    systems.append(make_evaluation(0.2, 5))
    found = compare(systems, list("abcde"), **FEW).seeds
    assert [each.systems for each in found] == [[0, 1, 2]] * 4
    bleu = next(each for each in found if each.metric == "BLEU")
    values = [each.test_sets[0].scores[0].value for each in systems[:3]]
    mean = sum(values) / 3
    assert bleu.count == 3
    assert bleu.mean == pytest.approx(mean)
    assert bleu.deviation == pytest.approx((sum((value - mean) ** 2 for value in values) / 2) ** 0.5)
    # The same seed twice is no further seed.
    assert compare([systems[0], systems[0]], ["a", "b"], **FEW).seeds == []


def test_other_decoding_is_another_configuration(make_evaluation: MakeEvaluation) -> None:
    systems = [
        make_evaluation(0.2, seed, training={"seed": seed}, decoding={"beam_size": seed, "length_penalty": 1})
        for seed in (1, 2)
    ]
    assert compare(systems, ["a", "b"], **FEW).seeds == []


def test_systems_without_a_common_test_set_are_refused(make_evaluation: MakeEvaluation) -> None:
    first, second = make_evaluation(0.2, 1), make_evaluation(0.2, 2)
    second.test_sets = [replace(second.test_sets[0], name="web")]
    with pytest.raises(ComparisonError, match=r"share no test set \(they have news; web\)"):
        compare([first, second], ["a", "b"])
    second.test_sets = [replace(second.test_sets[0], name="news", reference_hash="0")]
    with pytest.raises(ComparisonError, match=r"test set news: .* different texts"):
        compare([first, second], ["a", "b"])


def test_scores_of_two_kinds_are_refused(make_evaluation: MakeEvaluation) -> None:
    first, second = make_evaluation(0.2, 1), make_evaluation(0.2, 2)
    second.test_sets[0].scores[0] = replace(second.test_sets[0].scores[0], signature="other")
    with pytest.raises(ComparisonError, match="BLEU was computed in two ways"):
        compare([first, second], ["a", "b"])


def test_one_model_twice_gives_one_number_or_the_field_that_differs(make_evaluation: MakeEvaluation) -> None:
    facts = {"files": {"model.safetensors": "1"}, "decoding": {"beam_size": 5, "length_penalty": 0.6}}
    one, again = make_evaluation(0.2, 1, **facts), make_evaluation(0.2, 1, **facts)
    again.provenance.date = "another day"
    assert differences(one, again) == []
    assert "the same files, the same scores; provenance differs in: nothing" in comparison_table(
        compare([one, again], ["a", "b"], **FEW)
    )
    greedy = make_evaluation(0.2, 2, **{**facts, "decoding": {"beam_size": 1, "length_penalty": 0.6}})
    assert [str(each) for each in differences(one, greedy)] == ["decoding.beam_size: 5 / 1"]
    text = comparison_table(compare([one, greedy], ["a", "b"], **FEW))
    assert "A / B: the same files, other scores; provenance differs in: decoding.beam_size: 5 / 1" in text


def test_every_score_of_the_table_stands_beside_its_signature(make_evaluation: MakeEvaluation) -> None:
    systems = [make_evaluation(0.2, 1), make_evaluation(0.1, 2)]
    lines = comparison_table(compare(systems, ["first", "second"], **FEW)).splitlines()
    for own in (score for each in systems for score in each.test_sets[0].scores):
        (line,) = [each for each in lines if f" {own.name} " in each and f" {own.value:.2f} " in each]
        assert line.endswith(own.signature)
    assert any(line.startswith("B - A  BLEU") and "significant (p = 0.0" in line for line in lines)
