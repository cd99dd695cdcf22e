"""What is validated besides the weights in training, and that the training does not notice."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nmt.model.config import TransformerConfig
from nmt.model.transformer import Transformer
from nmt.training.config import TrainingConfig
from nmt.training.final_average import try_average
from nmt.training.trainer import Trainer
from nmt.training.validation import Validation


class Run:
    """A short training whose validations note the weights they see, and have the given BLEU scores."""

    def __init__(
        self, folder: Path, store: Any, assemble: Callable[..., Trainer], bleus: list[float]
    ) -> None:
        config = TrainingConfig(
            max_steps=6,
            max_tokens_per_batch=64,
            row_length=32,
            long_row_length=32,
            validate_every=3,
            checkpoint_every=2,
            ema_decay=0.5,
        )
        shape = TransformerConfig(encoder_layers=1, decoder_layers=1, width=8, heads=2, feed_forward_width=8)
        torch.manual_seed(1)
        self.model = Transformer(shape, source_vocabulary_size=12, target_vocabulary_size=12)
        self.bleus = iter(bleus)
        self.seen: list[Tensor] = []
        self.trainer = assemble(folder, self.model, store, store, config, decode=self.decode)
        self.trainer.checkpoints.write_model = lambda path, weights, _: save_file(
            weights, path / "model.safetensors"
        )
        self.optimizer = self.trainer.updater.optimizer
        self.parameters = self.optimizer.parameters

    def decode(self) -> Validation:
        assert not self.model.training
        self.seen.append(torch.cat([weight.detach().flatten() for weight in self.model.parameters()]))
        return Validation(bleu=next(self.bleus), chrf=0.0, bleu_signature="")

    def flat(self, weights: dict[str, Tensor]) -> Tensor:
        return torch.cat([weights[name].flatten() for name, _ in self.model.named_parameters()])


@pytest.fixture
def make_run(tmp_path: Path, make_store: Any, assemble_trainer: Any) -> Callable[[list[float]], Run]:
    store = make_store([([5, 6, 7, 3], [8, 9, 3])] * 50)
    return lambda bleus: Run(tmp_path, store, assemble_trainer, bleus)


@pytest.mark.parametrize(("score", "kept"), [(12.5, True), (12.0, False)])
def test_the_average_becomes_the_model_only_when_it_is_better(
    make_run: Callable[[list[float]], Run], score: float, kept: bool
) -> None:
    run = make_run([12.0, 11.0, score])
    assert run.trainer.fit() == "steps"
    state, masters = copy.deepcopy(run.trainer.state), run.parameters.masters.clone()
    keeping: list[tuple[Tensor, float, list[str]]] = []
    try_average(
        2,
        checkpoints=run.trainer.checkpoints,
        parameters=run.parameters,
        validator=run.trainer.validator,
        state=run.trainer.state,
        keep=lambda weights, validation, paths: keeping.append(
            (run.flat(weights), validation.bleu, [path.name for path in paths])
        ),
    )
    files = [path / "model.safetensors" for path in run.trainer.checkpoints.paths()[-2:]]
    expected = torch.stack([run.flat(load_file(file)).double() for file in files]).mean(0).float()
    assert torch.equal(run.seen[-1], expected)
    assert run.trainer.state == state
    assert torch.equal(run.parameters.masters, masters)
    assert len(keeping) == int(kept)
    if kept:
        (weights, bleu, names) = keeping[0]
        assert torch.equal(weights, expected)
        assert (bleu, names) == (12.5, ["step-00000004", "step-00000006"])


def test_a_damaged_checkpoint_is_not_averaged(make_run: Callable[[list[float]], Run]) -> None:
    run = make_run([12.0, 11.0])
    run.trainer.fit()
    said: list[str] = []
    run.trainer.tracker.say = said.append  # type: ignore[method-assign]
    (run.trainer.checkpoints.paths()[-1] / "state.json").write_text("{}")
    try_average(
        2,
        checkpoints=run.trainer.checkpoints,
        parameters=run.parameters,
        validator=run.trainer.validator,
        state=run.trainer.state,
        keep=lambda *_: pytest.fail("nothing to keep"),
    )
    assert "step-00000006: damaged (state.json" in said[0]
    assert "no two checkpoints" in said[1]


def test_validation_sees_the_moving_average_and_training_does_not_notice(
    make_run: Callable[[list[float]], Run],
) -> None:
    plain, averaged = make_run([10.0] * 9), make_run([10.0] * 9)
    assert averaged.optimizer.average is not None
    averaged.trainer.validator.computing_with = partial(
        averaged.parameters.computing_with, averaged.optimizer.average.weights
    )
    for run in (plain, averaged):
        run.trainer.fit()
    assert torch.equal(plain.parameters.masters, averaged.parameters.masters)
    last = run.parameters.named_views(averaged.optimizer.average.weights)
    assert torch.equal(averaged.seen[-1], run.flat(last))
    assert torch.equal(plain.seen[-1], plain.flat(plain.parameters.named_views(plain.parameters.masters)))
    assert not torch.equal(averaged.seen[-1], plain.seen[-1])
