"""How far it is: lines in a log file, a bar on a terminal, nothing where it is not wanted."""

import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from nmt.decoding import progress as module
from nmt.decoding.progress import Progress


def test_a_log_file_gets_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    with Progress(10_000) as progress:
        progress.skip(2000)
        for _ in range(5):
            now += 10
            progress.advance(1000, 1500)
    assert capsys.readouterr().err.splitlines() == [
        "nmt: 5,000 of 10,000 lines translated, 150.0 sentences/s, 00:50 left",
        "nmt: 7,000 lines translated, 00:50, 150.0 sentences/s",
    ]


def test_without_a_total_there_is_no_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LINE_EVERY", 0.0)
    with Progress(None) as progress:
        progress.advance(3, 3)
    first = capsys.readouterr().err.splitlines()[0]
    assert re.fullmatch(r"nmt: 3 lines translated, [\d,.]+ sentences/s", first)


def test_what_fails_has_no_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MemoryError), Progress(3):
        raise MemoryError
    with Progress(3, shown=False) as progress:
        progress.advance(3, 3)
    assert capsys.readouterr().err == ""


def test_a_terminal_has_a_bar() -> None:
    code = (
        "from nmt.decoding.progress import Progress\n"
        "with Progress(4) as progress:\n"
        "    progress.skip(1)\n"
        "    progress.advance(3, 5)\n"
    )
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    done = subprocess.run(
        [sys.executable, "-c", code],
        stderr=theirs,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        check=True,
    )
    os.close(theirs)
    drawn = os.read(ours, 10_000).decode()
    os.close(ours)
    assert done.stdout == b""
    assert "4/4" in drawn
    assert "sentences/s" in drawn
