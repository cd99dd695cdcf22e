"""`nmt attend`: any sentence as it stands, in the terminal or as a file that appears whole or not at all."""

import sys
from pathlib import Path

import pytest
import torch

from nmt import bundle
from nmt.cli.launch import main
from nmt.data.config import TokenizerConfig
from nmt.data.tokenizer import Tokenizer
from nmt.decoding.config import DecodingConfig
from nmt.model.config import Positions, TransformerConfig
from nmt.model.transformer import Transformer

SENTENCE = 'He said "yes, [no]": a=b, ${c} {d}? 中文'


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with random weights."""
    folder = tmp_path_factory.mktemp("run") / "model"
    tokenizer = Tokenizer.train([("he said yes", "er sagte ja")] * 9, TokenizerConfig(vocabulary_size=310))
    config = TransformerConfig(
        encoder_layers=1,
        decoder_layers=2,
        width=16,
        heads=2,
        feed_forward_width=32,
        positions=Positions.learned,
        max_positions=64,
    )
    torch.manual_seed(1)
    size = tokenizer.target_vocabulary_size
    transformer = Transformer(config, source_vocabulary_size=size, target_vocabulary_size=size)
    settings = bundle.BundleSettings(
        source_language="en",
        target_language="de",
        source_vocabulary_size=size,
        target_vocabulary_size=size,
        model=config,
        decoding=DecodingConfig(beam_size=2, max_length_ratio=0, max_length_offset=5).plain(),
    )
    weights = {name: parameter.detach() for name, parameter in transformer.named_parameters()}
    bundle.write(folder, settings=settings, tokenizer=tokenizer, weights=weights, card={})
    return folder


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def attend(model: Path, *settings: str) -> int:
    return main(["attend", f"model={model}", "threads=1", *settings])


def test_a_sentence_with_all_that_means_something_elsewhere(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert attend(model, f"source={SENTENCE}", "target=Er sagte: ${x}, [ja]=1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "cross-attention"
    # The labels stand to the right of a margin as wide as the widest.
    named = [line.strip().split(" ")[0] for line in lines[-6:-1]]
    assert named == ["Er", "sagte:", "${x},", "[ja]=1", "</s>"]
    assert "\x1b" not in "".join(lines)


def test_without_a_target_it_is_our_translation(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert attend(model, "source=he said yes") == 0
    translation = capsys.readouterr().out.splitlines()[0]
    Path("in.txt").write_text("he said yes\n", encoding="utf-8")
    assert main(["translate", f"model={model}", "input=in.txt", "output=out.txt", "threads=1"]) == 0
    assert Path("out.txt").read_text(encoding="utf-8") == f"{translation}\n"


@pytest.mark.parametrize("name", ["map.png", "map.SVG"])
def test_a_picture(model: Path, name: str) -> None:
    pytest.importorskip("matplotlib")
    Path(name).write_text("older")
    settings = ["attention=decoder", "layer=all", "head=all", "theme=dark", f"output={name}"]
    assert attend(model, "source=he said", f"target={SENTENCE}", *settings) == 0
    content = Path(name).read_bytes()
    assert content.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")
    assert [path.name for path in Path().iterdir()] == [name]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (["source=  "], "source is blank: give a sentence"),
        (["source=a", "target=b", "layer=3"], "layer=3: there are 2; allowed: 1 to 2, mean, all"),
        (["source=a", "target=b", "attention=encoder", "layer=2"], "layer=2: there are 1; allowed: 1 to 1"),
        (["source=a", "target=b", "head=9"], "head=9: there are 2"),
        (["source=a", "target=b", "output=no/map.png"], "output=no/map.png: the folder does not exist"),
        (["source=a", f"target={'b ' * 100}"], "pieces, and the learned positions of this model end at 64"),
    ],
)
def test_what_cannot_be_shown_is_one_line(
    model: Path, settings: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert attend(model, *settings) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert "Traceback" not in said
    assert list(Path().iterdir()) == []


def test_a_picture_without_matplotlib_says_what_to_install(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert attend(model, "source=a", "target=b", "output=map.png") == 2
    assert "pip install 'nmt[plots]'" in capsys.readouterr().err
    # The terminal needs nothing.
    assert attend(model, "source=a", "target=b") == 0
