"""Candidates of a whole from candidates of its parts: the best sums, sorted and distinct."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.decoding.sentences import Part
from nmt.decoding.translation import Candidate, combine


def candidate(text: str, score: float, *, finished: bool = True) -> Candidate:
    return Candidate(text=text, score=score, log_probability=2 * score, finished=finished)


def best_first(part: int, scores: list[float]) -> list[Candidate]:
    ranked = sorted(scores, reverse=True)
    return [candidate(f"{part}.{rank}", score) for rank, score in enumerate(ranked)]


@given(
    st.lists(st.lists(st.integers(-50, 0).map(float), min_size=1, max_size=4), max_size=4), st.integers(1, 5)
)
def test_sums_are_the_best_of_all(scores: list[list[float]], count: int) -> None:
    parts = [best_first(number, own) for number, own in enumerate(scores)]
    found = combine([Part("a ", [])] * len(parts), parts, count)
    sums = sorted((sum(each.score for each in way) for way in product(*parts)), reverse=True)
    assert [each.score for each in found] == sums[:count]
    assert len({each.text for each in found}) == len(found)
    for each in found:
        chosen = [
            own for own, text in zip(parts, each.text.split(), strict=True) for own in own if own.text == text
        ]
        assert each.score == sum(own.score for own in chosen)
        assert each.log_probability == 2 * each.score


def test_of_equal_texts_the_best_is_kept() -> None:
    found = combine([Part("a", [])], [[candidate("x", -1.0), candidate("x", -2.0), candidate("y", -3.0)]], 3)
    assert [(each.text, each.score) for each in found] == [("x", -1.0), ("y", -3.0)]


@pytest.mark.parametrize("ends", [(True, True), (True, False)])
def test_a_whole_is_finished_when_its_parts_are(ends: tuple[bool, bool]) -> None:
    parts = [[candidate("x", -1.0, finished=end)] for end in ends]
    assert combine([Part("a ", []), Part("b", [])], parts, 1)[0].finished is all(ends)


def test_nothing_has_one_empty_translation() -> None:
    assert combine([], [], 5) == [candidate("", 0.0)]
