"""Memory of a device: what work took at its peak, what there is, and errors that say it was not enough."""

import ctypes
import gc
import resource
import sys
from pathlib import Path

import torch

# Errors without a class of their own: the CPU's allocator, cuBLAS and the driver, which need room beside the
# tensors, MPS.
_MESSAGES = (
    "not enough memory: you tried to allocate",
    "can't allocate memory",
    "STATUS_ALLOC_FAILED",
    "CUDA error: out of memory",
    "MPS backend out of memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """True for every way in which PyTorch and Python say that memory was not enough."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _MESSAGES)


def release(device: torch.device) -> None:
    """Give back what freed tensors have left behind."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
    elif sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
        if trim is not None:
            trim(0)


def start_peak(device: torch.device) -> None:
    """Let `peak_bytes` count from here, as far as the system allows it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif device.type == "cpu":
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        except OSError:
            return  # not Linux: the peak is that of the whole life of the process


def peak_bytes(device: torch.device) -> int:
    """Most memory in use at once: tensors on a GPU, everything resident of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    status = Path("/proc/self/status")
    if status.exists():
        # Linux hands `ru_maxrss` on to a program that a large process starts; VmHWM is this program's own.
        return _kilobytes(status, "VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def usable_bytes(device: torch.device, *, sharers: int = 1) -> int | None:
    """What this process may take in all, with what it has already; None where the system does not say.

    Args:
        sharers: processes that share a CPU's memory; each has a GPU of its own.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    machine = Path("/proc/meminfo")
    if not machine.exists():
        return None
    left = min([_kilobytes(machine, "MemAvailable"), *_container_bytes()])
    return _kilobytes(Path("/proc/self/status"), "VmRSS") + left // sharers


def _kilobytes(path: Path, name: str) -> int:
    """Bytes of a line such as `VmHWM:   1234 kB`."""
    return 1024 * _number(path, f"{name}:")


def _number(path: Path, name: str) -> int:
    """The number behind a name in a file of one name a line; 0 without such a line."""
    for line in path.read_text(encoding="ascii", errors="replace").splitlines():
        words = line.split()
        if words[:1] == [name]:
            return int(words[1])
    return 0


def _container_bytes() -> list[int]:
    """What a container's limit leaves; beyond it the process is killed without a word."""
    root = Path("/sys/fs/cgroup")
    left = []
    for limit, used, statistics, cache in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    ):
        try:
            most, taken = (int((root / name).read_text(encoding="ascii")) for name in (limit, used))
            # Pages of files, such as the corpus, count as taken and are given up when memory is short.
            left.append(most - taken + _number(root / statistics, cache))
        except (OSError, ValueError):  # the other version of cgroups, or no limit ("max")
            continue
    return left
