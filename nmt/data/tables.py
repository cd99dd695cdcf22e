"""Pairs in the columns of TSV, CSV, JSONL and Parquet files, each of the first three also as .gz or .zst.

Which columns: `source_column` and `target_column` where they are set; otherwise a `translation` column
that holds both languages ({"en": ..., "de": ...}), or two columns named after the languages. In TSV and
CSV, columns may be given by number, from 1; the file then has no heading. TSV without columns has none
either: its first column is the source, the second the target.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nmt.data.pairs import BLOCK_PAIRS, PairBlock
from nmt.data.text_lines import DataError, check_file, read_lines

Columns = tuple[str | None, str | None]
# A row as (line number, source, target); the cells are not checked yet.
Row = tuple[int, Any, Any]


def read_table(
    path: Path, *, field: str, columns: Columns, languages: tuple[str, str]
) -> Iterator[PairBlock]:
    """Yield the pairs of one table in order, in constant memory.

    Raises:
        DataError: unreadable file, missing column, damaged row, a cell that is not text.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kind = suffixes[-2] if suffixes[-1:] in ([".gz"], [".zst"]) and len(suffixes) > 1 else path.suffix.lower()
    rows: Iterator[Row]
    if kind == ".parquet":
        yield from _read_parquet(path, field, columns, languages)
        return
    if kind in (".tsv", ".tab"):
        rows = _read_tsv(path, field, columns)
    elif kind == ".csv":
        rows = _read_csv(path, field, columns, languages)
    elif kind in (".jsonl", ".ndjson", ".json"):
        rows = _read_jsonl(path, field, columns, languages)
    else:
        raise DataError(
            f"{field}: {path} is no table that can be read; its name must end in .tsv, .csv, .jsonl or "
            f".parquet (files with a sentence per line belong to source and target)"
        )
    yield from _blocks(rows, path, field)


def choose_columns(names: Sequence[str], columns: Columns, languages: tuple[str, str], where: str) -> Columns:
    """Return the names of the source and target column, or (None, None) for the `translation` column.

    Raises:
        DataError: there are no such columns; the message names those that there are.
    """
    source, target = columns
    listed = ", ".join(names) if names else "none"
    if source is not None and target is not None:
        for name in (source, target):
            if name not in names:
                raise DataError(f"{where}: no column {name!r}; the columns are: {listed}")
        return source, target
    if "translation" in names:
        return None, None
    if languages[0] in names and languages[1] in names:
        return languages
    raise DataError(
        f"{where}: neither a column 'translation' nor columns {languages[0]!r} and {languages[1]!r}; set "
        f"source_column and target_column to two of: {listed}"
    )


def check_cell(cell: Any, where: str, side: str) -> str:
    """Return a cell that is text; raise DataError for anything else."""
    if not isinstance(cell, str):
        kind = "empty (null)" if cell is None else f"not text but {type(cell).__name__}"
        raise DataError(f"{where}: the {side} is {kind}; drop the row or give its text")
    if "\0" in cell:
        raise DataError(f"{where}: the {side} holds a NUL character; the data is damaged")
    if not cell.isascii():
        try:
            cell.encode("utf-8")
        except UnicodeEncodeError:
            raise DataError(
                f"{where}: the {side} holds half a surrogate pair, which is no character"
            ) from None
    return cell


def translation_cell(cell: Any, languages: tuple[str, str], where: str) -> tuple[Any, Any]:
    """Return both sides of a cell of a `translation` column."""
    if not isinstance(cell, Mapping):
        raise DataError(f"{where}: translation must hold both languages as keys")
    for field, language in zip(("source_language", "target_language"), languages, strict=True):
        if language not in cell:
            listed = ", ".join(map(str, cell))
            raise DataError(
                f"{where}: translation has no {language!r}; set data.{field} to one of: {listed or 'none'}"
            )
    return cell[languages[0]], cell[languages[1]]


def _blocks(rows: Iterable[Row], path: Path, field: str) -> Iterator[PairBlock]:
    block = PairBlock([], [], path.name, numbers := [])
    filled = False
    for number, source, target in rows:
        where = f"{field}: {path}, line {number}"
        block.sources.append(check_cell(source, where, "source"))
        block.targets.append(check_cell(target, where, "target"))
        numbers.append(number)
        if len(numbers) == BLOCK_PAIRS:
            yield block
            filled = True
            block = PairBlock([], [], path.name, numbers := [])
    if numbers:
        yield block
    elif not filled:
        raise DataError(f"{field}: {path} has no rows")


def _column_numbers(columns: Columns) -> tuple[int, int] | None:
    """Return columns given as numbers, counted from 0."""
    source, target = columns
    if source and target and source.isdecimal() and target.isdecimal() and int(source) and int(target):
        return int(source) - 1, int(target) - 1
    return None


def _pick_cells(rows: Iterable[tuple[int, list[str]]], places: tuple[int, int], where: str) -> Iterator[Row]:
    source, target = places
    least = max(places) + 1
    for number, cells in rows:
        if len(cells) < least:
            raise DataError(f"{where}, line {number}: {least} columns expected, {len(cells)} found")
        yield number, cells[source], cells[target]


def _read_tsv(path: Path, field: str, columns: Columns) -> Iterator[Row]:
    """Split at tabs and nothing else: TSV as parallel corpora come knows no quotes."""
    lines = (line for block in read_lines(path, field=field) for line in block)
    rows = ((number, line.split("\t")) for number, line in enumerate(lines, start=1))
    where = f"{field}: {path}"
    places = _column_numbers(columns) or (0, 1)
    if columns[0] is not None and _column_numbers(columns) is None:
        _, names = next(rows)
        source, target = choose_columns(names, columns, ("", ""), where)
        places = (names.index(str(source)), names.index(str(target)))
    yield from _pick_cells(rows, places, where)


def _read_csv(path: Path, field: str, columns: Columns, languages: tuple[str, str]) -> Iterator[Row]:
    where = f"{field}: {path}"
    # With the line feed, which may stand inside quotes.
    lines = (f"{line}\n" for block in read_lines(path, field=field) for line in block)
    reader = csv.reader(lines, strict=True)
    rows = ((reader.line_num, cells) for cells in reader if cells)
    try:
        places = _column_numbers(columns)
        if places is None:
            _, names = next(rows)
            source, target = choose_columns(names, columns, languages, where)
            if source is None or target is None:
                raise DataError(f"{where}: a CSV file cannot hold both languages in the column 'translation'")
            places = (names.index(source), names.index(target))
        yield from _pick_cells(rows, places, where)
    except csv.Error as error:
        raise DataError(f"{where}, line {reader.line_num}: damaged CSV ({error}); check the quotes") from None


def _read_jsonl(path: Path, field: str, columns: Columns, languages: tuple[str, str]) -> Iterator[Row]:
    lines = (line for block in read_lines(path, field=field) for line in block)
    for number, line in enumerate(lines, start=1):
        where = f"{field}: {path}, line {number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: not JSON ({error}); one object per line is expected") from None
        if not isinstance(row, dict):
            raise DataError(f"{where}: a JSON object is expected, not {type(row).__name__}")
        source, target = choose_columns(list(row), columns, languages, where)
        if source is None or target is None:
            yield number, *translation_cell(row["translation"], languages, where)
        else:
            yield number, row[source], row[target]


def _read_parquet(
    path: Path, field: str, columns: Columns, languages: tuple[str, str]
) -> Iterator[PairBlock]:
    import pyarrow
    from pyarrow import parquet

    check_file(path, field=field)
    where = f"{field}: {path}"
    row = 1
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            source, target = choose_columns(names, columns, languages, where)
            chosen = ["translation"] if source is None or target is None else [source, target]
            for batch in file.iter_batches(batch_size=BLOCK_PAIRS, columns=chosen):
                yield arrow_block(batch, (source, target), languages, where, path.name, row)
                row += batch.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{where}: damaged Parquet file ({' '.join(str(error).split())[:200]})") from None
    if row == 1:
        raise DataError(f"{where} has no rows")


def arrow_block(
    batch: Any, columns: Columns, languages: tuple[str, str], where: str, name: str, first_row: int
) -> PairBlock:
    """Take the pairs out of an Arrow record batch or table whose first row has the number `first_row`."""
    numbers = range(first_row, first_row + batch.num_rows)
    source, target = columns
    try:
        if source is None or target is None:
            cells = batch.column("translation").to_pylist()
            pairs = [
                translation_cell(cell, languages, f"{where}, row {number}")
                for number, cell in zip(numbers, cells, strict=True)
            ]
        else:
            sides = (batch.column(source).to_pylist(), batch.column(target).to_pylist())
            pairs = list(zip(*sides, strict=True))
    except UnicodeDecodeError:
        last = numbers[-1]
        raise DataError(f"{where}: invalid UTF-8 between rows {first_row} and {last}") from None
    sources, targets = [], []
    for number, (source_cell, target_cell) in zip(numbers, pairs, strict=True):
        row = f"{where}, row {number}"
        sources.append(check_cell(source_cell, row, "source"))
        targets.append(check_cell(target_cell, row, "target"))
    return PairBlock(sources, targets, name, numbers)
