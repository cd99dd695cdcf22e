"""When a run stops, and what happens to updates whose gradients are not finite."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nmt.model.config import TransformerConfig
from nmt.model.transformer import Transformer
from nmt.training.checkpoint import recorded_bleu, step_of
from nmt.training.config import TrainingConfig
from nmt.training.trainer import Trainer
from nmt.training.update import MAX_SKIPPED_IN_A_ROW, TrainingError
from nmt.training.validation import Validation


@pytest.fixture
def make_trainer(tmp_path: Path, make_store: Any, assemble_trainer: Any) -> Callable[..., Trainer]:
    """A trainer whose validations give these BLEU scores, the last one again and again."""

    def make(bleus: list[float], **changes: Any) -> Trainer:
        config = TrainingConfig(
            **{
                "max_steps": 40,
                "max_tokens_per_batch": 64,
                "row_length": 32,
                "long_row_length": 32,
                "validate_every": 3,
                "checkpoint_every": 100,
            }
            | changes
        )
        shape = TransformerConfig(encoder_layers=1, decoder_layers=1, width=8, heads=2, feed_forward_width=8)
        model = Transformer(shape, source_vocabulary_size=12, target_vocabulary_size=12)
        store = make_store([([5, 6, 7, 3], [8, 9, 3])] * 50)
        scores = iter(bleus)
        return assemble_trainer(
            tmp_path,
            model,
            store,
            store,
            config,
            decode=lambda: Validation(bleu=next(scores, bleus[-1]), chrf=0.0, bleu_signature=""),
            keep_best=lambda state, validation: kept.append((state.step, validation.bleu)),
        )

    kept: list[tuple[int, float]] = []
    make.kept = kept  # type: ignore[attr-defined]
    return make


def test_stops_at_the_last_step(make_trainer: Any) -> None:
    trainer = make_trainer([10.0], max_steps=7)
    assert trainer.fit() == "steps"
    assert trainer.state.step == 7
    assert trainer.checkpoints.paths()[-1].name == "step-00000007"


def test_patience_counts_validations_without_a_better_score(make_trainer: Any) -> None:
    trainer = make_trainer([10.0, 12.0, 11.0, 13.0, 13.0, 12.5, 14.0], patience=2)
    assert trainer.fit() == "patience"
    assert trainer.state.step == 6 * 3
    assert make_trainer.kept == [(3, 10.0), (6, 12.0), (12, 13.0)]
    assert (trainer.state.best_bleu, trainer.state.best_step) == (13.0, 12)


def test_minutes_end_with_a_validation_and_a_checkpoint(make_trainer: Any) -> None:
    trainer = make_trainer([10.0], max_minutes=1.0)
    trainer.state.seconds = 59.9999
    assert trainer.fit() == "minutes"
    assert trainer.state.step == 1
    assert make_trainer.kept == [(1, 10.0)]
    assert trainer.checkpoints.newest(print) is not None


def test_a_checkpoint_knows_the_score_of_its_step(make_trainer: Any) -> None:
    trainer = make_trainer([10.0, 12.0, 11.0], max_steps=7, checkpoint_every=2)
    trainer.fit()
    scores = {step_of(path): recorded_bleu(path) for path in trainer.checkpoints.paths()}
    assert scores == {4: None, 6: 12.0, 7: 11.0}


def test_checkpoints_by_the_clock_change_no_weight(make_trainer: Any) -> None:
    trained = []
    for minutes in (0.0, 1e-9):
        torch.manual_seed(1)
        trainer = make_trainer([10.0], max_steps=7, checkpoint_minutes=minutes)
        trainer.fit()
        trained.append(trainer.updater.replicas.parameters.masters)
        steps = [step_of(path) for path in trainer.checkpoints.paths()]
        assert steps == ([5, 6, 7] if minutes else [7])
    assert torch.equal(*trained)


def test_updates_that_are_not_finite_are_skipped_until_it_is_hopeless(make_trainer: Any) -> None:
    trainer = make_trainer([10.0])
    before = trainer.updater.replicas.parameters.masters.clone()
    trainer.updater.replicas.backward = lambda batch, **_: spoil(trainer, batch.target_tokens)
    with pytest.raises(TrainingError, match=r"lower training\.learning_rate"):
        trainer.fit()
    assert trainer.state.skipped_steps == trainer.state.step == MAX_SKIPPED_IN_A_ROW
    assert torch.equal(before, trainer.updater.replicas.parameters.masters)


def spoil(trainer: Trainer, tokens: int) -> torch.Tensor:
    trainer.updater.replicas.parameters.master_gradients[0] = torch.nan
    return torch.tensor([1.0, 1.0, float(tokens)])
