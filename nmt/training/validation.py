"""Scores of the weights of the moment on the validation set, and which of them were the best."""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch

from nmt.data.loader import Loader, validation_batches
from nmt.data.store import PairStore
from nmt.model.transformer import Transformer
from nmt.training.checkpoint import TrainState
from nmt.training.distributed import Processes
from nmt.training.loss import smoothed_cross_entropy
from nmt.training.memory import release
from nmt.training.sinks import Pixels
from nmt.training.tracking import Tracker


@dataclass(slots=True)
class Validation:
    """What decoding the validation set gave."""

    bleu: float
    chrf: float
    bleu_signature: str
    # (source, reference, translation)
    samples: list[tuple[str, str, str]] = field(default_factory=list)
    # Pictures by name, such as `attention`.
    images: dict[str, Pixels] = field(default_factory=dict)


class Validator:
    """Validates a model; the best one by BLEU is handed to `keep_best`."""

    def __init__(
        self,
        *,
        model: Transformer,
        valid: PairStore,
        loader: Loader,
        processes: Processes,
        tracker: Tracker,
        decode: Callable[[], Validation | None],
        keep_best: Callable[[TrainState, Validation], None],
        computing_with: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """
        Args:
            loader: that of training, for the shapes of its batches and its device.
            decode: translates the validation set, every process its share, and scores the translations on
                 the main process; None on the others.
            computing_with: puts the weights that are validated into the model, for as long as it is open.
        """
        self.model = model
        self.valid = valid
        self.loader = loader
        self.processes = processes
        self.tracker = tracker
        self.decode = decode
        self.keep_best = keep_best
        self.computing_with = computing_with

    def run(self, state: TrainState) -> None:
        """Loss, perplexity and BLEU; `state` learns whether this is the best model so far."""
        before = time.perf_counter()
        with self.computing_with():
            loss, validation = self.measure()
        (bleu,) = self.processes.highest([validation.bleu if validation else 0.0])
        state.validated_bleu, state.validated_step = bleu, state.step
        better = bleu > state.best_bleu
        state.validations_since_best = 0 if better else state.validations_since_best + 1
        if better:
            state.best_bleu, state.best_step = bleu, state.step
        if validation:
            if better:
                self.keep_best(state, validation)
            self._report(state, loss, validation, seconds=time.perf_counter() - before)
        seconds = time.perf_counter() - before
        state.seconds += seconds
        state.validation_seconds += seconds

    def measure(self) -> tuple[float, Validation | None]:
        """Loss of what the model computes with at the moment and, on the main process, its scores."""
        self.model.eval()
        measured = self.loss(), self.decode()
        self.model.train()
        # Beams of all lengths leave the memory in pieces that the next validation could not use.
        release(self.loader.device)
        return measured

    @torch.no_grad()
    def loss(self) -> float:
        """Mean negative log-likelihood per target piece of the validation set, in nats.

        Every process computes its share of the batches.
        """
        total, tokens = 0.0, 0
        for batch in validation_batches(
            self.valid,
            self.loader.shapes,
            begin_id=self.loader.begin_id,
            device=self.loader.device,
            rank=self.processes.rank,
            world_size=self.processes.world_size,
        ):
            logits = self.model(**batch.model_input())
            _, plain = smoothed_cross_entropy(logits, batch.target_BT, smoothing=0, pad_id=self.model.pad_id)
            total += float(plain)
            tokens += batch.target_tokens
        sums = self.processes.sum(torch.tensor([total, tokens], dtype=torch.float64))
        return float(sums[0]) / max(1.0, float(sums[1]))

    def _report(self, state: TrainState, loss: float, validation: Validation, *, seconds: float) -> None:
        perplexity = math.exp(min(loss, 50))
        self.tracker.scalars(
            state.step,
            {
                "validation/loss": loss,
                "validation/perplexity": perplexity,
                "validation/bleu": validation.bleu,
                "validation/chrf": validation.chrf,
                "validation/seconds": seconds,
            },
        )
        self.tracker.samples(state.step, validation.samples)
        for name, pixels in validation.images.items():
            self.tracker.image(state.step, f"validation/{name}", pixels)
        is_best = state.best_step == state.step
        best = "best so far" if is_best else f"best {state.best_bleu:.2f} at step {state.best_step:,}"
        self.tracker.say(
            f"step {state.step:,}: validation loss {loss:.3f}, perplexity {perplexity:.2f},"
            f" BLEU {validation.bleu:.2f} ({best}), {seconds:.1f} s"
        )
        self.tracker.progress(state.step, {"bleu": f"{validation.bleu:.1f}"})
