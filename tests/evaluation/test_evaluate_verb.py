"""`nmt evaluate` prints what the `sacrebleu` command line prints for the file that `nmt translate` writes."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from nmt.cli.evaluate import evaluate_model
from nmt.cli.launch import main
from nmt.decoding.config import DecodingConfig
from nmt.evaluation import saved
from nmt.evaluation.evaluation import Evaluation
from nmt.evaluation.tables import evaluation_table

CPU = torch.device("cpu")
# As the model folder records them.
DECODING = DecodingConfig(beam_size=3, max_length_ratio=0, max_length_offset=30)
MakeEvaluation = Callable[..., Evaluation]


@pytest.fixture(scope="module")
def folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("evaluate") / "work"
    shutil.copytree(model_folder, copy)
    return copy


@pytest.fixture(autouse=True)
def working_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def bleu_in(text: str) -> list[tuple[str, str]]:
    """Values of BLEU in a table, with their signatures."""
    return re.findall(r"BLEU +(\d+\.\d+) +\[\d+\.\d+, \d+\.\d+\] +(\S+)", text)


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
    origin = found["provenance"]
    assert origin["files"]["model.safetensors"] == sha256(weights).hexdigest()
    assert set(origin["files"]) == {"model.safetensors", "tokenizer.model", "config.yaml"}
    assert origin["decoding"] == DECODING.plain() | {"beam_size": 1}
    assert (origin["system"], origin["device"]) == ("run/model", "cpu")
    assert origin["dtype"] in ("float32", "bfloat16")
    assert (origin["source_language"], origin["target_language"]) == ("en", "de")
    assert origin["threads"] == 1
    assert {"commit", "nmt", "python", "torch", "sacrebleu", "sentencepiece"} <= origin["software"].keys()
    assert origin["hardware"]["processor"]
    assert (origin["resamples"], origin["resampling_seed"]) == (1000, 12345)
    (own,) = found["test_sets"]
    assert (own["name"], own["sentences"]) == ("third", 31)
    assert own["sentences_per_second"] == pytest.approx(31 / own["seconds"])
    assert [score["name"] for score in own["scores"]] == ["BLEU", "chrF", "chrF++", "TER"]
    assert all("version:" in score["signature"] for score in own["scores"])
    lines = written.with_name(found["sentences_file"]).read_text(encoding="utf-8").splitlines()
    sources = (folder / "three.en").read_text(encoding="utf-8").split("\n")[:-1]
    assert [json.loads(line)["source"] for line in lines] == sources
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


def test_further_references_raise_the_score(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = [
        "data.test.one.source=one.en",
        "data.test.one.target=one.de",
        "threads=1",
        "scoring.metrics=[bleu]",
    ]
    assert main(["evaluate", "model=run", *one, "output=first.json"]) == 0
    ((first, _),) = bleu_in(capsys.readouterr().out)
    evaluation = saved.read(folder / "first.json")
    hypotheses = [each.hypothesis for each in evaluation.test_sets[0].sentences]
    (folder / "more.de").write_text("".join(f"{line}\n" for line in hypotheses), encoding="utf-8")
    arguments = [*one, "data.test.one.references=[more.de]", "output=second.json"]
    assert main(["evaluate", "model=run", *arguments]) == 0
    ((second, signature),) = bleu_in(capsys.readouterr().out)
    assert float(first) < float(second) == 100
    assert signature.startswith("nrefs:2|")


def test_a_tokenizer_is_chosen_by_hand(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = ["data.test.one.source=one.en", "data.test.one.target=one.de", "threads=1", "output=x.json"]
    assert main(["evaluate", "model=run", *one, "scoring.tokenizer=none"]) == 0
    assert "tok:none" in capsys.readouterr().out
    assert main(["evaluate", "model=run", *one, "scoring.tokenizer=spacy"]) == 2
    assert "scoring.tokenizer=spacy is not possible; allowed: 13a, zh," in capsys.readouterr().err
    assert main(["evaluate", "model=run", *one, "scoring.metrics=[bleurt]"]) == 2
    assert "'bleurt' is no metric; allowed: bleu, chrf, chrf++, ter" in capsys.readouterr().err


def test_every_score_of_the_table_stands_beside_its_signature(make_evaluation: MakeEvaluation) -> None:
    evaluation = make_evaluation(0.1)
    lines = evaluation_table(evaluation).splitlines()
    assert lines[0].split() == [
        "test",
        "set",
        "sentences",
        "metric",
        "score",
        "95",
        "%",
        "interval",
        "signature",
    ]
    for line, score in zip(lines[1:5], evaluation.test_sets[0].scores, strict=True):
        assert f" {score.name} " in line
        assert line.endswith(f"{score.interval}  {score.signature}")
        assert f" {score.value:.2f} " in line
