"""The model equals PyTorch's own layers, and packing, masking and caching change nothing."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from nmt.model.attention import MultiHeadAttention, additive_mask
from nmt.model.config import (
    Activation,
    NormKind,
    NormPlacement,
    Positions,
    TiedEmbeddings,
    TransformerConfig,
)
from nmt.model.dropout import Dropout
from nmt.model.layers import DecoderLayer, EncoderLayer, sinusoids
from nmt.model.transformer import Transformer

WIDTH, HEADS, FEED_FORWARD, VOCABULARY = 32, 4, 48, 40


def make_config(**changes: object) -> TransformerConfig:
    settings = {
        "encoder_layers": 2,
        "decoder_layers": 2,
        "width": WIDTH,
        "heads": HEADS,
        "feed_forward_width": FEED_FORWARD,
        "dropout": 0.0,
    }
    return TransformerConfig(**(settings | changes))


def make_model(**changes: object) -> Transformer:
    model = Transformer(
        make_config(**changes), source_vocabulary_size=VOCABULARY, target_vocabulary_size=VOCABULARY
    )
    for parameter in model.parameters():
        # Away from the initial zeros and ones, so that no bias or gain can be forgotten unseen.
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


VARIANTS = [
    {},
    {"norm_placement": NormPlacement.post},
    {"norm": NormKind.rms_norm, "activation": Activation.swiglu},
    {"activation": Activation.gelu, "positions": Positions.learned},
    {"tied_embeddings": TiedEmbeddings.none},
    {"tied_embeddings": TiedEmbeddings.decoder, "encoder_layers": 3, "decoder_layers": 1},
]


def copy_attention(ours: MultiHeadAttention, theirs: nn.MultiheadAttention) -> None:
    ours.in_projection.weight.data.copy_(theirs.in_proj_weight)
    theirs.in_proj_bias.data.normal_(std=0.1)
    theirs.out_proj.bias.data.normal_(std=0.1)
    ours.in_projection.bias.data.copy_(theirs.in_proj_bias)
    ours.out_projection.load_state_dict(theirs.out_proj.state_dict())


def forbidden(length: int) -> Tensor:
    """PyTorch's convention: True where attention is NOT allowed."""
    return torch.ones(length, length, dtype=torch.bool).triu(1)


@pytest.mark.parametrize("cross", [False, True])
def test_attention_equals_torch(cross: bool) -> None:
    ours = MultiHeadAttention(WIDTH, HEADS, 0.0)
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    copy_attention(ours, theirs)
    query, memory = torch.randn(3, 7, WIDTH), torch.randn(3, 9, WIDTH)
    keys = memory if cross else query
    mask = None if cross else forbidden(7)
    expected, _ = theirs(query, keys, keys, attn_mask=mask, need_weights=False)
    additive = None if mask is None else additive_mask(~mask, torch.float32)
    found = ours(query, additive, memory if cross else None)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("placement", list(NormPlacement))
@pytest.mark.parametrize("activation", [Activation.relu, Activation.gelu])
def test_layers_equal_torch(placement: NormPlacement, activation: Activation) -> None:
    config = make_config(norm_placement=placement, activation=activation)
    settings = {
        "d_model": WIDTH,
        "nhead": HEADS,
        "dim_feedforward": FEED_FORWARD,
        "dropout": 0.0,
        "activation": activation.value,
        "batch_first": True,
        "norm_first": placement is NormPlacement.pre,
    }
    their_encoder, their_decoder = (
        nn.TransformerEncoderLayer(**settings),
        nn.TransformerDecoderLayer(**settings),
    )
    our_encoder, our_decoder = EncoderLayer(config), DecoderLayer(config)
    copy_attention(our_encoder.attention, their_encoder.self_attn)
    copy_attention(our_decoder.attention, their_decoder.self_attn)
    copy_attention(our_decoder.cross_attention, their_decoder.multihead_attn)
    for ours, theirs in ((our_encoder, their_encoder), (our_decoder, their_decoder)):
        ours.feed_forward.expand.load_state_dict(theirs.linear1.state_dict())
        ours.feed_forward.contract.load_state_dict(theirs.linear2.state_dict())
        norms = [ours.attention_residual.norm]
        if ours is our_decoder:
            norms.append(our_decoder.cross_attention_residual.norm)
        norms.append(ours.feed_forward_residual.norm)
        for number, norm in enumerate(norms, start=1):
            their_norm = getattr(theirs, f"norm{number}")
            their_norm.weight.data.normal_(1, 0.1)
            their_norm.bias.data.normal_(0, 0.1)
            norm.load_state_dict(their_norm.state_dict())
    source, target = torch.randn(2, 6, WIDTH), torch.randn(2, 5, WIDTH)
    no_mask, causal = torch.zeros(1, 1, 6, 6), additive_mask(~forbidden(5), torch.float32)
    torch.testing.assert_close(our_encoder(source, no_mask), their_encoder(source), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        our_decoder(target, causal, source, torch.zeros(1, 1, 5, 6)),
        their_decoder(target, source, tgt_mask=forbidden(5)),
        atol=1e-5,
        rtol=1e-5,
    )


def test_sinusoids_follow_the_paper() -> None:
    """PE(pos, 2i) = sin(pos / 10000^(2i/D)), cosines in the other half of the width."""
    table = sinusoids(50, 8)
    for position, i in itertools.product((0, 1, 7, 49), range(4)):
        angle = torch.tensor(position / 10000 ** (2 * i / 8))
        torch.testing.assert_close(table[position, i], angle.sin())
        torch.testing.assert_close(table[position, 4 + i], angle.cos())


Pair = tuple[list[int], list[int]]


def random_pairs(count: int, longest: int = 7) -> list[Pair]:
    def sentence() -> list[int]:
        return torch.randint(4, VOCABULARY, (int(torch.randint(1, longest + 1, ())),)).tolist()

    return [(sentence(), sentence()) for _ in range(count)]


def pack(rows: list[list[Pair]], length: int) -> dict[str, Tensor]:
    """Lay pairs into rows by hand, independently of `nmt.data.batching`."""
    names = [
        f"{side}{what}"
        for side, what in itertools.product(("source", "target"), ("", "_segments", "_positions"))
    ]
    tensors = {name: torch.zeros(len(rows), length, dtype=torch.long) for name in names}
    for row, pairs in enumerate(rows):
        for side, name in enumerate(("source", "target")):
            start = 0
            for segment, pair in enumerate(pairs, start=1):
                stop = start + len(pair[side])
                tensors[name][row, start:stop] = torch.tensor(pair[side])
                tensors[f"{name}_segments"][row, start:stop] = segment
                tensors[f"{name}_positions"][row, start:stop] = torch.arange(stop - start)
                start = stop
    return {
        f"{name}_BS" if name.startswith("source") else f"{name}_BT": tensor
        for name, tensor in tensors.items()
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_packing_and_neighbours_change_nothing(variant: dict[str, object]) -> None:
    model = make_model(**variant)
    pairs = random_pairs(9)
    rows = [pairs[0:4], pairs[4:7], pairs[7:9]]
    packed = model(**pack(rows, 32))
    for row, members in enumerate(rows):
        start = 0
        for pair in members:
            alone = model(**pack([[pair]], max(len(pair[0]), len(pair[1]))))
            stop = start + len(pair[1])
            torch.testing.assert_close(
                packed[row, start:stop], alone[0, : len(pair[1])], atol=1e-5, rtol=1e-4
            )
            start = stop
    # The same first sentence beside other neighbours.
    others = model(**pack([[pairs[0], *random_pairs(3)]], 32))
    length = len(pairs[0][1])
    torch.testing.assert_close(others[0, :length], packed[0, :length], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_future_pieces_never_change_earlier_logits(variant: dict[str, object]) -> None:
    model = make_model(**variant)
    rows = [random_pairs(3, longest=8), random_pairs(3, longest=8)]
    batch = pack(rows, 32)
    before = model(**batch)
    position = 3
    changed = batch["target_BT"].clone()
    # Real pieces behind the position become other pieces.
    later = (torch.arange(32) > position) & (batch["target_segments_BT"] > 0)
    changed[later] = (changed[later] - 3) % (VOCABULARY - 4) + 4
    after = model(**(batch | {"target_BT": changed}))
    assert not torch.allclose(before[:, position + 1 :], after[:, position + 1 :])
    torch.testing.assert_close(before[:, : position + 1], after[:, : position + 1], atol=0, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_cached_steps_equal_full_decoding(variant: dict[str, object]) -> None:
    """At every position, for every beam, with beams reordered and sentences leaving."""
    model = make_model(**variant)
    beam_size, length = 3, 40  # beyond the cache's first allocation
    sources = [torch.randint(4, VOCABULARY, (size,)) for size in (5, 9, 2)]
    source_BS = nn.utils.rnn.pad_sequence(sources, batch_first=True)
    cache = model.start_cache(source_BS, beam_size=beam_size)
    kept = torch.arange(3)
    history = torch.empty(3, beam_size, 0, dtype=torch.long)
    for position in range(length):
        if position % 3 == 2:
            origin = torch.randint(0, beam_size, (len(kept), beam_size))
            cache.reorder(origin)
            history = torch.stack([row[order] for row, order in zip(history, origin, strict=True)])
        if position == 7:
            chosen = torch.tensor([2, 0])
            cache.select(chosen)
            kept, history = kept[chosen], history[chosen]
        newest = torch.randint(4, VOCABULARY, (len(kept), beam_size))
        assert cache.longest == position
        logits = model.step(newest, cache)
        history = torch.cat([history, newest[:, :, None]], dim=2)
        if position not in (0, 1, 2, 7, 8, 31, 32, 39):
            continue
        for sentence, beam in itertools.product(range(len(kept)), range(beam_size)):
            pair = (sources[int(kept[sentence])].tolist(), history[sentence, beam].tolist())
            full = model(**pack([[pair]], max(map(len, pair))))
            torch.testing.assert_close(logits[sentence, beam], full[0, position], atol=2e-5, rtol=1e-4)


def test_learned_positions_refuse_what_lies_beyond() -> None:
    model = make_model(positions=Positions.learned, max_positions=8)
    pair = ([5] * 9, [5] * 3)
    with pytest.raises(ValueError, match=r"model\.max_positions=8"):
        model(**pack([[pair]], 9))


def test_sinusoids_grow_beyond_the_table() -> None:
    model = make_model(max_positions=8)
    torch.testing.assert_close(model.source_positions(torch.tensor([20]), 21), sinusoids(30, WIDTH)[20:21])


def test_tying_counts_parameters_once() -> None:
    sizes = {
        tied: sum(parameter.numel() for parameter in make_model(tied_embeddings=tied).parameters())
        for tied in TiedEmbeddings
    }
    matrix = VOCABULARY * WIDTH
    assert sizes[TiedEmbeddings.decoder] == sizes[TiedEmbeddings.all] + matrix
    assert sizes[TiedEmbeddings.none] == sizes[TiedEmbeddings.all] + 2 * matrix


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.3, 0.5])
def test_dropout_rate_and_expectation(rate: float) -> None:
    torch.manual_seed(1)
    dropout = Dropout(rate)
    hidden = torch.ones(1000, 1003)
    dropped = dropout(hidden)
    share = (dropped == 0).float().mean().item()
    assert abs(share - max(round(rate * 256), 1) / 256) < 0.002
    assert abs(dropped.mean().item() - 1) < 0.005
    # Neighbouring bytes of a random word are independent of each other.
    zero = (dropped == 0).float()
    both = (zero[:, 1:] * zero[:, :-1]).mean().item()
    assert abs(both - share**2) < 0.002
    torch.testing.assert_close(dropout.eval()(hidden), hidden)


def test_dropout_applies_everywhere_in_training_only() -> None:
    for rate in ("dropout", "attention_dropout", "activation_dropout"):
        model = make_model(**{rate: 0.5})
        batch = pack([random_pairs(3)], 24)
        torch.testing.assert_close(model(**batch), model(**batch), atol=0, rtol=0)
        model.train()
        assert not torch.allclose(model(**batch), model(**batch))
