"""The number of micro-batches and processes does not change the gradients."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from nmt.data.batching import BatchPlan, BatchShape, build_batch, plan_epoch
from nmt.data.loader import DeviceBatch
from nmt.data.store import PairStore
from nmt.model.config import TransformerConfig
from nmt.model.transformer import Transformer
from nmt.training.distributed import Processes
from nmt.training.optim import FlatParameters
from nmt.training.replicas import Replicas
from nmt.training.update import accumulate_gradients

CPU = torch.device("cpu")


def gradients(
    batches: list[DeviceBatch], processes: Processes | None = None, threads: int = 1
) -> tuple[list[float], torch.Tensor]:
    torch.manual_seed(7)
    config = TransformerConfig(
        encoder_layers=1, decoder_layers=1, width=16, heads=2, feed_forward_width=24, dropout=0.0
    )
    model = Transformer(config, source_vocabulary_size=30, target_vocabulary_size=30).train()
    parameters = FlatParameters(model, torch.float32)
    replicas = Replicas(model, parameters, count=threads, seed=1)
    sums = accumulate_gradients(
        replicas, batches, label_smoothing=0.1, loss_scale=1.0, processes=processes or Processes()
    )
    replicas.close()
    return sums.tolist(), parameters.master_gradients


def split(store: PairStore, sizes: list[int]) -> list[DeviceBatch]:
    """The same eight rows in batches of these numbers of rows."""
    plan = next(plan_epoch(store.source_lengths, store.target_lengths, [BatchShape(8, 24)], seed=1, epoch=0))
    assert len(plan.rows) == 8
    edges = np.cumsum([0, *sizes]).tolist()
    return [
        DeviceBatch.from_packed(
            build_batch(store, BatchPlan(BatchShape(stop - start, 24), plan.rows[start:stop]), 2), CPU
        )
        for start, stop in pairwise(edges)
    ]


@pytest.fixture
def store(make_store: Any) -> PairStore:
    random = np.random.default_rng(1)
    return make_store(
        [
            (
                random.integers(4, 30, random.integers(1, 24)).tolist(),
                random.integers(4, 30, random.integers(1, 24)).tolist(),
            )
            for _ in range(40)
        ]
    )


def assert_same(one: tuple[list[float], torch.Tensor], other: tuple[list[float], torch.Tensor]) -> None:
    assert one[0] == pytest.approx(other[0], rel=1e-5)
    torch.testing.assert_close(one[1], other[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sizes", [[1] * 8, [4, 4], [3, 5]])
def test_micro_batches(store: PairStore, sizes: list[int]) -> None:
    batches = split(store, sizes)
    assert len({batch.target_tokens for batch in batches}) > 1
    assert_same(gradients(batches), gradients(split(store, [8])))


def test_a_packed_batch_gives_every_sentence_the_loss_it_has_alone(store: PairStore) -> None:
    plan = next(plan_epoch(store.source_lengths, store.target_lengths, [BatchShape(8, 24)], seed=1, epoch=0))
    numbers = [number for row in plan.rows for number in row]
    assert len(numbers) > len(plan.rows)
    alone = [
        DeviceBatch.from_packed(build_batch(store, BatchPlan(BatchShape(1, 24), [[number]]), 2), CPU)
        for number in numbers
    ]
    packed = split(store, [8])
    assert_same(gradients(alone), gradients(packed))
    # Each by itself, not only in sum.
    for row, members in enumerate(plan.rows):
        losses = [gradients([alone[numbers.index(number)]])[0] for number in members]
        whole = gradients([packed[0].split_rows(8)[row]])[0]
        assert whole[:2] == pytest.approx([sum(column) for column in zip(*losses, strict=True)][:2], rel=1e-5)


@pytest.mark.parametrize("threads", [2, 3, 11])
def test_threads(store: PairStore, threads: int) -> None:
    """Even more of them than rows."""
    batches = split(store, [5, 3])
    assert_same(gradients(batches, threads=threads), gradients(batches))


def work(rank: int, folder: str, port_file: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{port_file}", rank=rank, world_size=2)
    store = PairStore.open(Path(folder))
    batches = split(store, [1] * 8)[rank::2]
    torch.save(gradients(batches, Processes(rank=rank, world_size=2)), f"{port_file}.{rank}")
    dist.destroy_process_group()


def test_two_processes(store: PairStore, tmp_path: Any) -> None:
    meeting = str(tmp_path / "meeting")
    torch.multiprocessing.spawn(work, args=(str(store.folder), meeting), nprocs=2)
    expected = gradients(split(store, [8]))
    for rank in (0, 1):
        assert_same(torch.load(f"{meeting}.{rank}"), expected)
