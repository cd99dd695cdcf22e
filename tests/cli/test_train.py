"""Real training processes: killed and resumed, stopped by signals, refused, and scored."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

WORDS = [
    "the",
    "a",
    "dog",
    "cat",
    "house",
    "sees",
    "likes",
    "old",
    "red",
    "and",
    "runs",
    "to",
    "2024",
    "Anna",
]


def write_corpus(folder: Path) -> None:
    source = random.Random(3)
    for name, count in (("train", 240), ("valid", 12), ("test", 14)):
        lines = [" ".join(source.choices(WORDS, k=source.randint(2, 12))) for _ in range(count)]
        (folder / f"{name}.en").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        turned = [" ".join(word.upper() for word in reversed(line.split())) for line in lines]
        (folder / f"{name}.de").write_text("".join(f"{line}.\n" for line in turned), encoding="utf-8")


def command(folder: Path, *overrides: str) -> list[str]:
    settings = [f"data.{n}.{side}={folder}/{n}.{e}" for n in ("train", "valid") for side, e in SIDES]
    settings += [f"data.test.small.{side}={folder}/test.{e}" for side, e in SIDES]
    small = """experiment=own_corpus model=tiny model.width=32 model.encoder_layers=1 model.decoder_layers=1
        model.dropout=0.2 tokenizer.vocabulary_size=320 training.max_tokens_per_batch=256
        training.row_length=64 training.long_row_length=128 data.cleaning.max_pieces_per_sentence=100
        training.threads=1 training.device=cpu training.log_every=1 training.learning_rate=0.003
        training.warmup_steps=5 training.patience=0 decoding.beam_size=2 data.workers=1"""
    return [sys.executable, "-m", "nmt", "train", *settings, *small.split(), *overrides]


Undisturbed = Callable[[str], Path]
SIDES = (("source", "en"), ("target", "de"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    return folder


def environment() -> dict[str, str]:
    root = Path(__file__).resolve().parents[2]
    return os.environ | {"PYTHONPATH": str(root)}


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, cwd=folder, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )


def start(arguments: list[str], folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments,
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def steps_done(run_folder: Path) -> int:
    metrics = run_folder / "metrics.jsonl"
    if not metrics.exists():
        return 0
    return max((int(n) for n in re.findall(r'"step": (\d+)', metrics.read_text())), default=0)


def wait_for_step(process: subprocess.Popen[str], run_folder: Path, step: int) -> None:
    deadline = time.monotonic() + 120
    while steps_done(run_folder) < step and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)


def losses(run_folder: Path) -> dict[int, Any]:
    entries = map(json.loads, (run_folder / "metrics.jsonl").read_text().splitlines())
    return {entry["step"]: entry["train/loss"] for entry in entries if "train/loss" in entry}


STEPS = 40
SETTINGS = [f"training.max_steps={STEPS}", "training.checkpoint_every=6", "training.validate_every=9"]


@pytest.fixture(scope="module")
def undisturbed(corpus: Path) -> Callable[[str], Path]:
    """The folder of a run that nothing happened to, in the given precision."""

    @cache
    def run_once(precision: str) -> Path:
        folder = corpus / f"undisturbed-{precision}"
        settings = [*SETTINGS, f"training.precision={precision}", f"run.folder={folder}"]
        done = run(command(corpus, *settings), corpus)
        assert done.returncode == 0, done.stderr
        return folder

    return run_once


def assert_same_run(one: Path, other: Path) -> None:
    last = f"checkpoints/step-{STEPS:08d}"
    for name in ("model.safetensors", "optimizer.safetensors"):
        mine, theirs = load_file(one / last / name), load_file(other / last / name)
        assert mine.keys() == theirs.keys()
        assert all(mine[key].equal(theirs[key]) for key in mine)
    assert (one / "model/model.safetensors").read_bytes() == (other / "model/model.safetensors").read_bytes()
    assert losses(one) == losses(other)
    lines = [len((folder / "metrics.jsonl").read_text().splitlines()) for folder in (one, other)]
    assert lines[0] == lines[1]
    assert sorted(losses(one)) == list(range(1, STEPS + 1))


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_killed_at_random_steps_and_resumed_equals_never_stopped(
    undisturbed: Undisturbed, corpus: Path, precision: str
) -> None:
    expected = undisturbed(precision)
    folder = corpus / f"killed-{precision}"
    settings = [*SETTINGS, f"training.precision={precision}", f"run.folder={folder}", "resume=true"]
    arguments = command(corpus, *settings)
    for _ in range(2):
        process = start(arguments, corpus)
        wait_for_step(process, folder, steps_done(folder) % STEPS + random.randint(1, 12))
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = run(arguments, corpus)
    assert done.returncode == 0, done.stderr
    assert_same_run(folder, expected)


def test_tensorboard_has_a_picture_of_the_attention_at_every_validation(undisturbed: Undisturbed) -> None:
    """Of one size: the sentence and its reference are the same each time, the weights are not."""
    folder = undisturbed("bfloat16") / "tensorboard"
    events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    images = events.Images("validation/attention")
    assert [image.step for image in images] == [9, 18, 27, 36, 40]
    assert len({(image.width, image.height) for image in images}) == 1
    assert len({image.encoded_image_string for image in images}) > 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_saves_a_checkpoint_and_says_how_to_go_on(
    undisturbed: Undisturbed, corpus: Path, number: signal.Signals
) -> None:
    expected = undisturbed("bfloat16")
    folder = corpus / f"signalled-{number.name}"
    settings = [*SETTINGS, "training.precision=bfloat16", f"run.folder={folder}", "resume=true"]
    arguments = command(corpus, *settings)
    process = start(arguments, corpus)
    wait_for_step(process, folder, 4)
    process.send_signal(number)
    _, messages = process.communicate()
    assert process.returncode == 128 + number
    assert f"resume=true run.folder={folder}" in messages
    assert "Traceback" not in messages
    step = steps_done(folder)
    assert (folder / f"checkpoints/step-{step:08d}/state.json").exists()
    done = run(arguments, corpus)
    assert f"going on from step {step:,}" in done.stderr
    assert_same_run(folder, expected)


def test_refuses_to_overwrite_or_to_resume_another_run(undisturbed: Undisturbed, corpus: Path) -> None:
    folder = undisturbed("bfloat16")
    same = [*SETTINGS, "training.precision=bfloat16", f"run.folder={folder}"]
    for overrides, message in (
        (same, "add resume=true"),
        ([*same, "resume=true", "seed=2"], "seed was 1 and is 2 now"),
        ([*same, "resume=true", "model.dropout=0.3"], "model.dropout was 0.2 and is 0.3 now"),
        ([*SETTINGS, "resume=true", "run.experiment=other"], "no run with a checkpoint under runs/other"),
        ([*SETTINGS, "training.sharding=full"], "training.sharding=full needs several processes"),
    ):
        done = run(command(corpus, *overrides), corpus)
        assert done.returncode == 2
        assert message in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr


def test_train_evaluate_and_sacrebleu_give_one_score(undisturbed: Undisturbed, corpus: Path) -> None:
    """By the file that `translate` writes."""
    folder = undisturbed("bfloat16")
    trained = json.loads((folder / "evaluation.json").read_text())
    nmt = [sys.executable, "-m", "nmt"]
    output = folder / "again.json"
    done = run([*nmt, "evaluate", f"model={folder}", f"output={output}"], corpus)
    assert done.returncode == 0, done.stderr
    evaluated = json.loads(output.read_text())
    assert evaluated["test_sets"][0]["scores"] == trained["test_sets"][0]["scores"]
    translation = folder / "translation.de"
    arguments = [f"model={folder}", f"input={corpus}/test.en", f"output={translation}"]
    assert run([*nmt, "translate", *arguments], corpus).returncode == 0
    sacrebleu = [sys.executable, "-m", "sacrebleu", f"{corpus}/test.de", "-i", str(translation)]
    reported = json.loads(run([*sacrebleu, "-m", "bleu", "chrf", "-w", "6"], corpus).stdout)
    ours = {found["name"]: found for found in trained["test_sets"][0]["scores"]}
    for theirs in reported:
        name = {"BLEU": "BLEU", "chrF2": "chrF"}[theirs["name"]]
        assert ours[name]["value"] == pytest.approx(theirs["score"], abs=1e-6)
        assert ours[name]["signature"] == theirs["signature"]


def test_the_run_folder_holds_what_is_promised(undisturbed: Undisturbed, corpus: Path) -> None:
    folder = undisturbed("bfloat16")
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "config.yaml",
        "train.log",
        "metrics.jsonl",
        "environment.json",
        "tensorboard",
        "checkpoints",
        "model",
    }
    assert (corpus / "runs/latest").resolve().is_dir()
    kept = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert kept == [f"step-{step:08d}" for step in (30, 36, 40)]
    checkpoint = folder / "checkpoints" / kept[0]
    nmt = [sys.executable, "-m", "nmt", "translate", f"model={checkpoint}"]
    done = subprocess.run(
        nmt,
        input="the dog\n\nruns\n",
        cwd=corpus,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("\n") == 3
    assert done.stdout.splitlines()[1] == ""


def test_sharded_processes_train_one_model_and_go_on_after_a_signal(corpus: Path) -> None:
    """The update is that of one process that accumulates; no dropout, so that it can be."""
    shared = [*SETTINGS, "training.precision=float32", "training.schedule=constant", "model.dropout=0"]
    one, sharded, stopped = (corpus / name for name in ("accumulated", "sharded", "sharded-stopped"))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]

    def sharded_command(folder: Path) -> list[str]:
        settings = [*shared, "training.sharding=full", "resume=true", f"run.folder={folder}"]
        return [*torchrun, *command(corpus, *settings)[1:]]

    done = run(sharded_command(sharded), corpus)
    assert done.returncode == 0, done.stderr[-2000:]
    process = start(sharded_command(stopped), corpus)
    wait_for_step(process, stopped, 4)
    process.send_signal(signal.SIGTERM)
    _, messages = process.communicate(timeout=120)
    assert process.returncode != 0
    assert f"resume=true run.folder={stopped}" in messages
    assert 4 <= steps_done(stopped) < STEPS
    done = run(sharded_command(stopped), corpus)
    assert done.returncode == 0, done.stderr[-2000:]
    assert_same_run(stopped, sharded)
    few = ["training.max_steps=6", "training.accumulate_batches=2", f"run.folder={one}"]
    done = run(command(corpus, *shared, *few), corpus)
    assert done.returncode == 0, done.stderr[-2000:]
    expected = losses(one)
    assert {step: losses(sharded)[step] for step in expected} == pytest.approx(expected, rel=1e-5)
    assert load_file(sharded / "model/model.safetensors").keys() == (
        load_file(one / "model/model.safetensors").keys()
    )


AUTO = ["training.max_tokens_per_batch=0", "training.row_length=0", "training.long_row_length=0"]


def test_limits_are_chosen_said_recorded_and_kept(corpus: Path) -> None:
    """Lengths of rows and size of batches; the run equals one to which they were given."""
    chosen, given = corpus / "chosen", corpus / "given"
    short = ["training.max_steps=4", "training.checkpoint_every=2", "training.precision=float32"]
    done = run(command(corpus, *short, *AUTO, f"run.folder={chosen}"), corpus)
    assert done.returncode == 0, done.stderr
    training = yaml.safe_load((chosen / "config.yaml").read_text())["training"]
    settled = {name: training[name] for name in ("max_tokens_per_batch", "row_length", "long_row_length")}
    assert settled["row_length"] == settled["long_row_length"] == 64
    assert 64 < settled["max_tokens_per_batch"] <= 8192
    rows = settled["max_tokens_per_batch"] // 64
    assert re.search(rf"batches of {rows} rows of 64 slots, \d\d % of them filled", done.stderr)
    assert f"full batches of {settled['max_tokens_per_batch']:,} slots take " in done.stderr
    assert re.search(r"forecast: .* M parameters, .* 4 steps are [\d.]+ epochs", done.stderr)
    assert re.search(r"a step [\d.e-]+ s: about \d+ s for 4 steps, without validation", done.stderr)

    explicit = [f"training.{name}={value}" for name, value in settled.items()]
    done = run(command(corpus, *short, *explicit, f"run.folder={given}"), corpus)
    assert done.returncode == 0, done.stderr
    assert losses(chosen) == losses(given)

    again = ["training.max_steps=6", *AUTO, f"run.folder={chosen}", "resume=true"]
    done = run(command(corpus, *short[1:], *again), corpus)
    assert done.returncode == 0, done.stderr
    assert (
        yaml.safe_load((chosen / "config.yaml").read_text())["training"]["max_tokens_per_batch"]
        == (settled["max_tokens_per_batch"])
    )


def test_a_batch_that_does_not_fit_is_reported_before_the_first_step(corpus: Path) -> None:
    folder = corpus / "too-large"
    done = run(command(corpus, "training.max_tokens_per_batch=4000000000", f"run.folder={folder}"), corpus)
    assert done.returncode == 2
    assert re.search(
        r"max_tokens_per_batch=4000000000 do not fit into the .* GB of memory; set"
        r" training\.max_tokens_per_batch=\d+, and training\.accumulate_batches=\d+",
        done.stderr.splitlines()[-1],
    )
    assert not folder.exists()
