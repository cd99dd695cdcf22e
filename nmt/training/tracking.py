"""The same scalars to progress bar and sinks; messages to terminal and train.log."""

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

from nmt.training.config import TrackerName
from nmt.training.sinks import MetricsFile, Pixels, Sample, Setting, Sink, open_sinks

# Seconds between two lines of progress where the output is not a terminal.
PLAIN_INTERVAL_SECONDS = 30.0


class Tracker:
    """Where a run reports to. On a process that is not the main one every method does nothing."""

    def __init__(
        self,
        folder: Path,
        *,
        max_steps: int,
        step: int,
        trackers: Iterable[TrackerName] = (TrackerName.tensorboard,),
        active: bool = True,
    ) -> None:
        """
        Args:
            folder: the run folder.
            step: where the run (re)starts; metrics of later steps, left by a killed run, are dropped.
            trackers: sinks beside metrics.jsonl.

        Raises:
            SinkError: one of the trackers cannot be used.
        """
        self.active = active
        self.max_steps = max_steps
        self.sinks: list[Sink] = []
        if not active:
            return
        self.metrics = MetricsFile(folder, step)
        self.sinks = [self.metrics, *open_sinks(trackers, folder, step)]
        self.log = (folder / "train.log").open("a", encoding="utf-8")
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

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Record scalars under names such as `train/loss`."""
        for sink in self.sinks:
            sink.scalars(step, values)

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

    def samples(self, step: int, rows: Sequence[Sample]) -> None:
        """Translations as text."""
        for sink in self.sinks:
            sink.samples(step, rows)

    def image(self, step: int, name: str, pixels: Pixels) -> None:
        """A picture under a name such as `validation/attention`."""
        for sink in self.sinks:
            sink.image(step, name, pixels)

    def settings(self, values: Mapping[str, Setting], text: str) -> None:
        """The run's settings by dotted name, and its whole configuration as YAML."""
        for sink in self.sinks:
            sink.settings(values, text)

    def finish(self, step: int, settings: Mapping[str, Setting], *, best_bleu: float) -> None:
        """The run has come to its end: what other runs are compared with."""
        if not self.active:
            return
        metrics = {"final/best_bleu": best_bleu}
        for loss in ("validation/loss", "train/loss"):
            if loss in self.metrics.latest:
                metrics[f"final/{loss.replace('/', '_')}"] = self.metrics.latest[loss]
        for sink in self.sinks:
            sink.finish(step, settings, metrics)

    def conclude(self, message: str) -> None:
        """The last message: the progress bar stays above it."""
        if self.active:
            self.bar.close()
        self.say(message)

    def flush(self) -> None:
        """Let nothing that was reported so far be lost by a kill."""
        for sink in self.sinks if self.active else ():
            sink.flush()

    def close(self) -> None:
        """Flush and close everything."""
        if not self.active:
            return
        # Every one of them, even where the disk is full: what stays open complains again at exit.
        with ExitStack() as closing:
            closing.callback(self.log.close)
            for sink in self.sinks:
                closing.callback(sink.close)
            closing.callback(self.bar.close)
