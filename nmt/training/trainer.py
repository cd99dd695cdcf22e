"""The training loop: one update, validation, checkpoints, and when to stop."""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

import torch
from torch import Tensor

from nmt.data.loader import DeviceBatch, Loader, LoaderState, validation_batches
from nmt.data.store import PairStore
from nmt.training.checkpoint import Checkpoints, TrainState
from nmt.training.config import TrainingConfig
from nmt.training.distributed import Processes
from nmt.training.interval import Interval, StepReport
from nmt.training.loss import smoothed_cross_entropy
from nmt.training.optim import Optimizer, learning_rate
from nmt.training.precision import LossScale
from nmt.training.replicas import Replicas
from nmt.training.tracking import Tracker

# Updates in a row with a gradient that is not finite after which a run gives up.
MAX_SKIPPED_IN_A_ROW = 20


class TrainingError(ValueError):
    """Training cannot go on; the message says why and what to change."""


@dataclass(slots=True)
class Validation:
    """What decoding the validation set gave."""

    bleu: float
    chrf: float
    bleu_signature: str
    # (source, reference, translation)
    samples: list[tuple[str, str, str]] = field(default_factory=list)


def accumulate_gradients(
    replicas: Replicas,
    batches: list[DeviceBatch],
    *,
    label_smoothing: float,
    loss_scale: float,
    processes: Processes,
) -> Tensor:
    """Gradients of the loss sum over all micro-batches and processes, in the masters' gradients.

    Nothing is divided here: one division by the number of target pieces follows, so neither number nor
    shapes of micro-batches and processes change the update.

    Returns:
        Sums [3] of smoothed loss, negative log-likelihood (nats) and target pieces.
    """
    sums = [
        replicas.backward(batch, label_smoothing=label_smoothing, loss_scale=loss_scale) for batch in batches
    ]
    processes.sum(replicas.parameters.master_gradients)
    return processes.sum(torch.stack(sums).sum(0))


class Trainer:
    """Trains the replicas' weights on the loader's stream. What must survive a restart is in `state`."""

    def __init__(
        self,
        *,
        replicas: Replicas,
        optimizer: Optimizer,
        loader: Loader,
        valid: PairStore,
        config: TrainingConfig,
        state: TrainState,
        checkpoints: Checkpoints,
        tracker: Tracker,
        processes: Processes,
        validate: Callable[[], Validation],
        keep_best: Callable[[TrainState, Validation], None],
    ) -> None:
        self.replicas = replicas
        self.model = replicas.models[0]
        self.device = replicas.parameters.masters.device
        self.optimizer = optimizer
        self.loader = loader
        self.valid = valid
        self.config = config
        self.state = state
        self.checkpoints = checkpoints
        self.tracker = tracker
        self.processes = processes
        self.validate = validate
        self.keep_best = keep_best
        self.loss_scale = LossScale(self.model.dtype)
        if state.step and self.loss_scale.dynamic:
            self.loss_scale.value = state.loss_scale
            self.loss_scale.good_steps = state.loss_scale_good_steps
        self.signal_number: int | None = None

    def fit(self) -> str:
        """Train until a limit is reached; returns why it stopped: steps, minutes, patience or signal."""
        interval = Interval()
        skipped_in_a_row = 0
        self.replicas.train()
        with self._signals_noted(), self._stream() as updates:
            stopped = self._reason_to_stop()
            while stopped is None:
                before = time.perf_counter()
                batches, after = next(updates)
                report = self.train_step(batches)
                self.state.epoch, self.state.position = after.epoch, after.position
                skipped_in_a_row = 0 if math.isfinite(report.gradient_norm) else skipped_in_a_row + 1
                self._check_skipped(skipped_in_a_row)
                seconds = time.perf_counter() - before
                self.state.seconds += seconds
                interval.add(report, seconds=seconds, max_gradient_norm=self.config.max_gradient_norm)
                self.tracker.advance(self.state.step)
                stopped = self._reason_to_stop()
                if self.state.step % self.config.log_every == 0 or stopped:
                    self._log(interval)
                    interval = Interval()
                if self.state.step % self.config.validate_every == 0 or stopped not in (None, "signal"):
                    self._validate()
                    stopped = stopped or self._reason_to_stop()
                if self.state.step % self.config.checkpoint_every == 0 or stopped:
                    self._checkpoint()
        return stopped

    def train_step(self, batches: list[DeviceBatch]) -> StepReport:
        """One update from this process's micro-batches."""
        scale = self.loss_scale.value
        sums = accumulate_gradients(
            self.replicas,
            batches,
            label_smoothing=self.config.label_smoothing,
            loss_scale=scale,
            processes=self.processes,
        )
        loss, nll, tokens = sums.tolist()
        self.state.step += 1
        norm = self.optimizer.update(step=self.state.step, divisor=tokens * scale)
        self.loss_scale.update(math.isfinite(norm))
        self.state.skipped_steps += int(not math.isfinite(norm))
        self.state.target_tokens += int(tokens)
        return StepReport(loss / tokens, nll / tokens, norm, int(tokens))

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
            float(self.signal_number is not None),
            float(config.max_minutes > 0 and state.seconds >= 60 * config.max_minutes),
            float(config.patience > 0 and state.validations_since_best >= config.patience),
        ]
        # Clocks and signals differ between processes: rank 0 decides.
        signalled, late, impatient = self.processes.agree(decisions, self.device)
        if state.step >= config.max_steps:
            return "steps"
        return "signal" if signalled else "minutes" if late else "patience" if impatient else None

    def _check_skipped(self, in_a_row: int) -> None:
        if in_a_row < MAX_SKIPPED_IN_A_ROW:
            return
        raise TrainingError(
            f"the gradient was not finite in {in_a_row} updates in a row (step {self.state.step});"
            " lower training.learning_rate, raise training.warmup_steps or set training.precision=float32"
        )

    def _log(self, interval: Interval) -> None:
        rate = learning_rate(self.config, self.state.step)
        scalars = interval.scalars(wait_seconds=self.loader.wait_seconds)
        self.loader.wait_seconds = 0.0
        self.tracker.scalars(
            self.state.step,
            {
                **scalars,
                "train/learning_rate": rate,
                "train/skipped_steps": self.state.skipped_steps,
                "train/epoch": self.state.epoch,
                "speed/target_tokens": self.state.target_tokens,
            },
        )
        speed = scalars["speed/target_tokens_per_second"]
        notes = {"loss": f"{scalars['train/loss']:.3f}", "lr": f"{rate:.1e}", "tok/s": f"{speed:,.0f}"}
        self.tracker.progress(self.state.step, notes)

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Mean negative log-likelihood per target piece of the validation set, in nats."""
        total, tokens = 0.0, 0
        for batch in validation_batches(
            self.valid, self.loader.shapes, begin_id=self.loader.begin_id, device=self.device
        ):
            logits = self.model(**batch.model_input())
            _, plain = smoothed_cross_entropy(logits, batch.target_BT, smoothing=0, pad_id=self.model.pad_id)
            total += float(plain)
            tokens += batch.target_tokens
        return total / max(1, tokens)

    def _validate(self) -> None:
        """Loss, perplexity and BLEU on the validation set; the best model by BLEU is kept."""
        before = time.perf_counter()
        state = self.state
        bleu = 0.0
        if self.processes.is_main:
            self.model.eval()
            loss = self.validation_loss()
            validation = self.validate()
            self.model.train()
            bleu = validation.bleu
        (bleu,) = self.processes.agree([bleu], self.device)
        better = bleu > state.best_bleu
        state.validations_since_best = 0 if better else state.validations_since_best + 1
        if better:
            state.best_bleu, state.best_step = bleu, state.step
        if self.processes.is_main:
            if better:
                self.keep_best(state, validation)
            self._report_validation(loss, validation, better, time.perf_counter() - before)
        state.seconds += time.perf_counter() - before

    def _report_validation(self, loss: float, validation: Validation, better: bool, seconds: float) -> None:
        step = self.state.step
        perplexity = math.exp(min(loss, 50))
        self.tracker.scalars(
            step,
            {
                "validation/loss": loss,
                "validation/perplexity": perplexity,
                "validation/bleu": validation.bleu,
                "validation/chrf": validation.chrf,
                "validation/seconds": seconds,
            },
        )
        self.tracker.samples(step, validation.samples)
        best = (
            "best so far" if better else f"best {self.state.best_bleu:.2f} at step {self.state.best_step:,}"
        )
        self.tracker.say(
            f"step {step:,}: validation loss {loss:.3f}, perplexity {perplexity:.2f},"
            f" BLEU {validation.bleu:.2f} ({best}), {seconds:.1f} s"
        )
        self.tracker.progress(step, {"bleu": f"{validation.bleu:.1f}"})

    def _checkpoint(self) -> None:
        self.state.loss_scale = self.loss_scale.value
        self.state.loss_scale_good_steps = self.loss_scale.good_steps
        if self.processes.is_main:
            self.checkpoints.save(self.state, self.replicas, self.optimizer)
        self.processes.wait()

    @contextmanager
    def _signals_noted(self) -> Iterator[None]:
        """SIGTERM, SIGINT and SIGUSR1 end the run after the current update, with a checkpoint."""

        def note(number: int, _frame: FrameType | None) -> None:
            if self.signal_number is not None and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.signal_number = number

        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
        previous = {number: signal.signal(number, note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
