"""Files of what translations have to have: terms for all lines, and a prefix for each line."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash

from nmt.cli.text_files import TextJob
from nmt.data.text_lines import DataError
from nmt.data.tokenizer import Tokenizer
from nmt.decoding.config import DecodingConfig
from nmt.decoding.constraint_text import prefix_pieces, term_pieces
from nmt.decoding.glossary import Glossary
from nmt.decoding.guidance import ConstraintError, Guidance
from nmt.decoding.text_input import Lines, Survey, files, survey


@dataclass(frozen=True, slots=True)
class Constraints:
    """What is asked for, and the hash of each file, None where there is none."""

    glossary: Glossary | None
    terms_hash: str | None
    # By job.
    prefixes_hashes: list[str | None]


def read_constraints(
    terms: str | None,
    jobs: Sequence[TextJob],
    surveys: Sequence[Survey | None],
    folder: Path,
    decoding: DecodingConfig,
) -> Constraints:
    """Read the file of terms and check it and the prefixes of each job against the model in `folder`.

    Raises:
        DataError: a file cannot be read, there is not a prefix for each line, or a term or prefix is
            impossible.
    """
    if terms is None and not any(job.prefixes for job in jobs):
        return Constraints(None, None, [None for _ in jobs])
    tokenizer = Tokenizer.load(folder)
    guidance = Guidance(decoding, tokenizer)
    glossary = None if terms is None else _read_terms(Path(terms), tokenizer, guidance)
    return Constraints(
        glossary,
        None if glossary is None else _hash(glossary),
        [
            _check_prefixes(job, found, tokenizer, guidance) if job.prefixes and found is not None else None
            for job, found in zip(jobs, surveys, strict=True)
        ],
    )


def _read_terms(path: Path, tokenizer: Tokenizer, guidance: Guidance) -> Glossary:
    def check(translation: str) -> None:
        guidance.check((), term_pieces(tokenizer, [translation]))

    try:
        guidance.check_terms()
    except ConstraintError as error:
        raise DataError(f"terms={path}: {error}") from None
    return Glossary.read(path, check)


def _hash(glossary: Glossary) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(sorted(glossary.terms.items())).encode())


def _check_prefixes(job: TextJob, found: Survey, tokenizer: Tokenizer, guidance: Guidance) -> str:
    """The hash of the prefixes."""
    name = ", ".join(map(str, job.prefixes))
    own = survey(job.prefixes, field="prefixes")
    if own.lines != found.lines:
        raise DataError(
            f"prefixes: {name} has {own.lines:,} lines and {job.name} {found.lines:,}; line n of both belong"
            " together, a blank line asks for nothing"
        )
    for number, prefix in enumerate(Lines(files(job.prefixes, field="prefixes")), start=1):
        try:
            guidance.check(prefix_pieces(tokenizer, prefix.strip()), ())
        except ConstraintError as error:
            raise DataError(f"prefixes: {name}, line {number:,}: {error}") from None
    return own.xxh3_128
