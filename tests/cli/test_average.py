"""`nmt average` and the averages of a run, with real trainings in this process."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nmt.cli.launch import main
from nmt.training.checkpoint import checksum

WORDS = ["the", "a", "dog", "cat", "house", "sees", "likes", "old", "red", "and", "runs", "to", "Anna"]
SETTINGS = """
    experiment=own_corpus model=tiny model.width=16 model.feed_forward_width=16 model.encoder_layers=1
    model.decoder_layers=1 tokenizer.vocabulary_size=320 training.max_tokens_per_batch=256
    training.row_length=64 training.long_row_length=128 data.cleaning.max_pieces_per_sentence=100
    training.threads=1 training.device=cpu training.precision=float32 training.learning_rate=0.01
    training.warmup_steps=5 training.patience=0 decoding.beam_size=1 decoding.max_length_ratio=0
    decoding.max_length_offset=20 data.workers=1 training.max_steps=24 training.checkpoint_every=4
    training.validate_every=4 training.keep_every=4
"""
AVERAGED = ["training.ema_decay=0.8", "training.validate_on=ema", "training.average_last=3"]

Command = Callable[..., int]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    draw = random.Random(3)
    for name, count in (("train", 240), ("valid", 12), ("test", 8)):
        lines = [" ".join(draw.choices(WORDS, k=draw.randint(2, 12))) for _ in range(count)]
        (folder / f"{name}.en").write_text("".join(f"{line}\n" for line in lines))
        (folder / f"{name}.de").write_text("".join(f"{line} .\n" for line in lines))
    return folder


def train(corpus: Path, folder: Path, *settings: str) -> int:
    sides = (("source", "en"), ("target", "de"))
    data = [f"data.{part}.{side}={part}.{end}" for part in ("train", "valid") for side, end in sides]
    data += [f"data.test.small.{side}=test.{end}" for side, end in sides]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(corpus)
        return main(["train", *SETTINGS.split(), *data, f"run.folder={folder}", *settings])


@pytest.fixture(scope="module")
def finished(corpus: Path) -> Path:
    """A run with a moving average that kept the checkpoints of the steps 4, 8 ... 24."""
    assert train(corpus, corpus / "run", *AVERAGED) == 0
    return corpus / "run"


@pytest.fixture(autouse=True)
def working_folder(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(corpus)


def checkpoint(run: Path, step: int) -> Path:
    return run / f"checkpoints/step-{step:08d}"


def card_of(model: Path) -> Any:
    return json.loads((model / "card.json").read_text())


def assert_mean(model: Path, files: list[Path]) -> None:
    found, parts = load_file(model / "model.safetensors"), [load_file(file) for file in files]
    assert all(part.keys() == found.keys() for part in parts)
    for name, mean in found.items():
        assert mean.dtype is torch.float32
        expected = torch.stack([part[name] for part in parts]).mean(0)
        torch.testing.assert_close(mean, expected, rtol=1e-6, atol=1e-7)


def test_resumed_equals_undisturbed_with_averages(finished: Path, corpus: Path) -> None:
    """As if killed after step 8: what came later is gone, the model folder is of another time."""
    folder = corpus / "resumed"
    shutil.copytree(finished, folder)
    for step in (12, 16, 20, 24):
        shutil.rmtree(checkpoint(folder, step))
    (folder / "model/model.safetensors").unlink()
    assert train(corpus, folder, *AVERAGED, "resume=true") == 0
    for name in ("model.safetensors", "ema.safetensors", "optimizer.safetensors"):
        ours, theirs = (checkpoint(run, 24) / name for run in (folder, finished))
        assert ours.read_bytes() == theirs.read_bytes()
    ours, theirs = (run / "model/model.safetensors" for run in (folder, finished))
    assert ours.read_bytes() == theirs.read_bytes()


def test_the_average_of_updates_changes_none(finished: Path, corpus: Path) -> None:
    assert train(corpus, corpus / "plain") == 0
    ours, theirs = (
        load_file(checkpoint(run, 24) / "model.safetensors") for run in (corpus / "plain", finished)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not (checkpoint(corpus / "plain", 24) / "ema.safetensors").exists()
    assert "average" not in card_of(corpus / "plain/model")


def test_the_model_of_a_run_is_one_of_its_averages(finished: Path) -> None:
    """Which one the scores decide: the best moving average, or the mean of the last checkpoints."""
    card = card_of(finished / "model")
    log = (finished / "train.log").read_text()
    assert "average of step-00000016, step-00000020, step-00000024: validation loss" in log
    if "the best model stays" in log:
        assert card["average"] == {"ema_decay": 0.8}
        assert_mean(finished / "model", [checkpoint(finished, card["step"]) / "ema.safetensors"])
    else:
        assert [each["step"] for each in card["average"]["checkpoints"]] == [16, 20, 24]
        files = [checkpoint(finished, step) / "model.safetensors" for step in (16, 20, 24)]
        assert_mean(finished / "model", files)


def test_an_average_that_beats_the_best_becomes_the_model(finished: Path, corpus: Path) -> None:
    """As it would be if the validations had been worse."""
    folder = corpus / "worse"
    shutil.copytree(finished, folder)
    state = checkpoint(folder, 24) / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"best_bleu": -1.0}))
    checksums = state.with_name("checksums.json")
    checksums.write_text(json.dumps(json.loads(checksums.read_text()) | {state.name: checksum(state)}))
    assert train(corpus, folder, *AVERAGED, "resume=true") == 0
    assert "the average becomes the model" in (folder / "train.log").read_text()
    assert [each["step"] for each in card_of(folder / "model")["average"]["checkpoints"]] == [16, 20, 24]
    files = [checkpoint(folder, step) / "model.safetensors" for step in (16, 20, 24)]
    assert_mean(folder / "model", files)


def scores(run: Path) -> dict[int, float]:
    entries = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return {entry["step"]: entry["validation/bleu"] for entry in entries if "validation/bleu" in entry}


@pytest.mark.parametrize(
    ("settings", "of", "choose"),
    [
        (["last=3"], "model", lambda bleus: [16, 20, 24]),
        (["last=2", "before=20"], "model", lambda bleus: [12, 16]),
        (["last=1", "of=ema"], "ema", lambda bleus: [24]),
        (["best=2"], "model", lambda bleus: sorted(sorted(bleus, key=lambda step: (-bleus[step], step))[:2])),
    ],
)
def test_averages_what_was_asked_for(
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: list[str],
    of: str,
    choose: Callable[[dict[int, float]], list[int]],
) -> None:
    output, steps = tmp_path / "averaged", choose(scores(finished))
    assert main(["average", f"model={finished}", f"output={output}", *settings]) == 0
    said = capsys.readouterr().out
    assert_mean(output, [checkpoint(finished, step) / f"{of}.safetensors" for step in steps])
    described = card_of(output)["average"]["checkpoints"]
    assert [each["step"] for each in described] == steps
    assert [each["validation_bleu"] for each in described] == [scores(finished)[step] for step in steps]
    assert all(str(checkpoint(finished, step)) in said for step in steps)
    assert f"nmt evaluate model={output}" in said
    assert [path.name for path in tmp_path.iterdir()] == ["averaged"]
    assert main(["evaluate", f"model={output}", "threads=1"]) == 0


def test_averages_models_by_name(finished: Path, tmp_path: Path) -> None:
    output = tmp_path / "averaged"
    assert main(["average", f"models=[{checkpoint(finished, 8)},{finished}]", f"output={output}"]) == 0
    assert_mean(output, [checkpoint(finished, 8) / "model.safetensors", finished / "model/model.safetensors"])
    assert main(["average", f"model={finished}/checkpoints", "last=2", f"output={output}.2"]) == 0


def test_refuses_in_one_line_and_writes_nothing(
    finished: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(checkpoint(finished, 20), tmp_path / "wide")
    settings = tmp_path / "wide/config.yaml"
    settings.write_text(settings.read_text().replace("width: 16\n", "width: 32\n"))
    shutil.copytree(checkpoint(finished, 20), tmp_path / "foreign")
    (tmp_path / "foreign/tokenizer.model").write_bytes(b"")
    for name in ("wide", "foreign"):
        (tmp_path / name / "checksums.json").unlink()
    shutil.copytree(finished, tmp_path / "damaged")
    file = checkpoint(tmp_path / "damaged", 20) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    (tmp_path / "there").mkdir()
    before = sorted(tmp_path.rglob("*"))
    one = checkpoint(finished, 20)
    for arguments, message in (
        ([f"models=[{one},{tmp_path}/wide]"], f"{tmp_path}/wide: model.width is 32, in {one} 16"),
        ([f"models=[{one},{tmp_path}/foreign]"], f"{tmp_path}/foreign: the tokenizer is tokenizer.model"),
        ([f"model={tmp_path}/damaged", "last=3"], f"{file.parent}: damaged (model.safetensors changed"),
        ([f"model={finished}", "last=7"], f"last=7: {finished} holds 6 checkpoints; take fewer"),
        (
            [f"model={finished}", "best=3", "before=9"],
            "holds 2 checkpoints with a validation BLEU before step 9",
        ),
        ([f"model={finished}/model", "last=2"], f"model={finished}/model: holds no checkpoints"),
        (
            [f"models=[{one},{finished}/model]", "of=ema"],
            f"of=ema: {finished}/model holds no ema.safetensors",
        ),
        ([f"model={finished}", "last=2", f"output={tmp_path}/there"], "there: exists already"),
        ([f"model={finished}", "last=2", f"output={tmp_path}/no/where"], "make it first"),
    ):
        assert main(["average", f"output={tmp_path}/new", *arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith("nmt average: error: ")
        assert message in error
        assert error.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_leaves_nothing(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the limit on the size of a file, which is met in the middle of the weights."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        status = main(["average", f"model={finished}", "last=2", f"output={tmp_path}/new"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert status == 2
    assert "new: cannot be written" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
