"""What a run takes of its device: the share of its speed, and memory."""

import torch

from nmt.data.batching import Work
from nmt.training.interval import Interval
from nmt.training.memory import peak_bytes


class Gauges:
    """Read at every log line. Of several processes each reads its own; the main one's are logged."""

    def __init__(self, flops: Work, *, peak_flops: float, device: torch.device) -> None:
        """
        Args:
            flops: FLOPs per unit of work, see `nmt.training.flops.flops_per_unit`.
            peak_flops: FLOP/s that the device reaches in matrix products.
        """
        self.flops = flops
        self.peak_flops = peak_flops
        self.device = device

    def scalars(self, interval: Interval) -> dict[str, float]:
        """Utilisation in the interval, and peak memory since the process began."""
        useful = float(sum(units * each for units, each in zip(interval.work, self.flops, strict=True)))
        possible = self.peak_flops * max(interval.seconds, 1e-9)
        return {"speed/flop_utilisation": useful / possible, **self.memory()}

    def memory(self) -> dict[str, float]:
        """Peak memory in MB of 10^6 bytes: resident, and on CUDA allocated by tensors."""
        peaks = {"memory/peak_resident_mb": peak_bytes(torch.device("cpu")) / 1e6}
        if self.device.type == "cuda":
            peaks["memory/peak_allocated_mb"] = peak_bytes(self.device) / 1e6
        return peaks
