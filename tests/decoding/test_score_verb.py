"""`nmt score` on files: one line for each pair, or one line that says what is wrong."""

import gzip
import math
from pathlib import Path

import pytest
import torch
import zstandard

from nmt import bundle
from nmt.cli.launch import main
from nmt.data.config import TokenizerConfig
from nmt.data.tokenizer import Tokenizer
from nmt.decoding.scoring import score_lines
from nmt.model.config import TransformerConfig
from nmt.model.transformer import Transformer

SOURCES = ["the small dog", "", "the old\u2028cat", "house"]
TARGETS = ["DER KLEINE", "", "DIE KATZE", "HAUS"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with random weights."""
    folder = tmp_path_factory.mktemp("run") / "model"
    tokenizer = Tokenizer.train(
        [(" ".join(SOURCES), " ".join(TARGETS))] * 9, TokenizerConfig(vocabulary_size=320)
    )
    config = TransformerConfig(encoder_layers=1, decoder_layers=1, width=16, heads=2, feed_forward_width=32)
    torch.manual_seed(1)
    size = tokenizer.target_vocabulary_size
    transformer = Transformer(config, source_vocabulary_size=size, target_vocabulary_size=size)
    settings = bundle.BundleSettings(
        source_language="en",
        target_language="de",
        source_vocabulary_size=size,
        target_vocabulary_size=size,
        model=config,
    )
    weights = {name: parameter.detach() for name, parameter in transformer.named_parameters()}
    bundle.write(folder, settings=settings, tokenizer=tokenizer, weights=weights, card={})
    return folder


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, lines in (("source.en", SOURCES), ("target.de", TARGETS)):
        Path(name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def columns(text: str) -> list[tuple[float, int, float]]:
    return [
        (float(total), int(pieces), float(mean))
        for total, pieces, mean in (line.split("\t") for line in text.splitlines())
    ]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_line_for_each_pair_and_the_sums(
    model: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[suffix]
    for name in ("source.en", "target.de"):
        Path(name + suffix).write_bytes(pack(Path(name).read_bytes()))
    files = [f"source=source.en{suffix}", f"target=target.de{suffix}"]
    assert main(["score", f"model={model}", *files, "output=scores.tsv", "threads=1"]) == 0
    summary = capsys.readouterr().out
    found = columns(Path("scores.tsv").read_text())
    loaded = bundle.load(model, device=torch.device("cpu"))
    pairs = zip(SOURCES, TARGETS, strict=True)
    expected = [*score_lines(loaded.model, loaded.tokenizer, pairs)]
    assert [row[0] for row in found] == pytest.approx([s.log_probability for s in expected], abs=1e-4)
    assert [row[1] for row in found] == [s.pieces for s in expected]
    assert [row[2] for row in found] == pytest.approx([s.per_piece for s in expected], abs=1e-4)
    assert found[1] == (0, 0, 0)
    total, pieces = sum(row[0] for row in found), sum(row[1] for row in found)
    assert f"4 pairs, {pieces} target pieces with END: log-probability {total:.2f}" in summary
    assert f"perplexity {math.exp(-total / pieces):.4g} per piece" in summary
    assert sorted(path.name for path in Path().iterdir() if "partial" in path.name) == []


def test_standard_output_holds_the_lines_alone(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files = ["source=source.en", "target=target.de"]
    assert main(["score", f"model={model}", *files, "threads=1"]) == 0
    said = capfd.readouterr()
    assert len(columns(said.out)) == 4
    assert "4 pairs" in said.err


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("target.de", b"a\nb\n", "target.de ends before line 3, source.en has 4 lines"),
        ("source.en", b"a\nb\nc", "source.en ends before line 4, target.de has 4 lines"),
        ("target.de", b"a\nb\n\xff\nd\n", "target: target.de, line 3, byte 1: invalid UTF-8"),
        ("target.de", b"", "target: target.de is empty"),
    ],
)
def test_wrong_files_are_one_line_and_leave_nothing(
    model: Path, name: str, text: bytes, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(name).write_bytes(text)
    arguments = [f"model={model}", "source=source.en", "target=target.de", "output=scores.tsv"]
    assert main(["score", *arguments]) == 2
    assert complaint in capsys.readouterr().err
    assert not Path("scores.tsv").exists()


@pytest.mark.parametrize(
    ("output", "complaint"),
    [
        ("target.de", "output=target.de: is the input itself"),
        ("nowhere/x", "output=nowhere/x: the folder does not exist"),
        (".", "output=.: is a folder"),
    ],
)
def test_an_output_that_cannot_be_is_said_first(
    output: str, complaint: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path("target.de").read_bytes()
    arguments = [f"model={model}", "source=source.en", "target=target.de", f"output={output}"]
    assert main(["score", *arguments]) == 2
    assert complaint in capsys.readouterr().err
    assert Path("target.de").read_bytes() == before
