"""No n-gram twice."""

import pytest

from nmt.decoding.constraints.repetition import NoRepeat
from nmt.decoding.extension import SearchRules
from nmt.decoding.guided import Guided
from tests.decoding.guided_trees import Guide, assert_same_in_every_batch, guided_search
from tests.decoding.test_search import CPU, TreeCache, assert_same, brute_force, random_tables


def without_repetition(size: int) -> Guide:
    def guide(rules: SearchRules, numbers: list[int]) -> Guided[TreeCache]:
        return Guided(rules, CPU, constraints=[NoRepeat(size)])

    return guide


def repeats(pieces: list[int], size: int) -> bool:
    grams = [tuple(pieces[i : i + size]) for i in range(len(pieces) - size + 1)]
    return len(set(grams)) < len(grams)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_wide_beam_finds_every_sequence_without_repetition_in_order(size: int) -> None:
    tables = random_tables(3, depth=6, seed=size)
    for table, own in zip(tables, guided_search(tables, 64, [6] * 3, without_repetition(size)), strict=True):
        everything = brute_force(table, 6, 0.6)
        expected = [item for item in everything if not repeats(item[0], size)]
        assert 0 < len(expected) < len(everything)
        assert_same(own, expected)


def test_batches_do_not_matter() -> None:
    assert_same_in_every_batch(random_tables(24, depth=6, seed=2), 3, [6, 4, 2, 5] * 6, without_repetition(2))
