"""Which checkpoints of a run are kept."""

from collections.abc import Mapping


def retained(scores: Mapping[int, float | None], *, newest: int, best: int = 0, every: int = 0) -> set[int]:
    """Steps of the checkpoints that are kept; the last one always is.

    Args:
        scores: validation BLEU of every checkpoint by its step, None where it was not validated.
        newest: how many of the last steps are kept, at least 1.
        best: how many of the highest scores, see `best_steps`.
        every: steps that are multiples of it; 0 keeps none for that reason.
    """
    steps = sorted(scores)
    return {
        *steps[-max(1, newest) :],
        *best_steps(scores, best),
        *(step for step in steps if every and step % every == 0),
    }


def best_steps(scores: Mapping[int, float | None], count: int) -> list[int]:
    """The steps of the highest scores, best first; the earlier of equals, as with the best model."""
    ranked = sorted((-score, step) for step, score in scores.items() if score is not None)
    return [step for _, step in ranked[:count]]
