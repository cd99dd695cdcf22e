"""What a run reports survives what happens to it, and is not reported twice."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nmt.training.tracking import Tracker


def report(folder: Path, steps: range, *, resumed_from: int) -> None:
    tracker = Tracker(folder, max_steps=9, step=resumed_from)
    for step in steps:
        tracker.scalars(step, {"train/loss": float(step)})
    tracker.close()


def recorded(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def shown(folder: Path) -> list[int]:
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return [event.step for event in events.Scalars("train/loss")]


@pytest.mark.parametrize("resumed_from", [0, 3])
def test_steps_done_again_are_reported_once(tmp_path: Path, resumed_from: int) -> None:
    report(tmp_path, range(1, 6), resumed_from=0)
    report(tmp_path, range(resumed_from + 1, 8), resumed_from=resumed_from)
    assert recorded(tmp_path) == shown(tmp_path) == list(range(1, 8))


def test_a_damaged_line_costs_no_other(tmp_path: Path) -> None:
    report(tmp_path, range(1, 6), resumed_from=0)
    metrics = tmp_path / "metrics.jsonl"
    lines = metrics.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"train", b"tra\xe9n")
    metrics.write_bytes(b"".join(lines) + b'{"step": 6, "tim')
    report(tmp_path, range(6, 8), resumed_from=5)
    assert recorded(tmp_path) == [1, 3, 4, 5, 6, 7]


def test_what_was_flushed_survives_a_kill(tmp_path: Path) -> None:
    """TensorBoard's file included, which is otherwise written every 20 seconds."""
    program = f"""
import os, signal
from pathlib import Path
from nmt.training.tracking import Tracker
tracker = Tracker(Path({str(tmp_path)!r}), max_steps=9, step=0)
for step in range(1, 6):
    tracker.scalars(step, {{"train/loss": 1.0}})
tracker.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert recorded(tmp_path) == shown(tmp_path) == [1, 2, 3, 4, 5]
