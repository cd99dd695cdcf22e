"""BLEU from the counts of single sentences is sacrebleu's, and the interval covers what it should."""

import random

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU

from nmt.export.bleu_difference import bleu_difference

WORDS = [f"w{number}" for number in range(30)]


def simulated(sentences: int, seed: int, wrong: tuple[float, float]) -> list[list[str]]:
    """References and two sets of translations with so many words exchanged."""
    draw = random.Random(seed)
    references = [draw.choices(WORDS, k=draw.randint(5, 25)) for _ in range(sentences)]
    sides = [references] + [
        [[draw.choice(WORDS) if draw.random() < share else word for word in line] for line in references]
        for share in wrong
    ]
    return [[" ".join(line) for line in side] for side in sides]


def test_values_are_those_of_sacrebleu() -> None:
    references, ours, theirs = simulated(80, 1, (0.2, 0.3))
    theirs[3] = ""
    found = bleu_difference(ours, theirs, references)
    assert found.ours == BLEU().corpus_score(ours, [references]).score
    assert found.theirs == BLEU().corpus_score(theirs, [references]).score
    assert found.low < found.difference < found.high < 0
    assert "version:" in found.signature
    assert f"{found.difference:+.2f}, 95% between {found.low:+.2f} and {found.high:+.2f}" in str(found)


def test_equal_translations_differ_by_nothing() -> None:
    references, ours, _ = simulated(30, 2, (0.2, 0.3))
    found = bleu_difference(ours, ours, references)
    assert (found.difference, found.low, found.high) == (0, 0, 0)


def test_the_interval_is_as_wide_as_the_differences_of_new_samples() -> None:
    """95 % of test sets of the same kind differ by what the interval of one of them says."""
    one = bleu_difference(*reordered(simulated(150, 3, (0.3, 0.3))))
    values = []
    for seed in range(40):
        references, ours, theirs = simulated(150, 100 + seed, (0.3, 0.3))
        values.append(
            BLEU().corpus_score(theirs, [references]).score - BLEU().corpus_score(ours, [references]).score
        )
    assert one.high - one.low == pytest.approx(4 * np.std(values), rel=0.5)


def reordered(sides: list[list[str]]) -> tuple[list[str], list[str], list[str]]:
    references, ours, theirs = sides
    return ours, theirs, references
