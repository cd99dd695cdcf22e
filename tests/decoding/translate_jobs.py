"""Jobs of `nmt translate` as processes of their own, and what they leave."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path


def command(model: Path, *settings: str) -> list[str]:
    return [sys.executable, "-m", "nmt", "translate", f"model={model}", "threads=1", *settings]


def environment() -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    return os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}


def partial_files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if "partial" in path.name]


def lines_done(output: Path) -> int:
    """What the job has put on record."""
    record = output.with_name(f"{output.name}.partial.json")
    return int(json.loads(record.read_text())["lines"]) if record.exists() else 0


def wait_until(happened: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def jsonl(model: Path, source: Path, output: Path, *settings: str) -> list[str]:
    greedy = ["decoding.beam_size=1", "threads=1", "format=jsonl"]
    return [f"model={model}", f"input={source}", f"output={output}", *greedy, *settings]
