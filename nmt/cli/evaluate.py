"""`nmt evaluate`: BLEU and chrF of a model on test sets, printed and written as JSON."""

import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from nmt import bundle
from nmt.config import ConfigError, EvaluateConfig
from nmt.data.config import CorpusConfig
from nmt.data.preparation import read_texts
from nmt.data.processors import available_cores
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
        config.model,
        device=choose_device(config.device),
        decoding=config.decoding,
        test_sets=config.data.test,
        output=config.output,
    )


def evaluate_model(
    model: str | Path,
    *,
    device: torch.device,
    decoding: DecodingConfig | None = None,
    test_sets: Mapping[str, CorpusConfig] | None = None,
    output: str | None = None,
) -> Evaluation:
    """Load a model folder, score it, print the scores and write them as JSON.

    `train` ends with this very function, so that it prints what `evaluate` prints. Decoding settings and test
    sets that are not given are those that the model folder records. Without `output` the file is
    `evaluation.json` beside a run's model folder, `evaluation-NAME.json` beside any other (a checkpoint).

    Raises:
        BundleError, DataError: the model or a test set cannot be read.
        ConfigError: there is no test set, or `output` cannot be written.
    """
    folder = bundle.locate(model)
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
    loaded = bundle.load(folder, device=device)
    config = decoding or DecodingConfig(**settings.decoding)
    translator = Translator.of(
        loaded.model, loaded.tokenizer, config, source_language=settings.source_language
    )
    evaluation = evaluate(translator, texts, weights=folder / bundle.WEIGHTS_FILE, progress=True)
    print(evaluation.as_table())
    _write(evaluation, folder, output)
    return evaluation


def _write(evaluation: Evaluation, folder: Path, output: str | None) -> None:
    name = "evaluation.json" if folder.name == "model" else f"evaluation-{folder.name}.json"
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
