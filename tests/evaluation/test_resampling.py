"""Intervals and tests of significance: sacrebleu's own, and right about systems whose truth is known."""

import random
from collections.abc import Iterator

import numpy as np
import pytest
from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from sacrebleu.significance import PairedTest

from nmt.evaluation import resampling
from nmt.evaluation.metrics import Scorer
from nmt.evaluation.resampling import bootstrap_intervals, compare_pair
from nmt.evaluation.statistics import Array, aggregate, sentence_scores

WORDS = [*"abcdefghijklmno", "house", "sees", "red", ",", "."]
NAMES = {"BLEU": "BLEU", "chrF2": "chrF", "chrF2++": "chrF++", "TER": "TER"}


def texts(keep: float, seed: int, count: int = 150) -> tuple[list[str], list[list[str]]]:
    draw = random.Random(7)
    lines = [draw.choices(WORDS, k=draw.randint(3, 15)) for _ in range(count)]
    rows = [[" ".join(line), " ".join(reversed(line))] for line in lines]
    own = random.Random(seed)
    hypotheses = [" ".join(word for word in line if own.random() < keep) for line in lines]
    hypotheses[seed] = ""
    return hypotheses, rows


def sacrebleus(rows: list[list[str]]) -> dict[str, Metric]:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return {
        "BLEU": BLEU(references=columns),
        "chrF2": CHRF(references=columns),
        "chrF2++": CHRF(word_order=2, references=columns),
        "TER": TER(references=columns),
    }


@pytest.fixture(autouse=True)
def seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SACREBLEU_SEED", raising=False)


def test_intervals_are_those_of_sacrebleu() -> None:
    hypotheses, rows = texts(0.8, 1)
    scorer = Scorer(rows)
    found = bootstrap_intervals(scorer.statistics(hypotheses), resamples=1000)
    for name, metric in sacrebleus(rows).items():
        expected = metric.corpus_score(hypotheses, None, n_bootstrap=1000)
        half = (found[NAMES[name]].high - found[NAMES[name]].low) / 2
        assert half == pytest.approx(expected._ci, rel=1e-3)


def test_p_values_are_those_of_sacrebleus_paired_tests() -> None:
    (first, rows), (second, _) = texts(0.8, 1), texts(0.83, 2)
    scorer = Scorer(rows)
    found = compare_pair(scorer.statistics(first), scorer.statistics(second), resamples=1000, trials=2000)
    systems = [("first", first), ("second", second)]
    for kind, samples in (("bs", 1000), ("ar", 2000)):
        _, results = PairedTest(systems, sacrebleus(rows), None, kind, n_samples=samples)()
        for name, (baseline, other) in ((name, results[name]) for name in NAMES):
            own = found[NAMES[name]]
            assert own.difference == pytest.approx(other.score - baseline.score, abs=1e-6)
            p = own.sacrebleu_bootstrap_p if kind == "bs" else own.randomization_p
            # TER counts edits: arrangements that tie with the data are common, and count here but not there.
            allowed = 0.05 if name == "TER" and kind == "ar" else 0.003
            assert other.p_value - 0.003 <= p <= other.p_value + allowed
            assert 0.001 < p < 0.9


def simulated(
    generator: np.random.Generator, quality_N: Array, lengths_N: Array, better: float = 0.0
) -> Array:
    """Statistics of BLEU of a system that is right with a probability that depends on the sentence."""
    own_N = np.clip(quality_N + better + generator.normal(0, 0.15, len(quality_N)), 0.01, 0.99)
    produced_N = np.maximum(1, lengths_N + generator.integers(-2, 3, len(lengths_N)))
    totals = [np.maximum(produced_N - order, 0) for order in range(4)]
    correct = [generator.binomial(total, own_N ** (order + 1)) for order, total in enumerate(totals)]
    return np.stack([produced_N, lengths_N, *correct, *totals], axis=1).astype(np.float64)


def comparisons(count: int, *, better: float) -> Iterator[resampling.Significance]:
    generator = np.random.default_rng(5)
    for trial in range(count):
        lengths, quality = generator.integers(5, 25, 200), generator.beta(4, 3, 200)
        first = simulated(generator, quality, lengths)
        second = simulated(generator, quality, lengths, better)
        yield compare_pair({"BLEU": first}, {"BLEU": second}, resamples=300, trials=300, seed=trial)["BLEU"]


def test_chance_is_called_significant_in_five_of_a_hundred_comparisons() -> None:
    found = list(comparisons(1000, better=0.0))
    assert 0.03 <= np.mean([own.randomization_p < 0.05 for own in found]) <= 0.07
    assert 0.03 <= np.mean([own.bootstrap_p < 0.05 for own in found]) <= 0.07
    # The interval of the difference leaves out zero as often.
    without_zero = [own.interval.low > 0 or own.interval.high < 0 for own in found]
    assert 0.03 <= np.mean(without_zero) <= 0.07
    # Why the verdict is not that of `sacrebleu --paired-bs`.
    assert np.mean([own.sacrebleu_bootstrap_p < 0.05 for own in found]) > 0.08


def test_a_true_difference_is_found() -> None:
    found = list(comparisons(40, better=0.08))
    assert np.mean([own.randomization_p < 0.05 for own in found]) > 0.9
    assert np.mean([own.bootstrap_p < 0.05 for own in found]) > 0.9


def test_a_system_is_not_better_than_itself() -> None:
    hypotheses, rows = texts(0.8, 1)
    statistics = Scorer(rows).statistics(hypotheses)
    for own in compare_pair(statistics, statistics, resamples=100, trials=100).values():
        assert (own.difference, own.randomization_p, own.bootstrap_p) == (0, 1, 1)
        assert (own.interval.low, own.interval.high) == (0, 0)


def test_swapping_the_systems_turns_the_sign_alone() -> None:
    (first, rows), (second, _) = texts(0.8, 1), texts(0.83, 2)
    scorer = Scorer(rows)
    sides = [scorer.statistics(each) for each in (first, second)]
    one, other = (compare_pair(*each, resamples=300, trials=300) for each in (sides, sides[::-1]))
    for name, own in one.items():
        assert own.difference == pytest.approx(-other[name].difference)
        assert own.interval.low == pytest.approx(-other[name].interval.high)
        assert own.randomization_p == pytest.approx(other[name].randomization_p, abs=0.01)


def test_large_sets_are_resampled_in_blocks_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    (first, rows), (second, _) = texts(0.8, 1), texts(0.83, 2)
    scorer = Scorer(rows)
    sides = [scorer.statistics(each) for each in (first, second)]
    whole = compare_pair(*sides, resamples=300, trials=300), bootstrap_intervals(sides[0], resamples=300)
    monkeypatch.setattr(resampling, "_BLOCK", 1)
    assert (
        compare_pair(*sides, resamples=300, trials=300),
        bootstrap_intervals(sides[0], resamples=300),
    ) == whole


def test_different_numbers_of_sentences_cannot_be_paired() -> None:
    matrix = np.ones((3, 10))
    with pytest.raises(ValueError, match="3 and 2 sentences cannot be paired"):
        compare_pair({"BLEU": matrix}, {"BLEU": matrix[:2]})


def test_scores_of_sentences_and_of_sums_are_those_of_sacrebleu() -> None:
    """Among them texts that are empty, of one word, or without a match."""
    draw = random.Random(3)
    rows = [[" ".join(draw.choices(WORDS, k=draw.randint(0, 5)))] for _ in range(80)]
    hypotheses = [" ".join(draw.choices(WORDS[:9], k=draw.randint(0, 5))) for _ in rows]
    statistics = Scorer(rows).statistics(hypotheses)
    for name, metric in sacrebleus(rows).items():
        own = NAMES[name]
        if name == "BLEU":
            metric = BLEU(effective_order=True)
        found = sentence_scores(own, statistics[own])
        for hypothesis, row, value in zip(hypotheses, rows, found, strict=True):
            assert value == pytest.approx(metric.sentence_score(hypothesis, row).score, abs=1e-9)
    for name, metric in sacrebleus(rows).items():
        for start in range(0, 80, 3):
            part = statistics[NAMES[name]][start : start + 3]
            expected = metric._compute_score_from_stats(part.sum(0).tolist()).score
            assert aggregate(NAMES[name], part.sum(0)) == pytest.approx(expected, abs=1e-9)
