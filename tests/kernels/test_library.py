"""The library is compiled once, and whoever cannot compile decodes without it."""

import logging
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nmt.kernels import library

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(autouse=True)
def asked_for_the_first_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    if library.library() is None:
        pytest.skip("no C compiler")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    library.library.cache_clear()
    yield
    library.library.cache_clear()


def test_it_is_kept_whole_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert library.library() is not None
    (kept,) = (tmp_path / "cache" / "nmt").iterdir()
    library.library.cache_clear()
    monkeypatch.setattr(library, "_compile", lambda *_: pytest.fail("compiled again"))
    assert library.library() is not None
    assert kept.suffix == ".so"


def test_several_processes_may_compile_it_at_once(tmp_path: Path) -> None:
    code = "from nmt.kernels.library import library; assert library() is not None"
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert [file.suffix for file in (tmp_path / "cache" / "nmt").iterdir()] == [".so"]


def test_a_folder_that_cannot_be_written_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert library.library() is not None


@pytest.mark.parametrize("said", ["no such header\nand more", "", "\n"])
def test_a_compiler_that_fails_is_named_in_one_line(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compiler = tmp_path / "broken-cc"
    compiler.write_text(f"#!/bin/sh\nprintf '{said}' >&2\nexit 1\n")
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CC", str(compiler))
    with caplog.at_level(logging.WARNING):
        assert library.library() is None
    (message,) = caplog.messages
    assert "kernels cannot be compiled" in message
    assert "\n" not in message
    assert said.split("\n")[0] in message


def test_no_compiler_and_a_refusal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert library.library() is None
    monkeypatch.setenv("PATH", os.defpath)
    library.library.cache_clear()
    monkeypatch.setenv("NMT_KERNELS", "0")
    assert library.library() is None
