"""`nmt report`: one page from runs, saved evaluations and files, with what is at hand."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from nmt.cli.launch import main
from nmt.evaluation.report import content, plots

FEW = ["trials=100", "scoring.resamples=100", "threads=1"]


@pytest.fixture(scope="module")
def evaluated(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with training data, metrics and an evaluation, as `nmt train` leaves it."""
    folder = tmp_path_factory.mktemp("report") / "work"
    shutil.copytree(model_folder, folder)
    (folder / "train.en").write_text("the small dog sees the old cat .\nthe house\n" * 10, encoding="utf-8")
    (folder / "train.de").write_text("the small dog sees the old cat .\nthe house\n" * 10, encoding="utf-8")
    settings = {"seed": 3, "data": {"train": {"source": "train.en", "target": "train.de"}}}
    (folder / "run/config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "run/environment.json").write_text("[]")
    lines = [{"step": step, "train/loss": 5 - step / 10, "validation/bleu": step} for step in (10, 20, 30)]
    (folder / "run/metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["evaluate", "model=run", "threads=1", "scoring.resamples=100"]) == 0
    return folder


@pytest.fixture
def folder(evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(evaluated, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def data_of(page: Path) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())
    assert found
    return json.loads(found[1])


def test_the_page_of_a_run_has_all_parts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert main(["report", "run", *FEW, "attention_maps=6"]) == 0
    said = capsys.readouterr()
    assert "left out" not in said.err
    assert said.out.count("\n| ") == 2
    page = (folder / "report.html").read_text()
    for part in ("Scores", "Learning curves", "Where it fails", "Calibration", "rarest source word"):
        assert part in page
    assert "counted in train.en, train.de (20 pairs)" in page
    # Loss and BLEU of the run; word accuracy and calibration of both test sets.
    assert page.count("<svg") == 6
    sets = data_of(folder / "report.html")["sets"]
    assert [(each["name"], len(each["rows"])) for each in sets] == [("one", 31), ("two", 31)]
    for each in sets:
        maps = [row["h"][0]["m"] for row in each["rows"] if "m" in row["h"][0]]
        assert len(maps) == 6
        assert each["rows"][0]["h"][0]["c"] == 0
        assert all(row["h"][0]["p"] is None or 0 <= row["h"][0]["p"] <= 1 for row in each["rows"])
    # Nothing half-written stays behind.
    assert not list(folder.glob(".*"))


def test_systems_stand_side_by_side_with_a_verdict(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["translate", "model=run", "input=one.en", "output=one.out", "threads=1"]) == 0
    one = ["data.test.one.source=one.en", "data.test.one.target=one.de"]
    settings = [*FEW, "output=two.html", "markdown=rows.md", "attention_maps=0", "sentences=10"]
    assert main(["report", "run", "one.out", "one.en", *one, *settings]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert (folder / "rows.md").read_text().count("| one |") == 3
    page = (folder / "two.html").read_text()
    assert "significant: C is worse" in page
    assert "not significant" in page
    (own,) = data_of(folder / "two.html")["sets"]
    assert (len(own["rows"]), own["count"]) == (10, 31)
    for row in own["rows"]:
        run, same, source = ("".join(segment[1:] for segment in each["t"]) for each in row["h"])
        assert (run, source) == (same, row["s"])
        assert "m" not in row["h"][0]


def test_a_saved_evaluation_stands_for_its_model_while_that_is_there(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The whole run has moved: what is recorded as the place of the model is gone.
    shutil.move("run", "elsewhere")
    settings = ["report", "elsewhere/evaluation.json", *FEW, "attention_maps=2"]
    assert main(settings) == 0
    assert "attention maps" not in capsys.readouterr().err
    maps = [row for row in data_of(folder / "report.html")["sets"][0]["rows"] if "m" in row["h"][0]]
    assert len(maps) == 2
    # A model that has changed has other maps than those of the translations.
    weights = folder / "elsewhere/model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert main(settings) == 0
    said = capsys.readouterr().err
    assert "attention maps are left out: the model of this evaluation is not in run/model any more" in said
    assert "attention maps are left out" in (folder / "report.html").read_text()


def test_what_cannot_be_had_is_left_out_with_a_word(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (plots, content.plots, sys.modules["nmt.cli.report"]):
        monkeypatch.setattr(module, "can_plot", lambda: False)
    (folder / "train.de").unlink()
    (folder / "run/metrics.jsonl").unlink()
    assert main(["report", "run", *FEW, "attention_maps=0"]) == 0
    said = capsys.readouterr().err
    page = (folder / "report.html").read_text()
    for words in (
        "slices by rare words and word accuracy are left out: neither train.de nor the prepared data is",
        "learning curves are left out: the run has no metrics.jsonl here",
        "plots are left out: matplotlib is not installed; pip install",
    ):
        assert f"nmt report: {words}" in said
        assert words in page
    assert "<svg" not in page
    assert "rarest source word" not in page


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (["output=nowhere/report.html"], "output=nowhere/report.html: the folder does not exist"),
        (["markdown=nowhere/rows.md"], "markdown=nowhere/rows.md: the folder does not exist"),
        (["markdown=run"], "markdown=run: is a folder"),
        (["nowhere"], "nowhere: no such run, model folder, saved evaluation or file"),
        (["markdown=run/evaluation.json", "run/evaluation.json"], "is the input itself"),
        (["one.de"], "one.de: of which test set are these translations?"),
    ],
)
def test_mistakes_are_one_line_and_leave_no_page(
    folder: Path, settings: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "run", *settings, *FEW]) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1
    assert not (folder / "report.html").exists()
