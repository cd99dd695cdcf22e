"""Systems beside each other on the same test sets: which differences are real, and where they lie."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nmt.evaluation.evaluation import EvaluatedSet, Evaluation
from nmt.evaluation.metrics import higher_is_better
from nmt.evaluation.provenance import Difference, differences, equal_scores
from nmt.evaluation.resampling import RESAMPLES, TRIALS, Significance, compare_pair
from nmt.evaluation.seeds import SeedSummary, summarise_seeds
from nmt.evaluation.statistics import Array, sentence_scores

# Below it chance is taken to be out of the question.
LEVEL = 0.05
TEST = "paired approximate randomisation"


class ComparisonError(ValueError):
    """Systems that cannot be compared; the message says why and what to do."""


@dataclass(kw_only=True, slots=True)
class MetricComparison:
    """Two systems by one metric."""

    metric: str
    # As printed by `sacrebleu`, the same of both systems.
    signature: str
    first_score: float
    second_score: float
    significance: Significance
    # Sentences whose score by this metric is better in the second system, equal, and worse.
    wins: int
    ties: int
    losses: int

    @property
    def significant(self) -> bool:
        """Whether chance is out of the question at the level of 5 %."""
        return self.significance.randomization_p < LEVEL

    @property
    def direction(self) -> str:
        """What the second system is by its score: better, worse or equal."""
        gain = self.significance.difference * (1 if higher_is_better(self.metric) else -1)
        return "better" if gain > 0 else "worse" if gain < 0 else "equal"

    @property
    def verdict(self) -> str:
        """In words, with p and the name of the test."""
        word = "significant" if self.significant else "not significant"
        return f"{word} (p = {self.significance.randomization_p:.4f}, {TEST})"


@dataclass(kw_only=True, slots=True)
class SentenceDifference:
    """A sentence that two systems translate unequally well."""

    # From 1.
    number: int
    source: str
    references: list[str]
    first: str
    second: str
    # By `Pair.sentence_metric`.
    first_score: float
    second_score: float


@dataclass(kw_only=True, slots=True)
class Pair:
    """Two systems on one test set."""

    test_set: str
    # Places in `Comparison.evaluations`.
    first: int
    second: int
    metrics: list[MetricComparison]
    # By how much sentences differ, and those that do so most, the second system's gains before its losses.
    sentence_metric: str
    sentences: list[SentenceDifference]
    equal_translations: int


@dataclass(kw_only=True, slots=True)
class Comparison:
    """Systems on the same test sets, each after the first compared with the first."""

    names: list[str]
    evaluations: list[Evaluation]
    pairs: list[Pair]
    seeds: list[SeedSummary]
    # What the provenance of each system after the first has other than that of the first.
    differences: list[list[Difference]]

    def same_model(self, place: int) -> bool:
        """True when this system has the very files of the first."""
        files = [self.evaluations[each].provenance.files for each in (0, place)]
        return files[0] == files[1]

    def same_scores(self, place: int) -> bool:
        """True when this system has the very scores of the first."""
        return equal_scores(self.evaluations[0], self.evaluations[place])


def compare(
    evaluations: Sequence[Evaluation],
    names: Sequence[str],
    *,
    show: int = 5,
    resamples: int = RESAMPLES,
    trials: int = TRIALS,
) -> Comparison:
    """Compare every system with the first on all test sets that they share.

    Args:
        names: what to call the systems.
        show: sentences that are listed, of gains and of losses each.

    Raises:
        ComparisonError: they share no test set, or one of them has other texts in a set of the same name.
    """
    pairs = [
        _compare_sets(name, (0, place), evaluations, show=show, resamples=resamples, trials=trials)
        for name in shared_sets(evaluations)
        for place in range(1, len(evaluations))
    ]
    return Comparison(
        names=list(names),
        evaluations=list(evaluations),
        pairs=pairs,
        seeds=summarise_seeds(evaluations),
        differences=[differences(evaluations[0], other) for other in evaluations[1:]],
    )


def shared_sets(evaluations: Sequence[Evaluation]) -> list[str]:
    """Names of the test sets that all have, in the order of the first.

    Raises:
        ComparisonError: there is none, or texts differ.
    """
    first, *others = evaluations
    shared = [own.name for own in first.test_sets if all(other.test_set(own.name) for other in others)]
    if not shared:
        sets = [", ".join(own.name for own in each.test_sets) or "none" for each in evaluations]
        raise ComparisonError(
            f"the systems share no test set (they have {'; '.join(sets)}); give one for all with"
            " data.test.NAME.source=FILE and data.test.NAME.target=FILE"
        )
    for name in shared:
        hashes = {_set(each, name).hashes for each in evaluations}
        if len(hashes) > 1:
            raise ComparisonError(
                f"test set {name}: the systems were evaluated on different texts of that name; evaluate them"
                " again, or give the set with data.test.NAME.source=FILE and data.test.NAME.target=FILE"
            )
    return shared


def _set(evaluation: Evaluation, name: str) -> EvaluatedSet:
    found = evaluation.test_set(name)
    assert found is not None
    return found


def _compare_sets(
    name: str,
    places: tuple[int, int],
    evaluations: Sequence[Evaluation],
    *,
    show: int,
    resamples: int,
    trials: int,
) -> Pair:
    first, second = (_set(evaluations[place], name) for place in places)
    sides = (first.statistics(), second.statistics())
    tests = compare_pair(*sides, resamples=resamples, trials=trials)
    if not tests:
        raise ComparisonError(
            f"test set {name}: the systems were scored by different metrics; evaluate again"
        )
    metrics = [
        _compare_metric(first, second, (sides[0][metric], sides[1][metric]), metric, significance)
        for metric, significance in tests.items()
    ]
    sentence_metric = "chrF" if "chrF" in tests else metrics[0].metric
    scores = [sentence_scores(sentence_metric, side[sentence_metric]) for side in sides]
    texts = list(zip(first.sentences, second.sentences, strict=True))
    return Pair(
        test_set=name,
        first=places[0],
        second=places[1],
        metrics=metrics,
        sentence_metric=sentence_metric,
        sentences=[
            SentenceDifference(
                number=number + 1,
                source=texts[number][0].source,
                references=texts[number][0].references,
                first=texts[number][0].hypothesis,
                second=texts[number][1].hypothesis,
                first_score=float(scores[0][number]),
                second_score=float(scores[1][number]),
            )
            for number in _most_different(
                scores[1] - scores[0], show, higher_better=higher_is_better(sentence_metric)
            )
        ],
        equal_translations=sum(one.hypothesis == other.hypothesis for one, other in texts),
    )


def _compare_metric(
    first: EvaluatedSet,
    second: EvaluatedSet,
    statistics: tuple[Array, Array],
    metric: str,
    significance: Significance,
) -> MetricComparison:
    one, other = first.score(metric), second.score(metric)
    if one is None or other is None or one.signature != other.signature:
        raise ComparisonError(f"{metric} was computed in two ways; evaluate the systems again")
    better_N = sentence_scores(metric, statistics[1]) - sentence_scores(metric, statistics[0])
    better_N = better_N if higher_is_better(metric) else -better_N
    wins, losses = int((better_N > 0).sum()), int((better_N < 0).sum())
    return MetricComparison(
        metric=metric,
        signature=one.signature,
        first_score=one.value,
        second_score=other.value,
        significance=significance,
        wins=wins,
        ties=len(better_N) - wins - losses,
        losses=losses,
    )


def _most_different(change_N: Array, show: int, *, higher_better: bool) -> list[int]:
    """Numbers of the sentences with the greatest gains, then of those with the greatest losses."""
    gain_N = change_N if higher_better else -change_N
    order = np.argsort(-gain_N, kind="stable")
    gains = [int(each) for each in order[:show] if gain_N[each] > 0]
    losses = [int(each) for each in order[::-1][:show] if gain_N[each] < 0]
    return gains + losses
