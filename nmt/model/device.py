"""The device that a run computes on."""

import torch


class DeviceError(ValueError):
    """A device that this machine, or this build of PyTorch, does not have."""


def choose_device(name: str) -> torch.device:
    """The device of this name (`cpu`, `cuda`, `mps`); `auto` takes CUDA, then Apple's GPU, then the CPU.

    Raises:
        DeviceError: it is not there.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    available = [device for device, there in present.items() if there]
    if name == "auto":
        return torch.device(available[0])
    if name not in available:
        raise DeviceError(f"device {name} is not available here; choose auto or {' or '.join(available)}")
    return torch.device(name)
