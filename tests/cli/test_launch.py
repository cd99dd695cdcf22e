"""The command line as people use it: real processes, in an empty folder."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from nmt.cli.completion import complete
from nmt.cli.launch import USER_ERRORS

ROOT = Path(__file__).resolve().parents[2]

# `nmt`, which says at its end whether torch was imported.
WATCHED = """\
import sys
from nmt.cli.launch import main
status = main(sys.argv[1:])
print("torch" in sys.modules)
sys.exit(status)
"""

# `nmt` whose verbs only tell what they were given, in place of modules that import torch.
STUBBED = """\
import dataclasses, json, os, sys, types

class DataError(ValueError): pass

def run(config):
    if what := os.environ.get("RAISE"):
        data = DataError("train.en:3: a\\nNUL byte")
        bug, pipe, interrupt = ValueError("oops"), BrokenPipeError(), KeyboardInterrupt()
        raise {"data": data, "bug": bug, "pipe": pipe, "interrupt": interrupt}[what]
    print(json.dumps({"cwd": os.getcwd(), **dataclasses.asdict(config)}, default=lambda each: each.value))

bundle = types.ModuleType("nmt.bundle")
bundle.BundleError = type("BundleError", (ValueError,), {})
bundle.locate = lambda path: path
bundle.read_settings = lambda folder: types.SimpleNamespace(decoding={"beam_size": 3, "length_penalty": 1.5})
text_lines = types.ModuleType("nmt.data.text_lines")
text_lines.DataError = DataError
import nmt
nmt.bundle = bundle
sys.modules.update({"nmt.bundle": bundle, "nmt.data.text_lines": text_lines})
for verb in (
    "prepare",
    "train",
    "evaluate",
    "translate",
    "score",
    "attend",
    "average",
    "compare",
    "report",
    "runs",
    "export",
):
    sys.modules[f"nmt.cli.{verb}"] = types.SimpleNamespace(run=run)
from nmt.cli.launch import main
sys.exit(main(sys.argv[1:]))
"""


def call(
    folder: Path, *arguments: str, code: str | None = None, path: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    program = ["-c", code] if code else ["-m", "nmt"]
    return subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(path), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


VERBS = (
    "prepare",
    "train",
    "evaluate",
    "translate",
    "score",
    "attend",
    "average",
    "compare",
    "report",
    "runs",
    "export",
)

# Command lines and what is said about them.
WRONG = [
    # The verb and the options.
    ("trian", "trian: no such verb; did you mean train?"),
    ("train --multrun", "--multrun: no such option; did you mean --multirun?"),
    ("train --cfg all", "argument --cfg: invalid choice"),
    ("train --config-dir nowhere", "--config-dir nowhere: no such folder"),
    # Names.
    (
        "train model.widht=256",
        "model.widht: no such setting in model; did you mean model.width? Allowed: encoder_",
    ),
    ("train modle=small", "modle: no such setting; did you mean model?"),
    ("train max_steps=10", "max_steps: no such setting; did you mean training.max_steps?"),
    ("train +model.depth=3", "model.depth: no such setting in model; did you mean model.width?"),
    ("train ++seeed=3", "seeed: no such setting; did you mean seed?"),
    ("train model._target_=os.system", "model._target_: no such setting in model"),
    ("train model@decoding=small", "model@decoding: no such setting"),
    (
        "train data.test.news.sorce=a",
        "data.test.news.sorce: no such setting in data.test.news; did you mean data.te",
    ),
    ("train data.test.2016.source=a", "data.test.2016: the name of a test set begins with a letter"),
    ("train data.test.nothing=null", "data.test.nothing cannot be removed"),
    ("train ~model.width", "model.width cannot be removed"),
    ("train steps", "'steps': settings are written NAME=VALUE"),
    ("prepare training.max_steps=3", "training.max_steps: no such setting"),
    ("evaluate experiment=demo", "experiment: no such setting; allowed: model, data, output"),
    ("translate model=. inputs=x", "inputs: no such setting; did you mean input?"),
    # Choices.
    (
        "train model=smal",
        "model=smal: no such choice; did you mean small? Allowed: base, big, deep, iwslt, small, tiny",
    ),
    ("train experiment=multi3k", "experiment=multi3k: no such choice; did you mean multi30k?"),
    ("train model=null", "model=null: no such choice"),
    ("train training=3", "training=3: no such choice; allowed: large_corpus"),
    ("prepare data=nothing_like_it", "data=nothing_like_it: no such choice; allowed: demo"),
    # Types and values.
    ("train model.width=wide", "model.width=wide is not possible: it takes a whole number"),
    ("train model.width=1.5", "model.width=1.5 is not possible: it takes a whole number"),
    ("train training.learning_rate=fast", "training.learning_rate=fast is not possible: it takes a number"),
    ("train training.learning_rate=nan", "training.learning_rate must be above 0"),
    ("train resume=maybe", "resume=maybe is not possible: it takes true or false"),
    (
        "train model.activation=relo",
        "model.activation=relo is not possible; did you mean relu? Allowed: relu, gelu,",
    ),
    ("train training.precision=null", "training.precision=null is not possible; allowed: auto, float32"),
    ("train tokenizer.user_symbols=3", "tokenizer.user_symbols=3 is not possible: it takes a list"),
    ("train data.cleaning=off", "data.cleaning=off is not possible: it takes a section"),
    ("train data.train.source=3", "data.train.source must be a path or a list of paths"),
    (
        "train data.train.source=a,b",
        "data.train.source=a,b: several values are a sweep, which needs --multirun",
    ),
    ("train data.train.source=a(1).en", "data.train.source: cannot read the value a(1).en; quote it"),
    ("train seed=${nothing}", "seed: Interpolation key 'nothing' not found"),
    ("train seed=-1", "seed must be between 0 and"),
    ("train run.experiment=a/b", "run.experiment must be a plain name"),
    ("evaluate model=. decoding.beam_size=0", "decoding.beam_size must be at least 1"),
    ("translate model=. device=gpu", "device=gpu is not possible; did you mean cpu?"),
    ("translate model=. threads=-1", "threads must be 0"),
    ("score model=. source=a", "target is not set: give target=..."),
    ("attend model=.", "source is not set: give source=..."),
    ("attend model=. source=a layer=0", "layer must be a number from 1, mean or all, not 0"),
    (
        "attend model=. source=a attention=self",
        "attention=self is not possible; allowed: cross, encoder, decoder",
    ),
    ("attend model=. source=a output=map.pdf", "output=map.pdf: a picture is a .png or .svg file"),
    # Combinations.
    ("train model.width=130", "model.heads=4 does not divide model.width=130; allowed: 1, 2, 5, 10, 13, 26"),
    (
        "train training.row_length=300 training.long_row_length=200",
        "training.long_row_length=200 must be at least training.row_length=300",
    ),
    (
        "train training.max_tokens_per_batch=200 training.row_length=256",
        "training.max_tokens_per_batch=200 must hold one row of training.row_length=256",
    ),
    ("train training.row_length=-1", "training.row_length must not be negative, not -1"),
    ("train tokenizer.joint=false", "model.tied_embeddings=all needs one vocabulary"),
    (
        "train model.positions=learned model.max_positions=64",
        "model.max_positions=64 is less than data.cleaning.max",
    ),
    ("train training.validate_on=ema", "training.validate_on=ema needs an average: set training.ema_decay"),
    ("train training.ema_decay=1", "training.ema_decay must be at least 0 and below 1, not 1.0"),
    (
        "train training.average_last=4",
        "training.average_last=4 must be 0, or at least 2 and at most training.keep_checkpoints=3",
    ),
    ("train training.average_last=1", "training.average_last=1 must be 0, or at least 2"),
    (
        "train training.keep_every=600",
        "training.keep_every=600 must be a multiple of training.checkpoint_every=400",
    ),
    (
        "train training.keep_best_checkpoints=2 training.validate_every=300",
        "training.keep_best_checkpoints needs validations where checkpoints are",
    ),
    ("average output=a", "give model=RUN with last=N or best=N, or models=[FOLDER,FOLDER]"),
    ("average model=. output=a", "give last=N or best=N"),
    ("average model=. last=2 best=2 output=a", "give last=N or best=N"),
    ("average models=[.,.] last=2 output=a", "last, best and before choose from model=RUN"),
    ("average model=. last=2 before=-1 output=a", "before must not be negative, not -1"),
    ("train -m model.width=128,130", "model.heads=4 does not divide model.width=130"),
    ("train --multirun model=tiny,smal", "model=smal: no such choice; did you mean small?"),
    # Missing.
    (
        "train experiment=own_corpus",
        "data.train is not set: give data.train.source=FILE and data.train.target=FILE",
    ),
    (
        "train experiment=own_corpus data.train.source=a",
        "data.train.source is set but data.train.target is not",
    ),
    ("evaluate", "model is not set: give model=..."),
    ("translate model=nowhere", "model=nowhere: no such run folder"),
    ("average model=nowhere last=2 output=a", "model=nowhere: no such run folder"),
    ("average model=. last=2", "output is not set: give output=..."),
    ("compare a", "nmt compare takes 2 to 26 systems, not 1"),
    ("report", "nmt report takes 1 to 26 systems, not 0"),
    ("report a output=page.pdf", "output=page.pdf: a report is an .html file"),
    ("report a sentences=0", "sentences must be at least 1, not 0"),
    ("report a attention_maps=-1", "attention_maps must be at least 0, not -1"),
    ("compare a b trials=9", "trials must be at least 100, not 9"),
    (
        "compare a b scorin.tokenizer=none",
        "scorin.tokenizer: no such setting; did you mean scoring.tokenizer?",
    ),
    ("runs a b", "'b': there is a folder already; nmt runs takes one"),
    ("evaluate model=. checkpoints=some", "checkpoints=some is not possible; allowed: none, all"),
    ("evaluate model=. plot=a.svg", "plot draws scores by step, which needs checkpoints=all"),
]


@pytest.mark.parametrize(("line", "expected"), WRONG, ids=[line for line, _ in WRONG])
def test_wrong_command_gets_one_line(line: str, expected: str, tmp_path: Path) -> None:
    done = call(tmp_path, *line.split(), code=WATCHED)
    verb = line.split()[0]
    program = f"nmt {verb}" if verb in VERBS else "nmt"
    assert done.returncode == 2
    assert done.stderr.startswith(f"{program}: error: {expected}"), done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == "False\n", "torch was imported before the settings were checked"
    assert not list(tmp_path.iterdir())


def test_help_and_version(tmp_path: Path) -> None:
    assert "prepare" in call(tmp_path).stdout
    assert call(tmp_path).stdout == call(tmp_path, "--help").stdout
    assert call(tmp_path, "--version").stdout.startswith("nmt 0.")
    for verb in VERBS:
        done = call(tmp_path, verb, "--help")
        assert done.returncode == 0
        assert done.stdout.startswith(f"usage: nmt {verb}")
        assert done.stdout.count(f"  nmt {verb} ") + done.stdout.count(f"| nmt {verb} ") >= 2
        assert not {"@", "${", "None"} & {mark for mark in ("@", "${", "None") if mark in done.stdout}
        assert max(map(len, done.stdout.splitlines())) <= 110
    assert "model=small" in call(tmp_path, "train", "model=small", "--help").stdout


def test_cfg_shows_the_settings(tmp_path: Path) -> None:
    done = call(tmp_path, "train", "model=small", "training.max_steps=7", "--cfg", "job", "--resolve")
    assert "  width: 256\n" in done.stdout
    assert "  max_steps: 7\n" in done.stdout
    assert "    source: data/demo/train.en\n" in done.stdout
    assert "hydra" not in done.stdout
    assert not list(tmp_path.iterdir())


def test_verb_gets_a_typed_config_and_nothing_else_happens(tmp_path: Path) -> None:
    done = call(tmp_path, "train", "seed=3", "experiment=demo", code=STUBBED)
    assert done.returncode == 0, done.stderr
    given = json.loads(done.stdout)
    assert given["seed"] == 3
    assert given["cwd"] == str(tmp_path)
    assert given["data"]["train"]["source"] == "data/demo/train.en"
    assert done.stderr == ""
    assert not list(tmp_path.iterdir())
    assert set(json.loads(call(tmp_path, "prepare", code=STUBBED).stdout)) == {"cwd", "data", "tokenizer"}


def test_own_training_data_with_the_demos_validation_set_is_noted(tmp_path: Path) -> None:
    own = ["data.train.source=a", "data.train.target=b"]
    assert "data.valid is still the demo's" in call(tmp_path, "train", *own, code=STUBBED).stderr
    both = [*own, "data.valid.source=a", "data.valid.target=b"]
    assert call(tmp_path, "train", *both, code=STUBBED).stderr == ""


def test_decoding_is_filled_in_from_the_model_folder(tmp_path: Path) -> None:
    done = call(
        tmp_path, "translate", "model=.", "input=a, (b)=c.txt", "decoding.length_penalty=0", code=STUBBED
    )
    given = json.loads(done.stdout)
    assert (given["model"], given["input"], given["output"]) == (".", "a, (b)=c.txt", None)
    assert given["decoding"]["beam_size"] == 3
    assert given["decoding"]["length_penalty"] == 0
    assert given["decoding"]["max_source_pieces"] == 256


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        ("interrupt", 130, "nmt train: interrupted\n"),
        ("data", 2, "nmt train: error: train.en:3: a NUL byte\n"),
        ("pipe", 141, ""),
    ],
)
def test_ends_without_traceback(raised: str, status: int, said: str, tmp_path: Path) -> None:
    done = call(tmp_path, "train", code=STUBBED, RAISE=raised)
    assert (done.returncode, done.stderr) == (status, said)


def test_errors_that_speak_to_the_user_exist() -> None:
    for module, name in USER_ERRORS.items():
        error = getattr(importlib.import_module(module), name)
        assert issubclass(error, ValueError)
        assert error.__module__ == module, "named where it is defined, which is loaded whenever it is raised"


def test_a_bug_keeps_its_traceback(tmp_path: Path) -> None:
    done = call(tmp_path, "train", code=STUBBED, RAISE="bug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ValueError: oops" in done.stderr


def test_multirun_runs_every_combination(tmp_path: Path) -> None:
    done = call(
        tmp_path,
        "train",
        "-m",
        "model=tiny,small",
        "seed=1,2",
        "data.test.x.table=t",
        "data.test.random=null",
        code=STUBBED,
    )
    assert done.returncode == 0, done.stderr
    jobs = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(job["model"]["width"], job["seed"]) for job in jobs] == [(128, 1), (128, 2), (256, 1), (256, 2)]
    assert all(set(job["data"]["test"]) == {"x", "compositional"} for job in jobs)
    assert all(job["cwd"] == str(tmp_path) and job["run"]["folder"] is None for job in jobs)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["multirun"]


def test_multirun_of_a_verb_with_a_model(tmp_path: Path) -> None:
    done = call(tmp_path, "evaluate", "--multirun", "model=.", "decoding.beam_size=1,4", code=STUBBED)
    assert done.returncode == 0, done.stderr
    jobs = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(job["model"], job["decoding"]["beam_size"]) for job in jobs] == [(".", 1), (".", 4)]


def test_own_choices_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "good.yaml").write_text(
        "# @package _global_\ndefaults: [{override /model: small}]\nrun: {experiment: good}\n"
    )
    (tmp_path / "mine" / "experiment" / "bad.yaml").write_text(
        "# @package _global_\nrun: {experiment: bad}\nmodel: {widht: 3}\n"
    )
    (tmp_path / "mine" / "experiment" / "broken.yaml").write_text("run: [")
    good = call(tmp_path, "train", "--config-dir", "mine", "experiment=good", code=STUBBED)
    assert json.loads(good.stdout)["model"]["width"] == 256
    bad = call(tmp_path, "train", "--config-dir", "mine", "experiment=bad", code=WATCHED)
    assert bad.stderr.startswith(
        "nmt train: error: in experiment/bad.yaml: model.widht: no such setting in model; did you mean"
    )
    assert bad.stderr.count("\n") == 1
    broken = call(tmp_path, "train", "--config-dir", "mine", "experiment=broken", code=WATCHED)
    assert broken.returncode == 2
    assert "broken.yaml" in broken.stderr
    assert broken.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "candidates"),
    [
        ("nmt ", [f"{name} " for name in sorted(["--help", "--version", *VERBS])]),
        ("nmt tra", ["train ", "translate "]),
        ("nmt train mod", ["model.", "model="]),
        ("nmt train model=b", ["model=base ", "model=big "]),
        ("nmt train seed=1 training.max_s", ["training.max_steps="]),
        ("nmt train data.cl", ["data.cleaning."]),
        ("nmt train data.cleaning.remove_i", ["data.cleaning.remove_identical="]),
        (
            "nmt train model.activation=",
            ["model.activation=gelu ", "model.activation=relu ", "model.activation=swiglu "],
        ),
        ("nmt train resume=t", ["resume=true "]),
        ("nmt train --m", ["--multirun "]),
        ("nmt translate mod", ["model="]),
        ("nmt translate model=b", []),
        ("nmt evaluate dec", ["decoding.", "decoding="]),
        ("nmt prepare experiment=m", ["experiment=multi30k ", "experiment=multi30k_fast "]),
        ("nmt average ", ["before=", "best=", "last=", "model=", "models=", "of=", "output="]),
        ("nmt average of=", ["of=ema ", "of=weights "]),
        ("nmt attend units=", ["units=pieces ", "units=words "]),
        ("nmt train training.validate_on=", ["training.validate_on=ema ", "training.validate_on=weights "]),
    ],
)
def test_completion(line: str, candidates: list[str]) -> None:
    assert complete(line) == candidates


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("nmt train mod", "model.|model=|"),
        ("nmt train model=sm", "small |"),
        ("nmt train training.max_m", "training.max_minutes=|"),
    ],
)
def test_completion_in_bash(line: str, reply: str, tmp_path: Path) -> None:
    script = (
        f'nmt() {{ "{sys.executable}" -m nmt "$@"; }}; eval "$(nmt --completion bash)"\n'
        f"COMP_LINE=\"{line}\"; COMP_POINT={len(line)}; COMP_WORDBREAKS=$' \\t\\n='\n"
        "_nmt_completion; printf '%s|' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == reply


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_hands_settings_on_in_order_and_quoted() -> None:
    settings = [
        "model=base",
        "training.max_steps=100",
        "data.train.source='a b (c).en'",
        "run.folder=it's\\x",
        "seed=$1",
    ]
    # As typed in a shell, also where the tests themselves run under make.
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make", "-n", "train", "PYTHON=python3", *settings],
        env=outside,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    command = done.stdout.splitlines()[-1]
    assert command.startswith(".venv/bin/nmt train ")
    echoed = subprocess.run(
        ["bash", "-c", command.replace(".venv/bin/nmt train", "printf '%s\\n'")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert echoed.stdout.splitlines() == settings


def test_wheel_works_in_an_empty_folder(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "installed")
    for file in (ROOT / "configs").rglob("*.yaml"):
        assert f"nmt/configs/{file.relative_to(ROOT / 'configs').as_posix()}" in names
    assert any(name.startswith("nmt/embedded/demo_grammar") for name in names)
    assert not [name for name in names if name.startswith(("tests", "data", "configs", "scripts"))]
    (tmp_path / "empty").mkdir()
    done = call(tmp_path / "empty", "train", "model=small", "--cfg", "job", path=tmp_path / "installed")
    assert "width: 256" in done.stdout, done.stderr
