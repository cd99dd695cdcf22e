"""Output that appears whole or not at all, and is gone on with after any end of a job."""

import gzip
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from nmt.decoding.output_file import OutputError, OutputFile

IDENTITY = {"input": "abc", "model": "def", "decoding.beam_size": 5}
WINDOWS = [b"first\nsecond\n", b"\xc3\xa4\n", b"", b"last\n" * 1000]


class KilledError(BaseException):
    """Stands for a death that gives no time to clean up."""


def out(folder: Path, *, resume: bool | None = None, **changes: Any) -> OutputFile:
    return OutputFile(folder / "out.txt", IDENTITY | changes, resume=resume)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(output: OutputFile, windows: list[bytes], *, finish: bool = True) -> None:
    for data in windows:
        output.write(data, lines=data.count(b"\n"))
    if finish:
        output.finish()


def write_and_die(output: OutputFile, windows: list[bytes], error: BaseException) -> None:
    write(output, windows, finish=False)
    raise error


def killed_after(folder: Path, windows: list[bytes], extra: bytes = b"", name: str = "out.txt") -> None:
    """What a job leaves that is killed with some windows on record and some bytes more."""
    with pytest.raises(KilledError), OutputFile(folder / name, IDENTITY, resume=False) as output:
        write_and_die(output, windows, KilledError())
    with (folder / f"{name}.partial").open("ab") as file:
        file.write(extra)


def test_it_appears_when_it_is_whole(tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_bytes(b"older")
    with out(tmp_path) as output:
        write(output, WINDOWS, finish=False)
        assert (tmp_path / "out.txt").read_bytes() == b"older"
        assert "out.txt.partial" in names(tmp_path)
        output.finish()
    assert (tmp_path / "out.txt").read_bytes() == b"".join(WINDOWS)
    output.forget()
    assert names(tmp_path) == ["out.txt"]


@pytest.mark.parametrize("name", ["out.txt", "out.gz", "out.zst"])
@pytest.mark.parametrize("done", [1, 2, 3, 4])
@pytest.mark.parametrize("extra", [b"", b"half a wind"])
def test_going_on_gives_the_same_bytes(tmp_path: Path, name: str, done: int, extra: bytes) -> None:
    whole = tmp_path / f"whole-{name}"
    with OutputFile(whole, IDENTITY, resume=None) as output:
        write(output, WINDOWS)
    killed_after(tmp_path, WINDOWS[:done], extra, name)
    with OutputFile(tmp_path / name, IDENTITY, resume=True) as output:
        assert output.lines == b"".join(WINDOWS[:done]).count(b"\n")
        write(output, WINDOWS[done:])
    assert (tmp_path / name).read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("name", "unpack", "tool"),
    [
        ("out.gz", gzip.decompress, ["gzip", "-dc"]),
        (
            "out.zst",
            lambda data: zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read(),
            (),
        ),
    ],
)
def test_packed_files_are_what_their_names_say(
    tmp_path: Path, name: str, unpack: Callable[[bytes], bytes], tool: list[str]
) -> None:
    with OutputFile(tmp_path / name, IDENTITY, resume=None) as output:
        write(output, WINDOWS)
    packed = (tmp_path / name).read_bytes()
    assert unpack(packed) == b"".join(WINDOWS)
    if tool:
        assert subprocess.run(tool, input=packed, capture_output=True, check=True).stdout == b"".join(WINDOWS)


def test_an_earlier_job_is_not_overwritten_by_mistake(tmp_path: Path) -> None:
    killed_after(tmp_path, WINDOWS[:1])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with (
        pytest.raises(OutputError, match=r"stopped after 2 lines; resume=true goes on .* resume=false"),
        out(tmp_path),
    ):
        pass
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    with out(tmp_path, resume=False) as output:
        assert output.lines == 0
        write(output, [b"new\n"])
    assert (tmp_path / "out.txt").read_bytes() == b"new\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": "other"}, "begun with another input"),
        ({"model": "other"}, "begun with another model"),
        ({"decoding.beam_size": 4}, "begun with decoding.beam_size=5, not 4"),
        ({"decoding.new": 1}, "begun with decoding.new=None, not 1"),
    ],
)
def test_what_has_changed_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    killed_after(tmp_path, WINDOWS[:1], b"more")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OutputError, match=message), out(tmp_path, resume=True, **changes):
        pass
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_partial_file_that_has_lost_bytes_is_refused(tmp_path: Path) -> None:
    killed_after(tmp_path, WINDOWS[:1])
    (tmp_path / "out.txt.partial").write_bytes(b"first\n")
    with pytest.raises(OutputError, match="holds less than its 2 lines"), out(tmp_path, resume=True):
        pass


@pytest.mark.parametrize("resume", [None, True, False])
def test_remains_without_a_line_on_record_are_no_hindrance(tmp_path: Path, resume: bool | None) -> None:
    (tmp_path / "out.txt.partial").write_bytes(b"first\nsec")
    (tmp_path / "out.txt.partial.json").write_bytes(b"{")
    with out(tmp_path, resume=resume) as output:
        assert output.lines == 0
        write(output, [b"new\n"])
    assert (tmp_path / "out.txt").read_bytes() == b"new\n"


@pytest.mark.parametrize("renamed", [False, True])
def test_a_job_killed_at_its_very_end_is_done(tmp_path: Path, renamed: bool) -> None:
    """The record says finished; the file is in its place, or not yet."""
    with out(tmp_path) as output:
        write(output, WINDOWS)
    assert json.loads((tmp_path / "out.txt.partial.json").read_text())["finished"] is True
    if not renamed:
        (tmp_path / "out.txt").rename(tmp_path / "out.txt.partial")
    with out(tmp_path, resume=True) as output:
        assert output.finished is renamed
        assert output.lines == b"".join(WINDOWS).count(b"\n")
        if not renamed:
            output.finish()
    output.forget()
    assert (tmp_path / "out.txt").read_bytes() == b"".join(WINDOWS)
    assert names(tmp_path) == ["out.txt"]


def test_a_job_that_fails_at_once_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(MemoryError), out(tmp_path):
        raise MemoryError
    assert names(tmp_path) == []


def test_an_interrupt_between_a_window_and_its_record_loses_the_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = out(tmp_path)

    def write_until_interrupted() -> None:
        with output:
            write(output, WINDOWS[:2], finish=False)
            monkeypatch.setattr(output, "_save", lambda: write_and_die(output, [], KilledError()))
            output.write(b"more\n", lines=1)

    with pytest.raises(KilledError):
        write_until_interrupted()
    assert output.kept == 3
    with out(tmp_path, resume=True) as again:
        assert again.lines == 3


def test_what_cannot_be_repeated_is_not_kept(tmp_path: Path) -> None:
    output = OutputFile(tmp_path / "out.txt", None, resume=None)
    with pytest.raises(MemoryError), output:
        write_and_die(output, WINDOWS, MemoryError())
    assert names(tmp_path) == []
    with output:
        write(output, WINDOWS)
    assert names(tmp_path) == ["out.txt"]


def test_two_jobs_do_not_write_one_output(tmp_path: Path) -> None:
    with out(tmp_path) as output:
        write(output, WINDOWS[:1], finish=False)
        for resume in (None, True, False):
            with pytest.raises(OutputError, match="another job is writing it"), out(tmp_path, resume=resume):
                pass
        write(output, WINDOWS[1:])
    assert (tmp_path / "out.txt").read_bytes() == b"".join(WINDOWS)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "out.txt").symlink_to(tmp_path / "there" / "real.txt")
    with out(tmp_path) as output:
        write(output, WINDOWS)
    assert (tmp_path / "out.txt").is_symlink()
    assert (tmp_path / "there" / "real.txt").read_bytes() == b"".join(WINDOWS)


def test_a_full_disk_is_one_line_and_costs_nothing_that_was_done(
    tmp_path: Path,
) -> None:
    output = out(tmp_path)

    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, data: Any) -> int:
            if len(data) > 100:
                self.file.write(data[:100])
                raise OSError(28, "No space left on device")
            return int(self.file.write(data))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    def fill_the_disk() -> None:
        with output:
            output._file = Full(output._file)  # type: ignore[assignment]
            write(output, WINDOWS)

    with pytest.raises(OutputError, match=r"No space left on device\); make room and go on with resume=true"):
        fill_the_disk()
    assert output.kept
    with out(tmp_path, resume=True) as output:
        assert output.lines == 3
        write(output, WINDOWS[3:])
    assert (tmp_path / "out.txt").read_bytes() == b"".join(WINDOWS)
