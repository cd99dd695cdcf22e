"""Minimum Bayes risk: of many translations of a sentence the one that the others agree with most.

The candidates stand for what the model believes; chosen is the one with the greatest expected utility under
that belief (Kumar and Byrne, 2004), with every candidate both as hypothesis and as reference (Eikema and
Aziz, 2020 and 2022; Freitag et al., 2022). Utilities are sentence chrF and BLEU as sacrebleu defines them.

Shapes: C different candidates of a sentence (rows are hypotheses, columns references), G different n-grams of
one order, N orders of n-grams.
"""

import functools
import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from nmt.decoding.config import MbrUtility
from nmt.decoding.translation import Candidate

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# The first hypotheses of a search share nearly all of the probability, more than their quality explains. The
# choice among five on 1,014 validation sentences of Multi30k, `small`, by the power of the probability:
#     power     1     0.5   0.25  0     the most probable one
#     chrF      57.6  58.0  58.2  58.3  56.9
#     BLEU      34.6  34.7  34.5  32.4  34.2
_POWER = 0.5
# Sums in another order differ by less than the last of these, different texts by far more.
_EQUAL_DIGITS = 9


def by_agreement(candidates: Sequence[Candidate], utility: MbrUtility, *, sampled: bool) -> list[Candidate]:
    """The candidates of a sentence by expected utility, which takes the place of their score.

    What a search has found counts by the root of its probability; of samples the probable ones are there more
    often.
    """
    best = max(each.log_probability for each in candidates)
    weights = None if sampled else [math.exp(_POWER * (each.log_probability - best)) for each in candidates]
    utilities = expected_utilities([each.text for each in candidates], utility=utility, weights=weights)
    ranked = (replace(each, score=float(found)) for each, found in zip(candidates, utilities, strict=True))
    return sorted(ranked, key=lambda each: -each.score)


def expected_utilities(
    candidates: Sequence[str],
    *,
    utility: MbrUtility,
    weights: Sequence[float] | None = None,
    tokenizer: str = "13a",
) -> Floats:
    """The expected utility of each candidate of one sentence, from 0 to 100; equal ones are equal numbers.

    Args:
        candidates: at least one. The same text may stand there several times, as it does among samples, and
            counts as often.
        utility: how good one candidate is when another is the truth.
        weights: how probable each candidate is, compared with the others; None makes them equal.
        tokenizer: sacrebleu's name of the tokenizer of BLEU; `char` suits languages without spaces.

    Raises:
        ValueError: there are no candidates, or weights that are negative, no numbers or all zero.
    """
    shares = np.ones(len(candidates)) if weights is None else np.asarray(weights, dtype=np.float64)
    if not candidates or len(shares) != len(candidates):
        raise ValueError(f"there are {len(candidates)} candidates and {len(shares)} weights")
    if not (np.isfinite(shares).all() and (shares >= 0).all() and shares.any()):
        raise ValueError("weights of candidates must be numbers that are not negative, not all of them zero")
    places: dict[str, int] = {}
    place_of = [places.setdefault(text, len(places)) for text in candidates]
    share_C = np.bincount(place_of, weights=shares)
    expected_C = pairwise(list(places), utility, tokenizer=tokenizer) @ (share_C / share_C.sum())
    expected: Floats = expected_C.round(_EQUAL_DIGITS)[place_of]
    return expected


def pairwise(texts: Sequence[str], utility: MbrUtility, *, tokenizer: str = "13a") -> Floats:
    """The utility of each text (row) when each of them (column) is the reference, [C, C].

    N-grams are counted once per text, and all pairs are compared together.
    """
    measure = _measure(utility, tokenizer)
    counts = [measure.count(text) for text in texts]
    matches_NCC, totals = [], []
    for order in range(measure.orders):
        matches_CC, total_C = _match([own[order] for own in counts])
        matches_NCC.append(matches_CC)
        totals.append(total_C)
    return measure.score(np.stack(matches_NCC), np.stack(totals))


def _match(counts: Sequence[Mapping[Hashable, int]]) -> tuple[Integers, Integers]:
    """How many n-grams each pair of texts shares [C, C], and how many each has [C].

    Of an n-gram they share the smaller of its two counts: as often as both have it at least once, at least
    twice and so on, which makes a sum of products.
    """
    columns: dict[Hashable, int] = {}
    places = [[columns.setdefault(ngram, len(columns)) for ngram in own] for own in counts]
    # Single precision is exact for whole numbers, and such products are fast.
    counts_CG = np.zeros((len(counts), len(columns)), dtype=np.float32)
    for row, own in enumerate(counts):
        counts_CG[row, places[row]] = list(own.values())
    total_C = counts_CG.sum(axis=1)
    has_CG = (counts_CG > 0).astype(np.float32)
    matches_CC = has_CG @ has_CG.T
    often = 2
    while (kept := (counts_CG >= often).any(axis=0)).any():
        counts_CG = counts_CG[:, kept]
        has_CG = (counts_CG >= often).astype(np.float32)
        matches_CC += has_CG @ has_CG.T
        often += 1
    return matches_CC.astype(np.int64), total_C.astype(np.int64)


class _Measure(Protocol):
    """A utility in two steps: what is counted in one text, and what the counts of two come to."""

    # Orders of n-grams, N.
    orders: int

    def count(self, text: str) -> Sequence[Mapping[Any, int]]:
        """The n-grams of each order."""

    def score(self, matches_NCC: Integers, totals_NC: Integers) -> Floats:
        """The utility of all pairs [C, C]; shared n-grams and those of each text by order."""


# Loading a tokenizer takes longer than comparing a sentence's candidates.
@functools.cache
def _measure(utility: MbrUtility, tokenizer: str) -> _Measure:
    if utility is MbrUtility.chrf:
        return _SentenceChrf()
    if utility is MbrUtility.bleu:
        return _SentenceBleu(tokenizer)
    raise ValueError(f"{utility.value} is no utility")


class _SentenceChrf:
    """chrF of a sentence (Popović, 2015) with sacrebleu's default settings."""

    def __init__(self) -> None:
        from sacrebleu.metrics import helpers
        from sacrebleu.metrics.chrf import CHRF

        self._ngrams = helpers.extract_all_char_ngrams
        metric = CHRF()
        self.orders, self._factor = metric.char_order, metric.beta**2

    def count(self, text: str) -> Sequence[Mapping[Any, int]]:
        counts: list[Counter[str]] = self._ngrams(text, self.orders)
        return counts

    def score(self, matches_NCC: Integers, totals_NC: Integers) -> Floats:
        # An order counts when both sides have n-grams of it.
        both_NCC = np.minimum(totals_NC[:, :, None], totals_NC[:, None, :]) > 0
        orders_CC = np.maximum(both_NCC.sum(axis=0), 1)
        at_least_one_NC = np.maximum(totals_NC, 1)
        # One after the other, as sacrebleu adds them up: the same rounding.
        precision_CC, recall_CC = np.zeros(orders_CC.shape), np.zeros(orders_CC.shape)
        for both_CC, matches_CC, total_C in zip(both_NCC, matches_NCC, at_least_one_NC, strict=True):
            precision_CC += np.where(both_CC, matches_CC / total_C[:, None], 0)
            recall_CC += np.where(both_CC, matches_CC / total_C[None, :], 0)
        precision_CC /= orders_CC
        recall_CC /= orders_CC
        product_CC = (1 + self._factor) * precision_CC * recall_CC
        weighted_CC = self._factor * precision_CC + recall_CC
        chrf_CC: Floats = np.divide(
            product_CC, weighted_CC, out=np.zeros_like(product_CC), where=weighted_CC > 0
        )
        chrf_CC *= 100
        return chrf_CC


class _SentenceBleu:
    """BLEU of a sentence: exponential smoothing and as many orders as the hypothesis has n-grams of.

    The smoothing is method 3 of Chen and Cherry (2014), the defaults are those of sacrebleu for sentences.
    """

    def __init__(self, tokenizer: str) -> None:
        from sacrebleu.metrics import helpers
        from sacrebleu.metrics.bleu import BLEU

        self._ngrams = helpers.extract_all_word_ngrams
        metric = BLEU(tokenize=tokenizer, effective_order=True)
        self._tokenize, self.orders = metric.tokenizer, metric.max_ngram_order

    def count(self, text: str) -> Sequence[Mapping[Any, int]]:
        found, _ = self._ngrams(self._tokenize(text.rstrip()), 1, self.orders)
        counts: list[dict[tuple[str, ...], int]] = [{} for _ in range(self.orders)]
        for ngram, number in found.items():
            counts[len(ngram) - 1][ngram] = number
        return counts

    def score(self, matches_NCC: Integers, totals_NC: Integers) -> Floats:
        length_C = totals_NC[0]
        brevity_CC = np.minimum(0, 1 - length_C[None, :] / np.maximum(length_C[:, None], 1))
        exists_NC1 = (totals_NC > 0)[:, :, None]
        # Every order without a match halves what the orders without one are taken for.
        missing_NCC = (matches_NCC == 0) & exists_NC1
        taken_for_NCC = np.where(missing_NCC, 0.5 ** np.cumsum(missing_NCC, axis=0), matches_NCC)
        precision_NCC = taken_for_NCC / np.maximum(totals_NC, 1)[:, :, None]
        log_NCC = np.log(np.where(exists_NC1, precision_NCC, 1))
        orders_C1 = np.maximum(exists_NC1.sum(axis=0), 1)
        score_CC = 100 * np.exp(brevity_CC + log_NCC.sum(axis=0) / orders_C1)
        return np.where(matches_NCC.any(axis=0), score_CC, 0)
