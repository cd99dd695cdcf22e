"""How much a score depends on the sentences that happen to be in a test set.

Resamples are drawn as sacrebleu draws them, by the same generator and seed, so that the results are its own;
they are computed for all metrics and systems at once.

Shapes: N sentences, R resamples or trials, K statistics of a metric.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nmt.evaluation.statistics import Array, aggregate

SEED = 12345
RESAMPLES = 1000
TRIALS = 10000
CONFIDENCE = 0.95
# Numbers in memory at a time.
_BLOCK = 1 << 22
# What rounding may add to a difference that should be none.
_ROUNDING = 1e-9

# Statistics [N, K] by the name of the metric.
Statistics = Mapping[str, Array]


@dataclass(kw_only=True, slots=True, frozen=True)
class Interval:
    """Where 95 % of the values lie that resampled test sets give, from the percentiles on both sides."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"[{self.low:.2f}, {self.high:.2f}]"


@dataclass(kw_only=True, slots=True, frozen=True)
class Significance:
    """Whether a difference between two systems could be chance, by one metric."""

    # Score of the second system less that of the first, and its bootstrap interval.
    difference: float
    interval: Interval
    # Two-sided, of paired approximate randomisation (Riezler and Maxwell, 2005): share of the trials in which
    # systems that swap their translations at random differ at least as much.
    randomization_p: float
    # Two-sided, of the paired bootstrap (Koehn, 2004): share of the resamples whose difference is at least
    # as far from the mean of all of them as that mean is from zero.
    bootstrap_p: float
    # What `sacrebleu --paired-bs` prints. It is one-sided: without any true difference it falls below 0.05 in
    # about a tenth of all comparisons.
    sacrebleu_bootstrap_p: float
    resamples: int
    trials: int
    seed: int


def bootstrap_intervals(
    statistics: Statistics, *, resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, Interval]:
    """The interval of each metric's score (Efron and Tibshirani, 1993; Koehn, 2004)."""
    return {
        name: _interval(aggregate(name, sums_RK))
        for name, sums_RK in _resample([statistics], resamples, seed)[0].items()
    }


def compare_pair(
    first: Statistics,
    second: Statistics,
    *,
    resamples: int = RESAMPLES,
    trials: int = TRIALS,
    seed: int = SEED,
) -> dict[str, Significance]:
    """Both paired tests of each metric that both systems have, on the same sentences.

    Raises:
        ValueError: the numbers of sentences differ.
    """
    names = [name for name in first if name in second]
    for name in names:
        if first[name].shape != second[name].shape:
            raise ValueError(
                f"{name}: {first[name].shape[0]} and {second[name].shape[0]} sentences cannot be paired"
            )
    sides = [{name: side[name] for name in names} for side in (first, second)]
    resampled = _resample(sides, resamples, seed)
    trial_differences = _randomize(sides, trials, seed)
    found = {}
    for name in names:
        one, other = (float(aggregate(name, side[name].sum(0))) for side in sides)
        difference = other - one
        differences_R = aggregate(name, resampled[1][name]) - aggregate(name, resampled[0][name])
        reached = np.abs(trial_differences[name]) >= abs(difference) - _ROUNDING
        centred_R = np.abs(differences_R - differences_R.mean())
        folded_R = np.abs(differences_R)
        found[name] = Significance(
            difference=difference,
            interval=_interval(differences_R),
            randomization_p=_p_value(int(reached.sum()), trials),
            bootstrap_p=_p_value(int((centred_R >= abs(difference) - _ROUNDING).sum()), resamples),
            sacrebleu_bootstrap_p=_p_value(
                int((folded_R - folded_R.mean() > abs(difference)).sum()), resamples
            ),
            resamples=resamples,
            trials=trials,
            seed=seed,
        )
    return found


def _p_value(reached: int, trials: int) -> float:
    # The data are one of the arrangements: a p of zero would claim too much (Phipson and Smyth, 2010).
    return (reached + 1) / (trials + 1)


def _interval(scores_R: Array) -> Interval:
    ordered = np.sort(scores_R)
    outside = math.floor(len(ordered) * (1 - CONFIDENCE) / 2 + 1e-9)
    return Interval(low=float(ordered[outside]), high=float(ordered[len(ordered) - outside - 1]))


def _resample(sides: Sequence[Statistics], resamples: int, seed: int) -> list[dict[str, Array]]:
    """Sums [R, K] of sentences drawn with replacement: the same draws for all metrics and systems."""
    joined_NK, widths = _join(sides)
    sentences = len(joined_NK)
    generator = np.random.default_rng(seed)
    sums = []
    for rows in _blocks(resamples, sentences):
        drawn = generator.choice(sentences, size=(rows, sentences), replace=True)
        counts = np.stack([np.bincount(row, minlength=sentences) for row in drawn])
        sums.append(counts.astype(np.float64) @ joined_NK)
    return _split(np.concatenate(sums), sides, widths)


def _randomize(sides: Sequence[Statistics], trials: int, seed: int) -> dict[str, Array]:
    """Differences [R] of each metric between two systems that swap translations at random."""
    first_NK, widths = _join(sides[:1])
    second_NK, _ = _join(sides[1:])
    totals_K = (first_NK + second_NK).sum(0)
    generator = np.random.default_rng(seed)
    sums = []
    for rows in _blocks(trials, len(first_NK)):
        chosen = generator.integers(2, size=(rows, len(first_NK)), dtype=bool)
        sums.append(second_NK.sum(0) + chosen.astype(np.float64) @ (first_NK - second_NK))
    ones_RK = np.concatenate(sums)
    ones = _split(ones_RK, sides[:1], widths)[0]
    others = _split(totals_K - ones_RK, sides[:1], widths)[0]
    return {name: aggregate(name, others[name]) - aggregate(name, ones[name]) for name in ones}


def _blocks(rows: int, sentences: int) -> Iterator[int]:
    """Numbers of rows that fit into memory; multiples of 32 leave no random bits unused in between."""
    block = max(32, _BLOCK // max(1, sentences) // 32 * 32)
    for start in range(0, rows, block):
        yield min(block, rows - start)


def _join(sides: Sequence[Statistics]) -> tuple[Array, list[int]]:
    matrices = [matrix for side in sides for matrix in side.values()]
    return np.concatenate(matrices, axis=1).astype(np.float64), [matrix.shape[1] for matrix in matrices]


def _split(sums_RK: Array, sides: Sequence[Statistics], widths: Sequence[int]) -> list[dict[str, Array]]:
    parts = iter(np.split(sums_RK, np.cumsum(widths)[:-1], axis=1))
    return [{name: next(parts) for name in side} for side in sides]
