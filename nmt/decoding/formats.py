"""Translations as bytes of a file.

text    one line for each line
tsv     line, rank, score, log-probability, translation; one row for each candidate
jsonl   one object for each line, candidates of lower rank in its list `alternatives`

With word alignment each candidate has one more column, or `alignment`: "0-0 1-2" for source word - word of
the translation, words counted from 0 between blanks.

Lines are counted from 1. A tabulator inside a translation becomes a space in a table.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from nmt.decoding.alignment import pharaoh
from nmt.decoding.config import OutputFormat
from nmt.decoding.translation import Candidate, Translation

# Scores are single precision, of which more digits say nothing.
_DIGITS = 4


def written(
    translations: Iterable[Translation], layout: OutputFormat, *, first_line: int, alignment: bool = False
) -> bytes:
    """The lines that these translations are in the file; the first of them is that of line `first_line`."""
    rows = (
        row
        for line, translation in enumerate(translations, start=first_line)
        for row in _rows(translation, layout, line, alignment)
    )
    return "".join(f"{row}\n" for row in rows).encode("utf-8", "replace")


def _rows(translation: Translation, layout: OutputFormat, line: int, alignment: bool) -> Iterator[str]:
    if layout is OutputFormat.text:
        yield translation.text
    elif layout is OutputFormat.tsv:
        for rank, each in enumerate((translation, *translation.alternatives), start=1):
            figures = (f"{_short(value):.{_DIGITS}f}" for value in (each.score, each.log_probability))
            links = (pharaoh(each.alignment or ()),) if alignment else ()
            yield "\t".join((str(line), str(rank), *figures, each.text.replace("\t", " "), *links))
    else:
        content = {"line": line, **_described(translation, alignment)}
        if translation.alternatives:
            content["alternatives"] = [_described(each, alignment) for each in translation.alternatives]
        yield json.dumps(content, ensure_ascii=False)


def _described(candidate: Candidate, alignment: bool) -> dict[str, Any]:
    described = {
        "translation": candidate.text,
        "score": _short(candidate.score),
        "log_probability": _short(candidate.log_probability),
        "finished": candidate.finished,
    }
    if alignment:
        described["alignment"] = pharaoh(candidate.alignment or ())
    return described


def _short(value: float) -> float:
    # Zero has no sign here.
    return round(value, _DIGITS) + 0.0
