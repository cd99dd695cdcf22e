"""Where runs lie, which one goes on, and that none is overwritten."""

import json
from pathlib import Path

import pytest
import torch

from nmt.training import run_folder
from nmt.training.run_folder import RunFolderError, choose, point_latest, write_environment


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def with_checkpoint(folder: Path) -> Path:
    (folder / "checkpoints/step-00000010").mkdir(parents=True)
    return folder


def test_new_runs_of_one_second_get_folders_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder.time, "strftime", lambda *_: "2026-01-02_03-04-05")
    names = []
    for _ in range(3):
        folder = choose(None, "demo", resume=False)
        folder.mkdir(parents=True)
        names.append(folder.as_posix())
    first = "runs/demo/2026-01-02_03-04-05"
    assert names == [first, f"{first}.2", f"{first}.3"]


def test_resume_takes_the_newest_run_that_has_a_checkpoint() -> None:
    with_checkpoint(Path("runs/demo/2026-01-01_00-00-00"))
    newest = with_checkpoint(Path("runs/demo/2026-01-02_00-00-00"))
    Path("runs/demo/2026-01-03_00-00-00/checkpoints").mkdir(parents=True)
    assert choose(None, "demo", resume=True) == newest
    with pytest.raises(RunFolderError, match="no run with a checkpoint under runs/other"):
        choose(None, "other", resume=True)


def test_a_given_folder_is_resumed_or_begun_but_not_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    for resume in (True, False):
        assert choose(str(folder), "demo", resume=resume) == folder
    with_checkpoint(folder)
    assert choose(str(folder), "demo", resume=True) == folder
    with pytest.raises(RunFolderError, match="add resume=true"):
        choose(str(folder), "demo", resume=False)


def test_latest_follows_the_newest_wherever_it_lies(tmp_path: Path) -> None:
    for folder in (Path("runs/demo/one"), tmp_path / "elsewhere/two"):
        folder.mkdir(parents=True)
        point_latest(folder)
        assert Path("runs/latest").resolve() == folder.resolve()


def test_every_start_is_recorded(tmp_path: Path) -> None:
    for step in (0, 12):
        write_environment(tmp_path, device=torch.device("cpu"), facts={"step": step})
    starts = json.loads((tmp_path / "environment.json").read_text())
    assert [start["step"] for start in starts] == [0, 12]
    assert all(start["torch"] == torch.__version__ and start["device"] == "cpu" for start in starts)


@pytest.mark.parametrize("content", [b"", b'[{"step": 0', b"{}", b"7", b"\xff"])
def test_a_damaged_record_of_starts_does_not_keep_a_run_from_going_on(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "environment.json").write_bytes(content)
    write_environment(tmp_path, device=torch.device("cpu"), facts={"step": 12})
    assert [start["step"] for start in json.loads((tmp_path / "environment.json").read_text())] == [12]
