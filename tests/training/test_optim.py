"""Flat AdamW with clipping equals PyTorch's over separate parameters; schedules have their shape."""

import copy
import math

import pytest
import torch
from torch import nn

from nmt.training.config import Schedule, TrainingConfig
from nmt.training.optim import FlatParameters, Optimizer, learning_rate


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.LayerNorm(7), nn.Linear(7, 3))


def test_updates_equal_torch() -> None:
    config = TrainingConfig(
        learning_rate=0.01, warmup_steps=3, weight_decay=0.1, max_gradient_norm=0.5, epsilon=1e-8
    )
    ours, theirs = make_model(), make_model()
    parameters = FlatParameters(ours, torch.float32)
    optimizer = Optimizer(parameters, config)
    groups = [
        {"params": [p for p in theirs.parameters() if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in theirs.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(groups, betas=(config.beta1, config.beta2), eps=config.epsilon)
    for step in range(1, 8):
        inputs = torch.randn(10, 5)
        (6 * ours(inputs).square().sum()).backward()
        parameters.collect(ours)
        norm = optimizer.update(step=step, divisor=6)
        theirs(inputs).square().sum().backward()
        expected_norm = nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        torch.testing.assert_close(norm, float(expected_norm), rtol=1e-5, atol=1e-6)
        for group in adam.param_groups:
            group["lr"] = learning_rate(config, step)
        adam.step()
        adam.zero_grad()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_masters_keep_what_bfloat16_would_lose() -> None:
    """Many updates, each too small for a bfloat16 weight to move, add up."""
    model = nn.Linear(4, 4, bias=False)
    nn.init.ones_(model.weight)
    config = TrainingConfig(learning_rate=1e-4, schedule=Schedule.constant, warmup_steps=0)
    parameters = FlatParameters(model, torch.bfloat16)
    optimizer = Optimizer(parameters, config)
    assert model.weight.dtype is torch.bfloat16
    for step in range(1, 201):
        model.weight.grad = torch.ones_like(model.weight)
        parameters.collect(model)
        optimizer.update(step=step, divisor=1)
    torch.testing.assert_close(parameters.view(parameters.masters, "weight"), torch.full((4, 4), 0.98))
    torch.testing.assert_close(model.weight.float(), torch.full((4, 4), 0.98), rtol=0.004, atol=0)


def test_half_precision_gradients_are_added_up_in_float32() -> None:
    model = nn.Linear(2, 2, bias=False)
    parameters = FlatParameters(model, torch.bfloat16)
    for value in (256.0, 1.0, 1.0, 1.0):
        model.weight.grad = torch.full_like(model.weight, value)
        parameters.collect(model)
    # In bfloat16 256 + 1 is 256.
    assert parameters.view(parameters.master_gradients, "weight").eq(259).all()
    assert model.weight.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_an_earlier_update_are_gone(dtype: torch.dtype) -> None:
    """Those of a parameter that has none this time, too, and those that nobody collected."""
    model = nn.ModuleList([nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)])
    parameters = FlatParameters(model, dtype)
    for layer in model:
        layer.weight.grad = torch.ones_like(layer.weight)
    parameters.collect(model)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    parameters.clear_gradients()
    assert model[0].weight.grad is None
    model[0].weight.grad = torch.full_like(model[0].weight, 3)
    parameters.collect(model)
    found = [parameters.view(parameters.master_gradients, f"{number}.weight") for number in range(2)]
    assert found[0].eq(3).all()
    assert found[1].eq(0).all()


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    model = make_model()
    parameters = FlatParameters(model, torch.float32)
    optimizer = Optimizer(parameters, TrainingConfig())
    before = copy.deepcopy(model.state_dict())
    weight = next(model.parameters())
    weight.grad = torch.full_like(weight, math.inf)
    parameters.collect(model)
    assert not math.isfinite(optimizer.update(step=1, divisor=1))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    weight.grad = torch.ones_like(weight)
    parameters.collect(model)
    assert math.isfinite(optimizer.update(step=2, divisor=1))


@pytest.mark.parametrize("schedule", list(Schedule))
def test_schedules(schedule: Schedule) -> None:
    config = TrainingConfig(
        learning_rate=1e-3, warmup_steps=100, max_steps=1000, schedule=schedule, final_learning_rate=1e-5
    )
    rates = [learning_rate(config, step) for step in range(1, 1001)]
    assert rates[0] == pytest.approx(1e-5)
    assert rates[49] == pytest.approx(5e-4)
    assert max(rates) == pytest.approx(1e-3)
    assert rates.index(max(rates)) == 99
    falling = rates[99:]
    if schedule is Schedule.constant:
        assert set(falling) == {1e-3}
        return
    assert all(a > b for a, b in zip(falling, falling[1:], strict=False))
    if schedule is Schedule.inverse_sqrt:
        assert rates[399] == pytest.approx(1e-3 / 2)
    else:
        assert rates[-1] == pytest.approx(1e-5)
    if schedule is Schedule.exponential:
        assert rates[549] == pytest.approx(1e-4, rel=0.01)


def test_no_warmup_starts_at_the_peak() -> None:
    for schedule in Schedule:
        config = TrainingConfig(
            learning_rate=1e-3, warmup_steps=0, schedule=schedule, final_learning_rate=1e-5
        )
        assert learning_rate(config, 1) == pytest.approx(1e-3, rel=0.001)
