"""What other weights cost in BLEU, with a confidence interval from paired bootstrap (Koehn, 2004).

Shapes: N sentences, R resamples of them, C counts that BLEU is computed from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sacrebleu.metrics.bleu import BLEU

_RESAMPLES = 1000
_CONFIDENCE = 0.95
Counts = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


@dataclass(kw_only=True, slots=True)
class BleuDifference:
    """BLEU of two sets of translations; the interval is that of the difference."""

    ours: float
    theirs: float
    low: float
    high: float
    sentences: int
    signature: str

    @property
    def difference(self) -> float:
        """Negative when theirs is the lower."""
        return self.theirs - self.ours

    def __str__(self) -> str:
        return (
            f"BLEU {self.theirs:.2f}, {self.ours:.2f} before: {self.difference:+.2f},"
            f" {_CONFIDENCE:.0%} between {self.low:+.2f} and {self.high:+.2f}"
            f" (paired bootstrap, {_RESAMPLES:,} resamples of {self.sentences:,} sentences; {self.signature})"
        )


def bleu_difference(
    ours: Sequence[str], theirs: Sequence[str], references: Sequence[str], *, seed: int = 1
) -> BleuDifference:
    """Score both against the same references, with sacrebleu's default settings."""
    bleu = BLEU()
    counts = [_sentence_counts(bleu, side, references) for side in (ours, theirs)]
    rows_RN = np.random.default_rng(seed).integers(len(references), size=(_RESAMPLES, len(references)))
    resampled = [[_score(side[rows].sum(axis=0)) for rows in rows_RN] for side in counts]
    differences_R = np.subtract(resampled[1], resampled[0])
    outside = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(differences_R, [outside, 1 - outside])
    return BleuDifference(
        ours=_score(counts[0].sum(axis=0)),
        theirs=_score(counts[1].sum(axis=0)),
        low=float(low),
        high=float(high),
        sentences=len(references),
        signature=str(bleu.get_signature()),
    )


def _sentence_counts(bleu: BLEU, translations: Sequence[str], references: Sequence[str]) -> Counts:
    """Matching and all n-grams, length and reference length of each sentence: [N, C]."""
    rows = []
    for translation, reference in zip(translations, references, strict=True):
        score = bleu.corpus_score([translation], [[reference]])
        rows.append([*score.counts, *score.totals, score.sys_len, score.ref_len])
    return np.array(rows, dtype=np.int64)


def _score(counts_C: Counts) -> float:
    *n_grams, length, reference_length = counts_C.tolist()
    half = len(n_grams) // 2
    score = BLEU.compute_bleu(n_grams[:half], n_grams[half:], length, reference_length, smooth_method="exp")
    return float(score.score)
