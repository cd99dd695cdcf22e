"""What a run leaves behind for people: TensorBoard, metrics.jsonl, the closing summary, Weights & Biases."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams import metadata

from nmt.training import sinks
from nmt.training.checkpoint import TrainState
from nmt.training.config import TrackerName
from nmt.training.sinks import SinkError
from nmt.training.summary import RunSummary, duration
from nmt.training.tracking import Tracker

SETTINGS: dict[str, sinks.Setting] = {
    "model.width": 32,
    "training.learning_rate": 1e-3,
    "model.norm": "rms_norm",
    "tokenizer.joint": True,
    "tokenizer.user_symbols": "[]",
}

# Wider than high, and red.
PIXELS = np.zeros((4, 6, 3), dtype=np.uint8)
PIXELS[..., 0] = 200


def track(folder: Path, *, start: int, stop: int, bleu: float, **changes: Any) -> None:
    """A run from one step to another, as the command reports it."""
    folder.mkdir(parents=True, exist_ok=True)
    tracker = Tracker(folder, max_steps=stop, step=start, **changes)
    tracker.settings(SETTINGS, "model:\n  width: 32\n")
    for step in range(start + 1, stop + 1):
        tracker.scalars(step, {"train/loss": 8.0 - step})
    tracker.scalars(stop, {"validation/loss": 4.0 - stop / 10, "validation/bleu": bleu})
    tracker.samples(stop, [("a | b", "<c>", "d")])
    tracker.image(stop, "validation/attention", PIXELS)
    tracker.finish(stop, SETTINGS | {"training.max_steps": stop}, best_bleu=bleu)
    tracker.close()


def entries(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_tensorboard_shows_scalars_samples_and_settings(tmp_path: Path) -> None:
    track(tmp_path, start=0, stop=3, bleu=20.0)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(each.step, each.value) for each in events.Scalars("train/loss")] == [(1, 7), (2, 6), (3, 5)]
    (text,) = events.Tensors("validation/samples/text_summary")
    assert b"| a \\| b | &lt;c> | d |" in text.tensor_proto.string_val[0]
    assert b"width: 32" in events.Tensors("settings/text_summary")[0].tensor_proto.string_val[0]
    (image,) = events.Images("validation/attention")
    assert image.step == 3
    assert (np.asarray(Image.open(io.BytesIO(image.encoded_image_string))) == PIXELS).all()


def test_a_resumed_run_is_one_row_of_hyper_parameters_with_its_last_values(tmp_path: Path) -> None:
    track(tmp_path / "one", start=0, stop=3, bleu=20.0)
    track(tmp_path / "other", start=0, stop=3, bleu=10.0)
    track(tmp_path / "one", start=3, stop=5, bleu=30.0)
    runs = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
    sessions = runs.PluginRunToTagToContent(metadata.PLUGIN_NAME)
    assert set(sessions) == {"one/tensorboard", "other/tensorboard"}
    for run, bleu, steps in (("one", 30.0, 5), ("other", 10.0, 3)):
        content = sessions[f"{run}/tensorboard"][metadata.SESSION_START_INFO_TAG]
        found = metadata.parse_session_start_info_plugin_data(content).hparams
        assert found["training.max_steps"].number_value == steps
        assert found["model.norm"].string_value == "rms_norm"
        assert found["tokenizer.joint"].string_value == "true"
        events = EventAccumulator(str(tmp_path / run / "tensorboard")).Reload()
        finals = {name: events.Scalars(name) for name in events.Tags()["scalars"] if "final" in name}
        assert {name: round(value[-1].value, 3) for name, value in finals.items()} == {
            "final/best_bleu": bleu,
            "final/validation_loss": 4.0 - steps / 10,
            "final/train_loss": 8.0 - steps,
        }
        assert [len(values) for values in finals.values()] == [1, 1, 1]


def test_a_restart_drops_what_lies_behind_it_and_a_torn_line(tmp_path: Path) -> None:
    track(tmp_path, start=0, stop=5, bleu=20.0)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "train/lo')
    track(tmp_path, start=3, stop=4, bleu=25.0, trackers=[])
    assert [entry["step"] for entry in entries(tmp_path)] == [1, 2, 3, 4, 4]


def test_a_run_that_was_finished_already_still_knows_its_losses(tmp_path: Path) -> None:
    track(tmp_path, start=0, stop=3, bleu=20.0)
    tracker = Tracker(tmp_path, max_steps=3, step=3)
    assert tracker.metrics.latest["train/loss"] == 5.0
    assert tracker.metrics.latest["validation/loss"] == 3.7
    tracker.close()


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    track(tmp_path / "run", start=0, stop=2, bleu=1.0, active=False)
    assert not list((tmp_path / "run").iterdir())


def state_of_a_run() -> TrainState:
    return TrainState(
        step=2000,
        target_tokens=3_000_000,
        seconds=400.0,
        validation_seconds=100.0,
        wait_seconds=3.0,
        best_bleu=34.567,
        best_step=1600,
        skipped_steps=2,
    )


def test_summary_tells_training_and_validation_apart(tmp_path: Path) -> None:
    memory = {"memory/peak_resident_mb": 900.0, "memory/peak_allocated_mb": 5000.0}
    summary = RunSummary.of("patience", state_of_a_run(), tokens_per_epoch=1_500_000, memory=memory)
    assert (summary.epochs, summary.wait_share, summary.peak_memory_mb) == (2.0, 0.01, 5000.0)
    assert summary.target_tokens_per_second == 10_000
    assert summary.target_tokens_per_second_with_validation == 7_500
    table = summary.table()
    for fact in (
        "no better BLEU in training.patience validations",
        "34.57 at step 1,600",
        "2,000 (2.0 epochs), 2 skipped",
        "6 min 40 s: training 5 min 00 s, validation 1 min 40 s",
        "3,000,000: 10,000/s in training, 7,500/s with validation",
        "1.0% of the training time",
        "5,000 MB",
    ):
        assert fact in table
    summary.write(tmp_path / "summary.json")
    assert json.loads((tmp_path / "summary.json").read_text())["best_bleu"] == 34.567
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_a_run_that_was_stopped_before_anything_happened_has_a_summary() -> None:
    summary = RunSummary.of("signal", TrainState(), tokens_per_epoch=0, memory={"": 1.0})
    assert "none yet" in summary.table()
    assert summary.target_tokens_per_second == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (59.94, "59.9 s"), (61, "1 min 01 s"), (3599.6, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_wandb_without_its_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks.importlib.util, "find_spec", lambda name: None)
    sinks.require([TrackerName.tensorboard])
    with pytest.raises(SinkError, match=re.escape("pip install 'nmt[wandb]'")):
        sinks.require([TrackerName.tensorboard, TrackerName.wandb])


def offline_runs(folder: Path) -> list[Path]:
    return sorted((folder / "wandb").glob("offline-run-*"))


def test_wandb_offline_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two starts of one run have one identity; everything is in the files that `wandb sync` sends."""
    pytest.importorskip("wandb")
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_ENTITY": "nobody"}.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "demo" / "run"
    track(folder, start=0, stop=3, bleu=20.0, trackers=[TrackerName.wandb])
    identity = (folder / "wandb_run_id").read_text().strip()
    track(folder, start=2, stop=4, bleu=30.0, trackers=[TrackerName.wandb])
    assert (folder / "wandb_run_id").read_text().strip() == identity
    assert {path.name.rpartition("-")[2] for path in offline_runs(folder)} == {identity}
    assert not (folder / "tensorboard").exists()
    content = b"".join(path.read_bytes() for path in folder.glob("wandb/*/*.wandb"))
    for name in (
        b"train/loss",
        b"validation/samples",
        b"validation/attention",
        b"final/best_bleu",
        b"model.width",
        b"demo/run",
    ):
        assert name in content
