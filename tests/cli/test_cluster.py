"""Sweeps by hydra-submitit-launcher: real jobs on this machine, and Slurm's commands played by scripts."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from nmt.cli.complaints import unknown_choice
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


def tasks(sweep_folder: Path) -> list[Path]:
    """The processes of a sweep's jobs, as folders of /proc."""
    command_line = f"{sys.executable}\0-u\0-m\0submitit.core._submit\0{sweep_folder}/"
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cmdline").read_text().startswith(command_line):
                found.append(process)
        except OSError:
            continue
    return found


def has_open(process: Path, file: Path) -> bool:
    return any(entry.is_symlink() and entry.readlink() == file for entry in (process / "fd").iterdir())


def wait_for_step(waiting: subprocess.Popen[str], run_folder: Path, step: int) -> None:
    deadline = time.monotonic() + 120
    while steps_done(run_folder) < step and waiting.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


def test_a_preempted_job_of_a_sweep_goes_on_and_ends_as_the_undisturbed_one(corpus: Path) -> None:
    """The two jobs differ in a setting that changes no weight."""
    folder = corpus / "sweep"
    launched = sweep(corpus, folder, "training.sample_sentences=1,2", "hydra/launcher=submitit_local")
    wait_for_step(launched, folder / "0", 10)
    (task,) = [each for each in tasks(folder) if has_open(each, folder / "0" / "train.log")]
    os.kill(int(task.name), signal.SIGUSR2)
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


# Slurm as far as submitit speaks with it: jobs run here, one process per task, and are queued again by
# `scontrol requeue`. Files in $SLURM_STAND_IN say what was asked for.
SLURM = {
    "sbatch": """
cp "$1" $SLURM_STAND_IN/script
export SLURM_JOB_ID=77 SLURM_JOB_NODELIST=localhost SLURM_JOB_NUM_NODES=1
export SLURM_NTASKS=$(sed -n 's/^#SBATCH --ntasks-per-node=//p' "$1")
(while bash "$1"; [ -e $SLURM_STAND_IN/requeued ]; do mv $SLURM_STAND_IN/requeued $SLURM_STAND_IN/seen; done
touch $SLURM_STAND_IN/ended) >$SLURM_STAND_IN/log 2>&1 </dev/null &
echo "Submitted batch job 77"
""",
    "srun": """
while [[ $1 == --* ]]; do
    case $1 in --output | --error) declare "${1#--}=$2"; shift ;; esac
    shift
done
for rank in $(seq 0 $((SLURM_NTASKS - 1))); do
    out=${output//%j/77} err=${error//%j/77}
    SLURM_PROCID=$rank SLURM_LOCALID=$rank SLURM_NODEID=0 "$@" >>${out//%t/$rank} 2>>${err//%t/$rank} &
done
wait
""",
    "scontrol": """
echo "$@" >>$SLURM_STAND_IN/requests
touch $SLURM_STAND_IN/requeued
""",
    "sacct": """
state=RUNNING
[ -e $SLURM_STAND_IN/ended ] && state=COMPLETED
printf 'JobID|State|NodeList\\n77|%s|localhost\\n' $state
""",
}


def test_a_slurm_job_of_two_processes_is_queued_again_and_goes_on(corpus: Path, tmp_path: Path) -> None:
    for name, script in SLURM.items():
        path = tmp_path / name
        path.write_text(f"#!/usr/bin/env bash\n{script}")
        path.chmod(0o755)
    launcher = "hydra/launcher=slurm hydra.launcher.gpus_per_node=2 hydra.launcher.partition=long"
    path = f"{tmp_path}:{os.environ['PATH']}"
    folder = corpus / "slurm"
    launched = sweep(corpus, folder, *launcher.split(), PATH=path, SLURM_STAND_IN=str(tmp_path))
    run_folder = folder / "0"
    wait_for_step(launched, run_folder, 10)
    both = tasks(folder)
    assert len(both) == 2
    for task in both:
        os.kill(int(task.name), signal.SIGUSR2)
    output, _ = launched.communicate(timeout=300)
    logs = "".join(file.read_text() for file in sorted(folder.glob(".submitit/77/*.err")))
    assert launched.returncode == 0, output + logs
    assert (tmp_path / "requests").read_text() == "requeue 77\n"
    log = (run_folder / "train.log").read_text()
    assert "stopped by a signal" in log
    assert re.search("going on from step .*", log)
    assert sorted(losses(run_folder)) == list(range(1, STEPS + 1))
    script = (tmp_path / "script").read_text().splitlines()
    for line in ("signal=USR2@300", "time=1440", "requeue", "partition=long", "ntasks-per-node=2", "nodes=1"):
        assert f"#SBATCH --{line}" in script


def test_the_launcher_without_its_package_says_what_to_install() -> None:
    assert "pip install 'nmt[slurm]'" in unknown_choice("hydra/launcher", "submitit_slurm")
