"""How many processors there are to work with."""

import math
import os
from pathlib import Path


def available_cores() -> int:
    """Processors that this process may use: not those of the whole machine in a container or batch job."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        # Microseconds of processor time per period; "max" without a limit.
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):
        return cores
