"""Evaluations of made-up systems on one small test set, and a model that translates badly."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nmt import bundle
from nmt.data.config import TokenizerConfig
from nmt.data.test_sets import TestSet
from nmt.data.tokenizer import Tokenizer
from nmt.decoding.config import DecodingConfig
from nmt.decoding.translator import Translator
from nmt.evaluation.config import ScoringConfig
from nmt.evaluation.evaluation import Evaluation, Provenance, Scoring, evaluate_outputs
from nmt.model.config import TiedEmbeddings, TransformerConfig
from nmt.model.transformer import Transformer

WORDS = [*"abcdefghijklmn", "dog", "house", "sees", "red", ",", "."]

MakeEvaluation = Callable[..., Evaluation]


@pytest.fixture(scope="session")
def test_set() -> TestSet:
    draw = random.Random(7)
    lines = [" ".join(draw.choices(WORDS, k=draw.randint(4, 15))) for _ in range(120)]
    return TestSet(
        name="news",
        sources=[f"source {number}: {line}" for number, line in enumerate(lines)],
        references=[[line, line.replace("dog", "cat")] for line in lines],
        origin=["news.en", "news.de"],
    )


@pytest.fixture(scope="session")
def scoring(test_set: TestSet) -> Scoring:
    return Scoring.of([test_set], ScoringConfig(resamples=200), language="de")


@pytest.fixture(scope="session")
def make_evaluation(test_set: TestSet, scoring: Scoring) -> MakeEvaluation:
    """A system that leaves out words with the given probability."""

    def make(loss: float, draw: int = 1, **provenance: object) -> Evaluation:
        source = random.Random(draw)
        outputs = [
            " ".join(word for word in own[0].split() if source.random() >= loss)
            for own in test_set.references
        ]
        facts = {"system": f"{loss}-{draw}", "files": {"model.safetensors": f"{loss}{draw}"}, **provenance}
        return evaluate_outputs({"news": outputs}, scoring, Provenance(**facts))

    return make


CPU = torch.device("cpu")
DECODING = DecodingConfig(beam_size=3, max_length_ratio=0, max_length_offset=30)
MODEL_WORDS = [
    "the",
    "small",
    "old",
    "dog",
    "cat",
    "house",
    "sees",
    "hears",
    "in",
    "of",
    "Über",
    "größer",
    ".",
]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder: a run with a model, two test sets that it records, and a third that it does not.

    The references are the model's own translations with some words left out: a model that has learnt
    nothing would otherwise score zero, whatever is compared.
    """
    folder = tmp_path_factory.mktemp("work")
    tokenizer = Tokenizer.train([(" ".join(MODEL_WORDS),) * 2] * 20, TokenizerConfig(vocabulary_size=340))
    config = TransformerConfig(
        encoder_layers=1,
        decoder_layers=1,
        width=16,
        heads=2,
        feed_forward_width=32,
        tied_embeddings=TiedEmbeddings.none,
    )
    torch.manual_seed(1)
    size = tokenizer.target_vocabulary_size
    model = Transformer(config, source_vocabulary_size=size, target_vocabulary_size=size).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    draw = random.Random(1)
    for name in ("one", "two", "three"):
        sources = ["", *(" ".join(draw.choices(MODEL_WORDS, k=draw.randint(1, 9))) for _ in range(30))]
        translations = Translator.of(model, tokenizer, DECODING, source_language="en").translate(sources)
        references = [
            " ".join(word for word in line.split(" ") if draw.random() < 0.9) for line in translations
        ]
        (folder / f"{name}.en").write_text("".join(f"{line}\n" for line in sources), encoding="utf-8")
        (folder / f"{name}.de").write_text("".join(f"{line}\n" for line in references), encoding="utf-8")
    settings = bundle.BundleSettings(
        source_language="en",
        target_language="de",
        source_vocabulary_size=size,
        target_vocabulary_size=size,
        model=config,
        decoding=DECODING.plain(),
        test={name: {"source": f"{name}.en", "target": f"{name}.de"} for name in ("one", "two")},
    )
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    bundle.write(folder / "run" / "model", settings=settings, tokenizer=tokenizer, weights=weights, card={})
    return folder
