"""`nmt evaluate` prints what the `sacrebleu` command line prints for the file that `nmt translate` writes."""

import json
import random
import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from nmt import bundle
from nmt.cli.evaluate import evaluate_model
from nmt.cli.launch import main
from nmt.data.config import TokenizerConfig
from nmt.data.tokenizer import Tokenizer
from nmt.decoding.config import DecodingConfig
from nmt.decoding.translator import Translator
from nmt.evaluation.metrics import Score
from nmt.evaluation.report import Evaluation, ScoredSet
from nmt.model.config import TiedEmbeddings, TransformerConfig
from nmt.model.transformer import Transformer

CPU = torch.device("cpu")
DECODING = DecodingConfig(beam_size=3, max_length_ratio=0, max_length_offset=30)
WORDS = ["the", "small", "old", "dog", "cat", "house", "sees", "hears", "in", "of", "Über", "größer", "."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder: a run with a model, two test sets that it records, and a third that it does not.

    The references are the model's own translations with some words left out: a model that has learnt
    nothing would otherwise score zero, whatever is compared.
    """
    folder = tmp_path_factory.mktemp("work")
    tokenizer = Tokenizer.train([(" ".join(WORDS),) * 2] * 20, TokenizerConfig(vocabulary_size=340))
    config = TransformerConfig(
        encoder_layers=1,
        decoder_layers=1,
        width=16,
        heads=2,
        feed_forward_width=32,
        tied_embeddings=TiedEmbeddings.none,
    )
    torch.manual_seed(1)
    size = tokenizer.target_vocabulary_size
    model = Transformer(config, source_vocabulary_size=size, target_vocabulary_size=size).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    draw = random.Random(1)
    for name in ("one", "two", "three"):
        sources = ["", *(" ".join(draw.choices(WORDS, k=draw.randint(1, 9))) for _ in range(30))]
        translations = Translator.of(model, tokenizer, DECODING, source_language="en").translate(sources)
        references = [
            " ".join(word for word in line.split(" ") if draw.random() < 0.9) for line in translations
        ]
        (folder / f"{name}.en").write_text("".join(f"{line}\n" for line in sources), encoding="utf-8")
        (folder / f"{name}.de").write_text("".join(f"{line}\n" for line in references), encoding="utf-8")
    settings = bundle.BundleSettings(
        source_language="en",
        target_language="de",
        source_vocabulary_size=size,
        target_vocabulary_size=size,
        model=config,
        decoding=asdict(DECODING),
        test={name: {"source": f"{name}.en", "target": f"{name}.de"} for name in ("one", "two")},
    )
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    bundle.write(folder / "run" / "model", settings=settings, tokenizer=tokenizer, weights=weights, card={})
    return folder


@pytest.fixture(autouse=True)
def working_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def bleu_in(text: str) -> list[tuple[str, str]]:
    """Values of BLEU in a table, with their signatures."""
    return re.findall(r"BLEU +(\d+\.\d+) +(\S+)", text)


def test_bleu_is_that_of_sacrebleu_on_the_file_that_translate_writes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "model=run", "threads=1"]) == 0
    found = bleu_in(capsys.readouterr().out)
    assert len(found) == 2
    for name, (value, signature) in zip(("one", "two"), found, strict=True):
        arguments = ["model=run", f"input={name}.en", f"output={name}.out", "threads=1"]
        assert main(["translate", *arguments]) == 0
        command = [sys.executable, "-m", "sacrebleu", f"{name}.de", "-i", f"{name}.out", "-w", "2"]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        expected = json.loads(result.stdout)
        assert float(value) == expected["score"]
        assert signature == expected["signature"]
        assert 10 < expected["score"] < 99.9
    # What `train` ends with is the same.
    evaluate_model(folder / "run" / "model", device=CPU)
    assert bleu_in(capsys.readouterr().out) == found


def test_the_file_says_how_the_scores_were_obtained(folder: Path) -> None:
    written = folder / "run" / "evaluation.json"
    written.unlink(missing_ok=True)
    arguments = ["model=run/model", "decoding.beam_size=1", "threads=1"]
    arguments += ["data.test.third.source=three.en", "data.test.third.target=three.de"]
    assert main(["evaluate", *arguments]) == 0
    found = json.loads(written.read_text(encoding="utf-8"))
    weights = (folder / "run" / "model" / "model.safetensors").read_bytes()
    assert found["weights_sha256"] == sha256(weights).hexdigest()
    assert found["decoding"] == asdict(DECODING) | {"beam_size": 1}
    assert (found["model"], found["device"], found["dtype"]) == ("run/model", "cpu", "float32")
    assert found["threads"] == 1
    assert {"python", "torch", "sacrebleu", "sentencepiece"} <= found["versions"].keys()
    (own,) = found["test_sets"]
    assert (own["name"], own["sentences"]) == ("third", 31)
    assert own["sentences_per_second"] == pytest.approx(31 / own["seconds"])
    assert [score["name"] for score in own["scores"]] == ["BLEU", "chrF"]
    assert all("version:" in score["signature"] for score in own["scores"])
    assert [path.name for path in written.parent.iterdir() if "partial" in path.name] == []


def test_where_the_file_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = folder / "run" / "checkpoints" / "step-00000010"
    shutil.copytree(folder / "run" / "model", checkpoint)
    one = ["data.test.one.source=one.en", "data.test.one.target=one.de", "threads=1"]
    assert main(["evaluate", f"model={checkpoint}", *one]) == 0
    assert (checkpoint.parent / "evaluation-step-00000010.json").is_file()
    assert main(["evaluate", "model=run", "output=scores.json", *one]) == 0
    assert (folder / "scores.json").is_file()
    capsys.readouterr()
    assert main(["evaluate", "model=run", "output=nowhere/scores.json", *one]) == 2
    assert "output=nowhere/scores.json: the folder does not exist" in capsys.readouterr().err


def test_a_model_without_test_sets_asks_for_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = folder / "bare"
    shutil.copytree(folder / "run" / "model", bare)
    settings = bare / "config.yaml"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text[: text.index("test:")] + "test: {}\nformat: 1\n", encoding="utf-8")
    assert main(["evaluate", f"model={bare}"]) == 2
    error = capsys.readouterr().err
    assert "records no test sets: give data.test.NAME.source=FILE" in error
    assert "Traceback" not in error


def test_every_score_of_the_table_stands_beside_its_signature() -> None:
    scores = [
        Score(name="BLEU", value=31.257, signature="nrefs:1|v:1"),
        Score(name="chrF", value=5.0, signature="nc:6|v:1"),
    ]
    evaluation = Evaluation(
        model="runs/x/model",
        weights_sha256="0123456789abcdef",
        decoding=asdict(DECODING),
        device="cpu",
        dtype="float32",
        threads=1,
        versions={},
        date="",
        test_sets=[
            ScoredSet(name=name, sentences=1000, scores=scores, seconds=4.0)
            for name in ("first", "second set")
        ],
    )
    assert evaluation.as_table().splitlines() == [
        "test set    sentences  metric  score  signature",
        "first           1,000  BLEU    31.26  nrefs:1|v:1",
        "                       chrF     5.00  nc:6|v:1",
        "second set      1,000  BLEU    31.26  nrefs:1|v:1",
        "                       chrF     5.00  nc:6|v:1",
        "model runs/x/model, weights sha256:0123456789ab, beam 3, length penalty 0.6, float32 on cpu,"
        " 8.0 s (250.0 sentences/s)",
    ]
