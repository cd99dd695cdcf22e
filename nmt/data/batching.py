"""Packed batches: which sentences share a row, and the arrays that a row becomes.

A packed batch has rows of a fixed number of slots. Whole sentences are laid one behind the other,
the source of a sentence and its target in the same row number, so that all batches of a run have one
shape and hardly any padding. Sentences longer than a row go to batches of a second shape.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nmt.data.store import PairStore

IntArray = npt.NDArray[np.int32]
Rows = list[list[int]]

# Sentences packed together: enough to fill rows well, few enough that the search for a row stays cheap.
PACKING_WINDOW = 2048


@dataclass(frozen=True, slots=True)
class BatchShape:
    """Rows of a batch and slots per row, the same on the source and the target side."""

    rows: int
    row_length: int


class Work(NamedTuple):
    """Real work in a batch: pieces, and the pairs of pieces that attention compares within its sentences."""

    source_pieces: float = 0
    target_pieces: float = 0
    source_pairs: float = 0
    target_pairs: float = 0
    cross_pairs: float = 0


@dataclass(slots=True)
class PackedBatch:
    """One batch as integer arrays [rows, row_length]; 0 is padding everywhere.

    `segments` number the sentences of a row from 1; `positions` restart at 0 with each sentence.
    `target_input` is `target` shifted right by one within each sentence, begin-of-sentence first.
    """

    source: IntArray
    source_segments: IntArray
    source_positions: IntArray
    target_input: IntArray
    target: IntArray
    target_segments: IntArray
    target_positions: IntArray
    target_tokens: int
    # Work of every row, [rows, 5]; columns as in `Work`.
    row_work: npt.NDArray[np.int64]


@dataclass(slots=True)
class BatchPlan:
    """Sentence numbers of every row of one batch; missing rows are empty."""

    shape: BatchShape
    rows: Rows


def batch_shapes(max_tokens: int, row_length: int, long_row_length: int) -> list[BatchShape]:
    """The usual shape, and the one for sentences longer than a row where that is longer."""
    lengths = [row_length] if long_row_length == row_length else [row_length, long_row_length]
    return [BatchShape(max(1, max_tokens // length), length) for length in lengths]


def pack_rows(numbers: IntArray, source: IntArray, target: IntArray, row_length: int) -> Rows:
    """Lay sentences into as few rows as possible: first-fit decreasing in two dimensions.

    Args:
        numbers: sentence numbers; `source` and `target` are the lengths of those sentences, none of
            them above `row_length`.
    """
    longest = np.maximum(source, target)
    order = np.argsort(-longest, kind="stable")
    # Two lower bounds of the number of rows are added: enough room for all but odd cases.
    size = 8 + 2 * int(max(source.sum(), target.sum()) // row_length)
    source_room = np.full(size, row_length, dtype=np.int32)
    target_room = np.full(size, row_length, dtype=np.int32)
    rows: Rows = []
    for index in order.tolist():
        used = len(rows) + 1
        if used > len(source_room):
            source_room = np.concatenate([source_room, np.full(size, row_length, dtype=np.int32)])
            target_room = np.concatenate([target_room, np.full(size, row_length, dtype=np.int32)])
        fits = (source_room[:used] >= source[index]) & (target_room[:used] >= target[index])
        row = int(fits.argmax())
        if row == len(rows):
            rows.append([])
        rows[row].append(int(numbers[index]))
        source_room[row] -= source[index]
        target_room[row] -= target[index]
    return rows


def plan_epoch(
    source_lengths: IntArray,
    target_lengths: IntArray,
    shapes: list[BatchShape],
    *,
    seed: int,
    epoch: int,
    shuffle: bool = True,
) -> Iterator[BatchPlan]:
    """Every sentence once, in batches: a pure function of its arguments.

    Sentences are shuffled, packed window by window, and the rows shuffled again. Only the last batch of
    a shape has empty rows.
    """
    random = np.random.default_rng([seed, epoch])
    count = len(source_lengths)
    order = random.permutation(count) if shuffle else np.arange(count)
    waiting: list[Rows] = [[] for _ in shapes]
    for start in range(0, count, PACKING_WINDOW):
        window = order[start : start + PACKING_WINDOW]
        longest = np.maximum(source_lengths[window], target_lengths[window])
        shape_number = np.searchsorted([shape.row_length for shape in shapes], longest)
        for number, shape in enumerate(shapes):
            chosen = window[shape_number == number]
            if not len(chosen):
                continue
            rows = pack_rows(chosen, source_lengths[chosen], target_lengths[chosen], shape.row_length)
            if shuffle:
                rows = [rows[row] for row in random.permutation(len(rows))]
            waiting[number] += rows
            while len(waiting[number]) >= shape.rows:
                yield BatchPlan(shape, waiting[number][: shape.rows])
                del waiting[number][: shape.rows]
    for shape, rows in zip(shapes, waiting, strict=True):
        if rows:
            yield BatchPlan(shape, rows)


def _lay_out(shape: BatchShape, lengths: IntArray, rows: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Slots, segments and positions of all pieces of sentences with these lengths and row numbers.

    Sentences of a row stand together, in the order of the rows.
    """
    ends = np.cumsum(lengths)
    starts = ends - lengths
    first_of_row = np.searchsorted(rows, rows)
    positions = np.arange(ends[-1] if len(ends) else 0, dtype=np.int32) - np.repeat(starts, lengths)
    offsets = starts - starts[first_of_row] + rows * shape.row_length
    slots = np.repeat(offsets, lengths) + positions
    segments = np.repeat(np.arange(len(rows)) - first_of_row + 1, lengths)
    return slots, segments.astype(np.int32), positions.astype(np.int32)


def _row_work(rows: IntArray, source: IntArray, target: IntArray, count: int) -> npt.NDArray[np.int64]:
    """`Work` [count, 5] of rows that hold sentences of these lengths; `rows` are their row numbers."""
    work = (source, target, source * source, target * target, source * target)
    columns = [np.bincount(rows, weights=each, minlength=count) for each in work]
    return np.stack(columns, axis=1).astype(np.int64)


def build_batch(store: PairStore, plan: BatchPlan, begin_id: int) -> PackedBatch:
    """Copy the pieces of a planned batch into arrays, without a loop over sentences."""
    shape = plan.shape
    numbers = np.array([number for row in plan.rows for number in row], dtype=np.int64)
    rows = np.repeat(np.arange(len(plan.rows), dtype=np.int32), [len(row) for row in plan.rows])
    source_pieces, target_pieces = store.gather(numbers)
    source_lengths, target_lengths = store.source_lengths[numbers], store.target_lengths[numbers]
    source_slots, source_segments, source_positions = _lay_out(shape, source_lengths, rows)
    target_slots, target_segments, target_positions = _lay_out(shape, target_lengths, rows)
    shifted = np.empty_like(target_pieces)
    shifted[1:] = target_pieces[:-1]
    shifted[target_positions == 0] = begin_id

    def fill(slots: IntArray, values: IntArray) -> IntArray:
        array = np.zeros(shape.rows * shape.row_length, dtype=np.int32)
        array[slots] = values
        return array.reshape(shape.rows, shape.row_length)

    return PackedBatch(
        source=fill(source_slots, source_pieces),
        source_segments=fill(source_slots, source_segments),
        source_positions=fill(source_slots, source_positions),
        target_input=fill(target_slots, shifted),
        target=fill(target_slots, target_pieces),
        target_segments=fill(target_slots, target_segments),
        target_positions=fill(target_slots, target_positions),
        target_tokens=len(target_pieces),
        row_work=_row_work(rows, source_lengths, target_lengths, shape.rows),
    )
