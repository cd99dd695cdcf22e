"""Passes that are recorded and replayed are the passes themselves; here without a GPU's part in it."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from nmt.data.loader import DeviceBatch
from nmt.model.config import TransformerConfig
from nmt.model.transformer import Transformer
from nmt.training.graphs import WARM_UP_PASSES, FixedPass, GraphedPass
from nmt.training.optim import FlatParameters
from nmt.training.replicas import Replicas

SHAPES = [(3, 12), (1, 20)]


class Tape:
    """Records by remembering; a replay computes again and, like a graph, has one place for its result."""

    def __init__(self) -> None:
        self.recorded = 0
        self.sums = torch.zeros(2)

    def __call__(self, compute: FixedPass) -> FixedPass:
        self.recorded += 1
        return lambda: self.sums.copy_(compute())


def random_batch(random: np.random.Generator, rows: int, row_length: int, device: str = "cpu") -> DeviceBatch:
    """Rows of two sentences each, the second half padding."""
    pieces = torch.from_numpy(random.integers(4, 30, [3, rows, row_length], dtype=np.int32))
    segments = torch.ones(rows, row_length, dtype=torch.int32)
    segments[:, row_length // 3 :] = 2
    positions = torch.arange(row_length, dtype=torch.int32).repeat(rows, 1)
    positions[:, row_length // 3 :] -= row_length // 3
    real = int(random.integers(row_length // 3 + 1, row_length))
    segments[:, real:], pieces[:, :, real:], positions[:, real:] = 0, 0, 0
    source, target_input, target = (each.to(device) for each in pieces)
    segments, positions = segments.to(device), positions.to(device)
    return DeviceBatch(
        source_BS=source,
        source_segments_BS=segments,
        source_positions_BS=positions,
        target_input_BT=target_input,
        target_BT=target,
        target_segments_BT=segments,
        target_positions_BT=positions,
        target_tokens=rows * real,
    )


def batches(count: int, device: str = "cpu") -> list[DeviceBatch]:
    random = np.random.default_rng(1)
    return [random_batch(random, *SHAPES[number % 3 == 1], device) for number in range(count)]


def make_replicas(dropout: float = 0.2) -> Replicas:
    torch.manual_seed(7)
    config = TransformerConfig(
        encoder_layers=1, decoder_layers=1, width=16, heads=2, feed_forward_width=24, dropout=dropout
    )
    model = Transformer(config, source_vocabulary_size=30, target_vocabulary_size=30).train()
    return Replicas(model, FlatParameters(model, torch.float32), count=1, seed=1)


def with_tape(replicas: Replicas) -> Tape:
    tape = Tape()
    replicas.graphed = GraphedPass(partial(replicas._pass, 0), tape, device=torch.device("cpu"))
    return tape


def test_every_replay_sees_its_own_batch_loss_scale_and_dropout() -> None:
    plain, taped = make_replicas(), make_replicas()
    tape = with_tape(taped)
    results: list[tuple[Tensor, Tensor]] = []
    for number, batch in enumerate(batches(20)):
        scale = 2.0 ** (number % 4)
        results.append(
            (
                plain.backward(batch, label_smoothing=0.1, loss_scale=scale),
                taped.backward(batch, label_smoothing=0.1, loss_scale=scale),
            )
        )
        assert torch.equal(plain.parameters.master_gradients, taped.parameters.master_gradients)
    # Looked at in the end: a result must outlive the replays after it.
    for expected, found in results:
        assert torch.equal(expected, found)
    assert tape.recorded == len(SHAPES)


def test_another_label_smoothing_is_another_recording() -> None:
    plain, taped = make_replicas(dropout=0), make_replicas(dropout=0)
    with_tape(taped)
    for number, batch in enumerate(batches(4 * WARM_UP_PASSES)):
        smoothing = 0.1 * (number % 2)
        expected = plain.backward(batch, label_smoothing=smoothing, loss_scale=1.0)
        assert torch.equal(expected, taped.backward(batch, label_smoothing=smoothing, loss_scale=1.0))


def test_what_cannot_be_recorded_is_computed_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(_: FixedPass) -> FixedPass:
        raise RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors ...")

    plain, taped = make_replicas(), make_replicas()
    taped.graphed = GraphedPass(partial(taped._pass, 0), refuse, device=torch.device("cpu"))
    for batch in batches(12):
        expected = plain.backward(batch, label_smoothing=0.1, loss_scale=1.0)
        assert torch.equal(expected, taped.backward(batch, label_smoothing=0.1, loss_scale=1.0))
    assert torch.equal(plain.parameters.master_gradients, taped.parameters.master_gradients)
    message = "going on without CUDA graphs, slower: operation not permitted when stream is capturing\n"
    assert capsys.readouterr().err == f"nmt train: {message}"


def test_recordings_give_their_memory_to_a_batch_that_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    short = False

    def compute(batch: DeviceBatch, label_smoothing: float, loss_scale: float | Tensor) -> Tensor:
        if short:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return torch.zeros(2)

    graphed = GraphedPass(compute, Tape(), device=torch.device("cpu"))
    usual, other = batches(2)
    for _ in range(WARM_UP_PASSES + 1):
        graphed(usual, 0.1, 1.0)
    assert graphed.recordings
    short = True
    with pytest.raises(torch.OutOfMemoryError):
        graphed(other, 0.1, 1.0)
    short = False
    assert not graphed.recordings
    for _ in range(WARM_UP_PASSES + 1):
        graphed(usual, 0.1, 1.0)
    assert not graphed.recordings
    assert "other batches need their memory" in capsys.readouterr().err
