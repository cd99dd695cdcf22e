"""Rows fit the corpus: short for short sentences, long enough for all, cheap."""

import numpy as np
import pytest

from nmt.data.batching import BatchShape, IntArray, plan_epoch
from nmt.data.row_length import choose_row_lengths, pack_sample


def lengths(mean: float, deviation: float, *, longest: int, count: int = 6000) -> tuple[IntArray, IntArray]:
    """Sentences whose lengths follow a gamma distribution, as those of corpora nearly do."""
    random = np.random.default_rng(5)
    source = random.gamma((mean / deviation) ** 2, deviation**2 / mean, count)
    target = source * random.normal(1.05, 0.15, count)
    clipped = [np.clip(side, 2, longest).astype(np.int32) for side in (source, target)]
    return clipped[0], clipped[1]


@pytest.mark.parametrize(
    ("mean", "deviation", "longest", "expected"),
    [
        (8, 4, 40, (64, 64)),  # Tatoeba
        (15, 5, 56, (64, 64)),  # Multi30k
        (15, 5, 90, (64, 96)),  # with a few long captions
        (23, 14, 128, (96, 128)),  # talks
        (28, 18, 180, (128, 192)),  # news
        (280, 90, 512, (512, 512)),  # documents
        (2000, 1500, 9000, (9008, 9008)),
    ],
)
def test_lengths_of_known_kinds_of_corpora(
    mean: float, deviation: float, longest: int, expected: tuple[int, int]
) -> None:
    source, target = lengths(mean, deviation, longest=longest)
    source[0] = longest
    assert choose_row_lengths(source, target, longest=longest) == expected


def test_the_longest_sentence_of_any_set_fits_within_the_limit() -> None:
    source, target = lengths(15, 5, longest=56)
    assert choose_row_lengths(source, target, longest=130) == (64, 144)
    assert choose_row_lengths(source, target, longest=130, limit=130) == (64, 130)
    assert choose_row_lengths(source, target, longest=57, limit=60) == (60, 60)


def test_the_choice_is_a_function_of_the_lengths() -> None:
    source, target = lengths(28, 18, longest=180, count=20000)
    chosen = {choose_row_lengths(source.copy(), target.copy(), longest=180) for _ in range(3)}
    assert len(chosen) == 1


def test_the_sample_foretells_how_an_epoch_fills_its_rows() -> None:
    source, target = lengths(20, 10, longest=120, count=30000)
    packing = pack_sample(source, target, (64, 128))
    rows = {64: 0, 128: 0}
    shapes = [BatchShape(4, 64), BatchShape(4, 128)]
    for plan in plan_epoch(source, target, shapes, seed=1, epoch=0):
        rows[plan.shape.row_length] += len(plan.rows)
    slots = sum(length * count for length, count in rows.items())
    assert packing.filled_share == pytest.approx((source.sum() + target.sum()) / (2 * slots), rel=0.01)
    assert 0.9 < packing.filled_share <= 1
    assert packing.rows[0] / packing.sentences == pytest.approx(rows[64] / 30000, rel=0.02)
    assert packing.rows[1] / packing.sentences == pytest.approx(rows[128] / 30000, rel=0.2)
