"""The type a run computes in, and the loss scale of float16."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from nmt.model import precision
from nmt.training.config import Precision, Schedule, TrainingConfig
from nmt.training.optim import FlatParameters, Optimizer
from nmt.training.precision import LossScale, choose_dtype

CPU = torch.device("cpu")


def test_what_is_asked_for_is_used() -> None:
    for name in (Precision.float32, Precision.bfloat16, Precision.float16):
        assert choose_dtype(name, CPU) is getattr(torch, name.value)


@pytest.fixture
def _nothing_measured_yet() -> Iterator[None]:
    precision.fastest_dtype.cache_clear()
    yield
    precision.fastest_dtype.cache_clear()


@pytest.mark.usefixtures("_nothing_measured_yet")
@pytest.mark.parametrize(("bfloat16_seconds", "expected"), [(0.5, torch.bfloat16), (0.9, torch.float32)])
def test_auto_measures_and_keeps_to_it(
    monkeypatch: pytest.MonkeyPatch, bfloat16_seconds: float, expected: torch.dtype
) -> None:
    seconds = {torch.bfloat16: bfloat16_seconds, torch.float32: 1.0}
    monkeypatch.setattr(precision, "_product_seconds", lambda *dtypes: [seconds[each] for each in dtypes])
    assert choose_dtype(Precision.auto, CPU) is expected
    monkeypatch.setattr(precision, "_product_seconds", lambda *dtypes: [1.0, 0.7])
    assert choose_dtype(Precision.auto, CPU) is expected


def test_measurement_takes_no_noticeable_time_and_is_positive() -> None:
    assert all(0 < each < 1 for each in precision._product_seconds(torch.float32, torch.bfloat16))


def test_loss_scale_halves_and_doubles_for_float16_only() -> None:
    scale = LossScale(torch.float16)
    start = scale.value
    scale.update(finite=False)
    assert scale.value == start / 2
    for _ in range(LossScale.GROWTH_INTERVAL):
        scale.update(finite=True)
    assert scale.value == start
    constant = LossScale(torch.bfloat16)
    constant.update(finite=False)
    assert constant.value == 1


def test_float16_learns_and_survives_an_overflow() -> None:
    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    config = TrainingConfig(learning_rate=0.05, warmup_steps=0, schedule=Schedule.constant)
    parameters = FlatParameters(model, torch.float16)
    optimizer = Optimizer(parameters, config)
    scale = LossScale(torch.float16)
    scale.value = 2.0**40  # overflows at first
    inputs = torch.randn(64, 8).half()
    targets = inputs.sum(1, keepdim=True)
    norms, losses = [], []
    for step in range(1, 200):
        error = (model(inputs) - targets).float().square().sum()
        (error * scale.value).backward()
        parameters.collect(model)
        norms.append(optimizer.update(step=step, divisor=64 * scale.value))
        scale.update(math.isfinite(norms[-1]))
        losses.append(float(error.detach()) / 64)
    assert not math.isfinite(norms[0])
    assert math.isfinite(norms[-1])
    assert losses[-1] < 0.01 * losses[0]
