"""Flat parameters, the optimizer over them, and the learning rate as a function of the step."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nmt.training.averaging import MovingAverage
from nmt.training.config import Schedule, TrainingConfig

# Each parameter starts at a multiple of this many elements, so that vector loads stay aligned.
ALIGNMENT = 64


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Learning rate of update `step`, counted from 1: linear warm-up, then the schedule.

    `inverse_sqrt` follows Vaswani et al. (2017, section 5.3), scaled so that the peak is
    `learning_rate`. The others go from there to `final_learning_rate` at `max_steps`.
    """
    peak, final, warmup = config.learning_rate, config.final_learning_rate, config.warmup_steps
    if step < warmup:
        return peak * step / warmup
    if config.schedule is Schedule.constant:
        return peak
    if config.schedule is Schedule.inverse_sqrt:
        return peak * math.sqrt(max(warmup, 1) / step)
    progress = min(1.0, (step - warmup) / max(1, config.max_steps - warmup))
    if config.schedule is Schedule.linear:
        return peak + (final - peak) * progress
    if config.schedule is Schedule.cosine:
        return final + (peak - final) * (1 + math.cos(math.pi * progress)) / 2
    return peak * float((final / peak) ** progress)


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a parameter lies in the flat tensors."""

    start: int
    shape: torch.Size

    @property
    def range(self) -> slice:
        return slice(self.start, self.start + self.shape.numel())


class FlatParameters:
    """All parameters of a model in one flat tensor, and their gradients in another.

    A model that computes in half precision has float32 masters beside: updates are often too small to
    change a bfloat16 number. In float32 masters and weights are the same memory. Flat, a clip, a sum over
    ranks or an update is one operation whatever the number of parameters. Matrices come first: only
    they decay.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        named = sorted(model.named_parameters(), key=lambda item: item[1].dim() < 2)
        device = named[0][1].device
        self.slots: dict[str, Slot] = {}
        size = 0
        self.decayed_size = 0
        for name, parameter in named:
            self.slots[name] = Slot(size, parameter.shape)
            size += -(-parameter.numel() // ALIGNMENT) * ALIGNMENT
            if parameter.dim() >= 2:
                self.decayed_size = size
        self.masters = torch.zeros(size, device=device)
        for name, parameter in named:
            self.view(self.masters, name).copy_(parameter.data)
        shared = dtype is torch.float32
        self.weights = self.masters if shared else self.masters.to(dtype)
        self.gradients = torch.zeros_like(self.weights)
        self.master_gradients = self.gradients if shared else torch.zeros_like(self.masters)
        self.attach(model, self.gradients)

    def attach(self, model: nn.Module, gradients: Tensor) -> None:
        """Let a model compute with these weights and leave its gradients in a flat tensor."""
        for name, parameter in model.named_parameters():
            parameter.data = self.view(self.weights, name)
            parameter.grad = self.view(gradients, name)

    def view(self, flat: Tensor, name: str) -> Tensor:
        """The part of a flat tensor that belongs to a parameter, in its shape."""
        slot = self.slots[name]
        return flat[slot.range].view(slot.shape)

    def named_views(self, flat: Tensor) -> dict[str, Tensor]:
        """Every parameter's part of a flat tensor."""
        return {name: self.view(flat, name) for name in self.slots}

    def collect(self, gradients: Tensor) -> None:
        """Add a flat tensor of gradients to the masters' and clear it."""
        if gradients is not self.master_gradients:
            self.master_gradients.add_(gradients)
            gradients.zero_()

    def publish(self) -> None:
        """Copy the masters to the weights that the model computes with."""
        if self.weights is not self.masters:
            self.weights.copy_(self.masters)

    @contextmanager
    def computing_with(self, flat: Tensor) -> Iterator[None]:
        """The model computes with other masters for a while, then with its own again, bit for bit."""
        if flat is self.masters:
            yield
            return
        own = self.weights.clone()
        self.weights.copy_(flat)
        try:
            yield
        finally:
            self.weights.copy_(own)


class Optimizer:
    """AdamW (Loshchilov and Hutter, 2019) over the masters, with gradient clipping, and their average."""

    def __init__(self, parameters: FlatParameters, config: TrainingConfig) -> None:
        self.parameters = parameters
        self.config = config
        split, end = parameters.decayed_size, len(parameters.masters)
        self.groups = []
        for start, stop, decay in ((0, split, config.weight_decay), (split, end, 0.0)):
            flat = nn.Parameter(parameters.masters[start:stop])
            flat.grad = parameters.master_gradients[start:stop]
            self.groups.append({"params": [flat], "weight_decay": decay})
        self.adam = torch.optim.AdamW(
            self.groups,
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            eps=config.epsilon,
            fused=parameters.masters.device.type in ("cpu", "cuda"),
        )
        self.average = MovingAverage(parameters.masters, config.ema_decay) if config.ema_decay else None

    def update(self, *, step: int, divisor: float) -> float:
        """One update with gradients divided by `divisor`; returns their norm before clipping.

        Nothing is changed when the norm is not finite.
        """
        gradients = self.parameters.master_gradients
        norm = float(torch.linalg.vector_norm(gradients)) / divisor
        if math.isfinite(norm):
            limit = self.config.max_gradient_norm
            clip = limit / norm if 0 < limit < norm else 1.0
            gradients.mul_(clip / divisor)
            for group in self.adam.param_groups:
                group["lr"] = learning_rate(self.config, step)
            self.adam.step()
            self.parameters.publish()
            if self.average:
                self.average.update(step)
        gradients.zero_()
        return norm

    def moments(self) -> dict[str, Tensor]:
        """State to save: the two moments, flat, and the number of updates."""
        saved = {}
        for number, group in enumerate(self.adam.param_groups):
            for key, value in self.adam.state[group["params"][0]].items():
                saved[f"{number}.{key}"] = value
        return saved

    def restore_moments(self, saved: dict[str, Tensor]) -> None:
        """Put back what `moments` gave."""
        for number, group in enumerate(self.adam.param_groups):
            flat = group["params"][0]
            prefix = f"{number}."
            self.adam.state[flat] = {
                key.removeprefix(prefix): value.to(flat.device)
                for key, value in saved.items()
                if key.startswith(prefix)
            }
