"""How long the rows of packed batches are, chosen from the lengths of a corpus.

A row should hold several sentences, so that it is filled, and few slots, because each slot attends to all
slots of its row. Both are known before training: the first by packing a sample, the second from timings.
"""

from dataclasses import dataclass

import numpy as np

from nmt.data.batching import PACKING_WINDOW, IntArray, pack_rows

CANDIDATES = (64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
# Share of all pieces that the usual rows must be able to hold. Batches of long sentences alone are no
# random draws of the corpus, and a GPU pays for a second shape: they have to stay the exception.
USUAL_SHARE = 0.98
# What one more slot in a row adds to the cost of a slot, attention's share. Model `small` on a CPU takes 5 %
# longer per slot in rows of 128 than in rows of 64, `tiny` 14 %, `iwslt` 1 %.
ATTENTION_COST_PER_SLOT = 0.0008
# Long rows are a multiple of this many slots, the step in which matrix products are cut.
ROW_STEP = 16
SAMPLE_WINDOWS = 4


@dataclass(frozen=True, slots=True)
class Packing:
    """How a sample of a corpus fills rows of the usual and, where there is one, of the long length."""

    row_lengths: tuple[int, ...]
    sentences: int
    # Packed rows, by length.
    rows: tuple[int, ...]
    source_pieces: int
    target_pieces: int

    @property
    def filled_share(self) -> float:
        """Share of the slots of both sides that hold a piece."""
        return (self.source_pieces + self.target_pieces) / (2 * self._slots())

    @property
    def cost(self) -> float:
        """Time per piece, without a unit: slots weighted with attention, over pieces."""
        return self._slots(ATTENTION_COST_PER_SLOT) / (self.source_pieces + self.target_pieces)

    def _slots(self, weight: float = 0.0) -> float:
        return sum(
            rows * length * (1 + weight * length)
            for rows, length in zip(self.rows, self.row_lengths, strict=True)
        )


def pack_sample(source_lengths: IntArray, target_lengths: IntArray, row_lengths: tuple[int, ...]) -> Packing:
    """Pack a few windows of a corpus, always the same ones, as `plan_epoch` does.

    Args:
        source_lengths, target_lengths: [N] pieces of every sentence, at least one sentence and none above
            the last of `row_lengths`.
    """
    source, target = _sample(source_lengths, target_lengths)
    rows = [0] * len(row_lengths)
    for start in range(0, len(source), PACKING_WINDOW):
        window = slice(start, start + PACKING_WINDOW)
        length_number = np.searchsorted(row_lengths, np.maximum(source[window], target[window]))
        for number, length in enumerate(row_lengths):
            chosen = np.flatnonzero(length_number == number).astype(np.int32)
            rows[number] += len(pack_rows(chosen, source[window][chosen], target[window][chosen], length))
    return Packing(row_lengths, len(source), tuple(rows), int(source.sum()), int(target.sum()))


def choose_row_lengths(
    source_lengths: IntArray, target_lengths: IntArray, *, longest: int, limit: int | None = None
) -> tuple[int, int]:
    """Usual and long row length for a corpus; both are the same where every sentence fits the usual one.

    Of the candidates that hold nearly all pieces the cheapest: slots needed for a sample, each weighted with
    what attention in such a row costs. About 15 pieces a sentence give 64, the usual corpora of news or talks
    96 or 128, documents 512 and more. Long rows hold the longest sentence and hardly more.

    Args:
        source_lengths, target_lengths: [N] pieces of every training sentence.
        longest: pieces of the longest sentence of all sets that are laid in such rows.
        limit: slots that no row may exceed; at least `longest`.
    """
    long_row = long_row_length(longest, limit=limit)
    source, target = _sample(source_lengths, target_lengths)
    pieces, needed = source + target, np.maximum(source, target)
    packings = []
    for length in CANDIDATES:
        fits = pieces[needed <= length].sum() >= USUAL_SHARE * pieces.sum()
        if fits and (limit is None or length <= limit):
            lengths = distinct_lengths(length, max(length, long_row))
            packings.append(pack_sample(source_lengths, target_lengths, lengths))
        if length >= long_row:
            break  # longer rows fill no better
    if not packings:
        return long_row, long_row
    best = min(packings, key=lambda packing: packing.cost).row_lengths
    return best[0], best[-1]


def long_row_length(longest: int, *, limit: int | None = None) -> int:
    """Slots of a row for the longest sentence: a whole number of steps where the limit allows it."""
    rounded = -(-longest // ROW_STEP) * ROW_STEP
    return rounded if limit is None else min(rounded, limit)


def distinct_lengths(usual: int, long: int) -> tuple[int, ...]:
    """One length, or two where they differ."""
    return (usual,) if usual == long else (usual, long)


def _sample(source_lengths: IntArray, target_lengths: IntArray) -> tuple[IntArray, IntArray]:
    """Lengths of a few windows of sentences, the same at every call."""
    count = len(source_lengths)
    size = min(count, SAMPLE_WINDOWS * PACKING_WINDOW)
    numbers = np.random.default_rng(0).choice(count, size, replace=False)
    return np.asarray(source_lengths)[numbers], np.asarray(target_lengths)[numbers]
