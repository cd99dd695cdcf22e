"""From the statistics of sentences to scores: what makes resampling a test set a matter of matrix products.

Every metric adds up some numbers over sentences and computes its score from the sums (Post, 2018): BLEU
lengths and counts of n-grams, chrF counts of n-grams, TER edits and lengths. These functions compute what
sacrebleu's metrics compute, of many sums at once.

Shapes: N sentences, R resamples, K statistics of a metric, ... any of these or nothing.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_BLEU_ORDERS = 4
# What sacrebleu takes for the logarithm of zero.
_LOG_OF_ZERO = -9999999999.0


def bleu(sums: Array, *, one_sentence: bool = False) -> Array:
    """BLEU (Papineni et al., 2002) with exponential smoothing.

    Args:
        sums: [..., 10]: length of translation and reference, matching n-grams of the orders 1 to 4, all
            n-grams of the translation of the orders 1 to 4.
        one_sentence: leave out the orders for which a text is too short.
    """
    lengths, reference_lengths = sums[..., 0], sums[..., 1]
    correct, total = sums[..., 2:6], sums[..., 6:10]
    counted = total > 0
    # Each order without a match counts as half of what the order before it would have counted.
    smoothing = 2.0 ** np.cumsum((correct == 0) & counted, axis=-1)
    matches = np.where(correct > 0, correct, 1 / smoothing)
    logs = np.log(100 * matches / np.where(counted, total, 1))
    if one_sentence:
        logs = np.where(counted, logs, 0)
        orders = np.maximum(counted.sum(-1), 1)
    else:
        logs = np.where(counted, logs, _LOG_OF_ZERO)
        orders = np.asarray(_BLEU_ORDERS)
    short = lengths < reference_lengths
    brevity = np.where(short, 1 - reference_lengths / np.maximum(lengths, 1e-9), 0)
    scores: Array = np.where(correct.any(-1), np.exp(brevity + logs.sum(-1) / orders), 0.0)
    return scores


def chrf(sums: Array) -> Array:
    """chrF with beta 2 (Popović, 2015), chrF++ when the statistics of words follow (Popović, 2017).

    Args:
        sums: [..., 3 x orders]: n-grams of the translation, of the reference, and of both, order by order.
    """
    hypothesis, reference, match = sums[..., 0::3], sums[..., 1::3], sums[..., 2::3]
    counted = (hypothesis > 0) & (reference > 0)
    orders = np.maximum(counted.sum(-1), 1)
    precision = np.where(counted, match / np.maximum(hypothesis, 1), 0).sum(-1) / orders
    recall = np.where(counted, match / np.maximum(reference, 1), 0).sum(-1) / orders
    weighted = 4 * precision + recall
    scores: Array = np.where(
        weighted > 0, 500 * precision * recall / np.where(weighted > 0, weighted, 1), 0.0
    )
    return scores


def ter(sums: Array) -> Array:
    """TER (Snover et al., 2006), where less is better.

    Args:
        sums: [..., 2]: edits, and words of the reference (the mean of several).
    """
    edits, words = sums[..., 0], sums[..., 1]
    without = np.where(edits > 0, 100.0, 0.0)
    scores: Array = np.where(words > 0, 100 * edits / np.where(words > 0, words, 1), without)
    return scores


def word_f_measure(sums: Array) -> Array:
    """F1 of words: the harmonic mean of precision and recall.

    Args:
        sums: [..., 3]: right words, words of the translation, words of the reference.
    """
    right, both = sums[..., 0], sums[..., 1] + sums[..., 2]
    scores: Array = np.where(both > 0, 200 * right / np.where(both > 0, both, 1), 0.0)
    return scores


def mean(sums: Array) -> Array:
    """Mean of the scores of sentences, for metrics that score one sentence at a time.

    Args:
        sums: [..., 2]: the score, and 1.
    """
    means: Array = sums[..., 0] / np.maximum(sums[..., 1], 1)
    return means


# By the name that scores carry; whatever is not here is a mean over sentences.
AGGREGATES: dict[str, Callable[[Array], Array]] = {
    "BLEU": bleu,
    "chrF": chrf,
    "chrF++": chrf,
    "TER": ter,
    "word F1": word_f_measure,
}


def aggregate(name: str, sums: Array) -> Array:
    """Scores [...] of the metric `name` from sums of statistics [..., K]."""
    return AGGREGATES.get(name, mean)(sums)


def sentence_scores(name: str, statistics_NK: Array) -> Array:
    """The score of every sentence by itself; BLEU leaves out orders that are longer than the sentence."""
    if name == "BLEU":
        return bleu(statistics_NK, one_sentence=True)
    return aggregate(name, statistics_NK)
