"""Several seeds of one configuration, summarised: how much of a score is the luck of a run."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from nmt.evaluation.evaluation import Evaluation
from nmt.evaluation.metrics import Score

# Settings that make no other configuration of a run.
_NOT_OF_A_CONFIGURATION = (
    "seed",
    "resume",
    "run.",
    "training.device",
    "training.threads",
    "data.workers",
    "data.prepared_folder",
)


@dataclass(kw_only=True, slots=True)
class SeedSummary:
    """Several seeds of one configuration on one test set."""

    test_set: str
    metric: str
    # Places in the list of evaluations.
    systems: list[int]
    mean: float
    # Of the sample, with n - 1 in the denominator.
    deviation: float
    signature: str

    @property
    def count(self) -> int:
        """Number of seeds."""
        return len(self.systems)


def summarise_seeds(evaluations: Sequence[Evaluation]) -> list[SeedSummary]:
    """Mean and deviation of systems that differ in nothing but their seeds."""
    groups: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for place, evaluation in enumerate(evaluations):
        if (settings := configuration(evaluation)) is not None:
            groups.setdefault(settings, []).append(place)
    return [
        summary
        for places in groups.values()
        # The same seed twice says nothing about another one.
        if len(places) > 1 and len({evaluations[place].provenance.seed for place in places}) == len(places)
        for summary in _summarise(places, evaluations)
    ]


def configuration(evaluation: Evaluation) -> tuple[tuple[str, str], ...] | None:
    """All that makes up a system but for its seed; None when its training is not known."""
    found = evaluation.provenance
    if not found.training:
        return None
    settings = {f"decoding at evaluation.{name}": value for name, value in found.decoding.items()}
    settings |= {
        name: value for name, value in found.training.items() if not name.startswith(_NOT_OF_A_CONFIGURATION)
    }
    return tuple(sorted((name, str(value)) for name, value in settings.items()))


def _summarise(places: list[int], evaluations: Sequence[Evaluation]) -> list[SeedSummary]:
    summaries = []
    for own in evaluations[places[0]].test_sets:
        for score in own.scores:
            found = [_score(evaluations[place], own.name, score) for place in places]
            values = [value for value in found if value is not None]
            if len(values) == len(places):
                summaries.append(
                    SeedSummary(
                        test_set=own.name,
                        metric=score.name,
                        systems=places,
                        mean=statistics.mean(values),
                        deviation=statistics.stdev(values),
                        signature=score.signature,
                    )
                )
    return summaries


def _score(evaluation: Evaluation, test_set: str, like: Score) -> float | None:
    """The value of the same metric with the same signature."""
    own = evaluation.test_set(test_set)
    found = own.score(like.name) if own else None
    return found.value if found and found.signature == like.signature else None
