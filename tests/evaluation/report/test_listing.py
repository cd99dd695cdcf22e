"""Listed sentences: all where they fit, else a fair choice; scores and slices of each as elsewhere."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from nmt.evaluation.evaluation import Evaluation
from nmt.evaluation.report.listing import list_sentences, listed_places
from nmt.evaluation.slices import find_slices
from nmt.evaluation.worst_sentences import scores_of_sentences


@given(st.integers(0, 5000), st.integers(1, 600))
def test_places_are_drawn_evenly(count: int, most: int) -> None:
    places = listed_places(count, most)
    assert len(places) == min(count, most)
    assert places == sorted(set(places))
    if places:
        gaps = [after - before for before, after in zip([-1, *places], [*places, count], strict=True)]
        assert max(gaps) <= count // most + 1 or count <= most


def test_rows_have_the_scores_and_slices_of_their_sentences(
    make_evaluation: Callable[..., Evaluation],
) -> None:
    systems = [make_evaluation(loss).test_sets[0] for loss in (0.1, 0.4)]
    slices = find_slices(systems[0], language="en")
    found = list_sentences(systems, slices, [3, 50, 119], {})
    assert [row["n"] for row in found["rows"]] == [4, 51, 120]
    for row, place in zip(found["rows"], (3, 50, 119), strict=True):
        assert row["s"] == systems[0].sentences[place].source
        assert row["k"] == [number for number, part in enumerate(slices) if place in part.sentences]
        assert [own["c"] for own in row["h"]] == [
            round(scores_of_sentences(own)[place], 1) for own in systems
        ]
        assert [own["p"] for own in row["h"]] == [None, None]
        assert "d" in row["h"][1]
        assert "d" not in row["h"][0]
