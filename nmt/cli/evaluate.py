"""`nmt evaluate`: BLEU and chrF of a model on test sets, printed and written as JSON."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from nmt import bundle
from nmt.cli.model_folders import model_folders
from nmt.config import ConfigError, EvaluateConfig
from nmt.data.config import CorpusConfig
from nmt.data.preparation import read_texts
from nmt.data.processors import available_cores
from nmt.decoding import ensemble
from nmt.decoding.config import DecodingConfig
from nmt.decoding.translator import Translator
from nmt.evaluation.report import Evaluation, evaluate, write_json
from nmt.model.device import choose_device


def run(config: EvaluateConfig) -> None:
    """Evaluate `config.model` on the given test sets, or on those of its training run."""
    if config.output is not None and not Path(config.output).absolute().parent.is_dir():
        raise ConfigError(f"output={config.output}: the folder does not exist; make it first")
    torch.set_num_threads(config.threads or available_cores())
    evaluate_model(
        model_folders(config.model),
        device=choose_device(config.device),
        decoding=config.decoding,
        test_sets=config.data.test,
        output=config.output,
    )


def evaluate_model(
    model: str | Path | Sequence[str | Path],
    *,
    device: torch.device,
    decoding: DecodingConfig | None = None,
    test_sets: Mapping[str, CorpusConfig] | None = None,
    output: str | None = None,
) -> Evaluation:
    """Load a model folder, or several as an ensemble, score it, print the scores and write them as JSON.

    `train` ends with this very function, so that it prints what `evaluate` prints. Decoding settings and test
    sets that are not given are those that the model folder records. Without `output` the file is
    `evaluation.json` beside a run's model folder, `evaluation-NAME.json` beside any other (a checkpoint),
    `evaluation-ensemble.json` beside the first of several, whose settings and test sets hold for all.

    Raises:
        BundleError, DataError: the model or a test set cannot be read.
        ConfigError: there is no test set, or `output` cannot be written.
    """
    folder = bundle.locate(model if isinstance(model, str | Path) else model[0])
    settings = bundle.read_settings(folder)
    corpora = test_sets or settings.test
    if not corpora:
        raise ConfigError(
            f"{folder} records no test sets: give data.test.NAME.source=FILE and data.test.NAME.target=FILE"
        )
    texts = {
        name: read_texts(
            corpus,
            field=f"data.test.{name}",
            source_language=settings.source_language,
            target_language=settings.target_language,
        )
        for name, corpus in corpora.items()
    }
    loaded = ensemble.load(model, device=device)
    config = decoding or DecodingConfig(**settings.decoding)
    translator = Translator(loaded.model, loaded.tokenizer, config, device)
    weights = [each.folder / bundle.WEIGHTS_FILE for each in loaded.bundles]
    evaluation = evaluate(translator, texts, weights=weights, progress=True)
    print(evaluation.as_table())
    _write(evaluation, folder, output, several=len(weights) > 1)
    return evaluation


def _write(evaluation: Evaluation, folder: Path, output: str | None, *, several: bool) -> None:
    name = (
        "evaluation-ensemble.json"
        if several
        else "evaluation.json"
        if folder.name == "model"
        else f"evaluation-{folder.name}.json"
    )
    path = Path(output) if output is not None else folder.absolute().parent / name
    try:
        write_json(evaluation, path)
    except OSError as error:
        message = f"{path}: cannot be written ({error.strerror})"
        if output is not None:
            raise ConfigError(f"output={message}") from error
        # Nobody asked for this file; the scores are printed.
        print(f"nmt: {message}", file=sys.stderr)
    else:
        print(f"written to {path}", file=sys.stderr)
