"""`nmt translate`: as many lines out as in, in their order."""

import os
import signal
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from types import FrameType
from typing import Any

import torch

from nmt import __version__, bundle
from nmt.cli.model_folders import model_folders
from nmt.cli.text_files import TextJob, plan
from nmt.config import ConfigError, TranslateConfig
from nmt.data.processors import available_cores
from nmt.data.text_lines import DataError
from nmt.decoding.config import DecodingPrecision
from nmt.decoding.formats import written
from nmt.decoding.output import Output, open_output
from nmt.decoding.progress import Progress
from nmt.decoding.text_input import Lines, Survey, files, standard_input, survey
from nmt.decoding.translator import Translator
from nmt.decoding.windows import WaitingLines, windows
from nmt.training.memory import release


def run(config: TranslateConfig) -> None:
    """Translate files or standard input to files or standard output."""
    beam_size = config.decoding.beam_size
    if config.n_best > beam_size:
        raise ConfigError(f"n_best={config.n_best} is more than decoding.beam_size={beam_size}")
    jobs = plan(config.input, config.output, config.format)
    surveys = [survey(job.inputs) if job.inputs else None for job in jobs]
    translator = Translator(
        model_folders(config.model),
        device=config.device,
        threads=config.threads or available_cores(),
        **config.decoding.plain(),  # type: ignore[arg-type]
    )
    basis = _basis(config, translator)
    outputs = [_output(job, found, basis, config.resume) for job, found in zip(jobs, surveys, strict=True)]
    # What cannot be gone on with is said before hours are spent on the files before it.
    for output in outputs[1:]:
        with output:
            pass
    total = None if None in surveys else sum(found.lines for found in surveys if found)
    with _terminated_in_order(), Progress(total, shown=_progress_is_shown(config)) as progress:
        for job, found, output in zip(jobs, surveys, outputs, strict=True):
            try:
                _translate(job, found, output, translator, config, progress)
            except BaseException:
                if output.kept:
                    _say(f"stopped after {output.lines:,} lines of {job.name}; resume=true goes on")
                raise
    for output in outputs:
        output.forget()


def _output(job: TextJob, found: Survey | None, basis: dict[str, Any], resume: bool | None) -> Output:
    identity = None if found is None else {"input": found.xxh3_128, **basis}
    return open_output(job.output, identity, resume=resume)


def _basis(config: TranslateConfig, translator: Translator) -> dict[str, Any]:
    """All that the bytes of an output depend on beside its input."""
    if config.output is None:
        return {}
    decoding = config.decoding.plain()
    if config.decoding.precision is not DecodingPrecision.int8:
        # What `auto` stands for depends on the machine.
        decoding["precision"] = str(translator.dtype).removeprefix("torch.")
    return {
        "model": [bundle.fingerprint(folder) for folder in model_folders(config.model)],
        "format": config.format.value,
        "n_best": config.n_best,
        **{f"decoding.{name}": value for name, value in decoding.items()},
        "device": translator.device.type,
        "nmt": __version__,
        "torch": torch.__version__,
    }


def _translate(
    job: TextJob,
    found: Survey | None,
    output: Output,
    translator: Translator,
    config: TranslateConfig,
    progress: Progress,
) -> None:
    """Translate one text, from where an earlier job has stopped."""
    lines = Lines(files(job.inputs) if job.inputs else [standard_input()])
    with output:
        if output.lines:
            progress.skip(output.lines)
            _say(f"going on after {output.lines:,} lines of {job.name}")
        if output.finished:
            return
        for window in _windows(lines, job, skip=output.lines):
            translations = translator.translate_window(window, n_best=config.n_best, progress=progress)
            data = written(translations, config.format, first_line=output.lines + 1)
            output.write(data, lines=len(window))
            # Batches of all lengths leave the memory in pieces that later ones could not use.
            if len(window) > 1:
                release(translator.device)
        if found is not None and output.lines != found.lines:
            raise DataError(f"input: {job.name} has changed while it was translated")
        output.finish()
    if lines.invalid:
        _say(
            f"{f'{job.name}: ' if job.inputs else ''}{lines.invalid:,} lines with bytes that are not UTF-8,"
            f" the first of them line {lines.first_invalid:,}; those bytes were read as U+FFFD"
        )


def _windows(lines: Lines, job: TextJob, *, skip: int) -> Iterable[list[str]]:
    if job.inputs or _standard_input_is_a_file():
        return windows(islice(lines, skip, None))
    return WaitingLines(lines)


def _standard_input_is_a_file() -> bool:
    with suppress(OSError):
        return stat.S_ISREG(os.fstat(0).st_mode)
    return False


def _progress_is_shown(config: TranslateConfig) -> bool:
    """Not among translations that appear on the same terminal."""
    return config.output is not None or not (sys.stdout.isatty() and sys.stderr.isatty())


def _say(message: str) -> None:
    print(f"nmt translate: {message}", file=sys.stderr, flush=True)


@contextmanager
def _terminated_in_order() -> Iterator[None]:
    """SIGTERM and a closed terminal end the program by an exception, so that it leaves what it should."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, leave) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
