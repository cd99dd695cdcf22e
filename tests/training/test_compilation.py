"""A compiled model trains as the model does. Traced by the compiler, not turned into machine code here."""

from functools import partial
from typing import Any

import pytest
import torch

from nmt.data.batching import BatchShape
from nmt.model import linear
from nmt.model.config import TransformerConfig
from nmt.model.transformer import Transformer
from nmt.training.optim import FlatParameters
from nmt.training.rehearsal import full_batch
from nmt.training.replicas import Replicas


def make_replicas(**settings: Any) -> Replicas:
    torch.manual_seed(7)
    config = TransformerConfig(
        encoder_layers=1, decoder_layers=1, width=16, heads=2, feed_forward_width=24, dropout=0.2
    )
    model = Transformer(config, source_vocabulary_size=30, target_vocabulary_size=30).train()
    return Replicas(model, FlatParameters(model, torch.float32), count=1, seed=1, **settings)


def test_the_same_gradients_with_the_same_dropout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As on a GPU; and in one piece: whatever the compiler cannot see through is an error.
    monkeypatch.setattr(linear, "_ONEDNN_DTYPES", set())
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager", fullgraph=True))
    plain, compiled = make_replicas(), make_replicas(compiled=True)
    for rows in (3, 3, 2, 3):
        batch = full_batch(
            BatchShape(rows, 8),
            source_vocabulary_size=30,
            target_vocabulary_size=30,
            device=torch.device("cpu"),
        )
        expected, found = (
            replicas.backward(batch, label_smoothing=0.1, loss_scale=1.0) for replicas in (plain, compiled)
        )
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        compiled.parameters.master_gradients, plain.parameters.master_gradients, rtol=1e-4, atol=1e-5
    )
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(" in ")[0] for line in said] == [
        f"nmt train: compiled for batches of {rows} rows of 8 slots" for rows in (3, 2)
    ]
