"""Where the scalars, samples and settings of a run are kept: metrics.jsonl, TensorBoard, Weights & Biases."""

import importlib
import importlib.util
import json
import os
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmt.training.atomic_writes import write_text
from nmt.training.config import TrackerName

# A setting as it is shown; lists and None are text.
Setting = bool | int | float | str
# (source, reference, translation)
Sample = tuple[str, str, str]
# [height, width, 3]
Pixels = NDArray[np.uint8]


class SinkError(ValueError):
    """A chosen tracker cannot be used; the message says what to do."""


class Sink:
    """What the tracker tells every sink; one that does not show something leaves it out."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Values under names such as `train/loss`."""

    def samples(self, step: int, rows: Sequence[Sample]) -> None:
        """Translations of some validation sentences."""

    def image(self, step: int, name: str, pixels: Pixels) -> None:
        """A picture under a name such as `validation/attention`."""

    def settings(self, values: Mapping[str, Setting], text: str) -> None:
        """The run's settings by dotted name, and the whole configuration as YAML."""

    def finish(self, step: int, settings: Mapping[str, Setting], metrics: Mapping[str, float]) -> None:
        """The run has come to its end with these metrics."""

    def flush(self) -> None:
        """Let nothing that was told so far be lost by a kill."""

    def close(self) -> None:
        """Write what is still waiting."""


def require(names: Iterable[TrackerName]) -> None:
    """Complain about a missing package before any work is done.

    Raises:
        SinkError: Weights & Biases is chosen but not installed.
    """
    if TrackerName.wandb in names and importlib.util.find_spec("wandb") is None:
        raise SinkError(
            "training.trackers: the package wandb is not installed; pip install 'nmt[wandb]', or choose"
            " [tensorboard]"
        )


def open_sinks(names: Iterable[TrackerName], folder: Path, step: int) -> list[Sink]:
    """The chosen sinks of the run in `folder`, which (re)starts at `step`.

    Raises:
        SinkError: one of them cannot be used.
    """
    chosen: dict[TrackerName, type[TensorBoard] | type[WeightsAndBiases]] = {
        TrackerName.tensorboard: TensorBoard,
        TrackerName.wandb: WeightsAndBiases,
    }
    return [chosen[name](folder, step) for name in dict.fromkeys(names)]


class MetricsFile(Sink):
    """metrics.jsonl: one object per line with step, time and scalars."""

    def __init__(self, folder: Path, step: int) -> None:
        """Metrics of later steps, left by a killed run, and a torn last line are dropped."""
        path = folder / "metrics.jsonl"
        # The newest value of every scalar.
        self.latest: dict[str, float] = {}
        kept = []
        # As bytes: a damaged character costs its line and no more.
        for line in path.read_bytes().splitlines() if path.exists() else []:
            try:
                entry = json.loads(line)
                if entry["step"] > step:
                    continue
            except (ValueError, KeyError, TypeError):
                continue
            kept.append(line.decode())
            self.latest |= entry
        write_text(path, "".join(line + "\n" for line in kept))
        self.file = path.open("a", encoding="utf-8")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.latest |= values
        self.file.write(json.dumps({"step": step, "time": round(time.time(), 3), **values}) + "\n")
        self.file.flush()

    def flush(self) -> None:
        os.fsync(self.file.fileno())

    def close(self) -> None:
        self.file.close()


class TensorBoard(Sink):
    """Event files under tensorboard/."""

    # End of the name of the file with hyper-parameters and final metrics.
    SUMMARY_SUFFIX = ".hparams"

    def __init__(self, folder: Path, step: int) -> None:
        # Imported here: it costs over a second, which other verbs need not pay.
        from torch.utils import tensorboard

        self.folder = folder / "tensorboard"
        self.writer = tensorboard.SummaryWriter(str(self.folder), purge_step=step + 1, flush_secs=20)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def samples(self, step: int, rows: Sequence[Sample]) -> None:
        lines = ["| source | reference | translation |", "|---|---|---|"]
        lines += ["| " + " | ".join(_escape(cell) for cell in row) + " |" for row in rows]
        self.writer.add_text("validation/samples", "\n".join(lines), step)

    def image(self, step: int, name: str, pixels: Pixels) -> None:
        self.writer.add_image(name, pixels, step, dataformats="HWC")

    def settings(self, values: Mapping[str, Setting], text: str) -> None:
        self.writer.add_text("settings", "    " + text.replace("\n", "\n    "), 0)

    def finish(self, step: int, settings: Mapping[str, Setting], metrics: Mapping[str, float]) -> None:
        """One row of the tab HPARAMS.

        `SummaryWriter.add_hparams` would make another run of it. TensorBoard keeps the first
        hyper-parameters that it finds in a run, so the file of an earlier end, from which the run was
        taken further, makes way for this one.
        """
        from torch.utils import tensorboard
        from torch.utils.tensorboard.summary import hparams

        # PyTorch takes True for the number 1.
        shown = {
            name: str(each).lower() if isinstance(each, bool) else each for name, each in settings.items()
        }
        for earlier in self.folder.glob(f"*{self.SUMMARY_SUFFIX}"):
            earlier.unlink()
        with tensorboard.SummaryWriter(str(self.folder), filename_suffix=self.SUMMARY_SUFFIX) as writer:
            for summary in hparams(shown, dict(metrics)):  # type: ignore[no-untyped-call]
                writer._get_file_writer().add_summary(summary)
            for name, value in metrics.items():
                writer.add_scalar(name, value, step)

    def flush(self) -> None:
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases(Sink):
    """A run of Weights & Biases, in the project WANDB_PROJECT or `nmt`; a resumed run goes on in the same.

    Where, as whom and whether online (WANDB_MODE) is said by its own environment variables.
    """

    def __init__(self, folder: Path, step: int) -> None:
        # Not an import statement: the package is an extra, whose types are not always there.
        wandb: Any = importlib.import_module("wandb")
        identity = folder / "wandb_run_id"
        if not identity.exists():
            identity.write_text(secrets.token_hex(4) + "\n", encoding="utf-8")
        absolute = folder.absolute()
        try:
            self.run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "nmt"),
                name=f"{absolute.parent.name}/{absolute.name}",
                id=identity.read_text(encoding="utf-8").strip(),
                resume="allow",
                dir=str(folder),
                # What the run prints is in train.log already.
                settings=wandb.Settings(console="off"),
            )
        except wandb.Error as error:
            raise SinkError(
                f"training.trackers: wandb cannot start ({error}); run `wandb login`, or set"
                " WANDB_MODE=offline"
            ) from error
        self.table = wandb.Table
        self.picture = wandb.Image

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        # Steps that a killed run had already sent are repeated with the same values.
        if step >= self.run.step:
            self.run.log(dict(values), step=step)

    def samples(self, step: int, rows: Sequence[Sample]) -> None:
        if step >= self.run.step:
            table = self.table(
                columns=["source", "reference", "translation"], data=[list(row) for row in rows]
            )
            self.run.log({"validation/samples": table}, step=step)

    def image(self, step: int, name: str, pixels: Pixels) -> None:
        if step >= self.run.step:
            self.run.log({name: self.picture(pixels)}, step=step)

    def settings(self, values: Mapping[str, Setting], text: str) -> None:
        self.run.config.update(dict(values), allow_val_change=True)

    def finish(self, step: int, settings: Mapping[str, Setting], metrics: Mapping[str, float]) -> None:
        self.run.summary.update(dict(metrics))

    def close(self) -> None:
        self.run.finish()


def _escape(cell: str) -> str:
    return cell.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")
