"""Several processes translate one text: the bytes of one process, and nobody left behind however it ends."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from nmt.cli.launch import main
from nmt.cli.translate import useful_workers
from nmt.decoding.text_input import Survey
from tests.decoding.translate_jobs import (
    command,
    environment,
    jsonl,
    lines_done,
    partial_files,
    wait_until,
)

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")


def children(process_id: int) -> list[int]:
    """The workers of a process that are alive."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            called = (folder / "cmdline").read_bytes()
        except (OSError, NotADirectoryError):
            continue
        if int(fields[1]) == process_id and fields[0] != "Z" and b"spawn_main" in called:
            found.append(int(folder.name))
    return found


def alive(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@contextmanager
def job(model: Path, source: Path, output: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A job of two workers with its first lines on record, in a process group of its own."""
    arguments = [sys.executable, "-m", "nmt", "translate", *jsonl(model, source, output, "workers=2")]
    with subprocess.Popen(
        arguments, stderr=subprocess.PIPE, env=environment(), start_new_session=True
    ) as process:
        try:
            wait_until(lambda: lines_done(output) > 0)
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def test_two_workers_write_the_bytes_of_one(
    model: Path, long_input: Path, undisturbed: bytes, tmp_path: Path
) -> None:
    output = tmp_path / "out.txt.gz"
    assert main(["translate", *jsonl(model, long_input, output, "workers=2")]) == 0
    assert output.read_bytes() == undisturbed
    assert partial_files(tmp_path) == []
    assert children(os.getpid()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_stopped_job_leaves_no_process_and_goes_on_with_one_worker(
    model: Path, long_input: Path, undisturbed: bytes, tmp_path: Path, number: signal.Signals
) -> None:
    output = tmp_path / "out.txt.gz"
    with job(model, long_input, output) as process:
        workers = children(process.pid)
        assert len(workers) == 2
        # Not even a signal of their own: only the main process ends them.
        for worker in workers:
            blocked = re.search(r"SigBlk:\s*(\w+)", Path(f"/proc/{worker}/status").read_text())
            assert blocked
            assert int(blocked[1], 16) & 1 << (signal.SIGINT - 1)
        if number is signal.SIGKILL:
            process.send_signal(number)
        else:
            # As a terminal does, and a batch system: to all of them.
            os.killpg(process.pid, number)
        assert process.stderr is not None
        errors = process.stderr.read().decode()
        expected = -number if number is signal.SIGKILL else 128 + number
        assert process.wait(timeout=60) == expected, errors
        wait_until(lambda: not any(map(alive, workers)), seconds=20)
    assert "Traceback" not in errors
    assert "SpawnProcess" not in errors
    assert 0 < lines_done(output) < 10_000
    if number is not signal.SIGKILL:
        assert f"stopped after {lines_done(output):,} lines of {long_input}; resume=true goes on" in errors
    assert main(["translate", *jsonl(model, long_input, output, "resume=true", "workers=1")]) == 0
    assert output.read_bytes() == undisturbed


def test_a_worker_that_is_killed_ends_the_job_with_a_line(
    model: Path, long_input: Path, undisturbed: bytes, tmp_path: Path
) -> None:
    output = tmp_path / "out.txt.gz"
    with job(model, long_input, output) as process:
        workers = children(process.pid)
        os.kill(workers[1], signal.SIGKILL)
        assert process.stderr is not None
        errors = process.stderr.read().decode()
        assert process.wait(timeout=60) == 2
        assert not any(map(alive, workers))
    last = errors.splitlines()[-1]
    assert last.startswith(f"nmt translate: error: worker process {workers[1]} was killed by SIGKILL")
    assert f"stopped after {lines_done(output):,} lines" in errors
    assert "Traceback" not in errors
    assert not output.exists()
    # With other workers than before.
    assert main(["translate", *jsonl(model, long_input, output, "resume=true", "workers=3")]) == 0
    assert output.read_bytes() == undisturbed


def test_several_files_keep_their_names_and_lines(model: Path, tmp_path: Path) -> None:
    """More files than windows are read ahead, an empty one among them."""
    texts = {f"{number}.txt": "the dog\n" * (number % 4) + "the old cat" for number in range(12)}
    texts["empty.txt"] = ""
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    given = ",".join(str(tmp_path / name) for name in texts)
    for count in (1, 2):
        settings = [f"model={model}", f"input=[{given}]", f"output={tmp_path}/{count}/", f"workers={count}"]
        assert main(["translate", *settings, "format=tsv"]) == 0
    for name, text in texts.items():
        found = [(tmp_path / str(count) / f"{name}.tsv").read_text() for count in (1, 2)]
        assert found[0] == found[1]
        assert len(found[0].splitlines()) == len(text.splitlines())


def test_what_a_worker_raises_is_raised(
    model: Path, long_input: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "model"
    damaged.mkdir()
    for file in model.iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    (damaged / "model.safetensors").write_bytes(b"no weights")
    assert main(["translate", *jsonl(damaged, long_input, tmp_path / "out.txt", "workers=2")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"nmt translate: error: .*/model/model.safetensors: cannot be read", error)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    assert children(os.getpid()) == []


def test_standard_input_is_read_by_several_if_asked(model: Path) -> None:
    text = b"the dog\n\nthe old cat\n" * 700
    found = []
    for count in (1, 2):
        arguments = command(model, f"workers={count}")
        done = subprocess.run(arguments, input=text, capture_output=True, env=environment(), check=True)
        found.append(done.stdout)
    assert found[0] == found[1]
    assert found[0].count(b"\n") == 2100


@pytest.mark.parametrize(
    ("sizes", "threads", "count"),
    [([100], 8, 1), ([10_000_000], 8, 8), ([10_000_000], 1, 1), ([3 << 16], 8, 3), ([1 << 16] * 5, 8, 5)],
)
def test_long_texts_have_workers_by_themselves(sizes: list[int], threads: int, count: int) -> None:
    surveys = [Survey(lines=1, bytes=size, xxh3_128="") for size in sizes]
    assert useful_workers(surveys, torch.device("cpu"), threads) == count
    # Lines that come one by one are answered one by one.
    assert useful_workers([None], torch.device("cpu"), threads) == 1


def test_the_record_does_not_name_the_workers(model: Path, long_input: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.txt.gz"
    with job(model, long_input, output):
        record = json.loads(output.with_name("out.txt.gz.partial.json").read_text())
    assert not [name for name in record["identity"] if "worker" in name or "thread" in name]
