"""`scripts/accidents.py` with a few of its accidents; it says itself what differs."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def accidents(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "scripts/accidents.py", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_run_ends_as_if_nothing_had_happened() -> None:
    kinds = ["old best model is aside", "bit of ema", "less than a checkpoint left"]
    done = accidents("--only", *kinds)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len([line for line in done.stdout.splitlines() if line.lstrip()[:1].isdigit()]) == 3
    assert "bit-identical" in done.stdout
