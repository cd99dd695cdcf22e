"""`nmt runs`: what the files of runs tell about them."""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from nmt.cli.launch import main
from nmt.cli.run_list import Status, differing_settings, find_runs

START = 1_700_000_000.0
SIGNATURE = "nrefs:1|tok:13a|version:2.6.0"


def make_run(
    folder: Path,
    *,
    process: int | None = None,
    machine: str = "",
    stopped: str | None = None,
    settings: dict[str, Any] | None = None,
    began: float = START,
    bleu: float = 30.0,
) -> Path:
    folder.mkdir(parents=True)
    start = {"started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(began)), "command": ["nmt"]}
    if process is not None:
        start |= {"process": process, "machine": machine or platform.node()}
    (folder / "environment.json").write_text(json.dumps([start]))
    (folder / "config.yaml").write_text(
        yaml.safe_dump({"seed": 1, "run": {"folder": None}, **(settings or {})})
    )
    lines = [
        {"step": 50, "train/loss": 2.0},
        {"step": 60, "validation/bleu": bleu},
        {"step": 80, "validation/bleu": 1.0},
    ]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines) + '{"step": 9')
    os.utime(folder / "metrics.jsonl", (began + 100, began + 100))
    os.utime(folder / "environment.json", (began, began))
    if stopped:
        summary = {"stopped": stopped, "steps": 90, "seconds": 75.0, "best_bleu": bleu, "best_step": 60}
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def status(folder: Path) -> Status:
    return find_runs(folder)[0].status


def test_status_of_runs(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for reason in ("steps", "minutes", "patience"):
        assert status(make_run(tmp_path / reason, stopped=reason)) is Status.finished
    assert status(make_run(tmp_path / "signal", stopped="signal")) is Status.stopped
    assert status(make_run(tmp_path / "alive", process=os.getpid())) is Status.running
    assert status(make_run(tmp_path / "dead", process=ended.pid)) is Status.failed
    # Of another machine's processes only their silence tells.
    far = make_run(tmp_path / "far", process=os.getpid(), machine="elsewhere")
    assert status(far) is Status.failed
    (far / "metrics.jsonl").touch()
    assert status(far) is Status.running


def test_a_run_that_goes_on_is_no_longer_stopped(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", stopped="signal", process=os.getpid())
    os.utime(folder / "summary.json", (START - 100, START - 100))
    (found,) = find_runs(folder)
    assert (found.status, found.steps) == (Status.running, 80)


def test_facts_of_finished_and_unfinished_runs(tmp_path: Path) -> None:
    finished = find_runs(make_run(tmp_path / "a", stopped="steps"))[0]
    assert (finished.steps, finished.seconds, finished.best_bleu, finished.best_step) == (90, 75.0, 30.0, 60)
    other = find_runs(make_run(tmp_path / "b"))[0]
    assert (other.steps, other.seconds, other.best_bleu, other.best_step) == (80, 100.0, 30.0, 60)


def test_damaged_files_leave_facts_unknown(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", stopped="steps")
    for name in ("environment.json", "config.yaml", "metrics.jsonl", "summary.json", "evaluation.json"):
        (folder / name).write_bytes(b"\xff{[:")
    (found,) = find_runs(tmp_path)
    assert (found.steps, found.best_bleu, found.settings, found.test_scores) == (0, None, {}, {})


def test_runs_are_found_in_any_depth_but_links_are_not_followed(tmp_path: Path) -> None:
    make_run(tmp_path / "runs/x/later", began=START + 5)
    make_run(tmp_path / "runs/multirun/2026/0")
    (tmp_path / "runs/latest").symlink_to("x/later")
    names = [run.folder.relative_to(tmp_path / "runs").as_posix() for run in find_runs(tmp_path / "runs")]
    assert names == ["multirun/2026/0", "x/later"]


def test_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, width in enumerate((8, 16, 8)):
        make_run(
            tmp_path / f"runs/x/{number}",
            stopped="steps",
            settings={"model": {"width": width}, "run": {"folder": f"{number}"}},
            began=START + number,
        )
    scores = [
        {"name": "chrF", "value": 50.0, "signature": "c"},
        {"name": "BLEU", "value": 33.333, "signature": SIGNATURE},
    ]
    content = {"test_sets": [{"name": "news", "scores": scores}]}
    (tmp_path / "runs/x/1/evaluation.json").write_text(json.dumps(content))
    assert differing_settings(find_runs(tmp_path)) == ["model.width"]
    monkeypatch.chdir(tmp_path)
    assert main(["runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["x/0", "x/1", "x/2"]
    assert "finished     90  1 min 15 s  30.00 at 60 (signature unknown)" in lines[1]
    assert lines[2].endswith("news 33.33 (1)")
    assert lines[5:9] == ["usual: model.width=8", "x/0: as usual", "x/1: model.width=16", "x/2: as usual"]
    assert lines[-1] == f"(1) {SIGNATURE}"
    # The same by name and by place.
    assert main(["runs", "runs/x"]) == main(["runs", "folder=runs/x"]) == 0


def test_where_there_are_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(tmp_path)]) == 2
    assert "holds no runs" in capsys.readouterr().err
    assert main(["runs", str(tmp_path / "nowhere")]) == 2
    assert main(["runs", "a", "b"]) == 2
    assert "there is a folder already; nmt runs takes one" in capsys.readouterr().err
