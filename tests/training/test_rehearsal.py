"""What full batches take is measured before training, and the largest that fits is found."""

from typing import Any

import pytest
import torch

from nmt.data.batching import BatchShape
from nmt.model.config import Positions, TiedEmbeddings, TransformerConfig
from nmt.model.transformer import Transformer
from nmt.training.config import TrainingConfig
from nmt.training.distributed import Processes
from nmt.training.optim import FlatParameters, Optimizer
from nmt.training.rehearsal import Rehearsal, count_parameters, fits, full_batch, largest_batch
from nmt.training.replicas import Replicas

CPU = torch.device("cpu")


class Device:
    """Memory that grows with the slots of a batch, not quite evenly; remembers what was run on it."""

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self.ran: list[int] = []

    def peak_bytes(self, slots: int) -> int | None:
        self.ran.append(slots)
        peak = 5_000_000 + 1000 * slots + slots**2 // 500
        return None if peak > self.memory else peak


@pytest.mark.parametrize("memory", [6_000_000, 9_000_000, 20_000_000, 100_000_000, 200_000_000])
def test_the_largest_batch_fits_and_is_not_far_from_the_limit(memory: int) -> None:
    device = Device(memory)
    limit = int(0.85 * memory)
    slots = largest_batch(device.peak_bytes, unit=128, ceiling=1_000_000, limit=limit)
    if memory == 6_000_000:
        assert slots == 0
        return
    assert slots % 128 == 0
    peak, larger = device.peak_bytes(slots), device.peak_bytes(slots * 8 // 7 + 256)
    assert peak is not None
    assert peak <= limit
    assert larger is None or larger > limit
    assert len(device.ran) < 30


def test_the_ceiling_is_taken_when_it_fits() -> None:
    device = Device(10**9)
    assert largest_batch(device.peak_bytes, unit=128, ceiling=5000, limit=10**9) == 5000
    assert device.ran[-1] == 5000
    assert largest_batch(Device(10**9).peak_bytes, unit=128, ceiling=5000, limit=None) == 5000


def test_a_batch_that_would_have_the_process_killed_is_not_tried() -> None:
    device = Device(10**18)
    assert not fits(device.peak_bytes, 10**6, unit=128, limit=10**8)
    assert max(device.ran) <= 16 * 128
    assert fits(device.peak_bytes, 10**6, unit=128, limit=None)
    assert device.ran[-1] == 10**6
    assert not fits(Device(10**6).peak_bytes, 10**6, unit=128, limit=10**8)


def make_rehearsal(width: int = 16, **changes: Any) -> Rehearsal:
    config = TransformerConfig(
        encoder_layers=1, decoder_layers=1, width=width, heads=2, feed_forward_width=24, **changes
    )
    model = Transformer(config, source_vocabulary_size=40, target_vocabulary_size=40)
    parameters = FlatParameters(model, torch.float32)
    return Rehearsal(
        Replicas(model, parameters, count=2, seed=1),
        Optimizer(parameters, TrainingConfig()),
        row_lengths=(32, 48),
        label_smoothing=0.1,
        processes=Processes(),
    )


def test_updates_are_really_run_with_every_slot_filled() -> None:
    """Learned positions need not reach as far as a row."""
    rehearsal = make_rehearsal(positions=Positions.learned, max_positions=48)
    peak = rehearsal.peak_bytes(480)
    measured = rehearsal.measure(480, accumulate_batches=3, usable=None)
    rehearsal.replicas.close()
    assert measured.slots == 480
    assert measured.peak_bytes == peak
    assert peak is not None
    assert peak > 50e6  # Python and PyTorch alone take more
    assert measured.step_seconds > 3 * rehearsal.backward_seconds > 0
    assert rehearsal.optimizer.moments().keys() >= {"0.exp_avg", "1.exp_avg_sq"}
    assert rehearsal.replicas.parameters.stale_gradients
    batch = full_batch(BatchShape(3, 32), source_vocabulary_size=40, target_vocabulary_size=7, device=CPU)
    assert batch.source_BS.shape == batch.target_BT.shape == (3, 32)
    assert set(batch.target_BT.flatten().tolist()) == set(range(1, 7))
    assert batch.target_tokens == 96


def test_more_slots_take_more_memory() -> None:
    rehearsal = make_rehearsal(width=128)
    peaks = [rehearsal.peak_bytes(slots) for slots in (480, 9600)]
    rehearsal.replicas.close()
    assert peaks[0] is not None
    assert peaks[1] is not None
    assert peaks[1] - peaks[0] > 9000 * 128 * 4 * 4


def test_too_little_memory_is_no_error_and_leaves_no_gradients() -> None:
    rehearsal = make_rehearsal()
    model = rehearsal.replicas.models[0]
    memory = model.output_projection.register_full_backward_hook(run_out)
    assert rehearsal.peak_bytes(480) is None
    assert all(p.grad is None for model in rehearsal.replicas.models for p in model.parameters())
    memory.remove()
    assert rehearsal.peak_bytes(480) is not None
    rehearsal.replicas.close()


def run_out(*_: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize(("tied", "expected"), list(zip(TiedEmbeddings, [640, 1280, 1920], strict=True)))
def test_embeddings_are_counted_once(tied: TiedEmbeddings, expected: int) -> None:
    rehearsal = make_rehearsal(tied_embeddings=tied)
    rehearsal.replicas.close()
    model = rehearsal.replicas.models[0]
    assert count_parameters(model) == (sum(each.numel() for each in model.parameters()), expected)
