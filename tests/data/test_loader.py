"""The stream of batches: the same for any number of ranks, and it goes on where it stopped."""

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from nmt.data.batching import BatchShape
from nmt.data.loader import Loader, LoaderState, validation_batches
from nmt.data.store import PairStore

CPU = torch.device("cpu")
SHAPES = [BatchShape(2, 16), BatchShape(1, 32)]


@pytest.fixture
def store(make_store: Any) -> PairStore:
    random = np.random.default_rng(5)
    return make_store(
        [
            (
                random.integers(4, 99, random.integers(1, 20)).tolist(),
                [4 + number % 90] * int(random.integers(1, 20)),
            )
            for number in range(150)
        ]
    )


def loader(store: PairStore, **changes: Any) -> Loader:
    return Loader(store, SHAPES, **({"begin_id": 2, "seed": 3, "device": CPU} | changes))


def take(loader: Loader, count: int, state: LoaderState | None = None) -> list[tuple[Any, LoaderState]]:
    stream = loader.batches(state or LoaderState())
    taken = [
        (torch.stack([batch.source_BS, batch.target_BT, batch.target_input_BT]).tolist(), after)
        for batch, after in islice(stream, count)
    ]
    stream.close()  # type: ignore[attr-defined]
    return taken


def test_resumes_at_every_position_across_epochs(store: PairStore) -> None:
    whole = take(loader(store), 90)
    assert {after.epoch for _, after in whole} >= {0, 1}
    for cut in (1, 7, 33, 34, 35, 60):
        assert take(loader(store), 90 - cut, whole[cut - 1][1]) == whole[cut:]


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_one_stream(store: PairStore, world_size: int) -> None:
    whole = take(loader(store), 60)
    ranks = [
        take(loader(store, rank=rank, world_size=world_size), 60 // world_size) for rank in range(world_size)
    ]
    for turn in range(60 // world_size):
        for rank in range(world_size):
            batch, after = ranks[rank][turn]
            assert batch == whole[turn * world_size + rank][0]
            # After a turn all ranks agree where the stream is.
            assert after == whole[(turn + 1) * world_size - 1][1]


def test_errors_of_the_thread_reach_the_consumer(store: PairStore) -> None:
    broken = loader(store)
    broken.begin_id = None  # type: ignore[assignment]
    with pytest.raises(TypeError):
        take(broken, 1)


def test_validation_covers_every_sentence_in_one_order(store: PairStore) -> None:
    batches = list(validation_batches(store, SHAPES, begin_id=2, device=CPU))
    assert sum(batch.target_tokens for batch in batches) == store.target_lengths.sum()
    again = list(validation_batches(store, SHAPES, begin_id=2, device=CPU))
    assert all(torch.equal(a.target_BT, b.target_BT) for a, b in zip(batches, again, strict=True))


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_split_rows_are_the_batch_again(store: PairStore, parts: int) -> None:
    for batch in validation_batches(store, [BatchShape(4, 32)], begin_id=2, device=CPU):
        split = batch.split_rows(parts)
        assert len(split) == min(parts, 4)
        for part in split:
            assert part.target_tokens == (part.target_BT > 0).sum()
        for name, whole in batch.model_input().items():
            assert torch.equal(torch.cat([part.model_input()[name] for part in split]), whole)
        assert torch.equal(torch.cat([part.target_BT for part in split]), batch.target_BT)
