"""What the files of a run tell about it, without torch: any number of runs is read in a moment."""

import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, auto
from pathlib import Path
from typing import Any

import yaml

from nmt.evaluation.provenance import flatten

# A run of another machine that has written nothing for so long is taken for dead.
_SILENCE_SECONDS = 900
# A process starts a little before it notes the time, and clocks of machines differ.
_TOLERANCE_SECONDS = 2


class Status(StrEnum):
    """What has become of a run, as far as its files tell."""

    running = auto()
    # It reached its end: steps, minutes or patience.
    finished = auto()
    # By a signal, with a checkpoint.
    stopped = auto()
    # Its process is gone without a last word, or it ended with an error.
    failed = auto()


@dataclass(kw_only=True, slots=True)
class RunFacts:
    """A run as its folder shows it."""

    folder: Path
    status: Status
    # Seconds since 1970 of its first start.
    started: float
    steps: int
    # Of training, restarts added up; of a run without summary from its first start to its last word.
    seconds: float
    best_bleu: float | None
    best_step: int | None
    # Signature of the validation's BLEU, as the model's card has it.
    signature: str
    # Scores of the test sets by their names, as `nmt evaluate` saved them.
    test_scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    # By dotted name.
    settings: dict[str, Any] = field(default_factory=dict)


def find_runs(root: Path) -> list[RunFacts]:
    """All runs under a folder, or the run that the folder is, the oldest first. Links are not followed."""
    return sorted((read_run(folder) for folder in _run_folders(root)), key=lambda run: run.started)


def differing_settings(runs: list[RunFacts]) -> list[str]:
    """Names of the settings that are not the same in all runs; folder and name of the run are none."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    return [
        name
        for name in names
        if not name.startswith("run.") and len({str(run.settings.get(name)) for run in runs}) > 1
    ]


def read_run(folder: Path) -> RunFacts:
    """Read what there is; a file that is missing or damaged leaves its facts unknown."""
    starts = _starts(folder)
    started = [moment for moment in map(_moment, starts) if moment is not None]
    summary_file = folder / "summary.json"
    summary = _read_json(summary_file)
    last_start = max(started, default=0.0)
    # A summary from before the last start is that of a run that has gone on since.
    ended = bool(summary) and summary_file.stat().st_mtime >= last_start - _TOLERANCE_SECONDS
    progress = _progress(folder)
    card = _read_json(folder / "model" / "card.json").get("validation") or {}
    first = min(started, default=folder.stat().st_mtime)
    newest = _last_word(folder)
    facts = RunFacts(
        folder=folder,
        status=_status(summary if ended else {}, starts[-1] if starts else {}, newest),
        started=first,
        steps=int(progress.get("step", 0)),
        seconds=max(0.0, newest - first),
        best_bleu=progress.get("bleu"),
        best_step=progress.get("bleu_step"),
        signature=str(card.get("bleu_signature", "")),
        test_scores=_test_scores(folder),
        settings=_settings(folder),
    )
    if ended:
        facts.steps, facts.seconds = int(summary.get("steps", 0)), float(summary.get("seconds", 0.0))
        if summary.get("best_step"):
            facts.best_bleu, facts.best_step = summary.get("best_bleu"), summary.get("best_step")
    return facts


def _run_folders(root: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(root):
        if "environment.json" in files:
            yield Path(place)
            folders.clear()
        folders.sort()


def _status(summary: dict[str, Any], start: dict[str, Any], last_word: float) -> Status:
    if summary:
        return Status.stopped if summary.get("stopped") == "signal" else Status.finished
    process = start.get("process")
    if start.get("machine") == platform.node() and isinstance(process, int):
        return Status.running if _is_alive(process) else Status.failed
    return Status.running if time.time() - last_word < _SILENCE_SECONDS else Status.failed


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _starts(folder: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [each for each in content if isinstance(each, dict)] if isinstance(content, list) else []


def _moment(start: dict[str, Any]) -> float | None:
    try:
        return datetime.strptime(str(start.get("started")), "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except ValueError:
        return None


def _last_word(folder: Path) -> float:
    times = [
        path.stat().st_mtime
        for name in ("metrics.jsonl", "train.log", "environment.json")
        if (path := folder / name).exists()
    ]
    return max(times, default=0.0)


def _progress(folder: Path) -> dict[str, Any]:
    """The newest step and the best validation that the log of metrics tells of."""
    found: dict[str, Any] = {}
    try:
        with (folder / "metrics.jsonl").open(encoding="utf-8") as file:
            lines = [line for line in file if line.endswith("\n")]
    except (OSError, ValueError):
        return found
    for line in lines:
        try:
            entry = json.loads(line)
            found["step"] = max(found.get("step", 0), int(entry["step"]))
            bleu = entry.get("validation/bleu")
            if bleu is not None and bleu > found.get("bleu", -1.0):
                found |= {"bleu": float(bleu), "bleu_step": int(entry["step"])}
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


def _test_scores(folder: Path) -> dict[str, dict[str, Any]]:
    """BLEU and its signature by test set."""
    scores: dict[str, dict[str, Any]] = {}
    try:
        for own in _read_json(folder / "evaluation.json").get("test_sets", []):
            for score in own["scores"]:
                if score["name"] == "BLEU":
                    scores[str(own["name"])] = {
                        "value": float(score["value"]),
                        "signature": score["signature"],
                    }
    except (KeyError, TypeError, ValueError):
        return scores
    return scores


def _settings(folder: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return flatten(content) if isinstance(content, dict) else {}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
