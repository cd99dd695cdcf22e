"""Model folders: what is written comes back; a damaged or hostile one gives one line and runs nothing."""

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from nmt import bundle
from nmt.bundle import BundleError, BundleSettings
from nmt.data.config import TokenizerConfig
from nmt.data.text_lines import DataError
from nmt.data.tokenizer import Tokenizer
from nmt.model.config import NormKind, TransformerConfig
from nmt.model.transformer import Transformer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    pairs = [(f"the small dog number {n}", f"der kleine Hund Nummer {n}") for n in range(200)]
    return Tokenizer.train(pairs, TokenizerConfig(vocabulary_size=320))


@pytest.fixture
def folder(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    config = TransformerConfig(
        encoder_layers=1, decoder_layers=1, width=16, heads=2, feed_forward_width=20, norm=NormKind.rms_norm
    )
    sizes = {
        "source_vocabulary_size": tokenizer.source_vocabulary_size,
        "target_vocabulary_size": tokenizer.target_vocabulary_size,
    }
    settings = BundleSettings("en", "de", model=config, decoding={"beam_size": 3}, **sizes)
    model = Transformer(config, **sizes)
    weights = dict(model.named_parameters())
    bundle.write(
        tmp_path / "run/model", settings=settings, tokenizer=tokenizer, weights=weights, card={"step": 5}
    )
    return tmp_path / "run/model"


def load(path: Path) -> bundle.Bundle:
    return bundle.load(path, device=CPU)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks at the memory of this process")
def test_weights_are_the_pages_of_the_file_and_never_written_back(folder: Path) -> None:
    """Several processes that decode with one model share them."""
    file = folder / "model.safetensors"
    before = file.read_bytes()
    loaded = load(folder)
    assert str(file) in Path("/proc/self/maps").read_text()
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.add_(1)
    assert file.read_bytes() == before
    again = dict(load(folder).model.named_parameters())
    assert all(torch.equal(again[name], weight) for name, weight in load_file(file).items())


def change_settings(folder: Path, change: Any) -> None:
    path = folder / "config.yaml"
    settings = yaml.safe_load(path.read_text())
    change(settings)
    path.write_text(yaml.safe_dump(settings))


def test_comes_back_as_written(folder: Path, tokenizer: Tokenizer) -> None:
    weights = load_file(folder / "model.safetensors")
    for path in (folder, folder.parent, folder / "model.safetensors"):
        loaded = load(path)
        assert {n: p.tolist() for n, p in loaded.model.named_parameters()} == {
            n: w.tolist() for n, w in weights.items()
        }
        assert loaded.settings.model.norm is NormKind.rms_norm
        assert loaded.settings.decoding == {"beam_size": 3}
        assert loaded.card == {"step": 5}
        assert loaded.tokenizer.encode_source(["the dog"]) == tokenizer.encode_source(["the dog"])
        assert not loaded.model.training
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml",
        "tokenizer.model",
        "model.safetensors",
        "card.json",
    }


def test_renewing_leaves_no_half_file(folder: Path, tokenizer: Tokenizer) -> None:
    loaded = load(folder)
    doubled = {name: 2 * parameter for name, parameter in loaded.model.named_parameters()}
    bundle.write(folder, settings=loaded.settings, tokenizer=tokenizer, weights=doubled, card={"step": 6})
    again = load(folder)
    assert again.card == {"step": 6}
    assert all(torch.equal(p, doubled[n]) for n, p in again.model.named_parameters())
    assert len(list(folder.iterdir())) == 4


class Bomb:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("/tmp/nmt-bomb-went-off"),)


def pickled_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps(Bomb()))


def torch_weights(folder: Path) -> None:
    torch.save({"x": torch.zeros(1)}, folder / "model.safetensors")


def truncated_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def other_weights(folder: Path) -> None:
    save_file({"other": torch.zeros(3)}, folder / "model.safetensors")


def yaml_object(folder: Path) -> None:
    (folder / "config.yaml").write_text(
        "model: !!python/object/apply:os.system ['touch /tmp/nmt-bomb-went-off']\n"
    )


def yaml_target(folder: Path) -> None:
    change_settings(folder, lambda settings: settings["model"].update(_target_="os.system"))


DAMAGES = [
    (pickled_weights, "cannot be read"),
    (torch_weights, "cannot be read"),
    (truncated_weights, "cannot be read"),
    (other_weights, "has shape"),
    (yaml_object, "cannot be read"),
    (yaml_target, "_target_"),
    (lambda folder: change_settings(folder, lambda s: s["model"].update(width=1 << 20)), "has shape"),
    (lambda folder: change_settings(folder, lambda s: s["model"].update(width=15)), "model.heads=2 does not"),
    (lambda folder: change_settings(folder, lambda s: s["model"].update(wide=15)), "wide"),
    (lambda folder: change_settings(folder, lambda s: s.update(surprise=1)), "surprise"),
    (lambda folder: change_settings(folder, lambda s: s.update(test={"a": {"sorce": "x"}})), "sorce"),
    (lambda folder: change_settings(folder, lambda s: s.update(test=5)), "not the settings"),
    (lambda folder: change_settings(folder, lambda s: s.update(decoding=5)), "not the settings"),
    (lambda folder: change_settings(folder, lambda s: s.update(format=99)), "format 99 is not 1"),
    (lambda folder: change_settings(folder, lambda s: s.pop("model")), "model"),
    (
        lambda folder: change_settings(folder, lambda s: s.update(source_vocabulary_size=7)),
        "different vocabulary sizes",
    ),
    (lambda folder: (folder / "config.yaml").write_bytes(b"\xff\xfe\x00"), "cannot be read"),
    (lambda folder: (folder / "config.yaml").write_text("just text"), "not the settings"),
    (lambda folder: (folder / "tokenizer.model").write_bytes(b"no model"), "tokenizer.model"),
    (lambda folder: (folder / "tokenizer.model").unlink(), "tokenizer.model"),
    (lambda folder: (folder / "model.safetensors").unlink(), "no model folder"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_damage_is_one_line_and_runs_nothing(folder: Path, damage: Any, message: str) -> None:
    damage(folder)
    with pytest.raises((BundleError, DataError)) as caught:
        load(folder)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert not Path("/tmp/nmt-bomb-went-off").exists()


def test_a_damaged_card_costs_only_the_card(folder: Path) -> None:
    for content in ("{", json.dumps([1])):
        (folder / "card.json").write_text(content)
        assert load(folder).card == {}


def test_no_model_yet_and_no_folder(tmp_path: Path) -> None:
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    with pytest.raises(BundleError, match="no best model yet"):
        bundle.locate(tmp_path / "run")
    with pytest.raises(BundleError, match="no such folder"):
        bundle.locate(tmp_path / "nothing")


def test_loading_imports_no_compiler(folder: Path) -> None:
    """PyTorch does so for some operations without memory, which doubles the time to the first translation."""
    code = (
        "import sys, torch; from nmt import bundle; bundle.load(sys.argv[1], device=torch.device('cpu'));"
        "print(*{'torch._dynamo', 'torch._inductor'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
