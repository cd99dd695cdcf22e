"""The training loop: updates, logs, validations, checkpoints, and when to stop."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from nmt.data.loader import DeviceBatch, Loader, LoaderState
from nmt.training.checkpoint import Checkpoints, TrainState
from nmt.training.config import TrainingConfig
from nmt.training.distributed import Processes
from nmt.training.gauges import Gauges
from nmt.training.interval import Interval
from nmt.training.optim import learning_rate
from nmt.training.tracking import Tracker
from nmt.training.update import Updater
from nmt.training.validation import Validator


class Trainer:
    """Trains the updater's weights on the loader's stream. What must survive a restart is in `state`."""

    def __init__(
        self,
        *,
        updater: Updater,
        loader: Loader,
        validator: Validator,
        config: TrainingConfig,
        state: TrainState,
        checkpoints: Checkpoints,
        tracker: Tracker,
        processes: Processes,
        gauges: Gauges,
    ) -> None:
        self.updater = updater
        self.loader = loader
        self.validator = validator
        self.config = config
        self.state = state
        self.checkpoints = checkpoints
        self.tracker = tracker
        self.processes = processes
        self.gauges = gauges
        self.signal_number: int | None = None
        self.saved_at = time.monotonic()

    def fit(self) -> str:
        """Train until a limit is reached; returns why it stopped: steps, minutes, patience or signal."""
        interval = Interval()
        self.updater.replicas.train()
        with self._signals_noted(), self._stream() as updates:
            stopped = self._reason_to_stop()
            while stopped is None:
                before = time.perf_counter()
                batches, after = next(updates)
                report = self.updater.update(batches)
                self.state.epoch, self.state.position = after.epoch, after.position
                seconds = time.perf_counter() - before
                self.state.seconds += seconds
                limit = self.config.max_gradient_norm
                interval.add(report, batches, seconds=seconds, max_gradient_norm=limit)
                self.tracker.advance(self.state.step)
                stopped = self._reason_to_stop()
                if self.state.step % self.config.log_every == 0 or stopped:
                    self._log(interval)
                    interval = Interval()
                if self.state.step % self.config.validate_every == 0 or stopped not in (None, "signal"):
                    with self.updater.replicas.whole():
                        self.validator.run(self.state)
                    stopped = stopped or self._reason_to_stop()
                if stopped or self._checkpoint_is_due():
                    self._checkpoint()
        return stopped

    @contextmanager
    def _stream(self) -> Iterator[Iterator[tuple[list[DeviceBatch], LoaderState]]]:
        """The batches of one update at a time, with the stream's state after them."""
        batches = self.loader.batches(LoaderState(self.state.epoch, self.state.position))

        def updates() -> Iterator[tuple[list[DeviceBatch], LoaderState]]:
            while True:
                taken = [next(batches) for _ in range(self.config.accumulate_batches)]
                yield [batch for batch, _ in taken], taken[-1][1]

        try:
            yield updates()
        finally:
            batches.close()  # type: ignore[attr-defined]

    def _reason_to_stop(self) -> str | None:
        state, config = self.state, self.config
        decisions = [
            float(self.signal_number or 0),
            float(config.max_minutes > 0 and state.seconds >= 60 * config.max_minutes),
            float(config.patience > 0 and state.validations_since_best >= config.patience),
        ]
        # Clocks and signals differ between processes: what one of them sees counts for all.
        number, late, impatient = self.processes.highest(decisions)
        if number:
            self.signal_number = int(number)
        if state.step >= config.max_steps:
            return "steps"
        return "signal" if number else "minutes" if late else "patience" if impatient else None

    def _log(self, interval: Interval) -> None:
        rate = learning_rate(self.config, self.state.step)
        scalars = interval.scalars(wait_seconds=self.loader.wait_seconds)
        self.state.wait_seconds += self.loader.wait_seconds
        self.loader.wait_seconds = 0.0
        self.tracker.scalars(
            self.state.step,
            {
                **scalars,
                **self.gauges.scalars(interval),
                "train/learning_rate": rate,
                "train/skipped_steps": self.state.skipped_steps,
                "train/out_of_memory_splits": self.state.out_of_memory_splits,
                "train/epoch": self.state.epoch,
                "speed/target_tokens": self.state.target_tokens,
            },
        )
        speed = scalars["speed/target_tokens_per_second"]
        notes = {"loss": f"{scalars['train/loss']:.3f}", "lr": f"{rate:.1e}", "tok/s": f"{speed:,.0f}"}
        self.tracker.progress(self.state.step, notes)

    def _checkpoint_is_due(self) -> bool:
        if self.state.step % self.config.checkpoint_every == 0:
            return True
        if not self.config.checkpoint_minutes:
            return False
        late = time.monotonic() - self.saved_at >= 60 * self.config.checkpoint_minutes
        (late_anywhere,) = self.processes.highest([float(late)])
        return bool(late_anywhere)

    def _checkpoint(self) -> None:
        # Metrics of the steps before a checkpoint are not written again by the run that goes on from it.
        self.tracker.flush()
        random_states = self.processes.gather_tensors(self.updater.replicas.random_states())
        with self.updater.optimizer.gathered():
            if self.processes.is_main:
                self.checkpoints.save(self.state, random_states, self.updater.optimizer)
        self.saved_at = time.monotonic()
        self.processes.wait()

    @contextmanager
    def _signals_noted(self) -> Iterator[None]:
        """SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 end the run after the current update, with a checkpoint.

        Slurm and submitit send the last two before the time limit.
        """

        def note(number: int, _frame: FrameType | None) -> None:
            if self.signal_number is not None and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.signal_number = number

        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
        previous = {number: signal.signal(number, note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
