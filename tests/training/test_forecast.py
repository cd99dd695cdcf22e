"""What is said before the first step comes true."""

import numpy as np
import pytest

from nmt.data.batching import batch_shapes, plan_epoch
from nmt.data.row_length import pack_sample
from nmt.training.forecast import Forecast, updates_per_epoch
from nmt.training.rehearsal import Measured

MEASURED = Measured(
    parameters=7_500_000,
    vocabulary_parameters=2_100_000,
    slots=2048,
    peak_bytes=810_000_000,
    usable_bytes=24_000_000_000,
    step_seconds=0.5,
)


def forecast(seconds_left: float | None) -> str:
    return str(
        Forecast(
            measured=MEASURED,
            target_pieces=400_000,
            updates_per_epoch=200.0,
            steps_left=3600,
            seconds_left=seconds_left,
        )
    )


def test_steps_or_minutes_end_the_run() -> None:
    said = forecast(None)
    assert "7.5 M parameters, 2.1 M in embeddings" in said
    assert "3,600 steps are 18.0 epochs" in said
    assert "0.81 GB of 24.00 GB" in said
    assert "about 30 min for 3,600 steps, without validation" in said
    assert forecast(7200.0) == said
    assert "about 1,200 steps in the 10 min of training.max_minutes" in forecast(600.0)


def test_updates_of_an_epoch() -> None:
    random = np.random.default_rng(2)
    source = random.integers(2, 40, 20000, dtype=np.int32)
    target = np.minimum(source + random.integers(-1, 60, 20000), 100).astype(np.int32).clip(1)
    batches = len(list(plan_epoch(source, target, batch_shapes(2048, 64, 112), seed=3, epoch=1)))
    foretold = updates_per_epoch(
        pack_sample(source, target, (64, 112)), sentences=20000, max_tokens=2048, batches_per_update=4
    )
    assert foretold == pytest.approx(batches / 4, rel=0.03)
