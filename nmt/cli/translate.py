"""`nmt translate`: as many lines out as in, in their order."""

import os
import signal
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain, islice
from types import FrameType
from typing import Any

import torch

from nmt import __version__, bundle
from nmt.cli.constraint_files import Constraints, read_constraints
from nmt.cli.model_folders import model_folders
from nmt.cli.recipe import Recipe, ThisProcess, Translated
from nmt.cli.schemas import TranslateConfig
from nmt.cli.text_files import TextJob, plan
from nmt.cli.workers import Workers
from nmt.config import ConfigError
from nmt.data.processors import available_cores
from nmt.data.text_lines import DataError
from nmt.decoding.config import DecodingConfig, DecodingPrecision
from nmt.decoding.formats import written
from nmt.decoding.output import Output, open_output
from nmt.decoding.progress import Progress
from nmt.decoding.text_input import Lines, Survey, files, standard_input, survey
from nmt.decoding.windows import WaitingLines, Window, windows
from nmt.model.device import choose_device
from nmt.model.precision import fastest_dtype

# So much text makes up for the start of a worker, a few seconds: about a thousand sentences.
_BYTES_PER_WORKER = 1 << 16


def run(config: TranslateConfig) -> None:
    """Translate files or standard input to files or standard output."""
    beam_size = config.decoding.beam_size
    if config.n_best > beam_size:
        raise ConfigError(f"n_best={config.n_best} is more than decoding.beam_size={beam_size}")
    jobs = plan(config.input, config.output, config.format, config.prefixes)
    surveys = [survey(job.inputs) if job.inputs else None for job in jobs]
    device = choose_device(config.device)
    threads = config.threads or available_cores()
    workers = config.workers or useful_workers(surveys, device, threads)
    torch.set_num_threads(max(1, threads // workers))
    decoding = _precision_decided(config.decoding, device)
    models = model_folders(config.model)
    constraints = read_constraints(config.terms, jobs, surveys, bundle.locate(models[0]), decoding)
    basis = {} if config.output is None else _basis(config, decoding, device, constraints)
    texts = []
    for job, found, prefixes in zip(jobs, surveys, constraints.prefixes_hashes, strict=True):
        identity = None if found is None else {"input": found.xxh3_128, "prefixes": prefixes, **basis}
        texts.append(_Text(job, found, open_output(job.output, identity, resume=config.resume)))
    recipe = Recipe(
        models=models,
        device=device.type,
        threads=torch.get_num_threads(),
        decoding=decoding.plain(),
        n_best=config.n_best,
        alignment=config.alignment,
        glossary=constraints.glossary,
    )
    # What cannot be gone on with is said before hours are spent on the files before it.
    for text in texts[1:]:
        with text.output:
            pass
    total = None if None in surveys else sum(found.lines for found in surveys if found)
    processes = ThisProcess(recipe) if workers == 1 else Workers(recipe, workers)
    shown = _progress_is_shown(config)
    with _terminated_in_order(), processes, Progress(total, shown=shown) as progress:
        _write(texts, processes.translate(_windows(texts, workers), progress), config, progress)
    for text in texts:
        text.output.forget()


def useful_workers(surveys: Sequence[Survey | None], device: torch.device, threads: int) -> int:
    """How many processes translate texts fastest.

    Two processes do nearly twice the work of one, two threads that share the products of one do not. A text
    that is answered line by line as it comes, or is short, is not worth the start of a process.
    """
    size = sum(0 if found is None else found.bytes for found in surveys)
    places = {"cpu": threads, "cuda": torch.cuda.device_count()}.get(device.type, 1)
    return max(1, min(places, size // _BYTES_PER_WORKER))


class _Text:
    """A text and where its translation goes."""

    def __init__(self, job: TextJob, found: Survey | None, output: Output) -> None:
        self.job, self.found, self.output = job, found, output
        self.lines = Lines(files(job.inputs) if job.inputs else [standard_input()])

    def windows(self, *, as_they_come: bool) -> Iterator[Window]:
        """The windows that an earlier job has left, and one without lines at the end."""
        done = self.output.lines
        prefixes = islice(Lines(files(self.job.prefixes, field="prefixes")), done, None)
        if not self.output.finished:
            waits = as_they_come and not (self.job.inputs or _standard_input_is_a_file())
            for lines in WaitingLines(self.lines) if waits else windows(islice(self.lines, done, None)):
                yield Window(lines, done + 1, list(islice(prefixes, len(lines))))
                done += len(lines)
        yield Window((), done + 1)

    def say_what_was_replaced(self) -> None:
        if self.lines.invalid:
            where = f"{self.job.name}: " if self.job.inputs else ""
            _say(
                f"{where}{self.lines.invalid:,} lines with bytes that are not UTF-8, the first of them line"
                f" {self.lines.first_invalid:,}; those bytes were read as U+FFFD"
            )


def _windows(texts: Iterable[_Text], workers: int) -> Iterator[Window]:
    return chain.from_iterable(text.windows(as_they_come=workers == 1) for text in texts)


def _write(
    texts: Iterable[_Text], translated: Iterator[Translated], config: TranslateConfig, progress: Progress
) -> None:
    """Write the translations of each text, from where an earlier job has stopped."""
    for text in texts:
        output, name = text.output, text.job.name
        with output:
            if output.lines:
                progress.skip(output.lines)
                _say(f"going on after {output.lines:,} lines of {name}")
            try:
                for window, translations in translated:
                    if not window.lines:
                        break
                    data = written(
                        translations,
                        config.format,
                        first_line=window.first_line,
                        alignment=config.alignment,
                    )
                    output.write(data, lines=len(window.lines))
                if text.found is not None and output.lines != text.found.lines:
                    raise DataError(f"input: {name} has changed while it was translated")
                if not output.finished:
                    output.finish()
            except BaseException:
                if output.kept:
                    _say(f"stopped after {output.kept:,} lines of {name}; resume=true goes on")
                raise
        text.say_what_was_replaced()


def _precision_decided(decoding: DecodingConfig, device: torch.device) -> DecodingConfig:
    """What `auto` stands for depends on the machine and is measured once, not by each worker for itself."""
    if decoding.precision is not DecodingPrecision.auto:
        return decoding
    dtype = str(fastest_dtype(device)).removeprefix("torch.")
    return replace(decoding, precision=DecodingPrecision(dtype))


def _basis(
    config: TranslateConfig, decoding: DecodingConfig, device: torch.device, constraints: Constraints
) -> dict[str, Any]:
    """All that the bytes of an output depend on beside its input."""
    return {
        "model": [bundle.fingerprint(folder) for folder in model_folders(config.model)],
        "format": config.format.value,
        "n_best": config.n_best,
        "alignment": config.alignment,
        "terms": constraints.terms_hash,
        **{f"decoding.{name}": value for name, value in decoding.plain().items()},
        "device": device.type,
        "nmt": __version__,
        "torch": torch.__version__,
    }


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
