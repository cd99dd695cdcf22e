"""Settings of this process that make computing on a CPU fast; applied before torch is imported."""

import ctypes
import os
import sys

# Numbers of <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
# Shapes of products for which training keeps code: half a megabyte each, and 1,024 if nobody asks for less.
_SHAPES_KEPT_IN_TRAINING = 256


def tune() -> None:
    """Let threads sleep while they wait, and keep freed memory for the next tensor.

    Threads that spin are up to seven times slower than one thread on a busy machine. glibc gives
    large blocks back to the system after every operation and has them zeroed at the next: half as
    fast again without that. Environment variables that the user has set stay as they are.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if sys.platform != "linux" or {"MALLOC_MMAP_THRESHOLD_", "LD_PRELOAD"} & os.environ.keys():
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # another C library
    mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    # One arena for all threads: those of other threads end at 64 MB and would give blocks back again.
    mallopt(_M_ARENA_MAX, 1)


def bound_kept_code() -> None:
    """Let memory stay where it is over the validations of a run; before torch is imported.

    oneDNN, and PyTorch's layer above it, keep the code of a thousand shapes of products each, and decoding
    has as many: half a gigabyte more after some validations. With fewer a validation takes as long, for its
    shapes are mostly new; a text that is translated for minutes is 3 to 9 % slower.
    """
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(cache, str(_SHAPES_KEPT_IN_TRAINING))
