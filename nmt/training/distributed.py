"""Several processes that train one model; everything here does nothing on one process."""

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Processes:
    """This process's place among those that torchrun started."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    # Processes on this machine, which share its processors.
    local_world_size: int = 1

    @classmethod
    def start(cls) -> "Processes":
        """Join the process group that torchrun describes in the environment, if any."""
        world_size = int(os.environ.get("WORLD_SIZE", "1"))
        if world_size == 1:
            return cls()
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        if torch.cuda.is_available():
            torch.cuda.set_device(local_rank)
        if not dist.is_initialized():
            # The other processes wait while the first validates: hours for a large validation set.
            backend = "nccl" if torch.cuda.is_available() else "gloo"
            dist.init_process_group(backend, timeout=timedelta(hours=4))
        return cls(dist.get_rank(), world_size, local_rank, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))

    @property
    def is_main(self) -> bool:
        """True for the one process that writes files and talks."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Add up a tensor over all processes, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def agree(self, values: list[float], device: torch.device) -> list[float]:
        """Rank 0's values, on every process: decisions are taken once."""
        if self.world_size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device="cpu" if device.type == "cpu" else device)
        dist.broadcast(tensor, src=0)
        return [float(value) for value in tensor]

    def wait(self) -> None:
        """Go on when every process is here."""
        if self.world_size > 1:
            dist.barrier()

    def stop(self) -> None:
        """Leave the process group."""
        if self.world_size > 1 and dist.is_initialized():
            dist.destroy_process_group()
