"""`nmt compare` of models, saved evaluations and files, and `nmt evaluate checkpoints=all`."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from nmt.cli.launch import main
from nmt.evaluation import saved
from nmt.evaluation.evaluation import Evaluation, Scoring, evaluate_outputs

MakeEvaluation = Callable[..., Evaluation]
FEW = ["trials=200", "scoring.resamples=100", "threads=1"]
ONE = ["data.test.one.source=one.en", "data.test.one.target=one.de"]


def disturb(folder: Path, amount: float) -> None:
    """Let a model be another one."""
    generator = torch.Generator().manual_seed(2)
    weights = load_file(folder / "model.safetensors")
    for weight in weights.values():
        weight += amount * torch.randn(weight.shape, generator=generator)
    save_file(weights, folder / "model.safetensors")


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs `run` and `other`, whose translations differ."""
    shutil.copytree(model_folder, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    shutil.copytree("run", "other")
    disturb(Path("other/model"), 0.05)
    return tmp_path / "work"


def test_models_are_evaluated_once_and_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "run", "other", *ONE, *FEW, "output=result.json"]) == 0
    first = capsys.readouterr()
    assert "evaluating run, of which there is no saved evaluation" in first.err
    for line in first.out.splitlines()[:2]:
        assert "sha256:" in line
    assert "paired approximate randomisation" in first.out
    result = json.loads((folder / "result.json").read_text())
    (pair,) = result["pairs"]
    assert [found["metric"] for found in pair["metrics"]] == ["BLEU", "chrF", "chrF++", "TER"]
    assert all(
        {"verdict", "wins", "ties", "losses", "signature"} <= found.keys() for found in pair["metrics"]
    )
    assert result["evaluations"][0]["provenance"]["files"] != result["evaluations"][1]["provenance"]["files"]
    # Again, from what was saved.
    assert main(["compare", "run", "other", *ONE, *FEW]) == 0
    second = capsys.readouterr()
    assert (second.out, "evaluating" in second.err) == (first.out, False)
    # The evaluation on the model's own test sets has a file of its own.
    assert not (folder / "run/evaluation.json").exists()
    # A model that has changed is evaluated again.
    disturb(folder / "other/model", 0.05)
    assert main(["compare", "run", "other", *ONE, *FEW]) == 0
    assert "evaluating other" in capsys.readouterr().err


def test_own_test_sets_of_the_models_are_taken_without_others(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "model=run", "threads=1", "scoring.resamples=100"]) == 0
    assert main(["compare", "run", "other/model", "run/evaluation.json", *FEW, "show=1"]) == 0
    found = capsys.readouterr()
    assert "evaluating run," not in found.err
    assert "evaluating other/model," in found.err
    assert "A / C: the same files, the same scores; provenance differs in: nothing" in found.out
    for name in ("one", "two"):
        assert f"\n{name}, A and B: " in found.out
    assert (folder / "other/evaluation.sentences.jsonl").is_file()


def test_decoding_that_differs_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for beam in (1, 3):
        arguments = ["model=run", *ONE, "threads=1", f"decoding.beam_size={beam}", f"output={beam}.json"]
        assert main(["evaluate", *arguments]) == 0
    assert main(["compare", "3.json", "1.json", *FEW]) == 0
    assert "provenance differs in: decoding.beam_size: 3 / 1" in capsys.readouterr().out


def test_files_of_translations_are_scored_like_the_model_that_wrote_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["translate", "model=run", "input=one.en", "output=one.out", "threads=1"]) == 0
    systems = ["run", "one.out", "one.de", "one.en"]
    assert main(["compare", *systems, *ONE, *FEW, "output=result.json"]) == 0
    result = json.loads((folder / "result.json").read_text())
    scores = [{each["name"]: each for each in own["test_sets"][0]["scores"]} for own in result["evaluations"]]
    assert scores[0] == scores[1]
    assert scores[2]["BLEU"]["value"] == pytest.approx(100)
    same, better, worse = result["pairs"]
    assert [found["ties"] for found in same["metrics"]] == [31] * 4
    assert not any(found["losses"] for found in better["metrics"])
    assert all(found["significant"] and found["wins"] == 0 for found in worse["metrics"])
    capsys.readouterr()
    # The test set of the model serves for the file, when there is only one.
    assert main(["evaluate", "model=run", *ONE, "threads=1", "output=saved.json"]) == 0
    assert main(["compare", "saved.json", "one.out", *FEW, "show=0"]) == 0
    assert "31 of 31 translations are the same" in capsys.readouterr().out


def test_systems_scored_by_different_metrics_are_scored_anew(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, metrics in (("a", "[bleu]"), ("b", "[bleu,ter]")):
        settings = [*ONE, "threads=1", f"scoring.metrics={metrics}", f"output={name}.json"]
        assert main(["evaluate", "model=run", *settings]) == 0
    assert main(["compare", "a.json", "b.json", "scoring.metrics=[chrf]", *FEW]) == 0
    found = capsys.readouterr()
    assert "scoring all systems anew" in found.err
    assert "chrF" in found.out
    assert "BLEU  " not in found.out.partition("difference")[2].partition("\n\n")[0]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run"], "nmt compare takes 2 to 26 systems, not 1"),
        (["run", "nowhere"], "nowhere: no such run, model folder, saved evaluation or file"),
        (["one.de", "two.de"], "one.de: of which test set are these translations?"),
        (["one.de", "short", *ONE], "short: has 2 lines but test set one 31 sentences"),
        (["one.de", "bad.json", *ONE], "bad.json: no evaluation"),
        (["one.de", "two.de", *ONE, "data.test.x.sacrebleu=wmt14/ful"], "sacrebleu knows no such test set"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line(
    folder: Path, arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "short").write_text("a\nb\n")
    (folder / "bad.json").write_text("[]")
    assert main(["compare", *arguments]) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1


def test_saved_evaluations_are_compared_without_torch_and_at_once(
    tmp_path: Path, scoring: Scoring, make_evaluation: MakeEvaluation
) -> None:
    for seed in (1, 2):
        saved.write(make_evaluation(0.2, seed), tmp_path / f"{seed}.json")
    code = (
        "import sys; from nmt.cli.launch import main; status = main(sys.argv[1:]); assert not status;"
        "print('torch' in sys.modules)"
    )
    start = time.perf_counter()
    command = [sys.executable, "-c", code, "compare", "1.json", "2.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert time.perf_counter() - start < 20


def checkpoints(folder: Path) -> Path:
    for place, step in enumerate((10, 20, 30)):
        shutil.copytree(folder / "run/model", folder / f"run/checkpoints/step-{step:08d}")
        disturb(folder / f"run/checkpoints/step-{step:08d}", 0.06 - 0.03 * place)
    return folder / "run"


def test_scores_of_checkpoints_are_those_of_each_by_itself(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    run = checkpoints(folder)
    assert main(["evaluate", "model=run", "checkpoints=all", *ONE, "threads=1", "plot=curve.png"]) == 0
    out = capsys.readouterr().out
    assert "times pure decoding" in out
    content = json.loads((run / "evaluation-checkpoints.json").read_text())
    assert [each["step"] for each in content["checkpoints"]] == [10, 20, 30]
    values = []
    for each in content["checkpoints"]:
        path = run / f"checkpoints/step-{each['step']:08d}"
        settings = [f"model={path}", *ONE, "threads=1", "output=single.json", "scoring.metrics=[bleu,chrf]"]
        assert main(["evaluate", *settings]) == 0
        single = saved.read(folder / "single.json")
        scores = [asdict(score) for score in single.test_sets[0].scores]
        assert each["test_sets"][0]["scores"] == scores
        assert each["provenance"]["files"] == single.provenance.files
        values.append(scores[0]["value"])
    assert len(set(values)) == 3
    assert f"best one BLEU {max(values):.2f} at step {10 * (values.index(max(values)) + 1)} (nrefs:1|" in out
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_without_the_library_the_scores_are_there_and_the_way_to_it_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = checkpoints(folder)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    settings = ["evaluate", "model=run", "checkpoints=all", *ONE, "threads=1", "scoring.resamples=100"]
    assert main(settings) == 0
    assert "pip install 'nmt[plots]'" in capsys.readouterr().err
    assert (run / "evaluation-checkpoints.json").is_file()
    assert main([*settings, "plot=x.svg"]) == 2


def test_a_checkpoint_of_another_model_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = checkpoints(folder)
    file = run / "checkpoints/step-00000020/config.yaml"
    content = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**content, "model": {**content["model"], "heads": 1}}))
    assert main(["evaluate", "model=run", "checkpoints=all", *ONE, "threads=1"]) == 2
    assert "step-00000020: its model is not that of" in capsys.readouterr().err
    assert main(["evaluate", "model=other", "checkpoints=all", *ONE]) == 2
    assert "holds no checkpoints" in capsys.readouterr().err
    assert main(["evaluate", "model=run", "plot=x.svg", *ONE]) == 2
    assert "plot draws scores by step, which needs checkpoints=all" in capsys.readouterr().err


def test_outputs_are_scored_by_name(
    test_set: object, scoring: Scoring, make_evaluation: MakeEvaluation
) -> None:
    evaluation = make_evaluation(0.0)
    assert [own.name for own in evaluation.test_sets] == ["news"]
    assert evaluate_outputs({}, scoring, evaluation.provenance).test_sets == []
