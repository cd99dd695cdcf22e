"""Which checkpoints survive: properties of the rule, whatever the steps and scores."""

from hypothesis import given
from hypothesis import strategies as st

from nmt.training.retention import best_steps, retained

SCORES = st.dictionaries(
    st.integers(1, 60), st.none() | st.sampled_from([0.0, 12.5, 30.0, 31.0, 31.5]), max_size=30
)
COUNTS = st.integers(0, 8)


@given(SCORES, st.integers(1, 8), COUNTS, COUNTS)
def test_what_is_promised_is_kept_and_nothing_else(
    scores: dict[int, float | None], newest: int, best: int, every: int
) -> None:
    kept = retained(scores, newest=newest, best=best, every=every)
    assert kept <= scores.keys()
    if scores:
        assert max(scores) in kept
    for step in scores:
        later = sum(other > step for other in scores)
        score = scores[step]
        better = sum(
            other is not None and score is not None and (other > score or (other == score and at < step))
            for at, other in scores.items()
        )
        reasons = (
            later < newest,
            score is not None and better < best,
            every > 0 and step % every == 0,
        )
        assert (step in kept) == any(reasons)


@given(SCORES, st.integers(1, 8), COUNTS, COUNTS)
def test_pruning_as_one_goes_keeps_what_pruning_at_the_end_would(
    scores: dict[int, float | None], newest: int, best: int, every: int
) -> None:
    """Nothing that is removed early would have been wanted later."""
    left: dict[int, float | None] = {}
    for step in sorted(scores):
        left[step] = scores[step]
        kept = retained(left, newest=newest, best=best, every=every)
        left = {each: score for each, score in left.items() if each in kept}
    assert left.keys() == retained(scores, newest=newest, best=best, every=every)


def test_the_best_come_first_and_the_earlier_of_equals() -> None:
    assert best_steps({10: 30.0, 20: None, 30: 31.0, 40: 30.0, 50: 29.0}, 3) == [30, 10, 40]
