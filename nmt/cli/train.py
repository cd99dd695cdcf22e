"""`nmt train`: a corpus in, a scored model out."""

import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nmt.cli import limits
from nmt.cli import training_parts as parts
from nmt.cli.evaluate import evaluate_model
from nmt.cli.model_writer import ModelWriter
from nmt.config import ConfigError, TrainConfig, to_yaml
from nmt.data.preparation import PreparedData, prepare
from nmt.data.processors import available_cores
from nmt.model.device import choose_device
from nmt.training import run_folder, sinks
from nmt.training.atomic_writes import full_disk_said, recover, write_text
from nmt.training.checkpoint import Checkpoints, TrainState
from nmt.training.config import Sharding
from nmt.training.distributed import Processes
from nmt.training.final_average import try_average
from nmt.training.forecast import Forecast
from nmt.training.lifeline import FOREVER
from nmt.training.optim import Optimizer
from nmt.training.regroup import regroup
from nmt.training.replicas import Replicas
from nmt.training.sinks import Setting
from nmt.training.summary import RunSummary
from nmt.training.tracking import Tracker
from nmt.training.trainer import Trainer
from nmt.training.update import Updater
from nmt.training.validation import Validator

MODEL_FOLDER = "model"
MAX_TOKENS = "training.max_tokens_per_batch"


def run(config: TrainConfig) -> None:
    """Prepare the data, train, and score the best model on the test sets."""
    sinks.require(config.training.trackers)
    device = choose_device(config.training.device)
    with Processes.start(device) as processes:
        folder = _train(config, processes, device)
    if processes.is_main:
        _score_best(folder, config, device)


@dataclass(kw_only=True, slots=True)
class Beginning:
    """Where a run begins or goes on, settled by all processes alike."""

    # With the lengths of rows and the size of batches that were chosen.
    config: TrainConfig
    folder: Path
    prepared: PreparedData
    writer: ModelWriter
    checkpoints: Checkpoints
    # The checkpoint to go on from.
    resumed: Path | None
    state: TrainState
    forecast: Forecast
    # What there is to say about a new number of processes.
    regrouped: str


def _train(config: TrainConfig, processes: Processes, device: torch.device) -> Path:
    """Train on this process's share of every update; returns the run folder.

    Raises:
        SystemExit: a signal ended the run, on whichever process it came in.
    """
    _check_sharding(config, processes)
    cores = max(1, available_cores() // processes.local_world_size)
    torch.set_num_threads(config.training.threads or cores)
    begin = _begin(config, processes, device)
    replicas = parts.make_replicas(begin.config, begin.prepared, processes, begin.state.dtype, device)
    optimizer = parts.make_optimizer(begin.config, replicas.parameters)
    if begin.resumed:
        begin.checkpoints.restore(begin.resumed, replicas, optimizer)
    with full_disk_said(begin.folder):
        stopped, number = _fit(begin, replicas, optimizer, processes, device)
    processes.stop()
    if stopped == "signal":
        raise SystemExit(128 + number)
    return begin.folder


def _fit(
    begin: Beginning, replicas: Replicas, optimizer: Optimizer, processes: Processes, device: torch.device
) -> tuple[str, int]:
    """Train to the end; returns why it ended, and the number of the signal if one ended it."""
    config, folder, state = begin.config, begin.folder, begin.state
    if processes.is_main:
        _open_folder(folder, config, device, begin.prepared, state)
    processes.wait()
    settings = _flat(asdict(config))
    tracker = Tracker(
        folder,
        max_steps=config.training.max_steps,
        step=state.step,
        trackers=config.training.trackers,
        active=processes.is_main,
    )
    tracker.settings(settings, to_yaml(config))
    tracker.say(_opening(folder, config, begin.prepared, state, device) + begin.regrouped)
    tracker.say(str(begin.forecast))
    updater = Updater(
        replicas=replicas, optimizer=optimizer, config=config.training, state=state, processes=processes
    )
    trainer = _make_trainer(begin, updater, tracker, processes, device)
    try:
        stopped = trainer.fit()
        if config.training.average_last and stopped != "signal":
            try_average(
                config.training.average_last,
                checkpoints=begin.checkpoints,
                parameters=replicas.parameters,
                validator=trainer.validator,
                state=state,
                keep=partial(begin.writer.keep_average, state),
            )
            processes.wait()
        _conclude(begin, trainer, stopped, settings)
    finally:
        tracker.close()
        replicas.close()
    return stopped, trainer.signal_number or 0


def _begin(config: TrainConfig, processes: Processes, device: torch.device) -> Beginning:
    """Prepare the data, find the checkpoint to go on from, and settle what fits the device.

    Raises:
        RunFolderError, CheckpointError: the run cannot begin there, or not with these settings.
    """
    choose = partial(run_folder.choose, config.run.folder, config.run.experiment, resume=config.resume)
    folder = Path(processes.decide(lambda: str(choose())))
    prepared = prepare(config.data, config.tokenizer)
    # Machines that do not share a disk may need hours more or less for that than others.
    processes.wait(FOREVER)
    config = limits.settle_rows(config, prepared)
    writer = ModelWriter(config, prepared, folder / MODEL_FOLDER)
    checkpoints = Checkpoints(
        folder / "checkpoints",
        keep=config.training.keep_checkpoints,
        keep_best=config.training.keep_best_checkpoints,
        keep_every=config.training.keep_every,
        write_model=writer.write,
    )
    newest = processes.decide(lambda: str(checkpoints.newest(_warn) or "")) if config.resume else ""
    resumed = Path(newest) if newest else None
    if resumed and config.training.max_tokens_per_batch == 0:
        slots = checkpoints.saved_setting(resumed, MAX_TOKENS)
        config = limits.change_training(config, max_tokens_per_batch=int(slots))
    state, regrouped = parts.first_state(config, prepared, processes, device), ""
    if resumed:
        state = checkpoints.read_state(resumed, identity=state.identity)
        regrouped = regroup(state, processes.world_size, config.training.accumulate_batches)

    def make_replicas(settled: TrainConfig) -> Replicas:
        return parts.make_replicas(settled, prepared, processes, state.dtype, device)

    config, forecast = limits.rehearse(
        config, prepared, state, make_replicas=make_replicas, processes=processes, device=device
    )
    state.identity[MAX_TOKENS] = str(config.training.max_tokens_per_batch)
    return Beginning(
        config=config,
        folder=folder,
        prepared=prepared,
        writer=writer,
        checkpoints=checkpoints,
        resumed=resumed,
        state=state,
        forecast=forecast,
        regrouped=regrouped,
    )


def _make_trainer(
    begin: Beginning, updater: Updater, tracker: Tracker, processes: Processes, device: torch.device
) -> Trainer:
    config, prepared, writer = begin.config, begin.prepared, begin.writer
    replicas, optimizer = updater.replicas, updater.optimizer
    loader = parts.make_loader(config, prepared, processes, device)
    return Trainer(
        updater=updater,
        loader=loader,
        validator=Validator(
            model=replicas.whole_model,
            valid=prepared.valid,
            loader=loader,
            processes=processes,
            tracker=tracker,
            decode=parts.make_decode(config, prepared, processes, replicas.whole_model, device),
            keep_best=partial(writer.keep_best, optimizer),
            computing_with=lambda: replicas.parameters.computing_with(writer.validated_weights(optimizer)),
        ),
        config=config.training,
        state=begin.state,
        checkpoints=begin.checkpoints,
        tracker=tracker,
        processes=processes,
        gauges=parts.make_gauges(config, prepared, replicas, device),
    )


def _conclude(begin: Beginning, trainer: Trainer, stopped: str, settings: dict[str, Setting]) -> None:
    """What the run came to, said and written."""
    tracker, state = trainer.tracker, begin.state
    tokens_per_epoch = int(begin.prepared.train.target_lengths.sum(dtype="int64"))
    memory = trainer.gauges.memory()
    summary = RunSummary.of(stopped, state, tokens_per_epoch=tokens_per_epoch, memory=memory)
    tracker.conclude(summary.table())
    if trainer.processes.is_main:
        summary.write(begin.folder / "summary.json")
    if stopped == "signal":
        tracker.say(
            "the checkpoint is written, go on with the same command and resume=true"
            f" run.folder={begin.folder}"
        )
    else:
        tracker.finish(state.step, settings, best_bleu=state.best_bleu)


def _check_sharding(config: TrainConfig, processes: Processes) -> None:
    if config.training.sharding is Sharding.full and processes.world_size == 1:
        raise ConfigError(
            "training.sharding=full needs several processes: start with torchrun --nproc-per-node=N -m nmt"
            " train ..., or choose none"
        )


def _open_folder(
    folder: Path, config: TrainConfig, device: torch.device, prepared: PreparedData, state: TrainState
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    recover(folder / MODEL_FOLDER)
    write_text(folder / "config.yaml", to_yaml(config))
    facts = {"dtype": state.dtype, "seed": config.seed, "data": prepared.fingerprint, "step": state.step}
    run_folder.write_environment(folder, device=device, facts=facts)
    run_folder.point_latest(folder)


def _opening(
    folder: Path,
    config: TrainConfig,
    prepared: PreparedData,
    state: TrainState,
    device: torch.device,
) -> str:
    filled = limits.packing(config, prepared).filled_share
    layout = " or ".join(f"{shape.rows} rows of {shape.row_length}" for shape in parts.shapes(config))
    begin = f"going on from step {state.step:,}" if state.step else "starting"
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    sharded = ", sharded" if config.training.sharding is Sharding.full else ""
    return (
        f"{begin} in {folder}: {len(prepared.train):,} sentence pairs, batches of {layout} slots,"
        f" {100 * filled:.0f} % of them filled, {state.dtype} on {device.type}{threads}{sharded}"
    )


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Setting]:
    """Nested settings by dotted name."""
    flat: dict[str, Setting] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat


def _score_best(folder: Path, config: TrainConfig, device: torch.device) -> None:
    """Scores of the best model on the test sets, as `nmt evaluate` gives them, and what to type next."""
    model = folder / MODEL_FOLDER
    if config.data.test:
        evaluate_model(model, device=device)
    source = next(
        (corpus.source for corpus in config.data.test.values() if isinstance(corpus.source, str)), ""
    )
    print(
        "\nnext:\n"
        f"  nmt translate model={folder} input={source or 'FILE'} output=translation.txt\n"
        f"  nmt evaluate model={folder}\n"
        "  tensorboard --logdir runs"
    )


def _warn(message: str) -> None:
    print(f"nmt train: {message}", file=sys.stderr)
