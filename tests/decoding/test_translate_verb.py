"""`nmt translate` on a model folder: as many lines out as in, and a file that appears whole or not at all."""

import gzip
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import zstandard

from nmt.cli.launch import main
from nmt.decoding.translator import Translator
from tests.decoding.translate_jobs import (
    command,
    environment,
    jsonl,
    lines_done,
    partial_files,
    wait_until,
)

# Bytes of lines, and what is translated of them.
LINES = [
    (b"the dog\n", "the dog"),
    (b"\n", ""),
    (b"   \t\n", "   \t"),
    (b"the old cat\r\n", "the old cat"),
    (b"bad \xff\xfe bytes\n", "bad \ufffd\ufffd bytes"),
    ("one\u2028two\x85three\x0bfour\n".encode(), "one\u2028two\x85three\x0bfour"),
    (b"nul \x00 \x1b[0m\n", "nul \x00 \x1b[0m"),
    (b"the last has no end", "the last has no end"),
]
INPUT = b"".join(line for line, _ in LINES)


@pytest.fixture(scope="module")
def expected(model: Path) -> bytes:
    texts = [text for _, text in LINES]
    return "".join(f"{line}\n" for line in Translator(model, device="cpu").translate(texts)).encode()


def test_standard_input_to_standard_output(model: Path, expected: bytes) -> None:
    result = subprocess.run(command(model), input=INPUT, capture_output=True, env=environment(), check=True)
    assert result.stdout == expected
    assert result.stdout.count(b"\n") == len(LINES)
    assert len(result.stdout.decode().splitlines()) == len(LINES)
    assert b"sentences/s" in result.stderr
    assert b"1 lines with bytes that are not UTF-8, the first of them line 5" in result.stderr


@pytest.mark.parametrize("suffix", ["txt", "gz", "zst"])
def test_file_to_file(model: Path, expected: bytes, tmp_path: Path, suffix: str) -> None:
    pack = {"txt": bytes, "gz": gzip.compress, "zst": zstandard.compress}[suffix]
    source, output = tmp_path / f"in.{suffix}", tmp_path / "out.txt"
    source.write_bytes(pack(INPUT))
    output.write_text("older\n")
    settings = [f"model={model}", f"input={source}", f"output={output}", "threads=1"]
    assert main(["translate", *settings]) == 0
    assert output.read_bytes() == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, "out.txt"])


@pytest.mark.parametrize(
    ("content", "lines"),
    [(b"", 0), (b"\n", 1), (b"\r\n", 1), (b"\n\n", 2), (b"a", 1), (b"a\n", 1), (b"\n\na", 3)],
)
def test_lines_are_counted_by_line_feeds(model: Path, tmp_path: Path, content: bytes, lines: int) -> None:
    source, output = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_bytes(content)
    assert main(["translate", f"model={model}", f"input={source}", f"output={output}", "threads=1"]) == 0
    assert output.read_bytes().count(b"\n") == lines


def test_settings_of_the_model_folder_can_be_overridden(model: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_bytes(b"the small dog sees the cat\n")
    found = set()
    for setting in ("decoding.max_length_offset=5", "decoding.max_length_offset=30"):
        settings = [f"model={model}", f"input={source}", f"output={output}", "threads=1", setting]
        assert main(["translate", *settings]) == 0
        found.add(output.read_bytes())
    assert len(found) == 2


@pytest.mark.parametrize(
    ("source", "output", "message"),
    [
        ("missing.txt", "out.txt", "missing.txt"),
        ("in.txt", "nowhere/out.txt", "output=.*nowhere/out.txt: the folder does not exist"),
        ("in.txt", "in.txt", "is the input itself"),
        ("in.txt", "link.txt", "is the input itself"),
        ("in.txt", ".", "is the input itself"),
        ("[in.txt,link.txt]", "other.txt", "several inputs need a folder"),
        ("[in.txt,sub/in.txt]", "sub", "two inputs have this name"),
        ("[in.txt,]", "sub", r"must be FILE or \[FILE,FILE\]"),
        ("[in.txt,missing.txt]", "sub", "missing.txt"),
        ("broken.gz", "out.txt", "broken.gz is damaged or cut off"),
        ("broken.zst", "out.txt", "broken.zst is damaged or cut off"),
    ],
)
def test_wrong_files_give_one_line(
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    output: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.txt").write_bytes(INPUT)
    Path("link.txt").symlink_to("in.txt")
    Path("other.txt").write_bytes(b"other")
    Path("sub").mkdir()
    Path("sub/in.txt").write_bytes(INPUT)
    Path("broken.gz").write_bytes(gzip.compress(INPUT * 50)[:-20])
    Path("broken.zst").write_bytes(b"no zstandard at all")
    before = sorted(tmp_path.rglob("*"))
    assert main(["translate", f"model={model}", f"input={source}", f"output={output}", "threads=1"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("nmt translate: error: ")
    assert re.search(message, error)
    assert sorted(tmp_path.rglob("*")) == before
    assert Path("in.txt").read_bytes() == INPUT


def test_a_failure_in_the_middle_leaves_the_older_output(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_bytes(INPUT)
    output.write_text("older\n")

    def fail(self: Translator, lines: list[str], **_: object) -> None:
        assert partial_files(tmp_path)
        raise MemoryError

    monkeypatch.setattr(Translator, "translate_window", fail)
    with pytest.raises(MemoryError):
        main(["translate", f"model={model}", f"input={source}", f"output={output}", "threads=1"])
    assert output.read_text() == "older\n"
    assert partial_files(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_stopped_job_goes_on_to_the_same_bytes(
    model: Path,
    long_input: Path,
    undisturbed: bytes,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    output = tmp_path / "out.txt.gz"
    arguments = [sys.executable, "-m", "nmt", "translate", *jsonl(model, long_input, output)]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, env=environment()) as process:
        wait_until(lambda: lines_done(output) > 0)
        process.send_signal(number)
        assert process.stderr is not None
        errors = process.stderr.read().decode()
        status = process.wait(timeout=60)
    if number is not signal.SIGKILL:
        assert status == 128 + number
        done = lines_done(output)
        assert f"stopped after {done:,} lines of {long_input}; resume=true goes on" in errors
        assert "Traceback" not in errors
    assert not output.exists()
    assert 0 < lines_done(output) < 10_000
    # Not by mistake, and not with other settings.
    assert main(["translate", *jsonl(model, long_input, output)]) == 2
    assert "an earlier job stopped after" in capfd.readouterr().err
    assert main(["translate", *jsonl(model, long_input, output, "resume=true", "decoding.beam_size=2")]) == 2
    assert "begun with decoding.beam_size=1, not 2" in capfd.readouterr().err
    assert main(["translate", *jsonl(model, long_input, output, "resume=true")]) == 0
    assert output.read_bytes() == undisturbed
    assert partial_files(tmp_path) == []
    numbers = [json.loads(line)["line"] for line in gzip.decompress(undisturbed).splitlines()]
    assert numbers == list(range(1, 10_001))


def test_a_job_terminated_at_once_leaves_nothing(model: Path, long_input: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    # Lines that take long, so that it is in its first window.
    arguments = command(model, f"input={long_input}", f"output={output}", "decoding.beam_size=40")
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL, env=environment()) as process:
        wait_until(lambda: bool(partial_files(tmp_path)))
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_several_files_and_a_stop_among_them(
    model: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    contents = {"a.txt": bytes, "b, c.txt.gz": gzip.compress, "d.txt.zst": zstandard.compress}
    for name, pack in contents.items():
        Path(name).write_bytes(pack(INPUT))
    arguments = [f"model={model}", 'input=[a.txt,"b, c.txt.gz", d.txt.zst]', "output=out", "threads=1"]
    # What a job leaves that is killed in the second file.
    translate_window = Translator.translate_window
    calls = 0

    def die(self: Translator, *given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise MemoryError
        return translate_window(self, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Translator, "translate_window", die)
        with pytest.raises(MemoryError):
            main(["translate", *arguments])
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.txt", "a.txt.partial.json"]
    before = Path("out/a.txt").stat().st_mtime_ns
    assert main(["translate", *arguments]) == 2
    assert main(["translate", *arguments, "resume=true"]) == 0
    assert Path("out/a.txt").stat().st_mtime_ns == before
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(contents)
    assert Path("out/a.txt").read_bytes() == expected
    assert gzip.decompress(Path("out/b, c.txt.gz").read_bytes()) == expected
    reader = zstandard.ZstdDecompressor().stream_reader(
        Path("out/d.txt.zst").read_bytes(), read_across_frames=True
    )
    assert reader.read() == expected


def test_tables_in_a_folder_say_what_they_are(model: Path, tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt.gz"):
        (tmp_path / name).write_bytes(gzip.compress(INPUT) if name.endswith("gz") else INPUT)
    arguments = [f"model={model}", f"input=[{tmp_path}/a.txt,{tmp_path}/b.txt.gz]", "threads=1"]
    assert main(["translate", *arguments, f"output={tmp_path}/out/", "format=tsv", "n_best=2"]) == 0
    rows = (tmp_path / "out" / "a.txt.tsv").read_text().split("\n")[:-1]
    assert gzip.decompress((tmp_path / "out" / "b.txt.tsv.gz").read_bytes()).decode().split("\n")[:-1] == rows
    numbers = [int(row.split("\t")[0]) for row in rows]
    assert sorted(set(numbers)) == list(range(1, len(LINES) + 1))
    assert len(rows) > len(LINES)
    assert [row.split("\t")[1] for row in rows if row.startswith("1\t")] == ["1", "2"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["n_best=2"], "n_best=2 needs format=tsv or format=jsonl"),
        (["n_best=3", "format=tsv"], "n_best=3 is more than decoding.beam_size=2"),
        (["n_best=0"], "n_best must be at least 1"),
        (["resume=true"], "resume=true needs input=FILE and output=FILE"),
    ],
)
def test_settings_that_contradict_each_other(
    model: Path, capsys: pytest.CaptureFixture[str], settings: list[str], message: str
) -> None:
    assert main(["translate", f"model={model}", *settings]) == 2
    assert message in capsys.readouterr().err


def test_several_files_to_standard_output_are_one_text(model: Path, expected: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(INPUT)
    (tmp_path / "b.txt").write_bytes(INPUT)
    arguments = command(model, f"input=[{tmp_path}/a.txt,{tmp_path}/b.txt]")
    result = subprocess.run(arguments, capture_output=True, env=environment(), check=True)
    assert result.stdout == 2 * expected


def test_two_jobs_for_one_output(
    model: Path, long_input: Path, undisturbed: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.txt.gz"
    arguments = [sys.executable, "-m", "nmt", "translate", *jsonl(model, long_input, output)]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL, env=environment()) as process:
        wait_until(lambda: lines_done(output) > 0)
        for resume in ("null", "true", "false"):
            assert main(["translate", *jsonl(model, long_input, output, f"resume={resume}")]) == 2
            assert "another job is writing it now" in capsys.readouterr().err
        assert process.wait(timeout=100) == 0
    assert output.read_bytes() == undisturbed


def test_a_line_from_a_pipe_is_answered_at_once(model: Path) -> None:
    with subprocess.Popen(
        command(model),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(5):
            process.stdin.write(f"the dog {number}\n".encode())
            process.stdin.flush()
            asked = time.monotonic()
            assert process.stdout.readline()
            # The first waits until the model is there.
            assert number == 0 or time.monotonic() - asked < 1
        process.stdin.close()
        assert process.wait(timeout=60) == 0


def test_a_closed_standard_input_is_one_line(model: Path) -> None:
    line = f"{shlex.join(command(model))} <&-"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "nmt translate: error: input: standard input is closed; give input=FILE\n"


def test_an_interrupt_while_it_waits_for_a_line_is_one_line(model: Path) -> None:
    with subprocess.Popen(
        command(model),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b"the dog\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stderr.read() == b"nmt translate: interrupted\n"


def test_a_reader_that_goes_away_is_no_error(model: Path) -> None:
    with subprocess.Popen(
        command(model),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write(b"the dog\n" * 9000)
        process.stdin.close()
        assert b"Traceback" not in process.stderr.read()
        process.wait(timeout=60)
