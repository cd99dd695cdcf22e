"""Batches that do not fit into memory are split; the update stays the same."""

import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from nmt.data.batching import BatchPlan, BatchShape, build_batch, plan_epoch
from nmt.data.loader import DeviceBatch
from nmt.model.config import TransformerConfig
from nmt.model.transformer import Transformer
from nmt.training.checkpoint import TrainState
from nmt.training.config import TrainingConfig
from nmt.training.distributed import Processes
from nmt.training.memory import is_out_of_memory, peak_bytes, release, start_peak, usable_bytes
from nmt.training.optim import FlatParameters, Optimizer
from nmt.training.replicas import Replicas
from nmt.training.update import TrainingError, Updater, accumulate_gradients

CPU = torch.device("cpu")


class LimitedTransformer(Transformer):
    """A model on a device that has memory for so many rows; the backward pass needs it, as on a real one."""

    most_rows = 10**9
    error: Callable[[str], Exception] = torch.OutOfMemoryError

    def forward(self, **batch: Any) -> torch.Tensor:
        logits: torch.Tensor = super().forward(**batch)
        memory = next(iter(self.encoder.parameters()))
        return _Limit.apply(logits, memory, self)  # type: ignore[no-any-return, no-untyped-call]


class _Limit(torch.autograd.Function):
    """Fails in the backward pass, when the output projection has its gradient but hardly any other."""

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, memory: torch.Tensor, model: LimitedTransformer
    ) -> torch.Tensor:
        ctx.model, ctx.rows = model, len(logits)
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if ctx.rows > ctx.model.most_rows:
            weight = ctx.model.output_projection.weight
            weight.grad = torch.ones_like(weight)
            raise ctx.model.error("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return gradients[0], None, None


def make_replicas(dtype: torch.dtype, threads: int = 1) -> Replicas:
    torch.manual_seed(7)
    config = TransformerConfig(
        encoder_layers=1, decoder_layers=1, width=16, heads=2, feed_forward_width=24, dropout=0.0
    )
    model = LimitedTransformer(config, source_vocabulary_size=30, target_vocabulary_size=30).train()
    return Replicas(model, FlatParameters(model, dtype), count=threads, seed=1)


@pytest.fixture(scope="module")
def batches(make_store: Any) -> list[DeviceBatch]:
    """Eight rows in micro-batches of one, five and two."""
    random = np.random.default_rng(1)
    lengths = random.integers(1, 24, [60, 2])
    store = make_store(
        [(random.integers(4, 30, s).tolist(), random.integers(4, 30, t).tolist()) for s, t in lengths]
    )
    plan = next(plan_epoch(store.source_lengths, store.target_lengths, [BatchShape(8, 24)], seed=1, epoch=0))
    return [
        DeviceBatch.from_packed(
            build_batch(store, BatchPlan(BatchShape(stop - start, 24), plan.rows[start:stop]), 2), CPU
        )
        for start, stop in pairwise([0, 1, 6, 8])
    ]


def accumulate(replicas: Replicas, batches: list[DeviceBatch], most_rows: int = 10**9) -> list[float]:
    for model in replicas.models:
        assert isinstance(model, LimitedTransformer)
        model.most_rows = most_rows
    sums = accumulate_gradients(replicas, batches, label_smoothing=0.1, loss_scale=1.0, processes=Processes())
    replicas.close()
    return sums.tolist()


# Rows that fit and the splits that follow: a batch of five becomes two and three, three become one and two.
@pytest.mark.parametrize(("most_rows", "splits"), [(3, 1), (2, 2), (1, 5)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_the_gradients_are_those_of_enough_memory(
    batches: list[DeviceBatch], most_rows: int, splits: int, dtype: torch.dtype, tolerance: float
) -> None:
    """In float32, where micro-batches add to one tensor, and with gradients beside those of the masters."""
    whole, limited = make_replicas(dtype), make_replicas(dtype)
    *expected, none = accumulate(whole, batches)
    *sums, count = accumulate(limited, batches, most_rows)
    assert (none, count) == (0, splits)
    assert sums == pytest.approx(expected, rel=tolerance)
    gradients = limited.parameters.master_gradients
    torch.testing.assert_close(
        gradients, whole.parameters.master_gradients, rtol=10 * tolerance, atol=10 * tolerance
    )


def test_threads_are_at_rest_before_gradients_are_cleared(batches: list[DeviceBatch]) -> None:
    """One replica fails at once while the others still work."""
    whole, limited = make_replicas(torch.float32), make_replicas(torch.float32, threads=3)
    *expected, _ = accumulate(whole, batches)
    *sums, count = accumulate(limited, batches, most_rows=1)
    assert count == 1  # five rows are at most two for each of three threads
    assert sums == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(
        limited.parameters.master_gradients, whole.parameters.master_gradients, rtol=1e-4, atol=1e-5
    )


def test_splits_are_counted_and_a_row_that_does_not_fit_ends_the_run(batches: list[DeviceBatch]) -> None:
    replicas, config, state = make_replicas(torch.float32), TrainingConfig(), TrainState()
    optimizer = Optimizer(replicas.parameters, config)
    updater = Updater(
        replicas=replicas, optimizer=optimizer, config=config, state=state, processes=Processes()
    )
    model = replicas.models[0]
    assert isinstance(model, LimitedTransformer)
    model.most_rows = 2
    updater.update(batches)
    updater.update(batches)
    assert state.out_of_memory_splits == 4
    model.most_rows = 0
    before = replicas.parameters.masters.clone()
    with pytest.raises(TrainingError, match="single row of 24 slots"):
        updater.update(batches)
    assert torch.equal(before, replicas.parameters.masters)
    assert replicas.parameters.stale_gradients
    assert all(parameter.grad is None for parameter in replicas.models[0].parameters())


def test_other_errors_pass(batches: list[DeviceBatch]) -> None:
    replicas = make_replicas(torch.float32)
    model = replicas.models[0]
    assert isinstance(model, LimitedTransformer)
    model.most_rows, model.error = 1, RuntimeError
    with pytest.raises(RuntimeError, match="Tried to allocate"):
        accumulate_gradients(replicas, batches, label_smoothing=0.1, loss_scale=1.0, processes=Processes())


def test_a_real_error_of_the_allocator_is_recognised() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(raised.value)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    assert not is_out_of_memory(ValueError("CUDA out of memory"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets an earlier peak")
def test_the_peak_of_this_process_is_seen() -> None:
    size = 64 << 20
    release(CPU)
    start_peak(CPU)
    before, usable = peak_bytes(CPU), usable_bytes(CPU)
    block = torch.ones(size, dtype=torch.uint8)
    assert size * 0.9 < peak_bytes(CPU) - before < size * 1.5
    del block
    assert usable is None or usable > before
