"""Passes that are recorded and replayed are the passes themselves; here without a GPU's part in it."""

from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nmt.data.batching import BatchShape
from nmt.data.loader import DeviceBatch, Loader, LoaderState
from nmt.data.tokenizer import BEGIN_ID
from nmt.model.config import TransformerConfig
from nmt.model.transformer import Transformer
from nmt.training.graphs import WARM_UP_PASSES, FixedPass, GraphedPass
from nmt.training.optim import FlatParameters
from nmt.training.replicas import Replicas

CPU = torch.device("cpu")
SHAPES = [BatchShape(3, 12), BatchShape(2, 20)]


class Tape:
    """Records by remembering; a replay computes again and, like a graph, has one place for its result."""

    def __init__(self) -> None:
        self.recorded = 0
        self.sums = torch.zeros(2)

    def __call__(self, compute: FixedPass) -> FixedPass:
        self.recorded += 1
        return lambda: self.sums.copy_(compute())


@pytest.fixture(scope="module")
def batches(make_store: Any) -> list[DeviceBatch]:
    """Of both shapes, which take turns."""
    random = np.random.default_rng(1)
    lengths = random.integers(1, [[12, 12], [12, 12], [20, 20]] * 100)
    store = make_store(
        [(random.integers(4, 30, s).tolist(), random.integers(4, 30, t).tolist()) for s, t in lengths]
    )
    loader = Loader(store, SHAPES, begin_id=BEGIN_ID, seed=1, device=CPU)
    with closing(loader.batches(LoaderState())) as stream:
        taken = [batch for batch, _ in islice(stream, 60)]
    by_shape = [[each for each in taken if len(each.source_BS) == shape.rows] for shape in SHAPES]
    return [batch for pair in zip(*(group[:12] for group in by_shape), strict=True) for batch in pair]


def make_replicas(dropout: float = 0.2) -> Replicas:
    torch.manual_seed(7)
    config = TransformerConfig(
        encoder_layers=1, decoder_layers=1, width=16, heads=2, feed_forward_width=24, dropout=dropout
    )
    model = Transformer(config, source_vocabulary_size=30, target_vocabulary_size=30).train()
    return Replicas(model, FlatParameters(model, torch.float32), count=1, seed=1)


def with_tape(replicas: Replicas) -> Tape:
    tape = Tape()
    replicas.graphed = GraphedPass(partial(replicas._pass, 0), tape, device=CPU)
    return tape


def test_every_replay_sees_its_own_batch_loss_scale_and_dropout(batches: list[DeviceBatch]) -> None:
    plain, taped = make_replicas(), make_replicas()
    tape = with_tape(taped)
    for number, batch in enumerate(batches):
        scale = 2.0 ** (number % 4)
        expected, found = (
            replicas.backward(batch, label_smoothing=0.1, loss_scale=scale) for replicas in (plain, taped)
        )
        assert torch.equal(expected, found)
        assert torch.equal(plain.parameters.master_gradients, taped.parameters.master_gradients)
    assert tape.recorded == len(SHAPES)


def test_a_result_outlives_the_next_replay(batches: list[DeviceBatch]) -> None:
    """Though a graph writes the results of all its replays to one place."""
    replicas = make_replicas(dropout=0)
    with_tape(replicas)
    assert replicas.graphed
    alike = [batch for batch in batches if batch.source_BS.shape == batches[0].source_BS.shape]
    results = [replicas.graphed(batch, 0.1, 1.0) for batch in alike]
    for batch, found in zip(alike, results, strict=True):
        assert torch.equal(replicas.only_pass(batch, 0.1, 1.0), found)


def test_another_label_smoothing_is_another_recording(batches: list[DeviceBatch]) -> None:
    plain, taped = make_replicas(dropout=0), make_replicas(dropout=0)
    with_tape(taped)
    for number, batch in enumerate(batches):
        smoothing = 0.1 * (number // 2 % 2)
        expected = plain.backward(batch, label_smoothing=smoothing, loss_scale=1.0)
        assert torch.equal(expected, taped.backward(batch, label_smoothing=smoothing, loss_scale=1.0))


def test_what_cannot_be_recorded_is_computed_as_before(
    batches: list[DeviceBatch], capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: FixedPass) -> FixedPass:
        raise RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors ...")

    plain, taped = make_replicas(), make_replicas()
    taped.graphed = GraphedPass(partial(taped._pass, 0), refuse, device=CPU)
    for batch in batches:
        expected = plain.backward(batch, label_smoothing=0.1, loss_scale=1.0)
        assert torch.equal(expected, taped.backward(batch, label_smoothing=0.1, loss_scale=1.0))
    assert torch.equal(plain.parameters.master_gradients, taped.parameters.master_gradients)
    message = "going on without CUDA graphs, slower: operation not permitted when stream is capturing\n"
    assert capsys.readouterr().err == f"nmt train: {message}"


def test_recordings_give_their_memory_to_a_batch_that_has_none(
    batches: list[DeviceBatch], capsys: pytest.CaptureFixture[str]
) -> None:
    short = False

    def compute(batch: DeviceBatch, label_smoothing: float, loss_scale: float | Tensor) -> Tensor:
        if short:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return torch.zeros(2)

    graphed = GraphedPass(compute, Tape(), device=CPU)
    usual = batches[0]
    other = next(batch for batch in batches if batch.source_BS.shape != usual.source_BS.shape)
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
