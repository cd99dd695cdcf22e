"""`nmt evaluate checkpoints=all`: scores of every checkpoint of a run by step, decoded in one process."""

import sys
import time
from pathlib import Path

import torch

from nmt import bundle
from nmt.cli import systems
from nmt.cli.schemas import EvaluateConfig
from nmt.config import ConfigError
from nmt.evaluation import saved
from nmt.evaluation.checkpoint_curve import CheckpointCurve, PlotError, plot
from nmt.evaluation.evaluation import Scoring, evaluate
from nmt.training.checkpoint import checkpoint_paths, step_of

# TER and chrF++ would take as long as decoding small test sets does.
_METRICS = ("bleu", "chrf")
_NAME = "evaluation-checkpoints.json"


def evaluate_checkpoints(config: EvaluateConfig, device: torch.device) -> CheckpointCurve:
    """Score all checkpoints of the run, print the scores by step, write and draw them.

    Texts, tokenizer and references are read once; the weights of each checkpoint take the place of those
    before them in one model.

    Raises:
        ConfigError: the folder is no run with checkpoints, or a file cannot be written.
        BundleError: a checkpoint cannot be read, or is of another model.
    """
    start = time.perf_counter()
    run = Path(config.model)
    paths = checkpoint_paths(run / "checkpoints") or checkpoint_paths(run)
    if not paths:
        raise ConfigError(f"model={run}: holds no checkpoints; checkpoints=all needs the folder of a run")
    loaded = bundle.load(paths[0], device=device)
    settings = loaded.settings
    texts = systems.test_sets_of(paths[0], settings, config.data.test)
    scoring = Scoring.of(texts, config.scoring, language=settings.target_language, metrics=_METRICS)
    curve = CheckpointCurve(run=str(run))
    for place, path in enumerate(paths, start=1):
        if path != paths[0]:
            bundle.exchange_weights(loaded, path)
        # Made anew for each: a translator may keep copies of weights in another form.
        translator = systems.make_translator(loaded, config.decoding)
        evaluation = evaluate(translator, scoring, systems.provenance_of(path, settings, translator))
        curve.add(step_of(path), evaluation)
        seconds = sum(own.seconds or 0.0 for own in evaluation.test_sets)
        print(
            f"{path.name} ({place}/{len(paths)}): translated in {seconds:.1f} s", file=sys.stderr, flush=True
        )
    curve.seconds = time.perf_counter() - start
    print(curve.table())
    _write(curve, config, run)
    return curve


def _write(curve: CheckpointCurve, config: EvaluateConfig, run: Path) -> None:
    path = Path(config.output) if config.output is not None else run / _NAME
    picture = Path(config.plot) if config.plot is not None else path.with_suffix(".svg")
    try:
        saved.write_json(path, curve.as_json())
        print(f"written to {path}", file=sys.stderr)
        plot(curve, picture)
        print(f"drawn in {picture}", file=sys.stderr)
    except PlotError as error:
        if config.plot is not None:
            raise ConfigError(f"plot={picture}: {error}") from error
        print(f"nmt: {picture}: {error}", file=sys.stderr)
    except OSError as error:
        raise ConfigError(f"{error.filename or path}: cannot be written ({error.strerror})") from error
