"""Lengths of rows are settled by the corpus and within what the other settings allow."""

from pathlib import Path
from typing import Any

import pytest
import torch

from nmt.cli.composition import Request
from nmt.cli.limits import rehearse, settle_rows
from nmt.config import ConfigError, TrainConfig, from_yaml, load, to_yaml
from nmt.data.batching import BatchShape, build_batch, plan_epoch
from nmt.data.loader import DeviceBatch
from nmt.data.preparation import PreparedData
from nmt.model.transformer import Transformer
from nmt.training.checkpoint import TrainState
from nmt.training.distributed import Processes
from nmt.training.optim import FlatParameters, Optimizer
from nmt.training.replicas import Replicas
from nmt.training.update import Updater


@pytest.fixture(scope="module")
def prepared(make_store: Any) -> PreparedData:
    """Short training sentences; the longest of all is one of the validation set."""
    train = make_store([([5, 6, 7, 3], [8, 9, 3])] * 50)
    valid = make_store([([5, 3], [*range(4, 73), 3])])
    return PreparedData(Path(), "", None, train, valid, {})  # type: ignore[arg-type]


def settings(*overrides: str) -> TrainConfig:
    return load(Request.parse("train", overrides).compose(), TrainConfig)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ("", (64, 80)),
        ("training.max_tokens_per_batch=0", (64, 80)),
        ("training.max_tokens_per_batch=72", (64, 72)),
        ("training.row_length=100", (100, 100)),
        ("training.row_length=32", (32, 80)),
        ("training.long_row_length=75", (64, 75)),
        ("training.long_row_length=300", (64, 300)),
        ("training.row_length=24 training.long_row_length=200", (24, 200)),
        ("model.positions=learned model.max_positions=256", (64, 80)),
    ],
)
def test_what_is_given_is_kept(prepared: PreparedData, overrides: str, expected: tuple[int, int]) -> None:
    settled = settle_rows(settings(*overrides.split()), prepared)
    assert (settled.training.row_length, settled.training.long_row_length) == expected
    # What a run records can be given again.
    again = from_yaml(to_yaml(settled), TrainConfig)
    assert settle_rows(again, prepared) == again == settled


@pytest.mark.parametrize("name", ["training.long_row_length", "training.max_tokens_per_batch"])
def test_a_sentence_that_fits_nowhere_is_refused(prepared: PreparedData, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}=69 is less than the 70 pieces of the longest sentence"):
        settle_rows(settings(f"{name}=69"), prepared)


def test_a_rehearsal_leaves_nothing_behind(prepared: PreparedData) -> None:
    """The first update is the same with and without, dropout and all."""
    config = settle_rows(settings("training.max_tokens_per_batch=0", "model.width=16"), prepared)
    cpu, store = torch.device("cpu"), prepared.train
    random, threads = torch.get_rng_state(), torch.get_num_threads()

    def make_replicas(config: TrainConfig) -> Replicas:
        torch.manual_seed(config.seed)
        model = Transformer(config.model, source_vocabulary_size=80, target_vocabulary_size=80)
        return Replicas(model, FlatParameters(model, torch.bfloat16), count=2, seed=config.seed)

    def first_update() -> torch.Tensor:
        replicas = make_replicas(config)
        replicas.train()
        plan = next(
            plan_epoch(store.source_lengths, store.target_lengths, [BatchShape(4, 64)], seed=1, epoch=0)
        )
        batch = DeviceBatch.from_packed(build_batch(store, plan, 2), cpu)
        updater = Updater(
            replicas=replicas,
            optimizer=Optimizer(replicas.parameters, config.training),
            config=config.training,
            state=TrainState(),
            processes=Processes(),
        )
        updater.update([batch])
        replicas.close()
        return replicas.parameters.masters

    expected = first_update()
    settled, forecast = rehearse(
        config, prepared, TrainState(), make_replicas=make_replicas, processes=Processes(), device=cpu
    )
    assert torch.equal(first_update(), expected)
    assert torch.get_num_threads() == threads
    assert settled.training.max_tokens_per_batch == forecast.measured.slots > 64
    torch.set_rng_state(random)
