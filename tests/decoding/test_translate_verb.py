"""`nmt translate` on a model folder: as many lines out as in, and a file that appears whole or not at all."""

import gzip
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import zstandard

from nmt import bundle
from nmt.cli import translate as translate_verb
from nmt.cli.launch import main
from nmt.cli.translate import Lines
from nmt.data.config import TokenizerConfig
from nmt.data.tokenizer import Tokenizer
from nmt.decoding.config import DecodingConfig
from nmt.decoding.translator import Translator
from nmt.model.config import TiedEmbeddings, TransformerConfig
from nmt.model.transformer import Transformer

WORDS = ["the", "small", "old", "dog", "cat", "house", "sees", "hears", "in", "of", "Über", "größer"]
# Bytes of lines, and what is translated of them.
LINES = [
    (b"the dog\n", "the dog"),
    (b"\n", ""),
    (b"   \t\n", "   \t"),
    (b"the old cat\r\n", "the old cat"),
    (b"carriage\rreturn\n", "carriage\rreturn"),
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
INPUT = b"".join(line for line, _ in LINES)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with random weights."""
    folder = tmp_path_factory.mktemp("run") / "model"
    text = " ".join(WORDS)
    tokenizer = Tokenizer.train([(text, text.upper())], TokenizerConfig(vocabulary_size=330))
    config = TransformerConfig(
        encoder_layers=1,
        decoder_layers=1,
        width=16,
        heads=2,
        feed_forward_width=32,
        tied_embeddings=TiedEmbeddings.none,
    )
    torch.manual_seed(1)
    sizes = (tokenizer.source_vocabulary_size, tokenizer.target_vocabulary_size)
    transformer = Transformer(config, source_vocabulary_size=sizes[0], target_vocabulary_size=sizes[1])
    settings = bundle.BundleSettings(
        source_language="en",
        target_language="de",
        source_vocabulary_size=sizes[0],
        target_vocabulary_size=sizes[1],
        model=config,
        decoding=DecodingConfig(beam_size=2, max_length_ratio=0, max_length_offset=5).plain(),
    )
    weights = {name: 3 * parameter.detach() for name, parameter in transformer.named_parameters()}
    bundle.write(folder, settings=settings, tokenizer=tokenizer, weights=weights, card={})
    return folder


@pytest.fixture(scope="module")
def expected(model: Path) -> bytes:
    loaded = bundle.load(model, device=torch.device("cpu"))
    config = DecodingConfig(**loaded.settings.decoding)
    translator = Translator(loaded.model, loaded.tokenizer, config, torch.device("cpu"))
    return "".join(f"{line}\n" for line in translator.translate([text for _, text in LINES])).encode()


def command(model: Path, *settings: str) -> list[str]:
    return [sys.executable, "-m", "nmt", "translate", f"model={model}", "threads=1", *settings]


def environment() -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    return os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}


def partial_files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if "partial" in path.name]


def test_standard_input_to_standard_output(model: Path, expected: bytes) -> None:
    result = subprocess.run(command(model), input=INPUT, capture_output=True, env=environment(), check=True)
    assert result.stdout == expected
    assert result.stdout.count(b"\n") == len(LINES)
    assert len(result.stdout.decode().splitlines()) == len(LINES)
    assert b"sentences/s" in result.stderr or b"s/ sentences" in result.stderr
    assert b"2 lines with bytes that are not UTF-8, the first of them line 6" in result.stderr


@pytest.mark.parametrize("suffix", ["txt", "gz", "zst"])
def test_file_to_file(model: Path, expected: bytes, tmp_path: Path, suffix: str) -> None:
    pack = {"txt": bytes, "gz": gzip.compress, "zst": zstandard.compress}[suffix]
    source, output = tmp_path / f"in.{suffix}", tmp_path / "out.txt"
    source.write_bytes(pack(INPUT))
    output.write_text("older\n")
    settings = [f"model={model}", f"input={source}", f"output={output}", "threads=1"]
    assert main(["translate", *settings]) == 0
    assert output.read_bytes() == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, "out.txt"])


@pytest.mark.parametrize(
    ("content", "lines"),
    [(b"", 0), (b"\n", 1), (b"\r\n", 1), (b"\n\n", 2), (b"a", 1), (b"a\n", 1), (b"\n\na", 3)],
)
def test_lines_are_counted_by_line_feeds(model: Path, tmp_path: Path, content: bytes, lines: int) -> None:
    source, output = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_bytes(content)
    assert main(["translate", f"model={model}", f"input={source}", f"output={output}", "threads=1"]) == 0
    assert output.read_bytes().count(b"\n") == lines
    assert translate_verb._count_lines(source) == lines


def test_settings_of_the_model_folder_can_be_overridden(model: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_bytes(b"the small dog sees the cat\n")
    found = set()
    for setting in ("decoding.max_length_offset=5", "decoding.max_length_offset=30"):
        settings = [f"model={model}", f"input={source}", f"output={output}", "threads=1", setting]
        assert main(["translate", *settings]) == 0
        found.add(output.read_bytes())
    assert len(found) == 2


def test_lines_of_a_stream() -> None:
    lines = Lines(io.BytesIO(b"\xef\xbb\xbf" + INPUT), None)
    assert list(lines) == [text for _, text in LINES]
    assert (lines.invalid, lines.first_invalid) == (2, 6)


@pytest.mark.parametrize(
    ("source", "output", "message"),
    [
        ("missing.txt", "out.txt", "missing.txt"),
        ("in.txt", "nowhere/out.txt", "output=.*nowhere/out.txt: the folder does not exist"),
        ("in.txt", "in.txt", "is the input itself"),
        ("in.txt", "link.txt", "is the input itself"),
        ("in.txt", ".", "is a folder"),
        ("broken.gz", "out.txt", "broken.gz cannot be read"),
        ("broken.zst", "out.txt", "broken.zst cannot be read"),
    ],
)
def test_wrong_files_give_one_line(
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    output: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.txt").write_bytes(INPUT)
    Path("link.txt").symlink_to("in.txt")
    Path("broken.gz").write_bytes(gzip.compress(INPUT * 50)[:-20])
    Path("broken.zst").write_bytes(b"no zstandard at all")
    before = sorted(tmp_path.iterdir())
    assert main(["translate", f"model={model}", f"input={source}", f"output={output}", "threads=1"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("nmt translate: error: ")
    assert re.search(message, error)
    assert sorted(tmp_path.iterdir()) == before
    assert Path("in.txt").read_bytes() == INPUT


def test_a_failure_in_the_middle_leaves_the_older_output(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_bytes(INPUT)
    output.write_text("older\n")

    def fail(self: Translator, lines: Iterator[str], **_: object) -> Iterator[str]:
        yield "first"
        assert partial_files(tmp_path)
        raise MemoryError

    monkeypatch.setattr(Translator, "translate_lines", fail)
    with pytest.raises(MemoryError):
        main(["translate", f"model={model}", f"input={source}", f"output={output}", "threads=1"])
    assert output.read_text() == "older\n"
    assert partial_files(tmp_path) == []


def test_a_terminated_run_leaves_nothing(model: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_bytes(b"the small dog sees the cat\n" * 200000)
    with subprocess.Popen(
        command(model, f"input={source}", f"output={output}"), stderr=subprocess.DEVNULL, env=environment()
    ) as process:
        deadline = time.monotonic() + 60
        while not partial_files(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert partial_files(tmp_path)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt"]


def test_a_reader_that_goes_away_is_no_error(model: Path) -> None:
    with subprocess.Popen(
        command(model),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write(b"the dog\n" * 9000)
        process.stdin.close()
        assert b"Traceback" not in process.stderr.read()
        process.wait(timeout=60)
