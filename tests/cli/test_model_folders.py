"""`model=` names one folder or several, on the command line of `translate` and `evaluate`."""

import json
from pathlib import Path

import pytest
import torch

from nmt import bundle
from nmt.cli.launch import main
from nmt.cli.model_folders import model_folders
from nmt.config import ConfigError
from nmt.data.config import TokenizerConfig
from nmt.data.tokenizer import Tokenizer
from nmt.decoding.config import DecodingConfig
from nmt.model.config import TiedEmbeddings, TransformerConfig
from nmt.model.transformer import Transformer

WORDS = "the small old dog sees a cat in its house"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models a, b and c; c has another vocabulary."""
    folder = tmp_path_factory.mktemp("models")
    for name, seed, layers in (("a", 1, 1), ("b", 2, 2), ("c", 3, 1)):
        text = WORDS if name != "c" else WORDS[::-1]
        tokenizer = Tokenizer.train([(text, text.upper())] * 4, TokenizerConfig(vocabulary_size=300))
        size = tokenizer.source_vocabulary_size
        config = TransformerConfig(
            encoder_layers=layers,
            decoder_layers=layers,
            width=16,
            heads=2,
            feed_forward_width=32,
            tied_embeddings=TiedEmbeddings.none,
        )
        torch.manual_seed(seed)
        model = Transformer(config, source_vocabulary_size=size, target_vocabulary_size=size)
        decoding = DecodingConfig(beam_size=2, max_length_ratio=0, max_length_offset=8).plain()
        settings = bundle.BundleSettings("en", "de", size, size, config, decoding=decoding)
        weights = {name: 3 * parameter.detach() for name, parameter in model.named_parameters()}
        bundle.write(folder / name, settings=settings, tokenizer=tokenizer, weights=weights, card={})
    (folder / "in.txt").write_text("the dog\na cat sees the house\nin\n", encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def working_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def translation(model: str) -> str:
    settings = [f"model={model}", "input=in.txt", "output=out.txt", "threads=1", "decoding.precision=float32"]
    assert main(["translate", *settings]) == 0
    return Path("out.txt").read_text(encoding="utf-8")


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert model_folders("runs/latest") == ["runs/latest"]
    assert model_folders("a,b") == model_folders("[a, b]") == ["a", "b"]
    assert model_folders('"x,y",b') == ["x,y", "b"]
    Path("a,b").mkdir()
    Path("[c]").mkdir()
    assert model_folders("a,b") == ["a,b"]
    assert model_folders("[c]") == ["[c]"]
    for wrong in ("a,", "[]", ",", "", "[a,,b]"):
        with pytest.raises(ConfigError, match="must be FOLDER, or FOLDER,FOLDER for an ensemble"):
            model_folders(wrong)


def test_a_model_twice_translates_as_once_and_two_models_otherwise() -> None:
    alone = translation("a")
    assert translation("a,a") == alone
    assert translation("[a, a]") == alone
    assert len({alone, translation("b"), translation("a,b")}) == 3
    assert translation("a,b") == translation("b,a")


def test_models_that_do_not_fit_give_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for model, message in (
        ("a,c", "a and c have different vocabularies"),
        ("a,nowhere", "model=nowhere: no such run folder"),
        ("a,", "model=a,: must be FOLDER"),
    ):
        assert main(["translate", f"model={model}", "input=in.txt", "output=out.txt", "threads=1"]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("nmt translate: error: ")
        assert message in error


def test_the_scores_of_an_ensemble_name_all_its_weights() -> None:
    test_set = ["data.test.one.source=in.txt", "data.test.one.target=in.txt"]
    assert main(["evaluate", "model=a,b", "threads=1", *test_set]) == 0
    # Not in the place of the scores of a single model.
    names = {path.name for path in Path().glob("evaluation*")}
    assert names == {"evaluation-ensemble.json", "evaluation-ensemble.sentences.jsonl"}
    found = json.loads(Path("evaluation-ensemble.json").read_text(encoding="utf-8"))
    files = found["provenance"]["files"]
    assert len({value for name, value in files.items() if name.endswith("model.safetensors")}) == 2
