"""Each rule drops what its name says and nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.data.cleaning import (
    RULES,
    Removals,
    is_empty,
    is_identical,
    length_rules,
    repeats,
    text_rules,
    too_long,
    unbalanced,
    without_pieces,
)
from nmt.data.config import CleaningConfig

lengths = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), max_size=40)


def columns(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    array = np.array(pairs, dtype=np.int32).reshape(-1, 2)
    return array[:, 0], array[:, 1]


@pytest.mark.parametrize(
    ("source", "target", "empty", "identical"),
    [
        ("a", "b", False, False),
        ("a", "a", False, True),
        ("a", " a\t", False, True),
        ("a", "A", False, False),
        ("", "a", True, False),
        ("a", " \u3000\t", True, False),
        ("", "", True, True),
    ],
)
def test_rules_on_text(source: str, target: str, empty: bool, identical: bool) -> None:
    assert is_empty(source, target) is empty
    assert is_identical(source, target) is identical


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 5), max_size=60))
def test_all_but_the_first_of_equal_keys_repeat(keys: list[int]) -> None:
    marks = repeats(np.array(keys, dtype=np.uint64))
    assert marks.tolist() == [key in keys[:place] for place, key in enumerate(keys)]


@given(lengths, st.integers(2, 50))
def test_too_long_looks_at_both_sides(pairs: list[tuple[int, int]], limit: int) -> None:
    assert too_long(*columns(pairs), limit).tolist() == [max(pair) > limit for pair in pairs]


@given(lengths, st.floats(1, 8))
def test_the_ratio_counts_both_ways_and_spares_short_sentences(
    pairs: list[tuple[int, int]], ratio: float
) -> None:
    dropped = unbalanced(*columns(pairs), ratio).tolist()
    assert dropped == [max(pair) >= 10 and max(pair) > ratio * min(pair) for pair in pairs]


@given(lengths)
def test_a_side_of_one_piece_is_only_the_end(pairs: list[tuple[int, int]]) -> None:
    assert without_pieces(*columns(pairs)).tolist() == [1 in pair for pair in pairs]


def test_every_rule_can_be_switched_off() -> None:
    assert list(text_rules(CleaningConfig())) == ["empty", "identical"]
    assert list(length_rules(CleaningConfig())) == ["empty", "too_long", "length_ratio"]
    assert list(text_rules(CleaningConfig(remove_identical=False))) == ["empty"]
    off = CleaningConfig(remove_empty=False, remove_identical=False, max_length_ratio=0)
    assert not text_rules(off)
    assert list(length_rules(off)) == ["too_long"]


def test_removals_count_all_and_show_the_first_few() -> None:
    removals = Removals()
    for number in range(100):
        removals.add("too_long", f"train.en:{number}")
    report = removals.report()
    assert list(report) == list(RULES)
    assert report["too_long"] == {"count": 100, "examples": [f"train.en:{number}" for number in range(5)]}
    assert report["empty"] == {"count": 0, "examples": []}
