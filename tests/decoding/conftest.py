"""A model folder with random weights, and a text of some dozens of windows."""

import random
from pathlib import Path

import pytest
import torch

from nmt import bundle
from nmt.cli.launch import main
from nmt.data.config import TokenizerConfig
from nmt.data.tokenizer import Tokenizer
from nmt.model.config import TiedEmbeddings, TransformerConfig
from nmt.model.transformer import Transformer
from tests.decoding.translate_jobs import jsonl

LINES = 10_000
WORDS = ["the", "small", "old", "dog", "cat", "house", "sees", "hears", "in", "of", "Über", "größer"]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with random weights."""
    folder = tmp_path_factory.mktemp("run") / "model"
    text = " ".join(WORDS)
    tokenizer = Tokenizer.train([(text, text.upper())], TokenizerConfig(vocabulary_size=330))
    config = TransformerConfig(
        encoder_layers=1,
        decoder_layers=1,
        width=16,
        heads=2,
        feed_forward_width=32,
        tied_embeddings=TiedEmbeddings.none,
    )
    torch.manual_seed(1)
    sizes = (tokenizer.source_vocabulary_size, tokenizer.target_vocabulary_size)
    transformer = Transformer(config, source_vocabulary_size=sizes[0], target_vocabulary_size=sizes[1])
    settings = bundle.BundleSettings(
        source_language="en",
        target_language="de",
        source_vocabulary_size=sizes[0],
        target_vocabulary_size=sizes[1],
        model=config,
        decoding={"precision": "float32", "beam_size": 2, "max_length_ratio": 0, "max_length_offset": 5},
    )
    weights = {name: 3 * parameter.detach() for name, parameter in transformer.named_parameters()}
    bundle.write(folder, settings=settings, tokenizer=tokenizer, weights=weights, card={})
    return folder


@pytest.fixture(scope="session")
def long_input(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some twenty windows."""
    path = tmp_path_factory.mktemp("input") / "in.txt"
    words = [*WORDS, "", "\xff", "\x00"]
    dice = random.Random(5)
    lines = (" ".join(dice.choices(words, k=dice.randrange(12))) for _ in range(LINES))
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("latin-1"))
    return path


@pytest.fixture(scope="session")
def undisturbed(model: Path, long_input: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    output = tmp_path_factory.mktemp("undisturbed") / "out.txt.gz"
    assert main(["translate", *jsonl(model, long_input, output)]) == 0
    return output.read_bytes()
