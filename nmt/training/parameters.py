"""What training asks of a model's parameters, whether they lie in one tensor or are sharded."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nmt.training.distributed import Processes

# Each parameter starts at a multiple of this many elements, so that vector loads stay aligned.
ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a parameter lies in the flat tensors."""

    start: int
    shape: torch.Size

    @property
    def range(self) -> slice:
        return slice(self.start, self.start + self.shape.numel())


class Parameters(ABC):
    """A model's parameters as training sees them: masters in float32, gradients, weights to compute with.

    However they lie, each has its place in a flat tensor of them all, in which they are saved and read.
    Matrices come first: only they decay.
    """

    device: torch.device
    # Every process has a slice of them only: all must go through the same passes.
    sharded = False
    # Type of the weights that the model computes with.
    dtype: torch.dtype
    # All float32 weights, flat; see `gathered`.
    masters: Tensor
    # What the optimizer changes: parameters that decay, and the others.
    groups: tuple[list[nn.Parameter], list[nn.Parameter]]

    def __init__(self, model: nn.Module) -> None:
        self.slots: dict[str, Slot] = {}
        self.size = 0
        self.decayed_size = 0
        for name, parameter in sorted(model.named_parameters(), key=lambda item: item[1].dim() < 2):
            self.slots[name] = Slot(self.size, parameter.shape)
            self.size += -(-parameter.numel() // ALIGNMENT) * ALIGNMENT
            if parameter.dim() >= 2:
                self.decayed_size = self.size

    def view(self, flat: Tensor, name: str) -> Tensor:
        """The part of a flat tensor that belongs to a parameter, in its shape."""
        slot = self.slots[name]
        return flat[slot.range].view(slot.shape)

    def named_views(self, flat: Tensor) -> dict[str, Tensor]:
        """Every parameter's part of a flat tensor."""
        return {name: self.view(flat, name) for name in self.slots}

    @abstractmethod
    def attach(self, model: nn.Module) -> None:
        """Let a model compute with these weights."""

    @abstractmethod
    def expect_backward(self, *, last: bool) -> None:
        """A backward pass follows, the last one before `sum_gradients` or not."""

    @abstractmethod
    def collect(self, model: nn.Module) -> None:
        """Add the gradients that a model's backward pass has left to the masters', and clear them."""

    @abstractmethod
    def sum_gradients(self, processes: Processes) -> None:
        """Let the masters' gradients be those of all processes."""

    @abstractmethod
    def gradient_norm(self) -> float:
        """Norm of all the masters' gradients, the same number on every process."""

    @abstractmethod
    def scale_gradients(self, factor: float) -> None:
        """Multiply the masters' gradients."""

    @abstractmethod
    def clear_gradients(self) -> None:
        """Begin anew; what models have left and nobody collected goes too."""

    @abstractmethod
    def publish(self) -> None:
        """Let the model compute with the masters as they are now."""

    @abstractmethod
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Set masters and weights; `weights` are whole."""

    @contextmanager
    def gathered(self, model: nn.Module | None = None) -> Iterator[None]:
        """The main process may read `masters`, all may compute with `model`; every process enters."""
        yield

    @contextmanager
    def computing_with(self, flat: Tensor) -> Iterator[None]:
        """The model computes with other masters for a while, then with its own again, bit for bit."""
        if flat is not self.masters:
            raise NotImplementedError("sharded weights compute with their own masters only")
        yield
