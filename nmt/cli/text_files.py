"""Which texts `nmt translate` reads, and where the translation of each goes."""

import csv
from dataclasses import dataclass
from pathlib import Path

from nmt.config import ConfigError
from nmt.data.text_lines import check_file
from nmt.decoding.config import OutputFormat
from nmt.decoding.output import check_output

_PACKED = (".gz", ".zst")


@dataclass(frozen=True, slots=True)
class TextJob:
    """Texts that are read one after the other, and what their translations are written to."""

    # None of them stands for standard input.
    inputs: tuple[Path, ...]
    # None is standard output.
    output: Path | None
    # Texts of as many lines, line n what the translation of line n begins with; none of them for no prefixes.
    prefixes: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """What is read, for messages."""
        return ", ".join(map(str, self.inputs)) or "standard input"


def plan(
    given_input: str | None,
    given_output: str | None,
    layout: OutputFormat,
    given_prefixes: str | None = None,
) -> list[TextJob]:
    """The jobs that `input`, `output` and `prefixes` stand for; a folder of outputs is made.

    Raises:
        DataError, ConfigError, OutputError: a file is not there, may not be written, or would be overwritten
            by another.
    """
    inputs = _checked_files(given_input, "input")
    prefixes = _checked_files(given_prefixes, "prefixes")
    if prefixes and len(prefixes) != len(inputs):
        raise ConfigError(
            f"prefixes={given_prefixes}: {len(prefixes)} files for {len(inputs)} inputs; each has its own"
        )
    if given_output is None:
        return [TextJob(tuple(inputs), None, tuple(prefixes))]
    output = Path(given_output)
    if inputs and (len(inputs) > 1 or output.is_dir() or given_output.endswith("/")):
        jobs = [
            TextJob((path,), output / output_name(path, layout), tuple(prefixes[n : n + 1]))
            for n, path in enumerate(inputs)
        ]
        _make_folder(output, several=len(inputs) > 1)
    else:
        jobs = [TextJob(tuple(inputs), output, tuple(prefixes))]
    names = [job.output for job in jobs]
    for job in jobs:
        assert job.output is not None
        if names.count(job.output) > 1:
            raise ConfigError(f"output={job.output}: two inputs have this name; translate them one by one")
        check_output(job.output, [*inputs, *prefixes])
    return jobs


def _checked_files(given: str | None, field: str) -> list[Path]:
    paths = [] if given is None else named_files(given, field)
    for path in paths:
        check_file(path, field=field)
    return paths


def named_files(given: str, field: str) -> list[Path]:
    """The paths in FILE or [FILE,FILE]; quotation marks hold together a name with a comma.

    Raises:
        ConfigError: an empty list, or an empty name in it.
    """
    if not (given.startswith("[") and given.endswith("]")) or Path(given).exists():
        return [Path(given)]
    names = next(csv.reader([given[1:-1]], skipinitialspace=True), [])
    if not names or not all(name.strip() for name in names):
        raise ConfigError(f"{field}={given}: must be FILE or [FILE,FILE]")
    return [Path(name.strip()) for name in names]


def output_name(source: Path, layout: OutputFormat) -> str:
    """The name of the translation of a file: the same, packed like it; a table says that it is one."""
    if layout is OutputFormat.text:
        return source.name
    packed = source.suffix if source.suffix in _PACKED else ""
    return f"{source.name.removesuffix(packed)}.{layout.value}{packed}"


def _make_folder(folder: Path, *, several: bool) -> None:
    if folder.exists() and not folder.is_dir():
        what = "several inputs need a folder" if several else "it is a file"
        raise ConfigError(f"output={folder}: is no folder; {what}")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise ConfigError(f"output={folder}: the folder cannot be made ({error.strerror})") from error
