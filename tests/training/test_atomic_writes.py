"""Whoever is killed while it writes leaves the old or the new, never a mixture; so does a full disk."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nmt.training.atomic_writes import WriteError, full_disk_said, recover, renewed, write_text

OLD, NEW = {"card": "old", "weights": "old", "only old": "old"}, {"card": "new", "weights": "new"}

# Renews what `sys.argv` names, in one child after the other; the n-th dies before its n-th file operation.
KILLED_EVERYWHERE = """
import os, signal, sys
from pathlib import Path
from nmt.training.atomic_writes import renewed, write_text

def die_before(count):
    def strike(event, arguments):
        nonlocal count
        count -= event == "open" or event.startswith("os.")
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(strike)

def renew(place):
    if place.name == "file":
        return write_text(place, "new")
    with renewed(place) as partial:
        for name in ("card", "weights"):
            (partial / name).write_text("new")

for number, place in enumerate(sorted(Path(sys.argv[1]).glob("*/" + sys.argv[2])), start=1):
    child = os.fork()
    if not child:
        die_before(number)
        renew(place)
        os._exit(0)
    killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    print("killed" if killed else "done")
"""


def killed_everywhere(tmp_path: Path, name: str) -> list[str]:
    arguments = [sys.executable, "-c", KILLED_EVERYWHERE, str(tmp_path), name]
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
    fates = done.stdout.split()
    # The copies are more than there are operations: each place to die was tried.
    assert fates[0] == "killed"
    assert fates[-1] == "done"
    assert fates == sorted(fates, reverse=True)
    return fates


def fill(folder: Path, contents: dict[str, str]) -> Path:
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_text(content)
    return folder


def read(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_folder_is_old_or_new_wherever_its_writer_is_killed(tmp_path: Path) -> None:
    folders = [fill(tmp_path / f"{number:02}/model", OLD) for number in range(40)]
    fates = killed_everywhere(tmp_path, "model")
    found = []
    for folder in folders:
        recover(folder)
        found.append(read(folder))
        assert found[-1] in (OLD, NEW)
        with renewed(folder) as partial:
            (partial / "card").write_text("next")
        assert read(folder) == {"card": "next"}
        assert [path.name for path in folder.parent.iterdir()] == ["model"]
    assert OLD in found
    assert [NEW, "killed"] in [list(pair) for pair in zip(found, fates, strict=True)]


def test_a_file_is_old_or_new_wherever_its_writer_is_killed(tmp_path: Path) -> None:
    files = [fill(tmp_path / f"{number:02}", {"file": "old"}) / "file" for number in range(20)]
    killed_everywhere(tmp_path, "file")
    assert {file.read_text() for file in files} == {"old", "new"}


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """The system refuses larger files, with the error of a full disk but for its number."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def renew_with_too_much(folder: Path, writer: str) -> None:
    with renewed(folder) as partial:
        if writer == "python":
            (partial / "card").write_text("long " * 1000)
        else:
            save_file({"weight": torch.zeros(1000)}, partial / "weights")


@pytest.mark.parametrize("writer", ["python", "safetensors"])
def test_a_full_disk_leaves_the_folder_as_it_was(tmp_path: Path, writer: str) -> None:
    folder = fill(tmp_path / "model", OLD)
    with files_limited_to(1000), pytest.raises(WriteError, match="model: cannot be written") as caught:
        renew_with_too_much(folder, writer)
    assert "make room" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert read(folder) == OLD
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_full_disk_is_said_with_the_way_out_and_other_errors_are_not(tmp_path: Path) -> None:
    with (
        pytest.raises(WriteError, match=f"resume=true run.folder={tmp_path}"),
        files_limited_to(1000),
        full_disk_said(tmp_path),
    ):
        write_text(tmp_path / "metrics.jsonl", "long " * 1000)
    with pytest.raises(FileNotFoundError), full_disk_said(tmp_path):
        write_text(tmp_path / "missing/metrics.jsonl", "short")
