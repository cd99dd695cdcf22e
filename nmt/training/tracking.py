"""The same scalars to progress bar, TensorBoard and metrics.jsonl; messages to terminal and train.log."""

import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tqdm import tqdm

from nmt.training.atomic_writes import write_text

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

# Seconds between two lines of progress where the output is not a terminal.
PLAIN_INTERVAL_SECONDS = 30.0


class Tracker:
    """Where a run reports to. On a process that is not the main one every method does nothing."""

    def __init__(self, folder: Path, *, max_steps: int, step: int, active: bool = True) -> None:
        """
        Args:
            folder: the run folder.
            step: where the run (re)starts; metrics of later steps, left by a killed run, are dropped.
        """
        self.active = active
        self.max_steps = max_steps
        self.writer: SummaryWriter | None = None
        if not active:
            return
        # Imported here: it costs over a second, which other verbs need not pay.
        from torch.utils import tensorboard

        self.metrics = _reopen_metrics(folder / "metrics.jsonl", step)
        self.log = (folder / "train.log").open("a", encoding="utf-8")
        self.writer = tensorboard.SummaryWriter(
            str(folder / "tensorboard"), purge_step=step + 1, flush_secs=20
        )
        self.interactive = sys.stderr.isatty()
        self.started = time.monotonic()
        self.start_step = step
        self.last_line = 0.0
        self.notes: dict[str, str] = {}
        self.bar = tqdm(
            total=max_steps,
            initial=step,
            desc="training",
            unit="step",
            dynamic_ncols=True,
            smoothing=0.05,
            disable=not self.interactive,
        )

    def say(self, message: str) -> None:
        """One message to the terminal, above the progress bar, and to train.log."""
        if not self.active:
            return
        for line in message.splitlines():
            self.log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
        self.log.flush()
        if self.interactive:
            tqdm.write(message, file=sys.stderr)
        else:
            print(message, file=sys.stderr, flush=True)

    def advance(self, step: int) -> None:
        """The run is at `step`."""
        if self.active and self.interactive:
            self.bar.update(step - self.bar.n)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Record scalars under names such as `train/loss`."""
        if not self.active or self.writer is None:
            return
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.metrics.write(json.dumps({"step": step, "time": round(time.time(), 3), **values}) + "\n")
        self.metrics.flush()

    def progress(self, step: int, notes: dict[str, str]) -> None:
        """Notes beside the progress bar, such as loss and speed; plain lines where there is no terminal."""
        if not self.active:
            return
        self.notes |= notes
        if self.interactive:
            self.bar.set_postfix(self.notes, refresh=False)
            return
        now = time.monotonic()
        if now - self.last_line < PLAIN_INTERVAL_SECONDS:
            return
        self.last_line = now
        seconds = (now - self.started) / max(1, step - self.start_step) * (self.max_steps - step)
        left = f"{seconds / 60:.0f} min left" if seconds >= 90 else f"{seconds:.0f} s left"
        shown = ", ".join(f"{name} {value}" for name, value in self.notes.items())
        print(f"step {step:,}/{self.max_steps:,}: {shown}, {left}", file=sys.stderr, flush=True)

    def samples(self, step: int, rows: Sequence[tuple[str, str, str]]) -> None:
        """Translations as text: (source, reference, translation)."""
        if not self.active or self.writer is None:
            return
        lines = ["| source | reference | translation |", "|---|---|---|"]
        lines += ["| " + " | ".join(_escape(cell) for cell in row) + " |" for row in rows]
        self.writer.add_text("validation/samples", "\n".join(lines), step)

    def settings(self, text: str) -> None:
        """The run's whole configuration as text."""
        if self.writer is not None:
            self.writer.add_text("settings", "    " + text.replace("\n", "\n    "), 0)

    def flush(self) -> None:
        """Force everything recorded so far to the disk."""
        if not self.active or self.writer is None:
            return
        self.writer.flush()
        os.fsync(self.metrics.fileno())

    def close(self) -> None:
        """Flush and close everything."""
        if not self.active or self.writer is None:
            return
        # Every one of them, even where the disk is full: what stays open complains again at exit.
        with ExitStack() as closing:
            for each in (self.log, self.metrics, self.writer, self.bar):
                closing.callback(each.close)


def _escape(cell: str) -> str:
    return cell.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")


def _reopen_metrics(path: Path, step: int) -> IO[str]:
    """Open for appending after dropping what lies beyond `step`, a torn last line included."""
    kept = []
    if path.exists():
        # As bytes: a damaged character costs its line and no more.
        for line in path.read_bytes().splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line.decode())
            except (ValueError, KeyError, TypeError):
                continue
    write_text(path, "".join(line + "\n" for line in kept))
    return path.open("a", encoding="utf-8")
