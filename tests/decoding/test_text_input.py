"""Any bytes are text, and every line of them is accounted for."""

import gzip
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from nmt.data.text_lines import DataError
from nmt.decoding.text_input import Lines, files, survey

# Bytes of lines, and what is translated of them.
LINES = [
    (b"the dog\n", "the dog"),
    (b"\n", ""),
    (b"   \t\n", "   \t"),
    (b"the old cat\r\n", "the old cat"),
    (b"carriage\rreturn\n", "carriage\rreturn"),
    (b"\r\rboth\r\r\n", "\r\rboth\r"),
    (b"bad \xff\xfe bytes\n", "bad \ufffd\ufffd bytes"),
    (
        "one\u2028two\x85three\x0bfour\x0cfive\x1csix\n".encode(),
        "one\u2028two\x85three\x0bfour\x0cfive\x1csix",
    ),
    (b"nul \x00 \x1b[0m\n", "nul \x00 \x1b[0m"),
    ("שלום עולם 🙂\n".encode(), "שלום עולם 🙂"),
    (b"cut \xf0\x9f\n", "cut \ufffd"),
    (b"the last has no end", "the last has no end"),
]
CONTENT = b"".join(line for line, _ in LINES)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_lines_do_not_depend_on_blocks(size: int) -> None:
    content = b"\xef\xbb\xbf" + CONTENT
    lines = Lines([(content[start : start + size] for start in range(0, len(content), size))])
    assert list(lines) == [text for _, text in LINES]
    assert (lines.invalid, lines.first_invalid) == (2, 7)


@given(st.lists(st.binary(max_size=20), max_size=12))
def test_as_many_lines_as_line_feeds(blocks: list[bytes]) -> None:
    content = b"".join(blocks)
    found = list(Lines([blocks]))
    assert len(found) == content.count(b"\n") + (content[-1:] not in (b"", b"\n"))
    assert not any("\n" in line for line in found)


def test_files_one_after_the_other(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.txt", "b.gz", "c.zst")]
    paths[0].write_bytes(b"\xef\xbb\xbfa\nb")
    paths[1].write_bytes(gzip.compress(b"\xef\xbb\xbfc\n") + gzip.compress(b"d\xff\n"))
    frame = zstandard.ZstdCompressor().compress
    paths[2].write_bytes(frame(b"e\n") + frame(b"f"))
    lines = Lines(files(paths))
    assert list(lines) == ["a", "b", "c", "d\ufffd", "e", "f"]
    assert (lines.invalid, lines.first_invalid) == (1, 4)
    assert survey(paths).lines == 6


@pytest.mark.parametrize(
    ("content", "lines"),
    [(b"", 0), (b"\n", 1), (b"\r\n", 1), (b"\n\n", 2), (b"a", 1), (b"a\n", 1), (b"\n\na", 3)],
)
def test_a_survey_counts_lines(tmp_path: Path, content: bytes, lines: int) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes(content)
    assert survey([path]).lines == lines


def test_a_survey_knows_the_content(tmp_path: Path) -> None:
    plain, packed, other = (tmp_path / name for name in ("a.txt", "a.txt.gz", "b.txt"))
    plain.write_bytes(CONTENT)
    packed.write_bytes(gzip.compress(CONTENT))
    other.write_bytes(CONTENT[:-1] + b"E")
    assert survey([plain]) == survey([packed])
    assert survey([plain]).xxh3_128 != survey([other]).xxh3_128
    # Where one file ends is part of it.
    other.write_bytes(b"")
    assert survey([plain, other]).xxh3_128 != survey([plain]).xxh3_128


@pytest.mark.parametrize("cut", [20, 1])
@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_file_that_ends_too_early_is_damaged(tmp_path: Path, suffix: str, cut: int) -> None:
    path = tmp_path / f"in.{suffix}"
    pack = {"gz": gzip.compress, "zst": zstandard.ZstdCompressor(write_checksum=True).compress}[suffix]
    path.write_bytes(pack(CONTENT * 50)[:-cut])
    with pytest.raises(DataError, match=rf"in\.{suffix}"):
        survey([path])
