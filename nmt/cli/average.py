"""`nmt average`: several checkpoints of a run in, one model with the mean of their weights out."""

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from nmt import bundle
from nmt.cli.schemas import AverageConfig
from nmt.config import ConfigError
from nmt.data.tokenizer import Tokenizer
from nmt.training import run_folder
from nmt.training.atomic_writes import flush
from nmt.training.averaging import average_weights
from nmt.training.checkpoint import (
    CHECKSUMS,
    EMA,
    WEIGHTS,
    CheckpointError,
    checkpoint_paths,
    checksum,
    find_damage,
    recorded_bleu,
    step_of,
)
from nmt.training.config import ModelWeights
from nmt.training.retention import best_steps


def run(config: AverageConfig) -> None:
    """Average what `config` names, write it to `config.output` and say what to type next."""
    output = Path(config.output)
    if output.exists():
        raise ConfigError(f"output={output}: exists already; choose another name, or remove it")
    if not output.absolute().parent.is_dir():
        raise ConfigError(f"output={output}: the folder around it does not exist; make it first")
    folders = _choose(config)
    _check_undamaged(folders)
    _check_one_model(folders)
    weights = average_weights([_weights_file(folder, config.of) for folder in folders])
    sources = describe(folders)
    _write(output, folders[-1], weights, {"of": str(config.of), "checkpoints": sources})
    print(_report(output, sources, config.of))


def describe(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Path, step and validation BLEU of checkpoints and model folders, for the card of their average."""
    described = []
    for folder in folders:
        card = bundle.read_card(folder / bundle.CARD_FILE)
        bleu = recorded_bleu(folder)
        if bleu is None and isinstance(validation := card.get("validation"), dict):
            bleu = validation.get("bleu")
        described.append({"path": str(folder), "step": card.get("step"), "validation_bleu": bleu})
    return described


def _choose(config: AverageConfig) -> list[Path]:
    """The folders that are averaged, those of a run oldest first."""
    if config.model is None:
        return [bundle.locate(name) for name in config.models]
    folder = Path(config.model)
    paths = {
        step_of(path): path for path in checkpoint_paths(folder / "checkpoints") or checkpoint_paths(folder)
    }
    if not paths:
        raise ConfigError(
            f"model={folder}: holds no checkpoints; give a run folder, or name the models with models=[...]"
        )
    scores = {step: recorded_bleu(path) for step, path in paths.items() if step < (config.before or math.inf)}
    count = config.last or config.best
    steps = sorted(scores)[-count:] if config.last else sorted(best_steps(scores, count))
    if len(steps) < count:
        choice = f"last={count}" if config.last else f"best={count}"
        kind = "checkpoints" if config.last else "checkpoints with a validation BLEU"
        where = f" before step {config.before:,}" if config.before else ""
        keep = "training.keep_checkpoints" if config.last else "training.keep_best_checkpoints"
        raise ConfigError(
            f"{choice}: {folder} holds {len(steps)} {kind}{where}; take fewer, or train with a higher {keep}"
        )
    return [paths[step] for step in steps]


def _check_undamaged(folders: Sequence[Path]) -> None:
    """Checkpoints carry checksums; model folders do not, and are checked when they are read."""
    for folder in folders:
        is_checkpoint = folder.name.startswith("step-") or (folder / CHECKSUMS).exists()
        if is_checkpoint and (damage := find_damage(folder)):
            raise CheckpointError(f"{folder}: {damage}; choose others with before=STEP or models=[...]")


def _check_one_model(folders: Sequence[Path]) -> None:
    """Weights of different models or vocabularies have no mean."""
    first = folders[0]
    expected = _identity(first)
    for folder in folders[1:]:
        for name, value in _identity(folder).items():
            if value != expected[name]:
                raise ConfigError(
                    f"{folder}: {name} is {value}, in {first} {expected[name]}; only checkpoints of one model"
                    " can be averaged"
                )


def _identity(folder: Path) -> dict[str, Any]:
    settings = bundle.read_settings(folder)
    return {
        "the source language": settings.source_language,
        "the target language": settings.target_language,
        "the source vocabulary size": settings.source_vocabulary_size,
        "the target vocabulary size": settings.target_vocabulary_size,
        **{f"model.{name}": value for name, value in asdict(settings.model).items()},
        "the tokenizer": " and ".join(
            f"{path.name} {checksum(path)}" for path in sorted(folder.glob("*.model"))
        ),
    }


def _weights_file(folder: Path, of: ModelWeights) -> Path:
    file = folder / (EMA if of is ModelWeights.ema else WEIGHTS)
    if not file.exists():
        raise ConfigError(
            f"of={of}: {folder} holds no {file.name}; moving averages are in the checkpoints of a run with"
            " training.ema_decay"
        )
    return file


def _write(output: Path, newest: Path, weights: dict[str, Tensor], average: dict[str, Any]) -> None:
    """A model folder, whole or not at all; all but its weights is as in the newest of those averaged."""
    card = bundle.read_card(newest / bundle.CARD_FILE)
    card.pop("validation", None)
    card |= {"written": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "average": average, **run_folder.provenance()}
    partial = output.absolute().with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        bundle.write(
            partial,
            settings=bundle.read_settings(newest),
            tokenizer=Tokenizer.load(newest),
            weights=weights,
            card=card,
        )
        for path in [*partial.iterdir(), partial]:
            flush(path)
        partial.rename(output)
        flush(output.absolute().parent)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"output={output}: cannot be written ({error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _report(output: Path, sources: Sequence[dict[str, Any]], of: ModelWeights) -> str:
    what = "moving averages" if of is ModelWeights.ema else "weights"
    lines = [f"mean of the {what} of {len(sources)} models:"]
    for source in sources:
        bleu = source["validation_bleu"]
        score = "not validated" if bleu is None else f"validation BLEU {bleu:.2f}"
        lines.append(f"  {source['path']}  {score}")
    return "\n".join(
        [
            *lines,
            f"written to {output}",
            "\nnext:",
            f"  nmt evaluate model={output}",
            f"  nmt translate model={output} input=FILE output=translation.txt",
        ]
    )
