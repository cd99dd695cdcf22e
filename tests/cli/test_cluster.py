"""Sweeps by hydra-submitit-launcher: real jobs on this machine, and Slurm's commands played by scripts."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.cli.test_train import command, environment, losses, steps_done, write_corpus

pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
pytestmark = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="needs /proc to find the jobs"
)

STEPS = 200


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    return folder


def sweep(folder: Path, sweep_folder: Path, *overrides: str, **variables: str) -> subprocess.Popen[str]:
    settings = [
        f"training.max_steps={STEPS}",
        "training.checkpoint_every=60",
        "training.validate_every=90",
        "training.precision=float32",
        f"hydra.sweep.dir={sweep_folder}",
    ]
    arguments = command(folder, "--multirun", *settings, *overrides)
    return subprocess.Popen(
        arguments,
        cwd=folder,
        env=environment() | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def processes_of(run_folder: Path) -> list[int]:
    """The processes that keep the run's log open."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if entry.readlink() == run_folder / "train.log":
                found.append(int(entry.parts[2]))
        except OSError:
            continue
    return found


def interrupt(waiting: subprocess.Popen[str], run_folder: Path, step: int) -> None:
    """Tell the job that its time is over, when it has come to `step`."""
    deadline = time.monotonic() + 120
    while steps_done(run_folder) < step and waiting.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    for process in processes_of(run_folder):
        os.kill(process, signal.SIGUSR2)


def test_a_preempted_job_of_a_sweep_goes_on_and_ends_as_the_undisturbed_one(corpus: Path) -> None:
    """The two jobs differ in a setting that changes no weight."""
    folder = corpus / "sweep"
    launched = sweep(corpus, folder, "training.sample_sentences=1,2", "hydra/launcher=submitit_local")
    interrupt(launched, folder / "0", 10)
    output, _ = launched.communicate(timeout=300)
    assert launched.returncode == 0, output
    preempted, undisturbed = folder / "0", folder / "1"
    log = (preempted / "train.log").read_text()
    assert "stopped by a signal" in log
    assert "going on from step" in log
    assert "going on" not in (undisturbed / "train.log").read_text()
    assert sorted(losses(preempted)) == list(range(1, STEPS + 1))
    assert losses(preempted) == losses(undisturbed)
    last = f"checkpoints/step-{STEPS:08d}/model.safetensors"
    mine, theirs = load_file(preempted / last), load_file(undisturbed / last)
    assert all(mine[name].equal(theirs[name]) for name in theirs)
    assert (preempted / "evaluation.json").exists()
