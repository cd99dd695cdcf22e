"""Several processes that train one model; everything here does nothing on one process.

What they tell each other, beside tensors of the model, travels as bytes in tensors of the CPU, not pickled.
"""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from types import TracebackType
from typing import TypeVar

import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor

from nmt.model.device import DeviceError
from nmt.training.lifeline import GO_ON, TIMEOUT, Lifeline, ProcessLostError
from nmt.training.place import place, process_count

Task = TypeVar("Task")


class ProcessGroupError(ValueError):
    """The processes of a job cannot find each other; the message says why."""


@dataclass(frozen=True, slots=True)
class Processes:
    """This process's place among those that torchrun started."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    # Processes on this machine, which share its processors.
    local_world_size: int = 1
    lifeline: Lifeline | None = None

    @classmethod
    def start(cls, device: torch.device) -> "Processes":
        """Join the process group that torchrun describes in the environment, if any.

        Raises:
            ProcessGroupError: the processes do not find each other.
            DeviceError: there is no GPU left for this one.
        """
        if process_count() == 1:
            return cls()
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        backend = "gloo"
        if device.type == "cuda":
            _take_gpu(local_rank)
            # NCCL's watchdog ends a process whose GPU waits longer than the timeout.
            backend = "cpu:gloo,cuda:nccl"
        try:
            dist.init_process_group(backend, timeout=TIMEOUT)
            processes = cls(dist.get_rank(), dist.get_world_size(), local_rank, local_world_size)
            places = [name.decode() for name in processes.gather(place().encode())]
            return replace(processes, lifeline=Lifeline(places, processes.rank))
        except (ValueError, RuntimeError) as error:
            raise ProcessGroupError(
                f"the {process_count()} processes did not find each other: {_first_line(error)}"
            ) from error

    def __enter__(self) -> "Processes":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Tell the others of an error; say of one that comes from the loss of another process that it does.

        Raises:
            ProcessLostError: in place of the backend's error.
        """
        if error is None or self.lifeline is None:
            return
        if isinstance(error, RuntimeError):
            # The connections broke just now; why, the lifeline knows in a moment.
            reason = self.lifeline.loss(wait_seconds=3)
            if not reason and ("gloo" in str(error) or isinstance(error, dist.DistError)):
                reason = f"the other processes do not answer ({_first_line(error)}); {GO_ON}"
            if reason:
                raise ProcessLostError(reason) from error
        ours = type(error).__module__.startswith("nmt.")
        name = "" if ours else f"{type(error).__name__}: "
        self.lifeline.leave(f"{place()} failed: {name}{_first_line(error)}".rstrip(": "))

    @property
    def is_main(self) -> bool:
        """True for the one process that writes files and talks."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Add up a tensor over all processes, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def highest(self, values: list[float]) -> list[float]:
        """The highest of each value over all processes, on every process."""
        if self.world_size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return [float(value) for value in tensor]

    def decide(self, choose: Callable[[], str]) -> str:
        """What rank 0 chooses, on every process."""
        return self.gather(choose().encode() if self.is_main else b"")[0].decode()

    def gather(self, content: bytes) -> list[bytes]:
        """The content of every process by rank, on every process."""
        if self.world_size == 1:
            return [content]
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world_size)]
        dist.all_gather(lengths, torch.tensor([len(content)]))
        longest = max(1, *(int(length) for length in lengths))
        padded = torch.frombuffer(bytearray(content.ljust(longest, b"\0")), dtype=torch.uint8)
        contents = [torch.zeros_like(padded) for _ in lengths]
        dist.all_gather(contents, padded)
        return [each[: int(n)].numpy().tobytes() for each, n in zip(contents, lengths, strict=True)]

    def gather_tensors(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Named CPU tensors of all processes together, on every process. No name may occur twice."""
        if self.world_size == 1:
            return tensors
        return {name: each for part in self.gather(save(tensors)) for name, each in load(part).items()}

    def map(self, work: Callable[[Task], list[str]], tasks: Sequence[Task]) -> Iterable[list[str]]:
        """The texts made of each task, in order, on every process; each works on its share of the tasks."""
        if self.world_size == 1:
            return map(work, tasks)
        mine = [work(task) for task in tasks[self.rank :: self.world_size]]
        shares = [json.loads(share) for share in self.gather(json.dumps(mine).encode())]
        return [shares[number % self.world_size][number // self.world_size] for number in range(len(tasks))]

    def wait(self, limit: timedelta = TIMEOUT) -> None:
        """Go on when every process is here.

        Raises:
            ProcessLostError: one is gone, or not here within `limit`.
        """
        if self.lifeline is not None:
            self.lifeline.meet(limit)

    def stop(self) -> None:
        """Leave the process group, when all that was to be done together is done."""
        if self.lifeline is not None:
            self.lifeline.leave()
            dist.destroy_process_group()


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


def _take_gpu(local_rank: int) -> None:
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise DeviceError(
            f"there is no GPU for process {local_rank + 1} of this machine, which has {count}; start at most"
            f" {count} here, or set training.device=cpu"
        )
    torch.cuda.set_device(local_rank)
