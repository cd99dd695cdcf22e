"""Flat parameters, the optimizer over them, and the learning rate as a function of the step."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from nmt.training.averaging import MovingAverage
from nmt.training.config import Schedule, TrainingConfig
from nmt.training.distributed import Processes
from nmt.training.parameters import Parameters


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


class FlatParameters(Parameters):
    """All parameters of a model in one flat tensor, and their gradients in another.

    A model that computes in half precision has float32 masters beside: updates are often too small to
    change a bfloat16 number. In float32 masters and weights are the same memory. Flat, a clip, a sum over
    ranks or an update is one operation whatever the number of parameters.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__(model)
        named = dict(model.named_parameters())
        self.device = next(iter(named.values())).device
        self.dtype = dtype
        self.masters = torch.zeros(self.size, device=self.device)
        for name, parameter in named.items():
            self.view(self.masters, name).copy_(parameter.data)
        shared = dtype is torch.float32
        self.weights = self.masters if shared else self.masters.to(dtype)
        self.master_gradients = torch.zeros_like(self.masters)
        # What stands in the masters' gradients is from the last update.
        self.stale_gradients = False
        self.models: list[nn.Module] = []
        # Where a model on an accelerator leaves its gradients: recorded passes need them in one place.
        self.fixed_gradients: dict[nn.Module, Tensor] = {}
        self.groups = (
            [self._master(slice(0, self.decayed_size))],
            [self._master(slice(self.decayed_size, self.size))],
        )
        self.attach(model)

    def _master(self, part: slice) -> nn.Parameter:
        master = nn.Parameter(self.masters[part])
        master.grad = self.master_gradients[part]
        return master

    def attach(self, model: nn.Module) -> None:
        if model not in self.models:
            self.models.append(model)
        for name, parameter in model.named_parameters():
            parameter.data = self.view(self.weights, name)
            parameter.grad = None
        if self.device.type != "cpu":
            flat = self.fixed_gradients[model] = torch.zeros_like(self.weights)
            for name, parameter in model.named_parameters():
                parameter.grad = self.view(flat, name)

    def expect_backward(self, *, last: bool) -> None:
        """Gradients stay on their process until `sum_gradients`."""

    def collect(self, model: nn.Module) -> None:
        if model in self.fixed_gradients:
            flat = self.fixed_gradients[model]
            self._collect(self.master_gradients, flat)
            flat.zero_()
        else:
            for name, parameter in model.named_parameters():
                self._collect(self.view(self.master_gradients, name), parameter.grad)
                parameter.grad = None
        self.stale_gradients = False

    def _collect(self, sum_: Tensor, gradient: Tensor | None) -> None:
        """Copying is cheaper than clearing and adding, and adding in one type than in two."""
        if gradient is None:
            if self.stale_gradients:
                sum_.zero_()
        elif self.stale_gradients:
            sum_.copy_(gradient)
        else:
            sum_.add_(gradient.float())

    def sum_gradients(self, processes: Processes) -> None:
        processes.sum(self.master_gradients)

    def gradient_norm(self) -> float:
        return float(torch.linalg.vector_norm(self.master_gradients))

    def scale_gradients(self, factor: float) -> None:
        self.master_gradients.mul_(factor)

    def clear_gradients(self) -> None:
        self.stale_gradients = True
        for flat in self.fixed_gradients.values():
            flat.zero_()
        for model in set(self.models) - self.fixed_gradients.keys():
            model.zero_grad(set_to_none=True)

    def publish(self) -> None:
        if self.weights is not self.masters:
            self.weights.copy_(self.masters)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        for name, view in self.named_views(self.masters).items():
            view.copy_(weights[name])
        self.publish()

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

    def __init__(self, parameters: Parameters, config: TrainingConfig) -> None:
        self.parameters = parameters
        self.config = config
        decayed, others = parameters.groups
        self.adam = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": config.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            eps=config.epsilon,
            fused=parameters.device.type in ("cpu", "cuda"),
        )
        self.average = MovingAverage(parameters.masters, config.ema_decay) if config.ema_decay else None

    def update(self, *, step: int, divisor: float) -> float:
        """One update with gradients divided by `divisor`; returns their norm before clipping.

        Nothing is changed when the norm is not finite.
        """
        norm = self.parameters.gradient_norm() / divisor
        if math.isfinite(norm):
            limit = self.config.max_gradient_norm
            clip = limit / norm if 0 < limit < norm else 1.0
            self.parameters.scale_gradients(clip / divisor)
            for group in self.adam.param_groups:
                group["lr"] = learning_rate(self.config, step)
            self.adam.step()
            self.parameters.publish()
            if self.average:
                self.average.update(step)
        self.parameters.clear_gradients()
        return norm

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """The main process may read masters and moments; every process enters."""
        with self.parameters.gathered():
            yield

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
