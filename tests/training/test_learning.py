"""One test must learn: copying and reversing digit strings, through the real trainer and search."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nmt.data.store import PairStore
from nmt.data.tokenizer import END_ID
from nmt.decoding.config import DecodingConfig
from nmt.decoding.engine import Engine
from nmt.model.config import TransformerConfig
from nmt.model.transformer import Transformer
from nmt.training.config import Schedule, TrainingConfig
from nmt.training.trainer import Trainer

COPY, REVERSE, FIRST_DIGIT = 4, 5, 6
VOCABULARY = FIRST_DIGIT + 10
Pair = tuple[list[int], list[int]]
MakeStore = Callable[[list[Pair]], PairStore]
Assemble = Callable[..., Trainer]


def make_pairs(count: int, source: random.Random) -> list[Pair]:
    pairs: list[Pair] = []
    for _ in range(count):
        digits = [FIRST_DIGIT + source.randrange(10) for _ in range(source.randint(1, 10))]
        task = source.choice([COPY, REVERSE])
        pairs.append(([task, *digits, END_ID], [*(digits if task == COPY else digits[::-1]), END_ID]))
    return pairs


def train(
    folder: Path, assemble_trainer: Assemble, train_pairs: PairStore, valid_pairs: PairStore
) -> Transformer:
    torch.set_num_threads(1)
    config = TrainingConfig(
        max_steps=2000,
        max_tokens_per_batch=480,
        row_length=48,
        long_row_length=48,
        learning_rate=2e-3,
        schedule=Schedule.linear,
        warmup_steps=200,
        label_smoothing=0.0,
        validate_every=2000,
        checkpoint_every=2000,
    )
    model_config = TransformerConfig(
        encoder_layers=2, decoder_layers=2, width=64, heads=4, feed_forward_width=128, dropout=0.0
    )
    model = Transformer(model_config, source_vocabulary_size=VOCABULARY, target_vocabulary_size=VOCABULARY)
    seed = random.SystemRandom().randrange(2**31)
    assemble_trainer(folder, model, train_pairs, valid_pairs, config, seed=seed).fit()
    return model.eval()


def exact_share(model: Transformer, pairs: list[Pair], beam_size: int) -> float:
    config = DecodingConfig(beam_size=beam_size, max_length_ratio=1, max_length_offset=10)
    found = Engine(model, config, torch.device("cpu")).search([source for source, _ in pairs])
    right = [best[0].pieces == target[:-1] for best, (_, target) in zip(found, pairs, strict=True)]
    return sum(right) / len(right)


@pytest.mark.parametrize("beam_size", [1, 4])
def test_learns_to_copy_and_to_reverse(model: Transformer, unseen: list[Pair], beam_size: int) -> None:
    assert exact_share(model, unseen, beam_size) > 0.98


@pytest.fixture(scope="module")
def unseen() -> list[Pair]:
    return [pair for pair in make_pairs(600, random.Random()) if len(pair[1]) > 6]


@pytest.fixture(scope="module")
def model(
    tmp_path_factory: pytest.TempPathFactory,
    make_store: MakeStore,
    assemble_trainer: Assemble,
    unseen: list[Pair],
) -> Transformer:
    folder = tmp_path_factory.mktemp("learning")
    known = {tuple(source) for source, _ in unseen}
    pairs = [pair for pair in make_pairs(40_000, random.Random()) if tuple(pair[0]) not in known]
    return train(folder, assemble_trainer, make_store(pairs), make_store(unseen))
