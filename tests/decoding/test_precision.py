"""The model that decodes, in the type chosen."""

import copy

import pytest
import torch

from nmt.decoding import best_pieces, precision
from nmt.decoding.config import DecodingConfig, DecodingPrecision
from nmt.decoding.engine import Engine
from nmt.decoding.precision import decoding_model
from nmt.kernels.int8_product import can_multiply_int8
from nmt.model import attention, packed_linear
from nmt.model.config import TransformerConfig
from nmt.model.device import DeviceError
from nmt.model.transformer import Transformer

CPU = torch.device("cpu")
END = 3


def make_model() -> Transformer:
    torch.manual_seed(5)
    config = TransformerConfig(
        encoder_layers=2, decoder_layers=2, width=32, heads=4, feed_forward_width=64, dropout=0.1
    )
    model = Transformer(config, source_vocabulary_size=90, target_vocabulary_size=90)
    with torch.no_grad():
        model.target_embedding.weight *= 2
    return model


def sources(count: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(6)
    lengths = [1 + number % 9 for number in range(count)]
    return [[*torch.randint(4, 90, (length,), generator=generator).tolist(), END] for length in lengths]


def pieces(model: Transformer, kind: DecodingPrecision, **changes: int) -> list[list[int]]:
    settings = {"beam_size": 3, "max_length_ratio": 1, "max_length_offset": 8} | changes
    config = DecodingConfig(precision=kind, **settings)  # type: ignore[arg-type]
    return [own[0].pieces for own in Engine(model, config, CPU).search(sources(60))]


def test_a_model_in_training_stays_as_it_is() -> None:
    model = make_model().train()
    before = copy.deepcopy(model.state_dict())
    for kind in (DecodingPrecision.float32, DecodingPrecision.bfloat16, DecodingPrecision.int8):
        pieces(model, kind)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_float32_weights_are_shared_and_others_are_not() -> None:
    model = make_model()
    shared = decoding_model(model, DecodingPrecision.float32, CPU)
    assert shared.target_embedding.weight.data_ptr() == model.target_embedding.weight.data_ptr()
    converted = decoding_model(model, DecodingPrecision.bfloat16, CPU)
    assert converted.dtype is torch.bfloat16
    assert model.dtype is torch.float32


@pytest.mark.parametrize("kind", [DecodingPrecision.bfloat16, DecodingPrecision.int8])
def test_most_translations_are_those_of_float32(kind: DecodingPrecision) -> None:
    model = make_model()
    found, expected = pieces(model, kind), pieces(model, DecodingPrecision.float32)
    assert len({tuple(own) for own in expected}) > 20
    assert sum(a == b for a, b in zip(found, expected, strict=True)) > 0.7 * len(expected)


def test_packed_weights_find_what_plain_ones_find(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    packed = pieces(model, DecodingPrecision.float32)
    monkeypatch.setattr(precision, "can_pack", lambda dtype, device: False)
    assert packed == pieces(model, DecodingPrecision.float32)


@pytest.mark.parametrize("kind", [DecodingPrecision.float32, DecodingPrecision.int8])
def test_kernels_find_what_pytorch_finds(kind: DecodingPrecision, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    by_kernels = pieces(model, kind)
    monkeypatch.setattr(attention, "can_attend", lambda *tensors: False)
    monkeypatch.setattr(best_pieces, "can_search", lambda logits: False)
    monkeypatch.setattr(packed_linear, "can_multiply_float32", lambda: False)
    monkeypatch.setattr(packed_linear, "can_multiply_int8", lambda: False)
    by_pytorch = pieces(model, kind)
    same = sum(a == b for a, b in zip(by_kernels, by_pytorch, strict=True))
    assert same == len(by_pytorch) if kind is DecodingPrecision.float32 else same > 0.7 * len(by_pytorch)


@pytest.mark.skipif(not can_multiply_int8(), reason="int8 by PyTorch scales a batch together")
@pytest.mark.parametrize("tokens", [1, 90, 10**6])
def test_int8_ids_do_not_depend_on_the_batch(tokens: int) -> None:
    model = make_model()
    expected = pieces(model, DecodingPrecision.int8)
    assert pieces(model, DecodingPrecision.int8, max_tokens_per_batch=tokens) == expected


@pytest.mark.parametrize("tokens", [1, 90, 10**6])
def test_float32_ids_do_not_depend_on_the_batch(tokens: int) -> None:
    model = make_model()
    expected = pieces(model, DecodingPrecision.float32)
    assert pieces(model, DecodingPrecision.float32, max_tokens_per_batch=tokens) == expected


def test_auto_takes_what_is_fastest_and_leaves_half_precision_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setattr(precision, "fastest_dtype", lambda device, dtype=dtype: dtype)
        assert decoding_model(make_model(), DecodingPrecision.auto, CPU).dtype is dtype
    half = make_model().to(torch.bfloat16)
    monkeypatch.setattr(precision, "fastest_dtype", lambda device: torch.float32)
    assert decoding_model(half, DecodingPrecision.auto, CPU).dtype is torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_int8_attends_in_the_fastest_type(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    monkeypatch.setattr(precision, "fastest_dtype", lambda device: dtype)
    cache = decoding_model(make_model(), DecodingPrecision.int8, CPU).start_cache(
        torch.tensor([[4, 5, 3]]), beam_size=2
    )
    assert {layer.entries_PBHLK.dtype for layer in cache.layers} == {dtype}


def test_int8_is_for_cpus() -> None:
    with pytest.raises(DeviceError, match=r"decoding\.precision=int8 is for CPUs, not cuda"):
        decoding_model(make_model(), DecodingPrecision.int8, torch.device("cuda"))
