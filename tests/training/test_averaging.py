"""Moving averages, averages of files, and weights that are lent to the model and come back unchanged."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from nmt.training.averaging import AveragingError, MovingAverage, average_weights
from nmt.training.config import Schedule, TrainingConfig
from nmt.training.optim import FlatParameters, Optimizer


def test_moving_average_by_its_definition() -> None:
    """Also in float32, where increments are a thousandth of the weights."""
    torch.manual_seed(0)
    masters = torch.randn(50)
    average = MovingAverage(masters, 0.9)
    expected = masters.double()
    for step in range(1, 200):
        masters += 0.01 * torch.randn(50)
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * masters.double()
    assert average.weights.dtype is torch.float32
    torch.testing.assert_close(average.weights.double(), expected, rtol=0, atol=1e-5)


def test_the_beginning_is_soon_forgotten() -> None:
    """With a long memory and without warm-up, half of the first weights would be left after 693 updates."""
    masters = torch.full((1,), 1000.0)
    average = MovingAverage(masters, 0.999)
    masters.zero_()
    for step in range(1, 100):
        average.update(step)
    assert 0 < average.weights.item() < 0.001


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lent_weights_are_used_and_the_own_come_back(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = nn.Linear(6, 5)
    parameters = FlatParameters(model, dtype)
    masters, weights = parameters.masters.clone(), parameters.weights.clone()
    inputs = torch.randn(3, 6, dtype=dtype)
    before = model(inputs)
    other = torch.randn_like(parameters.masters)
    with parameters.computing_with(other):
        lent = parameters.named_views(other.to(dtype))
        torch.testing.assert_close(model(inputs), nn.functional.linear(inputs, lent["weight"], lent["bias"]))
    assert torch.equal(parameters.masters, masters)
    assert torch.equal(parameters.weights, weights)
    assert torch.equal(model(inputs), before)
    with pytest.raises(KeyboardInterrupt), parameters.computing_with(other):
        raise KeyboardInterrupt
    assert torch.equal(parameters.weights, weights)


def test_an_average_does_not_change_the_training() -> None:
    """And an update that was skipped does not change the average."""
    trained = {}
    for decay in (0.0, 0.9):
        torch.manual_seed(0)
        config = TrainingConfig(ema_decay=decay, schedule=Schedule.constant, warmup_steps=0)
        parameters = FlatParameters(nn.Linear(6, 5), torch.bfloat16)
        optimizer = Optimizer(parameters, config)
        for step in range(1, 5):
            parameters.master_gradients.normal_()
            optimizer.update(step=step, divisor=1)
        trained[decay] = parameters.masters
    assert torch.equal(trained[0.0], trained[0.9])
    assert optimizer.average is not None
    before = optimizer.average.weights.clone()
    assert not torch.equal(before, parameters.masters)
    parameters.master_gradients[0] = torch.nan
    optimizer.update(step=5, divisor=1)
    assert torch.equal(optimizer.average.weights, before)


@given(st.integers(1, 9), st.integers(0, 1000))
def test_mean_of_files_is_the_mean_rounded_once(
    tmp_path_factory: pytest.TempPathFactory, count: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("files")
    generator = torch.Generator().manual_seed(seed)
    models = [
        {name: torch.randn(shape, generator=generator) for name, shape in (("a", (3, 4)), ("b", (7,)))}
        for _ in range(count)
    ]
    files = [folder / f"{number}.safetensors" for number in range(count)]
    for file, weights in zip(files, models, strict=True):
        save_file(weights, file)
    found = average_weights(files)
    assert found.keys() == {"a", "b"}
    for name, mean in found.items():
        expected = sum(weights[name].double() for weights in models) / count
        assert torch.equal(mean, expected.float())
    assert all(torch.equal(average_weights([files[0]] * 7)[name], models[0][name]) for name in "ab")


def test_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    first, narrow, other, torn = (tmp_path / f"{name}.safetensors" for name in ("1", "2", "3", "4"))
    save_file({"a": torch.zeros(3, 4)}, first)
    save_file({"a": torch.zeros(3, 2)}, narrow)
    save_file({"b": torch.zeros(3, 4)}, other)
    torn.write_bytes(first.read_bytes()[:-1])
    for file, message in (
        (
            narrow,
            r"2\.safetensors: another model than .*1\.safetensors: a has shape \[3, 2\], there \[3, 4\]",
        ),
        (other, r"3\.safetensors: another model .*: a has shape None"),
        (torn, r"4\.safetensors: cannot be read"),
        (tmp_path / "nothing", "nothing: cannot be read"),
    ):
        with pytest.raises(AveragingError, match=message):
            average_weights([first, file])
