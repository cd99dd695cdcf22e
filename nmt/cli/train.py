"""`nmt train`: a corpus in, a scored model out."""

import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nmt import bundle
from nmt.cli import limits
from nmt.cli.average import describe
from nmt.cli.evaluate import evaluate_model
from nmt.config import ConfigError, TrainConfig, to_yaml
from nmt.data.batching import BatchShape, batch_shapes
from nmt.data.loader import Loader
from nmt.data.preparation import PreparedData, prepare, read_texts
from nmt.data.processors import available_cores
from nmt.data.tokenizer import BEGIN_ID
from nmt.decoding.translator import Translator
from nmt.evaluation.metrics import score
from nmt.model.device import choose_device
from nmt.model.transformer import Transformer
from nmt.training import run_folder
from nmt.training.atomic_writes import full_disk_said, recover, renewed, write_text
from nmt.training.checkpoint import Checkpoints, TrainState
from nmt.training.config import ModelWeights, Sharding
from nmt.training.distributed import Processes
from nmt.training.final_average import try_average
from nmt.training.optim import FlatParameters, Optimizer
from nmt.training.parameters import Parameters
from nmt.training.precision import choose_dtype
from nmt.training.replicas import Replicas, replica_count
from nmt.training.tracking import Tracker
from nmt.training.trainer import Trainer
from nmt.training.update import Updater
from nmt.training.validation import Validation, Validator

MODEL_FOLDER = "model"
# A setting that the run itself chooses when it is 0; a resumed run goes on with what was chosen.
MAX_TOKENS = "training.max_tokens_per_batch"


def run(config: TrainConfig) -> None:
    """Prepare the data, train, and score the best model on the test sets."""
    processes = Processes.start()
    _check_sharding(config, processes)
    device = choose_device(config.training.device)
    cores = max(1, available_cores() // processes.local_world_size)
    torch.set_num_threads(config.training.threads or cores)
    folder = run_folder.choose(config.run.folder, config.run.experiment, resume=config.resume)
    prepared = prepare(config.data, config.tokenizer)
    config = limits.settle_rows(config, prepared)
    write_model = partial(_write_model, config, prepared)
    checkpoints = Checkpoints(
        folder / "checkpoints",
        keep=config.training.keep_checkpoints,
        keep_best=config.training.keep_best_checkpoints,
        keep_every=config.training.keep_every,
        write_model=write_model,
    )
    resumed = checkpoints.newest(_warn) if config.resume else None
    if resumed and config.training.max_tokens_per_batch == 0:
        slots = checkpoints.saved_setting(resumed, MAX_TOKENS)
        config = limits.change_training(config, max_tokens_per_batch=int(slots))
    state = _first_state(config, prepared, processes, device)
    if resumed:
        state = checkpoints.read_state(resumed, identity=state.identity)
    make_replicas = partial(
        _make_replicas, prepared=prepared, processes=processes, dtype=state.dtype, device=device
    )
    config, forecast = limits.rehearse(
        config, prepared, state, make_replicas=make_replicas, processes=processes, device=device
    )
    state.identity[MAX_TOKENS] = str(config.training.max_tokens_per_batch)

    replicas = make_replicas(config)
    parameters = replicas.parameters
    optimizer = _make_optimizer(config, parameters)
    if resumed:
        checkpoints.restore(resumed, replicas, optimizer)
    with full_disk_said(folder):
        if processes.is_main:
            _open_folder(folder, config, device, prepared, state)
        processes.wait()
        tracker = Tracker(
            folder, max_steps=config.training.max_steps, step=state.step, active=processes.is_main
        )
    loader = _make_loader(config, prepared, processes, device)
    trainer = Trainer(
        updater=Updater(
            replicas=replicas,
            optimizer=optimizer,
            config=config.training,
            state=state,
            processes=processes,
        ),
        loader=loader,
        validator=Validator(
            model=replicas.whole_model,
            valid=prepared.valid,
            loader=loader,
            processes=processes,
            tracker=tracker,
            decode=_make_decode(config, prepared, replicas.whole_model, device),
            keep_best=partial(_keep_best, folder / MODEL_FOLDER, config, optimizer, write_model),
            computing_with=lambda: parameters.computing_with(_validated_weights(config, optimizer)),
        ),
        config=config.training,
        state=state,
        checkpoints=checkpoints,
        tracker=tracker,
        processes=processes,
    )
    with full_disk_said(folder):
        try:
            tracker.settings(to_yaml(config))
            tracker.say(_opening(folder, config, prepared, state, device))
            tracker.say(str(forecast))
            stopped = trainer.fit()
            if config.training.average_last and stopped != "signal":
                try_average(
                    config.training.average_last,
                    checkpoints=checkpoints,
                    parameters=parameters,
                    validator=trainer.validator,
                    state=state,
                    keep=partial(_keep_average, folder / MODEL_FOLDER, state, write_model),
                )
                processes.wait()
            tracker.say(_closing(stopped, state, folder))
        finally:
            replicas.close()
            processes.stop()
            tracker.close()
    if stopped == "signal":
        raise SystemExit(128 + (trainer.signal_number or 0))
    if processes.is_main:
        _score_best(folder, config, device)


def _warn(message: str) -> None:
    print(f"nmt train: {message}", file=sys.stderr)


def _check_sharding(config: TrainConfig, processes: Processes) -> None:
    if config.training.sharding is Sharding.full and processes.world_size == 1:
        raise ConfigError(
            "training.sharding=full needs several processes: start with torchrun --nproc-per-node=N -m nmt"
            " train ..., or choose none"
        )


def _shapes(config: TrainConfig) -> list[BatchShape]:
    return batch_shapes(
        config.training.max_tokens_per_batch, config.training.row_length, config.training.long_row_length
    )


def _make_replicas(
    config: TrainConfig, prepared: PreparedData, processes: Processes, dtype: str, device: torch.device
) -> Replicas:
    """The model, freshly initialised from the seed: the same on every process."""
    torch.manual_seed(config.seed)
    model = Transformer(
        config.model,
        source_vocabulary_size=prepared.tokenizer.source_vocabulary_size,
        target_vocabulary_size=prepared.tokenizer.target_vocabulary_size,
    )
    if config.training.sharding is Sharding.full:
        # A run that does not need FSDP does not wait for its import.
        from nmt.training.sharding import sharded_replicas

        return sharded_replicas(model, getattr(torch, dtype), device, seed=config.seed, rank=processes.rank)
    model = model.to(device)
    threads = torch.get_num_threads()
    rows = _shapes(config)[0].rows
    count = replica_count(threads=threads, rows=rows) if device.type == "cpu" else 1
    return Replicas(
        model,
        FlatParameters(model, getattr(torch, dtype)),
        count=count,
        threads_each=threads // count,
        seed=config.seed,
        rank=processes.rank,
    )


def _make_optimizer(config: TrainConfig, parameters: Parameters) -> Optimizer:
    if config.training.sharding is Sharding.none:
        return Optimizer(parameters, config.training)
    from nmt.training.sharding import ShardedOptimizer, ShardedParameters

    assert isinstance(parameters, ShardedParameters)
    return ShardedOptimizer(parameters, config.training)


def _make_loader(
    config: TrainConfig, prepared: PreparedData, processes: Processes, device: torch.device
) -> Loader:
    return Loader(
        prepared.train,
        _shapes(config),
        begin_id=BEGIN_ID,
        seed=config.seed,
        device=device,
        rank=processes.rank,
        world_size=processes.world_size,
    )


def _first_state(
    config: TrainConfig, prepared: PreparedData, processes: Processes, device: torch.device
) -> TrainState:
    """The state of a run that has not begun, with the settings a resumed run may not change."""
    dtype = choose_dtype(config.training.precision, device)
    training = asdict(config.training)
    fixed = ("max_tokens_per_batch", "row_length", "long_row_length", "accumulate_batches")
    return TrainState(
        dtype=str(dtype).removeprefix("torch."),
        identity={
            "the prepared data": prepared.fingerprint,
            "seed": str(config.seed),
            "the number of processes": str(processes.world_size),
            **{f"model.{name}": str(value) for name, value in asdict(config.model).items()},
            **{f"training.{name}": str(training[name]) for name in fixed},
        },
    )


def _settings(config: TrainConfig, prepared: PreparedData) -> bundle.BundleSettings:
    return bundle.BundleSettings(
        source_language=config.data.source_language,
        target_language=config.data.target_language,
        source_vocabulary_size=prepared.tokenizer.source_vocabulary_size,
        target_vocabulary_size=prepared.tokenizer.target_vocabulary_size,
        model=config.model,
        decoding=asdict(config.decoding),
        test=config.data.test,
    )


def _write_model(
    config: TrainConfig,
    prepared: PreparedData,
    folder: Path,
    weights: dict[str, Tensor],
    state: TrainState,
    validation: Validation | None = None,
    average: dict[str, Any] | None = None,
) -> None:
    """A model folder with the given weights and where they come from."""
    card: dict[str, Any] = {
        "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "experiment": config.run.experiment,
        "step": state.step,
        "target_tokens": state.target_tokens,
        "training_seconds": round(state.seconds, 1),
        "trained_in": state.dtype,
        "seed": config.seed,
        "data": prepared.fingerprint,
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
        settings=_settings(config, prepared),
        tokenizer=prepared.tokenizer,
        weights=weights,
        card=card,
    )


def _validated_weights(config: TrainConfig, optimizer: Optimizer) -> Tensor:
    """The flat tensor that is validated, and kept when it is the best."""
    if config.training.validate_on is ModelWeights.ema:
        assert optimizer.average
        return optimizer.average.weights
    return optimizer.parameters.masters


def _keep_best(
    folder: Path,
    config: TrainConfig,
    optimizer: Optimizer,
    write_model: Callable[..., None],
    state: TrainState,
    validation: Validation,
) -> None:
    weights = optimizer.parameters.named_views(_validated_weights(config, optimizer))
    moving = config.training.validate_on is ModelWeights.ema
    average = {"ema_decay": config.training.ema_decay} if moving else None
    with renewed(folder) as partial_folder:
        write_model(partial_folder, weights, state, validation, average)


def _keep_average(
    folder: Path,
    state: TrainState,
    write_model: Callable[..., None],
    weights: dict[str, Tensor],
    validation: Validation,
    paths: list[Path],
) -> None:
    with renewed(folder) as partial_folder:
        write_model(partial_folder, weights, state, validation, {"checkpoints": describe(paths)})


def _open_folder(
    folder: Path, config: TrainConfig, device: torch.device, prepared: PreparedData, state: TrainState
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    recover(folder / MODEL_FOLDER)
    write_text(folder / "config.yaml", to_yaml(config))
    facts = {"dtype": state.dtype, "seed": config.seed, "data": prepared.fingerprint, "step": state.step}
    run_folder.write_environment(folder, device=device, facts=facts)
    run_folder.point_latest(folder)


def _make_decode(
    config: TrainConfig, prepared: PreparedData, model: Transformer, device: torch.device
) -> Callable[[], Validation]:
    """Real decoding of the validation set with the weights of the moment."""
    sources, references = read_texts(
        config.data.valid,
        field="data.valid",
        source_language=config.data.source_language,
        target_language=config.data.target_language,
    )
    count = config.training.validation_sentences or len(sources)
    sources, references = sources[:count], references[:count]
    translator = Translator(model, prepared.tokenizer, config.decoding, device)

    def decode() -> Validation:
        translations = translator.translate(sources)
        scores = {found.name: found for found in score(translations, references)}
        samples = config.training.sample_sentences
        return Validation(
            bleu=scores["BLEU"].value,
            chrf=scores["chrF"].value,
            bleu_signature=scores["BLEU"].signature,
            samples=list(zip(sources, references, translations, strict=True))[:samples],
        )

    return decode


def _opening(
    folder: Path,
    config: TrainConfig,
    prepared: PreparedData,
    state: TrainState,
    device: torch.device,
) -> str:
    filled = limits.packing(config, prepared).filled_share
    layout = " or ".join(f"{shape.rows} rows of {shape.row_length}" for shape in _shapes(config))
    begin = f"going on from step {state.step:,}" if state.step else "starting"
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    sharded = ", sharded" if config.training.sharding is Sharding.full else ""
    return (
        f"{begin} in {folder}: {len(prepared.train):,} sentence pairs, batches of {layout} slots,"
        f" {100 * filled:.0f} % of them filled, {state.dtype} on {device.type}{threads}{sharded}"
    )


def _closing(stopped: str, state: TrainState, folder: Path) -> str:
    reasons = {
        "steps": "training.max_steps reached",
        "minutes": "training.max_minutes reached",
        "patience": "no better BLEU in training.patience validations",
        "signal": "stopped by a signal; the checkpoint is written, go on with the same command and"
        f" resume=true run.folder={folder}",
    }
    return (
        f"{reasons[stopped]}: {state.step:,} steps, {state.target_tokens / 1e6:.1f} M target pieces in"
        f" {state.seconds / 60:.1f} min ({state.target_tokens / max(state.seconds, 1e-9):,.0f}/s with"
        f" validation), best validation BLEU {state.best_bleu:.2f} at step {state.best_step:,}"
    )


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
