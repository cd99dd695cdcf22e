"""Packed batches hold every sentence once, whole, and nothing else."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.data.batching import BatchShape, batch_shapes, build_batch, pack_rows, plan_epoch

LENGTHS = st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=200)


def arrays(lengths: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    source, target = np.array(lengths, dtype=np.int32).T
    return source, target


@given(LENGTHS, st.integers(20, 40))
@settings(deadline=None)
def test_rows_hold_every_sentence_once_and_do_not_overflow(
    lengths: list[tuple[int, int]], row_length: int
) -> None:
    source, target = arrays(lengths)
    rows = pack_rows(np.arange(len(lengths)), source, target, row_length)
    assert sorted(number for row in rows for number in row) == list(range(len(lengths)))
    for row in rows:
        assert row
        assert source[row].sum() <= row_length
        assert target[row].sum() <= row_length


def test_rows_are_full() -> None:
    """The reason to pack: hardly any padding with lengths like those of real sentences."""
    random = np.random.default_rng(0)
    target = np.clip(random.poisson(14, 4000), 3, 60).astype(np.int32)
    source = np.clip(target + random.integers(-2, 3, 4000), 3, 60).astype(np.int32)
    rows = pack_rows(np.arange(4000), source, target, 64)
    assert target.sum() / (len(rows) * 64) > 0.9


@given(LENGTHS, st.integers(0, 3), st.integers(0, 3))
@settings(deadline=None)
def test_an_epoch_is_every_sentence_once_in_the_right_shape(
    lengths: list[tuple[int, int]], seed: int, epoch: int
) -> None:
    source, target = arrays(lengths)
    shapes = [BatchShape(4, 10), BatchShape(2, 20)]
    plans = list(plan_epoch(source, target, shapes, seed=seed, epoch=epoch))
    assert sorted(n for plan in plans for row in plan.rows for n in row) == list(range(len(lengths)))
    for plan in plans:
        assert 0 < len(plan.rows) <= plan.shape.rows
        for number in (n for row in plan.rows for n in row):
            assert (max(lengths[number]) > 10) == (plan.shape.row_length == 20)
    for shape in shapes:
        sizes = [len(plan.rows) for plan in plans if plan.shape == shape]
        assert all(size == shape.rows for size in sizes[:-1])


def test_epochs_differ_and_repeat() -> None:
    source, target = arrays([(5, 6)] * 300)

    def order(seed: int, epoch: int) -> list[Any]:
        return [plan.rows for plan in plan_epoch(source, target, [BatchShape(4, 24)], seed=seed, epoch=epoch)]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_long_rows_are_left_out_when_equal() -> None:
    assert batch_shapes(1024, 128, 128) == [BatchShape(8, 128)]
    assert batch_shapes(1024, 64, 256) == [BatchShape(16, 64), BatchShape(4, 256)]


@given(LENGTHS)
@settings(deadline=None, max_examples=30)
def test_a_batch_holds_the_sentences_of_its_plan(make_store: Any, lengths: list[tuple[int, int]]) -> None:
    begin_id = 2
    random = np.random.default_rng(0)
    pairs = [(random.integers(4, 99, s).tolist(), random.integers(4, 99, t).tolist()) for s, t in lengths]
    store = make_store(pairs)
    seen: Counter[int] = Counter()
    for plan in plan_epoch(store.source_lengths, store.target_lengths, [BatchShape(3, 25)], seed=1, epoch=0):
        batch = build_batch(store, plan, begin_id)
        assert batch.source.shape == batch.target.shape == (3, 25)
        for row, numbers in enumerate(plan.rows):
            for segment, number in enumerate(numbers, start=1):
                source, target = pairs[number]
                where = batch.source_segments[row] == segment
                assert batch.source[row][where].tolist() == source
                assert batch.source_positions[row][where].tolist() == list(range(len(source)))
                where = batch.target_segments[row] == segment
                assert batch.target[row][where].tolist() == target
                assert batch.target_input[row][where].tolist() == [begin_id, *target[:-1]]
                assert batch.target_positions[row][where].tolist() == list(range(len(target)))
                seen[number] += 1
        assert batch.target_tokens == (batch.target_segments > 0).sum() == (batch.target > 0).sum()
        assert (batch.source > 0).sum() == sum(len(pairs[n][0]) for row in plan.rows for n in row)
        empty = batch.target_segments == 0
        assert not batch.target[empty].any()
        assert not batch.target_input[empty].any()
    assert seen == Counter(range(len(pairs)))


@pytest.mark.parametrize("shuffle", [True, False])
def test_unshuffled_plans_ignore_the_seed(shuffle: bool) -> None:
    source, target = arrays([(3, 4), (7, 2), (5, 5)] * 50)
    one, two = (
        [p.rows for p in plan_epoch(source, target, [BatchShape(4, 16)], seed=s, epoch=s, shuffle=shuffle)]
        for s in (1, 2)
    )
    assert (one == two) == (not shuffle)
