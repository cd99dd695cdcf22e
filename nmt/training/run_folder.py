"""The folder of a run: where it lies, which one `latest` is, and under what conditions it was made.

runs/<experiment>/<time>/{config.yaml, train.log, metrics.jsonl, environment.json, tensorboard/,
                          checkpoints/, model/}
runs/latest -> the newest run
"""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import torch

import nmt
from nmt.training.atomic_writes import write_text

RUNS = Path("runs")
RECORDED_PACKAGES = ("torch", "numpy", "sentencepiece", "datasets", "sacrebleu", "hydra-core")


class RunFolderError(ValueError):
    """A run folder that cannot be used; the message says why and what to do."""


def has_checkpoints(folder: Path) -> bool:
    """True when a run in this folder can go on."""
    return any((folder / "checkpoints").glob("step-*"))


def choose(folder: str | None, experiment: str, *, resume: bool) -> Path:
    """The folder of this run; nothing is created.

    With `resume` it is the given folder, or the experiment's newest run that has a checkpoint.

    Raises:
        RunFolderError: nothing to resume, or a run that would be overwritten.
    """
    if folder is not None:
        path = Path(folder)
        if not resume and has_checkpoints(path):
            raise RunFolderError(
                f"run.folder={folder}: holds a run already; add resume=true to go on with it, or choose"
                " another folder"
            )
        return path
    if resume:
        runs = sorted((RUNS / experiment).glob("*/"), key=lambda path: path.name)
        runs = [path for path in runs if has_checkpoints(path)]
        if not runs:
            raise RunFolderError(
                f"resume=true: no run with a checkpoint under {RUNS / experiment}; start one without"
                " resume, or name it with run.folder=..."
            )
        return runs[-1]
    path = RUNS / experiment / time.strftime("%Y-%m-%d_%H-%M-%S")
    number = 1
    while path.exists():
        number += 1
        path = path.with_name(f"{path.name.split('.')[0]}.{number}")
    return path


def point_latest(folder: Path) -> None:
    """Let runs/latest name this run."""
    RUNS.mkdir(exist_ok=True)
    link, partial = RUNS / "latest", RUNS / f".latest.{os.getpid()}"
    partial.unlink(missing_ok=True)
    partial.symlink_to(os.path.relpath(folder.absolute(), RUNS.absolute()))
    partial.replace(link)


def commit() -> str | None:
    """The commit of the source tree that runs, with a mark when it was changed; None outside one."""
    root = Path(nmt.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()


@cache
def provenance() -> dict[str, Any]:
    """Commit and versions of everything that shapes a result, as they were when first asked for.

    The source tree may change while a run computes with what it has loaded.
    """
    return {
        "nmt": nmt.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in RECORDED_PACKAGES},
    }


def write_environment(folder: Path, *, device: torch.device, facts: dict[str, Any]) -> None:
    """environment.json: one entry per (re)start of the run; those in a damaged file are lost."""
    path = folder / "environment.json"
    try:
        starts = [*json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        starts = []
    starts.append(
        {
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "command": sys.argv,
            "process": os.getpid(),
            "machine": platform.node(),
            **provenance(),
            "platform": platform.platform(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "processors": os.cpu_count(),
            "threads": torch.get_num_threads(),
            **facts,
        }
    )
    write_text(path, json.dumps(starts, indent=2) + "\n")
