"""Jobs that a cluster starts, stops and starts again: runs under hydra-submitit-launcher.

Before the time limit, or when a job is preempted, Slurm sends a signal to every process of it. The trainer
notes it and ends with a checkpoint; then submitit, which listened for the same signal, queues the job again.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from omegaconf import DictConfig


def is_job() -> bool:
    """True in a process that submitit has started."""
    return "SUBMITIT_EXECUTOR" in os.environ


def resumable(config: DictConfig, *, folder: str) -> DictConfig:
    """The settings with which a job of a sweep may be started any number of times.

    It goes on from the last checkpoint if there is one. Processes of one job learn of each other as
    under torchrun.

    Args:
        folder: for the run where none is given; the same at every start.
    """
    if not is_job():
        return config
    if config.run.folder is None:
        config.run.folder = folder
    config.resume = True
    import submitit

    if submitit.JobEnvironment().num_tasks > 1:
        environment = submitit.helpers.TorchDistributedEnvironment()
        environment.export(set_cuda_visible_devices=False, overwrite=True)
    return config


@contextmanager
def requeued_when_stopped() -> Iterator[None]:
    """Hand the signal that ended a run on to submitit, which queues the job again and ends the process."""
    try:
        yield
    except SystemExit as stopped:
        if is_job() and isinstance(stopped.code, int) and stopped.code > 128:
            signal.raise_signal(stopped.code - 128)
        raise
