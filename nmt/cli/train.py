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
from nmt.cli.evaluate import evaluate_model
from nmt.config import TrainConfig, to_yaml
from nmt.data.batching import BatchShape, batch_shapes
from nmt.data.loader import Loader
from nmt.data.preparation import PreparedData, prepare, read_texts
from nmt.data.processors import available_cores
from nmt.data.tokenizer import BEGIN_ID
from nmt.decoding.translator import Translator
from nmt.evaluation.metrics import score
from nmt.model.device import choose_device
from nmt.model.transformer import Transformer
from nmt.training import run_folder, sinks
from nmt.training.checkpoint import Checkpoints, TrainState
from nmt.training.distributed import Processes
from nmt.training.flops import flops_per_unit, measure_peak
from nmt.training.gauges import Gauges
from nmt.training.optim import FlatParameters, Optimizer
from nmt.training.precision import choose_dtype
from nmt.training.replicas import Replicas, replica_count
from nmt.training.sinks import Setting
from nmt.training.summary import RunSummary
from nmt.training.tracking import Tracker
from nmt.training.trainer import Trainer
from nmt.training.update import Updater
from nmt.training.validation import Validation, Validator

MODEL_FOLDER = "model"


def run(config: TrainConfig) -> None:
    """Prepare the data, train, and score the best model on the test sets."""
    sinks.require(config.training.trackers)
    processes = Processes.start()
    device = choose_device(config.training.device)
    cores = max(1, available_cores() // processes.local_world_size)
    torch.set_num_threads(config.training.threads or cores)
    folder = run_folder.choose(config.run.folder, config.run.experiment, resume=config.resume)
    prepared = prepare(config.data, config.tokenizer)
    write_model = partial(_write_model, config, prepared)
    checkpoints = Checkpoints(
        folder / "checkpoints", keep=config.training.keep_checkpoints, write_model=write_model
    )
    resumed = checkpoints.newest(_warn) if config.resume else None
    state = _first_state(config, prepared, processes, device)
    if resumed:
        state = checkpoints.read_state(resumed, identity=state.identity)

    replicas = _make_replicas(config, prepared, processes, state.dtype, device)
    parameters = replicas.parameters
    optimizer = Optimizer(parameters, config.training)
    if resumed:
        checkpoints.restore(resumed, replicas, optimizer)
    if processes.is_main:
        _open_folder(folder, config, device, prepared, state)
    processes.wait()
    tracker = Tracker(
        folder,
        max_steps=config.training.max_steps,
        step=state.step,
        trackers=config.training.trackers,
        active=processes.is_main,
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
            model=replicas.models[0],
            valid=prepared.valid,
            loader=loader,
            processes=processes,
            tracker=tracker,
            decode=_make_decode(config, prepared, replicas.models[0], device),
            keep_best=partial(_keep_best, folder / MODEL_FOLDER, parameters, write_model),
        ),
        config=config.training,
        state=state,
        checkpoints=checkpoints,
        tracker=tracker,
        processes=processes,
        gauges=_make_gauges(config, prepared, replicas, device),
    )
    settings = _flat(asdict(config))
    tracker.settings(settings, to_yaml(config))
    tracker.say(_opening(folder, config, prepared, state, replicas, device))
    try:
        stopped = trainer.fit()
        tokens_per_epoch = int(prepared.train.target_lengths.sum())
        summary = RunSummary.of(
            stopped, state, tokens_per_epoch=tokens_per_epoch, memory=trainer.gauges.memory()
        )
        tracker.conclude(summary.table())
        if processes.is_main:
            summary.write(folder / "summary.json")
        if stopped == "signal":
            tracker.say(
                f"the checkpoint is written, go on with the same command and resume=true run.folder={folder}"
            )
        else:
            tracker.finish(state.step, settings, best_bleu=state.best_bleu)
    finally:
        tracker.close()
        replicas.close()
        processes.stop()
    if stopped == "signal":
        raise SystemExit(128 + (trainer.signal_number or 0))
    if processes.is_main:
        _score_best(folder, config, device)


def _warn(message: str) -> None:
    print(f"nmt train: {message}", file=sys.stderr)


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
    ).to(device)
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


def _make_gauges(
    config: TrainConfig, prepared: PreparedData, replicas: Replicas, device: torch.device
) -> Gauges:
    vocabulary_size = prepared.tokenizer.target_vocabulary_size
    peak = measure_peak(
        replicas.models[0].dtype, device, threads=replicas.threads, count=len(replicas.models)
    )
    return Gauges(
        flops_per_unit(config.model, target_vocabulary_size=vocabulary_size), peak_flops=peak, device=device
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
    bundle.write(
        folder,
        settings=_settings(config, prepared),
        tokenizer=prepared.tokenizer,
        weights=weights,
        card=card,
    )


def _keep_best(
    folder: Path,
    parameters: FlatParameters,
    write_model: Callable[..., None],
    state: TrainState,
    validation: Validation,
) -> None:
    write_model(folder, parameters.named_views(parameters.masters), state, validation)


def _open_folder(
    folder: Path, config: TrainConfig, device: torch.device, prepared: PreparedData, state: TrainState
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
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
    replicas: Replicas,
    device: torch.device,
) -> str:
    size = sum(parameter.numel() for parameter in replicas.models[0].parameters())
    layout = " or ".join(f"{shape.rows} rows of {shape.row_length}" for shape in _shapes(config))
    begin = f"going on from step {state.step:,}" if state.step else "starting"
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    return (
        f"{begin} in {folder}: {size / 1e6:.1f} M parameters, {len(prepared.train):,} sentence pairs,"
        f" batches of {layout} pieces, {state.dtype} on {device.type}{threads}"
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
