"""`nmt evaluate`: scores of a model on test sets, printed, and written with the translations."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from nmt import bundle
from nmt.cli import systems
from nmt.cli.model_folders import model_folders
from nmt.cli.schemas import EvaluateConfig
from nmt.config import ConfigError
from nmt.data.config import CorpusConfig
from nmt.data.processors import available_cores
from nmt.decoding import ensemble
from nmt.decoding.config import DecodingConfig
from nmt.evaluation import saved
from nmt.evaluation.config import CheckpointChoice, ScoringConfig
from nmt.evaluation.evaluation import Evaluation, Scoring, evaluate
from nmt.evaluation.tables import evaluation_table
from nmt.model.device import choose_device


def run(config: EvaluateConfig) -> None:
    """Evaluate `config.model` on the given test sets, or on those of its training run."""
    for name in ("output", "plot"):
        path = getattr(config, name)
        if path is not None and not Path(path).absolute().parent.is_dir():
            raise ConfigError(f"{name}={path}: the folder does not exist; make it first")
    torch.set_num_threads(config.threads or available_cores())
    device = choose_device(config.device)
    if config.checkpoints is CheckpointChoice.all:
        from nmt.cli.checkpoint_scores import evaluate_checkpoints

        evaluate_checkpoints(config, device)
        return
    evaluate_model(
        model_folders(config.model),
        device=device,
        decoding=config.decoding,
        test_sets=config.data.test,
        output=config.output,
        scoring=config.scoring,
    )


def evaluate_model(
    model: str | Path | Sequence[str | Path],
    *,
    device: torch.device,
    decoding: DecodingConfig | None = None,
    test_sets: Mapping[str, CorpusConfig] | None = None,
    output: str | None = None,
    scoring: ScoringConfig | None = None,
) -> Evaluation:
    """Score a model folder, or several as an ensemble, print the scores and write them with the translations.

    `train` ends with this very function, so that it prints what `evaluate` prints. Without `output` the files
    go where `saved_path` says.

    Raises:
        ConfigError: there is no test set, or `output` cannot be written.
        BundleError, DataError, MetricError: as `make_evaluation` does.
    """
    evaluation = make_evaluation(
        model, device=device, decoding=decoding, test_sets=test_sets, scoring=scoring
    )
    print(evaluation_table(evaluation))
    folders = [bundle.locate(each) for each in _as_list(model)]
    path = Path(output) if output is not None else saved_path(folders[0], several=len(folders) > 1)
    write(evaluation, path, output)
    return evaluation


def _as_list(model: str | Path | Sequence[str | Path]) -> Sequence[str | Path]:
    return [model] if isinstance(model, str | Path) else model


def make_evaluation(
    model: str | Path | Sequence[str | Path],
    *,
    device: torch.device,
    decoding: DecodingConfig | None = None,
    test_sets: Mapping[str, CorpusConfig] | None = None,
    scoring: ScoringConfig | None = None,
) -> Evaluation:
    """Load a model folder, or several as an ensemble, and score it; decoding settings and test sets that are
    not given are those that the first one records.

    Raises:
        BundleError, DataError: the model or a test set cannot be read.
        ConfigError: there is no test set.
        MetricError: a metric or its tokenizer cannot be had.
    """
    folder, *others = (bundle.locate(each) for each in _as_list(model))
    settings = bundle.read_settings(folder)
    texts = systems.test_sets_of(folder, settings, test_sets or {})
    prepared = Scoring.of(texts, scoring or ScoringConfig(), language=settings.target_language)
    loaded = ensemble.load([folder, *others], device=device)
    config = decoding or DecodingConfig(**settings.decoding)
    translator = systems.make_translator(loaded, config)
    origin = systems.provenance_of(folder, settings, translator, others=others)
    return evaluate(translator, prepared, origin, progress=True)


def saved_path(folder: Path, *, several: bool = False) -> Path:
    """Where the evaluation of a model folder is kept.

    `evaluation.json` beside a run's model folder, `evaluation-NAME.json` beside any other (a checkpoint), and
    `evaluation-ensemble.json` beside the first of several.
    """
    if several:
        return folder.absolute().parent / "evaluation-ensemble.json"
    name = "evaluation.json" if folder.name == "model" else f"evaluation-{folder.name}.json"
    return folder.absolute().parent / name


def write(evaluation: Evaluation, path: Path, output: str | None = None) -> None:
    """Write both files and say so; nobody asked for a file that is not `output`, the scores are printed.

    Raises:
        ConfigError: `output` cannot be written.
    """
    try:
        saved.write(evaluation, path)
    except OSError as error:
        message = f"{path}: cannot be written ({error.strerror})"
        if output is not None:
            raise ConfigError(f"output={message}") from error
        print(f"nmt: {message}", file=sys.stderr)
    else:
        print(f"written to {path}, the translations to {saved.sentences_path(path)}", file=sys.stderr)
