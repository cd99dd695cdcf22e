"""Checkpoints are whole or not there, and damage is recognised and named."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from nmt.model.config import TransformerConfig
from nmt.model.transformer import Transformer
from nmt.training.checkpoint import (
    CheckpointError,
    Checkpoints,
    TrainState,
    find_damage,
    recorded_bleu,
    step_of,
)
from nmt.training.config import TrainingConfig
from nmt.training.optim import FlatParameters, Optimizer
from nmt.training.replicas import Replicas


class Run:
    """A model with optimizer and checkpoints, a few updates old."""

    def __init__(self, folder: Path, *, width: int = 16, updates: int = 3, ema_decay: float = 0.0) -> None:
        torch.manual_seed(updates)
        config = TransformerConfig(
            encoder_layers=1, decoder_layers=1, width=width, heads=2, feed_forward_width=8
        )
        model = Transformer(config, source_vocabulary_size=20, target_vocabulary_size=20)
        self.parameters = FlatParameters(model, torch.bfloat16)
        self.optimizer = Optimizer(self.parameters, TrainingConfig(ema_decay=ema_decay))
        self.replicas = Replicas(model, self.parameters, count=1, seed=updates)
        for step in range(1, updates + 1):
            self.parameters.master_gradients.normal_()
            self.optimizer.update(step=step, divisor=1)
        self.checkpoints = Checkpoints(
            folder,
            keep=2,
            write_model=lambda path, weights, _: save_file(
                {name: weight.contiguous() for name, weight in weights.items()}, path / "model.safetensors"
            ),
        )

    def save(self, step: int) -> Path:
        return self.checkpoints.save(
            TrainState(step=step, identity={"seed": "1"}), self.replicas.random_states(), self.optimizer
        )


def test_everything_comes_back(tmp_path: Path) -> None:
    saved, other = Run(tmp_path), Run(tmp_path, updates=5)
    path = saved.save(3)
    other.checkpoints.restore(path, other.replicas, other.optimizer)
    for flat in ("masters", "weights"):
        mine, theirs = (run.parameters.named_views(getattr(run.parameters, flat)) for run in (saved, other))
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    moments = other.optimizer.moments()
    assert moments.keys() == saved.optimizer.moments().keys()
    assert all(torch.equal(value, moments[name]) for name, value in saved.optimizer.moments().items())
    assert torch.equal(saved.replicas.generators[0].get_state(), other.replicas.generators[0].get_state())
    assert saved.checkpoints.read_state(path, identity={"seed": "1"}).step == 3


def test_the_newest_are_kept(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for step in (5, 20, 100):
        run.save(step)
    assert [path.name for path in run.checkpoints.paths()] == ["step-00000020", "step-00000100"]
    assert len(list(tmp_path.iterdir())) == 2


def test_the_best_and_every_kth_are_kept(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.checkpoints.keep, run.checkpoints.keep_best, run.checkpoints.keep_every = 1, 2, 40
    for step, bleu in ((10, 30.0), (20, None), (30, 31.0), (40, 1.0), (50, 30.0), (60, 2.0), (70, 3.0)):
        validated = {} if bleu is None else {"validated_bleu": bleu, "validated_step": step}
        run.checkpoints.save(TrainState(step=step, **validated), run.replicas.random_states(), run.optimizer)
    assert [step_of(path) for path in run.checkpoints.paths()] == [10, 30, 40, 70]
    assert [recorded_bleu(path) for path in run.checkpoints.paths()] == [30.0, 31.0, 1.0, 3.0]


def test_pruning_does_not_count_on_what_is_damaged(tmp_path: Path) -> None:
    """The run goes on from 10 because 20 is damaged, and saves in between: that one and 10 stay."""
    run = Run(tmp_path)
    run.save(10)
    flip_a_bit(run.save(20) / "model.safetensors")
    between = run.save(15)
    assert [step_of(path) for path in run.checkpoints.paths()] == [10, 15, 20]
    assert run.checkpoints.newest(lambda _: None) == between


def test_nothing_is_removed_before_the_new_one_is_there(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.checkpoints.keep = 1
    before = run.save(10)
    run.checkpoints._prune = lambda step: seen.extend(path.name for path in run.checkpoints.paths())  # type: ignore[method-assign]
    seen: list[str] = []
    after = run.save(20)
    assert seen == [before.name, after.name]
    assert find_damage(after) is None


def averages_of(run: Run) -> dict[str, Tensor]:
    assert run.optimizer.average is not None
    return run.parameters.named_views(run.optimizer.average.weights)


def test_the_moving_average_comes_back(tmp_path: Path) -> None:
    saved, other = (Run(tmp_path, updates=updates, ema_decay=0.9) for updates in (3, 5))
    path = saved.save(3)
    other.checkpoints.restore(path, other.replicas, other.optimizer)
    mine, theirs = averages_of(saved), averages_of(other)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    masters = other.parameters.named_views(other.parameters.masters)
    assert not any(torch.equal(theirs[name], masters[name]) for name in masters)
    flip_a_bit(path / "ema.safetensors")
    assert "ema.safetensors" in str(find_damage(path))


def test_a_run_may_begin_or_give_up_its_moving_average(tmp_path: Path) -> None:
    plain, averaging = Run(tmp_path), Run(tmp_path, updates=5, ema_decay=0.9)
    averaging.checkpoints.restore(plain.save(3), averaging.replicas, averaging.optimizer)
    begun, masters = averages_of(averaging), plain.parameters.named_views(plain.parameters.masters)
    assert all(torch.equal(begun[name], masters[name]) for name in masters)
    plain.checkpoints.restore(averaging.save(5), plain.replicas, plain.optimizer)
    assert plain.optimizer.average is None


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: list[tuple[str, Callable[[Path], None]]] = [
    ("model.safetensors", flip_a_bit),
    ("optimizer.safetensors", flip_a_bit),
    ("optimizer.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-1])),
    ("state.json", lambda path: path.write_text("{}")),
    ("state.json", Path.unlink),
    ("checksums.json", Path.unlink),
    ("checksums.json", lambda path: path.write_text("[1")),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_damage_is_named_and_the_one_before_is_used(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    run = Run(tmp_path)
    before, newest = run.save(10), run.save(20)
    said: list[str] = []
    assert run.checkpoints.newest(said.append) == newest
    damage(newest / name)
    assert run.checkpoints.newest(said.append) == before
    assert len(said) == 1
    assert str(newest) in said[0]
    assert name in said[0]
    damage(before / name)
    with pytest.raises(CheckpointError, match="every checkpoint is damaged"):
        run.checkpoints.newest(said.append)


def test_a_folder_that_was_not_finished_is_no_checkpoint(tmp_path: Path) -> None:
    run = Run(tmp_path)
    (tmp_path / ".step-00000010.partial").mkdir()
    (tmp_path / "step-best").mkdir()
    assert run.checkpoints.newest(print) is None
    run.save(10)
    assert [path.name for path in run.checkpoints.paths()] == ["step-00000010"]


def test_remains_of_killed_processes_go_with_the_next_checkpoint(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for name in (".step-00000007.partial", ".step-00000010.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.json").write_text("{")
    path = run.save(10)
    assert list(tmp_path.iterdir()) == [path]
    assert find_damage(path) is None


def test_a_failed_write_leaves_the_one_before(tmp_path: Path) -> None:
    run = Run(tmp_path)
    before = run.save(10)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    run.checkpoints.write_model = fail
    with pytest.raises(CheckpointError, match="No space left on device"):
        run.save(20)
    assert len(list(tmp_path.iterdir())) == 1
    assert run.checkpoints.newest(print) == before


def test_refuses_another_model_and_other_settings(tmp_path: Path) -> None:
    path = Run(tmp_path).save(10)
    other = Run(tmp_path, width=32)
    with pytest.raises(CheckpointError, match="another model"):
        other.checkpoints.restore(path, other.replicas, other.optimizer)
    with pytest.raises(CheckpointError, match="seed was 1 and is 2 now"):
        other.checkpoints.read_state(path, identity={"seed": "2"})
