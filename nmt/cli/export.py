"""`nmt export`: a model in another engine's format, which appears when it is seen to be the same model."""

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch

from nmt import bundle
from nmt.bundle import Bundle, BundleSettings
from nmt.cli.schemas import ExportConfig
from nmt.config import ConfigError
from nmt.data.config import CorpusConfig
from nmt.data.preparation import read_texts
from nmt.data.processors import available_cores
from nmt.data.text_lines import DataError, read_lines
from nmt.data.tokenizer import Tokenizer
from nmt.decoding.config import DecodingConfig
from nmt.export.check import Engine, Sentences, check
from nmt.export.config import ExportFormat, Quantization
from nmt.export.refusal import ExportError
from nmt.training.atomic_writes import flush
from nmt.training.run_folder import provenance

# What the export is and what its check has found, beside the files of the format.
RECORD_FILE = "export.json"

CHOICES = (
    "give data.test.NAME.source=FILE and data.test.NAME.target=FILE, or input=FILE, or check.sentences=0 for"
    " a model that nobody has checked"
)


class Format(Protocol):
    """A file of nmt/export/."""

    def refuse(self, settings: BundleSettings, quantization: Quantization) -> None: ...

    def write(self, bundle: Bundle, folder: Path, quantization: Quantization) -> None: ...

    def usage(self, folder: str, settings: BundleSettings) -> str: ...

    def load(self, folder: Path) -> Engine: ...


def run(config: ExportConfig) -> None:
    """Write the model to `config.output`, check it and print what was found."""
    output = Path(config.output)
    if output.exists():
        raise ConfigError(f"output={output}: exists already; choose another name, or remove it")
    if not output.absolute().parent.is_dir():
        raise ConfigError(f"output={output}: the folder around it does not exist; make it first")
    folder = bundle.locate(config.model)
    settings = bundle.read_settings(folder)
    foreign = _format(config.format)
    foreign.refuse(settings, config.quantization)
    sentences = _sentences(config, folder, settings)
    torch.set_num_threads(config.threads or available_cores())
    loaded = bundle.load(folder, device=torch.device("cpu"))
    with _appearing(output) as partial:
        foreign.write(loaded, partial, config.quantization)
        found = None
        if sentences is not None:
            found = check(loaded, foreign.load(partial), sentences, config.quantization, _say)
            print(found.as_text(config.check.examples))
            if failure := found.failure(config.check):
                raise ExportError(f"output={output}: not written, it is not the same model: {failure}")
        record = _record(config, folder, None if found is None else found.as_dict())
        text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        (partial / RECORD_FILE).write_text(text, encoding="utf-8")
    print(f"written to {output}" + (", NOT CHECKED" if found is None else ""))
    print(f"\nnext, in Python:\n\n{foreign.usage(str(output), settings)}")


def _format(name: ExportFormat) -> Format:
    # Named one by one, for a module that is chosen by its name is found by no search.
    if name is ExportFormat.ctranslate2:
        from nmt.export import ctranslate2

        return ctranslate2
    from nmt.export import huggingface

    return huggingface


def _sentences(config: ExportConfig, folder: Path, settings: BundleSettings) -> Sentences | None:
    """What the check translates; None when it is switched off.

    Raises:
        ConfigError: there is nothing to check with.
        DataError: a file that was named cannot be read.
    """
    if config.check.sentences == 0:
        return None
    references: list[str] | None
    if config.input is not None:
        if config.quantization is not Quantization.float32:
            raise ConfigError(
                f"quantization={config.quantization}: is judged by BLEU, and input={config.input} has no"
                " references: give data.test.NAME.source=FILE and data.test.NAME.target=FILE"
            )
        sources = [line for block in read_lines(Path(config.input), field="input") for line in block]
        origin, references = config.input, [""] * len(sources)
    else:
        corpora = config.data.test or settings.test
        if not corpora:
            raise ConfigError(f"{folder} records no test sets to check the export with: {CHOICES}")
        try:
            sources, references = _read(corpora, settings)
        except DataError as error:
            if config.data.test:
                raise
            raise ConfigError(
                f"the test sets that {folder} records cannot be read ({error}): {CHOICES}"
            ) from error
        origin = ", ".join(corpora)
    # Each is translated whole there; here a longer one would be cut into parts.
    tokenizer = Tokenizer.load(folder)
    limit = DecodingConfig(**settings.decoding).max_source_pieces
    if settings.model.positions.value == "learned":
        limit = min(limit, settings.model.max_positions)
    fitting = [
        (source, reference)
        for source, reference, pieces in zip(
            sources, references, tokenizer.encode_source(sources), strict=True
        )
        if source.strip() and 1 < len(pieces) <= limit
    ][: config.check.sentences]
    if not fitting:
        raise ConfigError(f"{origin}: holds no sentence to check the export with: {CHOICES}")
    return Sentences(
        origin=origin,
        sources=[source for source, _ in fitting],
        references=None if config.input is not None else [reference for _, reference in fitting],
    )


def _read(corpora: Mapping[str, CorpusConfig], settings: BundleSettings) -> tuple[list[str], list[str]]:
    sources, references = [], []
    for name, corpus in corpora.items():
        texts = read_texts(
            corpus,
            field=f"data.test.{name}",
            source_language=settings.source_language,
            target_language=settings.target_language,
        )
        sources += texts[0]
        references += texts[1]
    return sources, references


@contextmanager
def _appearing(output: Path) -> Iterator[Path]:
    """A folder to write into, which is there when all went well and leaves nothing when it did not."""
    partial = output.absolute().with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        yield partial
        for path in [*partial.iterdir(), partial]:
            flush(path)
        partial.rename(output)
        flush(output.absolute().parent)
    except OSError as error:
        raise ConfigError(f"output={output}: cannot be written ({error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _record(config: ExportConfig, folder: Path, found: dict[str, Any] | None) -> dict[str, Any]:
    with (folder / bundle.WEIGHTS_FILE).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "format": str(config.format),
        "quantization": str(config.quantization),
        "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "model": str(folder),
        "weights_sha256": digest,
        "card": bundle.read_card(folder / bundle.CARD_FILE),
        "check": found,
        **provenance(),
    }


def _say(line: str) -> None:
    print(f"nmt export: {line}", file=sys.stderr, flush=True)
