"""Every file under configs/: it composes, it wins when it is chosen, and what is saved can be read back."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from nmt.cli.composition import Request, check, checked
from nmt.cli.settings import GROUPS, config_folder
from nmt.config import ConfigError, TrainConfig, from_yaml, load, to_yaml
from nmt.data.config import DataConfig
from nmt.model.config import Positions, TransformerConfig

FOLDER = config_folder()
OPTIONS = {group: sorted((FOLDER / group).glob("*.yaml")) for group in GROUPS["train"]}
EXPERIMENTS = [path.stem for path in OPTIONS["experiment"]]
# Paths for the corpora that are not at hand by themselves.
TEXT_FILES = [f"data.{part}.{side}=x" for part in ("train", "valid") for side in ("source", "target")]
CORPUS = {
    "multi30k": [*TEXT_FILES, "data.test.test2016.source=x", "data.test.test2016.target=x"],
    "multi30k_fast": [*TEXT_FILES, "data.test.test2016.source=x", "data.test.test2016.target=x"],
    "tatoeba": [*TEXT_FILES, "data.test.tatoeba.source=x", "data.test.tatoeba.target=x"],
    "iwslt14": [*TEXT_FILES, "data.test.test.source=x", "data.test.test.target=x"],
    "own_corpus": TEXT_FILES,
    "text_files": TEXT_FILES,
    "table": ["data.train.table=x", "data.valid.table=x"],
    "hub": ["data.train.dataset=x"],
}


def compose(verb: str, *settings: str) -> Any:
    return Request.parse(verb, settings).compose()


def train_config(*settings: str) -> TrainConfig:
    return load(compose("train", *settings), TrainConfig)


def test_all_files_are_found() -> None:
    everything = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    known = {f"{verb}.yaml" for verb in GROUPS}
    known |= {path.relative_to(FOLDER).as_posix() for paths in OPTIONS.values() for path in paths}
    known |= {"hydra/launcher/slurm.yaml"}
    assert everything == known
    assert {"demo", "multi30k", "tatoeba", "iwslt14", "wmt14", "own_corpus"} <= set(EXPERIMENTS)
    assert {"tiny", "small", "iwslt", "base", "big", "deep"} <= {path.stem for path in OPTIONS["model"]}


@pytest.mark.parametrize(
    ("verb", "group", "option"),
    [
        (verb, group, path.stem)
        for verb in ("train", "prepare")
        for group in GROUPS[verb]
        for path in OPTIONS[group]
    ],
)
def test_every_choice_gives_a_runnable_config(verb: str, group: str, option: str) -> None:
    check(compose(verb, f"{group}={option}", *CORPUS.get(option, [])), verb)


@pytest.mark.parametrize("verb", ["evaluate", "translate", "attend"])
@pytest.mark.parametrize("decoding", [[], ["decoding=greedy"], ["decoding=beam", "decoding.beam_size=7"]])
def test_verbs_that_take_a_model_compose(verb: str, decoding: list[str], tmp_path: Path) -> None:
    text = ["source=x"] if verb == "attend" else []
    config = compose(verb, f"model={tmp_path}", *text, *decoding)
    stored = {"beam_size": 3, "length_penalty": 1.5, "max_source_pieces": 99, "gone": 1}
    settings = checked(config, verb, lambda folder: stored)
    given = {0: 3, 1: 1, 2: 7}[len(decoding)]
    assert settings.decoding.beam_size == given
    assert settings.decoding.length_penalty == 1.5
    assert settings.decoding.max_source_pieces == 99
    assert settings.decoding.max_length_offset == 20


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found |= leaves(value, f"{prefix}{name}.")
        elif name != "defaults":
            found[prefix + name] = value
    return found


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_choice_on_the_command_line_wins_over_the_experiment(experiment: str) -> None:
    """An experiment never sets another value for what one of the choices sets, so `model=base` is base."""
    own = leaves(yaml.safe_load((FOLDER / "experiment" / f"{experiment}.yaml").read_text()))
    for group, paths in OPTIONS.items():
        for path in paths if group != "experiment" else []:
            for name, value in leaves(yaml.safe_load(path.read_text()) or {}).items():
                assert own.get(f"{group}.{name}", value) == value, (path, name)


def test_command_line_order_of_precedence() -> None:
    config = train_config(
        "experiment=multi30k", *CORPUS["multi30k"], "model=base", "training=quick", "training.max_steps=7"
    )
    assert (config.model.width, config.model.encoder_layers, config.model.dropout) == (512, 6, 0.3)
    assert (config.training.warmup_steps, config.training.max_steps) == (300, 7)
    assert config.run.experiment == "multi30k"


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_files(experiment: str) -> None:
    header = (FOLDER / "experiment" / f"{experiment}.yaml").read_text().partition("defaults:")[0]
    for line in ("# @package _global_", "# Data: ", "# Expected: ", "# Source: "):
        assert line in header
    config = train_config(f"experiment={experiment}", *CORPUS.get(experiment, []))
    assert config.run.experiment == experiment
    assert config.tokenizer.vocabulary_size % 64 == 0
    assert config.data.test or experiment == "own_corpus"


@pytest.mark.parametrize(
    ("name", "shape"),
    {
        "tiny": (4, 4, 128, 4, 256, 0.1),
        "small": (3, 3, 256, 4, 1024, 0.1),
        "iwslt": (6, 6, 512, 4, 1024, 0.1),
        "base": (6, 6, 512, 8, 2048, 0.1),
        "big": (6, 6, 1024, 16, 4096, 0.1),
        "deep": (12, 3, 512, 8, 2048, 0.1),
    }.items(),
)
def test_model_shapes(name: str, shape: tuple[float, ...]) -> None:
    model = train_config(f"model={name}").model
    sizes = (model.encoder_layers, model.decoder_layers, model.width, model.heads, model.feed_forward_width)
    assert (*sizes, model.dropout) == shape


def test_test_sets_are_added_and_removed_by_name() -> None:
    config = train_config(
        "data.test.news-1.source=a",
        "data.test.news-1.target=b",
        "data.test.web.table=[c,d]",
        "data.test.random=null",
    )
    assert set(config.data.test) == {"compositional", "news-1", "web"}
    assert config.data.test["news-1"].source == "a"
    assert config.data.test["web"].table == ["c", "d"]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_saved_config_is_read_back(experiment: str) -> None:
    config = train_config(
        f"experiment={experiment}", *CORPUS.get(experiment, []), "training.precision=bfloat16"
    )
    assert from_yaml(to_yaml(config), TrainConfig) == config


@pytest.mark.parametrize(
    "text",
    [
        'Say "hi", [a=b] it\'s {c: d}, 50% of x=y',
        "a ${b} and ${oc.env:HOME} and $x",
        r"c:\${d} \\${e} \n \\",
        "${unclosed",
        "null",
        "true",
        "1",
        " spaces kept ",
        "choice(a,b)",
        "¿Qué? 你好، שלום\t|",
    ],
)
def test_a_sentence_on_the_command_line_is_taken_as_it_stands(text: str, tmp_path: Path) -> None:
    config = compose("attend", f"model={tmp_path}", f"source={text}", f"target={text}.")
    settings = checked(config, "attend", lambda folder: {})
    assert (settings.source, settings.target) == (text, f"{text}.")


def test_question_marks_are_a_sentence_too(tmp_path: Path) -> None:
    """OmegaConf has a meaning of its own for three of them."""
    config = compose("attend", f"model={tmp_path}", "source=???", "target=null")
    settings = checked(config, "attend", lambda folder: {})
    assert (settings.source.strip(), settings.target) == ("???", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: ${oc.env:HOME}", "interpolation"),
        ("_target_: os.system", "_target_"),
        ("model: {_target_: os.system, width: 4}", "_target_"),
        ("model: !!python/object/apply:os.system ['true']", "not YAML"),
        ("model: {width: wide}", "model.width"),
        ("- 1", "mapping"),
        ("a: [", "not YAML"),
    ],
)
def test_a_strangers_config_runs_nothing(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_yaml(text, TrainConfig)


def test_settings_that_exclude_each_other_are_named() -> None:
    config = train_config()
    config.model = TransformerConfig(positions=Positions.learned, max_positions=200)
    with pytest.raises(ValueError, match=r"decoding\.max_source_pieces=256"):
        config.__post_init__()
    config.data = DataConfig()
    with pytest.raises(ValueError, match=r"data\.train is not set"):
        config.__post_init__()


@pytest.mark.parametrize(("first", "second"), list(product(["source", "table", "dataset"], repeat=2)))
def test_a_corpus_is_of_one_kind(first: str, second: str) -> None:
    kinds = {"source": ["source=x", "target=y"], "table": ["table=x"], "dataset": ["dataset=x"]}
    settings = [f"data.train.{each}" for kind in {first, second} for each in kinds[kind]]
    config = compose("train", "experiment=own_corpus", *TEXT_FILES[2:], *settings)
    if first == second:
        check(config, "train")
    else:
        with pytest.raises(ConfigError, match=r"data\.train takes one of"):
            check(config, "train")
