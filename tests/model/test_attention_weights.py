"""The recomputed weights are those that the model computes with, whatever else is in the batch."""

import threading

import pytest
import torch
from torch import Tensor

from nmt.model.attention import MultiHeadAttention
from nmt.model.attention_weights import attention_weights, cross_attention_weights
from nmt.model.config import NormPlacement, Positions, TiedEmbeddings, TransformerConfig
from nmt.model.layers import EncoderLayer
from nmt.model.teacher_forcing import forced_logits
from nmt.model.transformer import Transformer

BEGIN, END = 2, 3
PAIRS = [
    ([5, 6, 7, 8, END], [9, 10, END]),
    ([11, END], [12, 13, 14, 15, 16, 17, END]),
    ([END], [END]),
    ([20, 21, 22, 23, 24, 25, 26, END], [27, END]),
]
SOURCES, TARGETS = [source for source, _ in PAIRS], [target for _, target in PAIRS]


def make_model(**changes: object) -> Transformer:
    torch.manual_seed(1)
    settings = {"encoder_layers": 2, "decoder_layers": 3, "width": 32, "heads": 4, "feed_forward_width": 48}
    config = TransformerConfig(**(settings | changes))
    model = Transformer(config, source_vocabulary_size=40, target_vocabulary_size=40)
    for parameter in model.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


VARIANTS = [
    {},
    {"norm_placement": NormPlacement.post, "positions": Positions.learned, "dropout": 0.3},
    {"tied_embeddings": TiedEmbeddings.none, "attention_dropout": 0.5, "heads": 1, "decoder_layers": 1},
]


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_sum_to_one_and_nobody_looks_ahead(variant: dict[str, object]) -> None:
    for found, (source, target) in zip(
        attention_weights(make_model(**variant), SOURCES, TARGETS, begin_id=BEGIN), PAIRS, strict=True
    ):
        s, t = len(source), len(target)
        config = make_model(**variant).config
        assert found.encoder_LHSS.shape == (config.encoder_layers, config.heads, s, s)
        assert found.decoder_LHTT.shape == (config.decoder_layers, config.heads, t, t)
        assert found.cross_LHTS.shape == (config.decoder_layers, config.heads, t, s)
        for weights in (found.encoder_LHSS, found.decoder_LHTT, found.cross_LHTS):
            # Padding has been cut off: had it been attended to, the rest would sum to less.
            torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        assert (found.decoder_LHTT.triu(1) == 0).all()
        assert (found.decoder_LHTT.tril() > 0).sum() == config.decoder_layers * config.heads * t * (
            t + 1
        ) // 2


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_gives_what_each_of_its_pairs_gives_alone(variant: dict[str, object]) -> None:
    model = make_model(**variant)
    together = attention_weights(model, SOURCES, TARGETS, begin_id=BEGIN)
    for found, pair in zip(together, PAIRS, strict=True):
        (alone,) = attention_weights(model, [pair[0]], [pair[1]], begin_id=BEGIN)
        torch.testing.assert_close(found.encoder_LHSS, alone.encoder_LHSS)
        torch.testing.assert_close(found.decoder_LHTT, alone.decoder_LHTT)
        torch.testing.assert_close(found.cross_LHTS, alone.cross_LHTS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_times_values_is_what_each_block_puts_out(variant: dict[str, object]) -> None:
    """The values and the output projection are computed here, from what the model's own blocks are given."""
    model = make_model(**variant)
    seen: dict[MultiHeadAttention, tuple[Tensor, Tensor]] = {}

    def note(block: MultiHeadAttention, given: tuple[Tensor, ...], output: Tensor) -> None:
        seen[block] = (given[2] if len(given) == 3 else given[0], output)

    blocks = [block for block in model.modules() if isinstance(block, MultiHeadAttention)]
    handles = [block.register_forward_hook(note) for block in blocks]
    source, target = PAIRS[0]
    forced_logits(model, [source], [target], begin_id=BEGIN)
    for handle in handles:
        handle.remove()
    (found,) = attention_weights(model, [source], [target], begin_id=BEGIN)
    encoder = [layer for layer in model.encoder if isinstance(layer, EncoderLayer)]
    decoder = list(model.decoder_layers())
    recomputed = [
        *zip((layer.attention for layer in encoder), found.encoder_LHSS, strict=True),
        *zip((layer.attention for layer in decoder), found.decoder_LHTT, strict=True),
        *zip((layer.cross_attention for layer in decoder), found.cross_LHTS, strict=True),
    ]
    assert {block for block, _ in recomputed} == set(blocks)
    for block, weights_HTS in recomputed:
        keys_from, output = seen[block]
        weight, bias = block.in_projection.weight.chunk(3)[2], block.in_projection.bias.chunk(3)[2]
        values_HSK = (keys_from[0] @ weight.T + bias).unflatten(-1, (block.heads, -1)).transpose(0, 1)
        merged_TD = (weights_HTS @ values_HSK).transpose(0, 1).flatten(1)
        torch.testing.assert_close(block.out_projection(merged_TD), output[0], atol=1e-5, rtol=1e-5)


def test_cross_attention_of_some_layers_is_the_same() -> None:
    model = make_model()
    everything = attention_weights(model, SOURCES, TARGETS, begin_id=BEGIN)
    chosen = cross_attention_weights(model, SOURCES, TARGETS, begin_id=BEGIN, layers=[2, 0])
    for weights_LHTS, whole in zip(chosen, everything, strict=True):
        assert torch.equal(weights_LHTS, whole.cross_LHTS[[2, 0]])


def test_the_model_is_left_as_it_was() -> None:
    """In training, with gradients, while another thread uses it: no hook, no mode and no weight changes."""
    model = make_model(dropout=0.5)
    with torch.no_grad():
        expected = forced_logits(model, SOURCES, TARGETS, begin_id=BEGIN)[0]
    stop, wrong = threading.Event(), []

    def use() -> None:
        while not stop.is_set():
            with torch.no_grad():
                found = forced_logits(model, SOURCES, TARGETS, begin_id=BEGIN)[0]
            if not torch.equal(found, expected):
                wrong.append(found)

    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    other = threading.Thread(target=use)
    other.start()
    found = [attention_weights(model, SOURCES, TARGETS, begin_id=BEGIN) for _ in range(20)]
    stop.set()
    other.join()
    assert not wrong
    assert not any(block._forward_pre_hooks for block in model.modules())
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    model.train()
    (_, _, again, _) = attention_weights(model, SOURCES, TARGETS, begin_id=BEGIN)
    assert model.training
    assert torch.equal(again.cross_LHTS, found[0][2].cross_LHTS)


def test_half_precision_gives_rows_that_sum_to_one() -> None:
    model = make_model().to(torch.bfloat16)
    for found in attention_weights(model, SOURCES, TARGETS, begin_id=BEGIN):
        assert found.cross_LHTS.dtype is torch.float32
        torch.testing.assert_close(found.cross_LHTS.sum(-1), torch.ones(found.cross_LHTS.shape[:-1]))
        assert (found.decoder_LHTT.triu(1) == 0).all()
