"""`nmt export`: a folder that appears when it holds the same model, and what is said otherwise."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from nmt.cli.launch import main

pytest.importorskip("ctranslate2")
pytest.importorskip("transformers")


def run(*settings: str) -> int:
    return main(["export", *settings, "threads=1"])


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if "partial" in path.name or "exported" in path.name)


@pytest.mark.parametrize("name", ["ctranslate2", "huggingface"])
def test_a_checked_export(name: str, model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"model={model_folder}", f"format={name}", "output=exported") == 0
    out = capsys.readouterr().out
    assert f"{name}, float32, on 200 sentences (own):" in out
    assert "other translations, greedy         0\n" in out
    assert "written to exported\n" in out
    record = json.loads(Path("exported/export.json").read_text(encoding="utf-8"))
    assert record["format"] == name
    greedy, beam = (each["different"] for each in record["check"]["comparisons"])
    assert greedy == 0
    # Hypotheses as long as allowed end otherwise there.
    assert beam <= 4
    assert left_behind(Path()) == ["exported"]
    assert len({path.stat().st_mode for path in Path("exported").iterdir()}) == 1
    # What is printed under "next" works as it stands.
    code = out[out.index("next, in Python:") :].partition("\n\n")[2].replace("...", "the small dog")
    exec(code)
    assert capsys.readouterr().out.strip() == "der kleine Hund"


def test_a_quantised_export_reports_its_bleu_difference(
    model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [f"model={model_folder}", "format=ctranslate2", "quantization=int8"]
    assert run(*settings, "output=exported", "check.max_bleu_loss=100") == 0
    assert "95% between" in capsys.readouterr().out
    bleu = json.loads(Path("exported/export.json").read_text(encoding="utf-8"))["check"]["bleu"]
    assert bleu["low"] <= bleu["theirs"] - bleu["ours"] <= bleu["high"]
    # It is judged by BLEU, which needs references.
    assert run(*settings, "output=exported2", "input=test.en") == 2
    assert "input=test.en has no references" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ctranslate2", "huggingface"])
@pytest.mark.parametrize("quantised", [False, True])
def test_another_model_is_found_out_and_not_written(
    name: str,
    quantised: bool,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A format that forgets the positions."""
    if quantised and name == "huggingface":
        pytest.skip("holds float32 only")
    from nmt.export import ctranslate2, huggingface
    from nmt.export.positions import position_table

    def forget(*arguments: Any) -> torch.Tensor:
        return torch.zeros_like(position_table(*arguments))

    monkeypatch.setattr(
        {"ctranslate2": ctranslate2, "huggingface": huggingface}[name], "position_table", forget
    )
    quantization = "int8" if quantised else "float32"
    arguments = [f"model={model_folder}", f"format={name}", f"quantization={quantization}"]
    assert run(*arguments, "output=exported", "check.examples=2") == 2
    shown = capsys.readouterr()
    assert "output=exported: not written, it is not the same model:" in shown.err
    assert ("check.max_bleu_loss" if quantised else "check.max_different") in shown.err
    assert "greedy, difference 2 of" in shown.out
    assert "greedy, difference 3 of" not in shown.out
    assert left_behind(Path()) == []


def test_other_pieces_are_found_out(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nmt.export import huggingface

    encode = huggingface.HuggingFaceEngine.encode
    monkeypatch.setattr(
        huggingface.HuggingFaceEngine,
        "encode",
        lambda self, texts: [pieces[1:] for pieces in encode(self, texts)],
    )
    assert run(f"model={model_folder}", "format=huggingface", "output=exported") == 2
    assert "200 of 200 sentences have other pieces there" in capsys.readouterr().err


def test_an_existing_output_is_refused(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("exported").mkdir()
    assert run(f"model={model_folder}", "format=ctranslate2", "output=exported") == 2
    assert "output=exported: exists already" in capsys.readouterr().err
    assert run(f"model={model_folder}", "format=ctranslate2", "output=no/where") == 2
    assert "output=no/where: the folder around it does not exist" in capsys.readouterr().err


def test_a_failure_leaves_nothing(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nmt.export import ctranslate2

    def fail(*arguments: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(ctranslate2, "_array", fail)
    assert run(f"model={model_folder}", "format=ctranslate2", "output=exported") == 2
    assert "output=exported: cannot be written (no space left on device)" in capsys.readouterr().err
    assert left_behind(Path()) == []


def test_without_sentences_a_choice_is_asked_for(
    model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"model={model_folder}", "format=ctranslate2", "output=exported"]
    shutil.move("test.en", "elsewhere.en")
    assert run(*arguments) == 2
    assert "cannot be read" in (error := capsys.readouterr().err)
    assert "check.sentences=0 for a model that nobody has checked" in error
    settings = model_folder / "config.yaml"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text[: text.index("test:")] + "test: {}\nformat: 1\n", encoding="utf-8")
    assert run(*arguments) == 2
    assert "records no test sets to check the export with: give data.test.NAME.source=FILE" in (
        capsys.readouterr().err
    )
    # Each of the choices works.
    assert run(*arguments, "input=elsewhere.en", "check.sentences=7") == 0
    assert "on 7 sentences (elsewhere.en)" in capsys.readouterr().out
    arguments[-1] = "output=exported2"
    assert run(*arguments, "data.test.x.source=elsewhere.en", "data.test.x.target=test.de") == 0
    assert "on 200 sentences (x)" in capsys.readouterr().out
    arguments[-1] = "output=exported3"
    assert run(*arguments, "check.sentences=0") == 0
    assert "NOT CHECKED" in capsys.readouterr().out
    assert json.loads(Path("exported3/export.json").read_text(encoding="utf-8"))["check"] is None


def test_blank_and_overlong_lines_are_left_out(
    model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("odd.en").write_text("\n   \nthe dog\n" + "the dog " * 60 + "\nthe cat\n", encoding="utf-8")
    assert run(f"model={model_folder}", "format=ctranslate2", "output=exported", "input=odd.en") == 0
    assert "on 2 sentences (odd.en)" in capsys.readouterr().out


def test_refusals_come_before_the_weights_are_read(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (model_folder / "model.safetensors").write_bytes(b"no weights")
    settings = model_folder / "config.yaml"
    text = settings.read_text(encoding="utf-8").replace("norm: layer_norm", "norm: rms_norm")
    settings.write_text(text, encoding="utf-8")
    arguments = [f"model={model_folder}", "output=exported"]
    assert run(*arguments, "format=huggingface") == 2
    assert "model.norm=rms_norm (only layer_norm)" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run(*arguments, "format=ctranslate2") == 2
    assert "pip install 'nmt[ctranslate2]'" in capsys.readouterr().err
