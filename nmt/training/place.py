"""Which of a job's processes this is, in words. Light, because an error may come before torch does."""

import os
import socket


def process_count() -> int:
    """How many processes torchrun, or whoever started this one, says there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def place() -> str:
    """Such as `rank 1 of 2 (host node7)`; empty for a process that works alone."""
    if process_count() == 1:
        return ""
    return f"rank {os.environ.get('RANK', '?')} of {process_count()} (host {socket.gethostname()})"
