"""A whole trainer around a model, as `nmt train` assembles it, but without text."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nmt.data.batching import Work, batch_shapes
from nmt.data.loader import Loader
from nmt.data.store import PairStore
from nmt.data.tokenizer import BEGIN_ID
from nmt.model.transformer import Transformer
from nmt.training.checkpoint import Checkpoints, TrainState
from nmt.training.config import TrainingConfig
from nmt.training.distributed import Processes
from nmt.training.gauges import Gauges
from nmt.training.optim import FlatParameters, Optimizer
from nmt.training.replicas import Replicas
from nmt.training.tracking import Tracker
from nmt.training.trainer import Trainer
from nmt.training.update import Updater
from nmt.training.validation import Validation, Validator

KeepBest = Callable[[TrainState, Validation], None]


def assemble(
    folder: Path,
    model: Transformer,
    train: PairStore,
    valid: PairStore,
    config: TrainingConfig,
    *,
    seed: int = 1,
    decode: Callable[[], Validation] | None = None,
    keep_best: KeepBest = lambda *_: None,
) -> Trainer:
    """One process, one thread, float32. Without `decode` every validation has BLEU 0."""
    parameters = FlatParameters(model, torch.float32)
    state, processes = TrainState(), Processes()
    tracker = Tracker(folder, max_steps=config.max_steps, step=0, active=False)
    shapes = batch_shapes(config.max_tokens_per_batch, config.row_length, config.long_row_length)
    loader = Loader(train, shapes, begin_id=BEGIN_ID, seed=seed, device=torch.device("cpu"))
    return Trainer(
        updater=Updater(
            replicas=Replicas(model, parameters, count=1, seed=seed),
            optimizer=Optimizer(parameters, config),
            config=config,
            state=state,
            processes=processes,
        ),
        loader=loader,
        validator=Validator(
            model=model,
            valid=valid,
            loader=loader,
            processes=processes,
            tracker=tracker,
            decode=decode or (lambda: Validation(bleu=0.0, chrf=0.0, bleu_signature="")),
            keep_best=keep_best,
        ),
        config=config,
        state=state,
        checkpoints=Checkpoints(folder / "checkpoints", keep=3, write_model=lambda *_: None),
        tracker=tracker,
        processes=processes,
        gauges=Gauges(Work(), peak_flops=1.0, device=loader.device),
    )


@pytest.fixture(scope="session")
def assemble_trainer() -> Callable[..., Trainer]:
    return assemble
