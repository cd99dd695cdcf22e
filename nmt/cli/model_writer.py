"""The model folders that a run writes: one in each checkpoint, and that of the best model."""

import time
from pathlib import Path
from typing import Any

from torch import Tensor

from nmt import bundle
from nmt.cli.average import describe
from nmt.config import TrainConfig
from nmt.data.preparation import PreparedData
from nmt.training import run_folder
from nmt.training.atomic_writes import renewed
from nmt.training.checkpoint import TrainState
from nmt.training.config import ModelWeights
from nmt.training.optim import Optimizer
from nmt.training.validation import Validation


class ModelWriter:
    """Writes weights together with all that is needed to translate with them."""

    def __init__(self, config: TrainConfig, prepared: PreparedData, best: Path) -> None:
        """
        Args:
            best: folder of the best model so far.
        """
        self.config = config
        self.prepared = prepared
        self.best = best

    def write(
        self,
        folder: Path,
        weights: dict[str, Tensor],
        state: TrainState,
        validation: Validation | None = None,
        average: dict[str, Any] | None = None,
    ) -> None:
        """A model folder with the given weights and where they come from."""
        card: dict[str, Any] = {
            "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "experiment": self.config.run.experiment,
            "step": state.step,
            "target_tokens": state.target_tokens,
            "training_seconds": round(state.seconds, 1),
            "trained_in": state.dtype,
            "seed": self.config.seed,
            "data": self.prepared.fingerprint,
            **run_folder.provenance(),
        }
        if validation:
            card["validation"] = {
                "bleu": validation.bleu,
                "chrf": validation.chrf,
                "bleu_signature": validation.bleu_signature,
            }
        if average:
            card["average"] = average
        bundle.write(
            folder,
            settings=self._settings(),
            tokenizer=self.prepared.tokenizer,
            weights=weights,
            card=card,
        )

    def validated_weights(self, optimizer: Optimizer) -> Tensor:
        """The flat tensor that is validated, and kept when it is the best."""
        if self.config.training.validate_on is ModelWeights.ema:
            assert optimizer.average
            return optimizer.average.weights
        return optimizer.parameters.masters

    def keep_best(self, optimizer: Optimizer, state: TrainState, validation: Validation) -> None:
        """Let the weights of the moment be the run's model."""
        weights = optimizer.parameters.named_views(self.validated_weights(optimizer))
        moving = self.config.training.validate_on is ModelWeights.ema
        average = {"ema_decay": self.config.training.ema_decay} if moving else None
        with renewed(self.best) as folder:
            self.write(folder, weights, state, validation, average)

    def keep_average(
        self, state: TrainState, weights: dict[str, Tensor], validation: Validation, paths: list[Path]
    ) -> None:
        """Let the average of these checkpoints be the run's model."""
        with renewed(self.best) as folder:
            self.write(folder, weights, state, validation, {"checkpoints": describe(paths)})

    def _settings(self) -> bundle.BundleSettings:
        config, tokenizer = self.config, self.prepared.tokenizer
        return bundle.BundleSettings(
            source_language=config.data.source_language,
            target_language=config.data.target_language,
            source_vocabulary_size=tokenizer.source_vocabulary_size,
            target_vocabulary_size=tokenizer.target_vocabulary_size,
            model=config.model,
            decoding=config.decoding.plain(),
            test=config.data.test,
        )
