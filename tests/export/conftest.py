"""Models to export: every variant with random weights, and some that have learnt to translate words."""

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from nmt import bundle
from nmt.bundle import Bundle, BundleSettings
from nmt.data.config import TokenizerConfig
from nmt.data.tokenizer import BEGIN_ID, PAD_ID, Tokenizer
from nmt.decoding.config import DecodingConfig
from nmt.model.config import TransformerConfig
from nmt.model.transformer import Transformer

WORDS = ["the", "small", "old", "dog", "cat", "house", "sees", "hears", "in", "of", "Über", "größer"]
# A translation has these words in the order of the source's.
TARGET_WORDS = ["der", "kleine", "alte", "Hund", "Katze", "Haus", "sieht", "hört", "in", "von", "over", "ß"]
# Of random weights: translations depend on every word of the source.
SCALE = 3
MakeBundle = Callable[..., Bundle]


def draw_sentences(seed: int, count: int, longest: int = 6) -> list[str]:
    """Sentences of up to so many words."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, longest))) for _ in range(count)]


def translation(sentence: str) -> str:
    """What a trained model has learnt."""
    return " ".join(TARGET_WORDS[WORDS.index(word)] for word in sentence.split())


@cache
def make_tokenizer(joint: bool) -> Tokenizer:
    pairs = [(sentence, translation(sentence)) for sentence in draw_sentences(0, 300)]
    return Tokenizer.train(pairs, TokenizerConfig(vocabulary_size=380, joint=joint))


def make_bundle(*, joint: bool = True, seed: int = 1, layers: int = 2, **variant: Any) -> Bundle:
    """A model with random weights, no bias and no norm of which is the identity."""
    tokenizer = make_tokenizer(joint)
    config = TransformerConfig(
        encoder_layers=layers,
        decoder_layers=layers,
        width=32,
        heads=2,
        feed_forward_width=48,
        max_positions=64,
        dropout=0.0,
        **variant,
    )
    sizes = (tokenizer.source_vocabulary_size, tokenizer.target_vocabulary_size)
    torch.manual_seed(seed)
    model = Transformer(config, source_vocabulary_size=sizes[0], target_vocabulary_size=sizes[1]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
            else:
                parameter.mul_(SCALE)
    settings = BundleSettings(
        source_language="en",
        target_language="de",
        source_vocabulary_size=sizes[0],
        target_vocabulary_size=sizes[1],
        model=config,
        decoding=DecodingConfig(max_source_pieces=40).plain(),
    )
    return Bundle(Path("nowhere"), settings, model.requires_grad_(False), tokenizer, {})


@cache
def train_bundle(**variant: Any) -> Bundle:
    """A model that translates word for word, nearly always rightly."""
    made = make_bundle(layers=1, **variant)
    torch.manual_seed(1)
    sizes = (made.settings.source_vocabulary_size, made.settings.target_vocabulary_size)
    model = Transformer(made.settings.model, source_vocabulary_size=sizes[0], target_vocabulary_size=sizes[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3, betas=(0.9, 0.98))
    for step in range(250):
        sources = draw_sentences(step, 24)
        source_BS = padded(made.tokenizer.encode_source(sources))
        target_BT = padded(made.tokenizer.encode_target([translation(source) for source in sources]))
        begin_B1 = torch.full((len(sources), 1), BEGIN_ID)
        logits_BTV = model(
            source_BS=source_BS,
            source_segments_BS=(source_BS != PAD_ID).long(),
            source_positions_BS=torch.arange(source_BS.shape[1]).expand_as(source_BS),
            target_BT=torch.cat([begin_B1, target_BT[:, :-1]], dim=1),
            target_segments_BT=torch.ones_like(target_BT),
            target_positions_BT=torch.arange(target_BT.shape[1]).expand_as(target_BT),
        )
        loss = torch.nn.functional.cross_entropy(
            logits_BTV.flatten(0, 1), target_BT.flatten(), ignore_index=PAD_ID, label_smoothing=0.05
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Bundle(made.folder, made.settings, model.eval().requires_grad_(False), made.tokenizer, {})


def padded(rows: list[list[int]]) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[PAD_ID] * (longest - len(row))] for row in rows])


@pytest.fixture(scope="session")
def random_bundle() -> MakeBundle:
    return make_bundle


@pytest.fixture(scope="session")
def trained_bundle() -> MakeBundle:
    return train_bundle


@pytest.fixture(scope="session")
def right_translations(sentences: list[str]) -> list[str]:
    """What a trained model has learnt to say."""
    return [translation(sentence) for sentence in sentences]


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    """Sentences that no model was trained on, but by chance."""
    return draw_sentences(10_000, 120)


@pytest.fixture
def model_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trained model as a folder that records a test set, in the working folder."""
    monkeypatch.chdir(tmp_path)
    made = train_bundle()
    sources = draw_sentences(20_000, 200)
    (tmp_path / "test.en").write_text("".join(f"{line}\n" for line in sources), encoding="utf-8")
    targets = [translation(line) for line in sources]
    (tmp_path / "test.de").write_text("".join(f"{line}\n" for line in targets), encoding="utf-8")
    settings = BundleSettings(
        **{name: getattr(made.settings, name) for name in made.settings.__slots__ if name != "test"},
        test={"own": {"source": "test.en", "target": "test.de"}},  # type: ignore[dict-item]
    )
    weights = {name: parameter.detach() for name, parameter in made.model.named_parameters()}
    bundle.write(tmp_path / "model", settings=settings, tokenizer=made.tokenizer, weights=weights, card={})
    return tmp_path / "model"
