"""The script for machines with a GPU, tried without one: what fails is told apart from what is not there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "gpu_check.sh"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the machines with a GPU run Linux")


def check(folder: Path, *parts: str, **settings: str) -> tuple[int, str, str]:
    """Exit code, summary and errors."""
    environment = {**os.environ, "DEVICE": "cpu", "PYTHON": sys.executable, "OUT": str(folder), **settings}
    done = subprocess.run(
        [str(SCRIPT), *parts], env=environment, capture_output=True, text=True, timeout=120, cwd=folder
    )
    summary = folder / "gpu-summary.txt"
    return done.returncode, summary.read_text(encoding="utf-8") if summary.exists() else "", done.stderr


def test_what_is_not_there_is_skipped_and_nothing_is_left_behind(tmp_path: Path) -> None:
    code, summary, _ = check(tmp_path, "facts", "benchmarks", "runs", TMPDIR=str(tmp_path))
    assert code == 0
    assert [line.split()[0] for line in summary.splitlines()] == ["ok", "skipped", "skipped", "skipped"]
    assert "torch" in (tmp_path / "gpu-facts.txt").read_text(encoding="utf-8")
    assert all(path.name.startswith("gpu-") for path in tmp_path.iterdir())


def test_parts_after_one_that_fails_are_tried(tmp_path: Path) -> None:
    code, summary, _ = check(tmp_path, "facts", WHEELS=str(tmp_path / "missing"))
    assert code == 1
    assert [line.split()[0] for line in summary.splitlines()] == ["FAILED", "ok"]


def test_what_comes_too_late_is_cut_off(tmp_path: Path) -> None:
    code, summary, _ = check(tmp_path, "facts", BUDGET="0")
    assert code == 1
    assert "no time left" in summary


def test_an_unknown_part_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    code, summary, errors = check(tmp_path, "facts", "speed")
    assert (code, summary) == (2, "")
    assert "no part speed; choose of facts" in errors
