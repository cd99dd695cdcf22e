"""An exported model gives the probabilities and the translations of the original, in its own engine."""

import importlib
import itertools
from operator import eq
from pathlib import Path
from typing import Any

import pytest
import torch

from nmt.bundle import Bundle
from nmt.data.tokenizer import BEGIN_ID, END_ID
from nmt.decoding.config import DecodingConfig, DecodingPrecision
from nmt.decoding.guidance import BANNED_IDS
from nmt.decoding.search import force_scores
from nmt.decoding.translator import Translator
from nmt.export.config import Quantization
from nmt.export.refusal import ExportError

FORMATS = ("ctranslate2", "huggingface")
CPU = torch.device("cpu")
LONGEST = 25
# Every choice beside every other choice that it could disturb.
VARIANTS: list[dict[str, Any]] = [
    {"norm_placement": placement, "activation": activation, "tied_embeddings": tied, "joint": joint}
    for placement, activation, (tied, joint) in itertools.product(
        ("pre", "post"),
        ("relu", "gelu"),
        (("all", True), ("decoder", True), ("decoder", False), ("none", True), ("none", False)),
    )
]
VARIANTS += [
    {"positions": "learned"},
    {"positions": "learned", "tied_embeddings": "none", "joint": False, "activation": "gelu"},
]
CTRANSLATE2_ALONE: list[dict[str, Any]] = [
    {"positions": "learned", "norm_placement": "post"},
    {"norm": "rms_norm"},
    {"norm": "rms_norm", "norm_placement": "post", "tied_embeddings": "decoder", "joint": False},
    {"activation": "swiglu"},
    {"activation": "swiglu", "norm": "rms_norm", "positions": "learned", "tied_embeddings": "none"},
]
CASES = [(name, variant) for name in FORMATS for variant in VARIANTS]
CASES += [("ctranslate2", variant) for variant in CTRANSLATE2_ALONE]
TRAINED = [*VARIANTS[::7], {"positions": "learned"}]


def typed(variant: dict[str, Any]) -> dict[str, Any]:
    """Names as the enumerations of the model's settings."""
    from nmt.model import config

    kinds = {
        "norm_placement": config.NormPlacement,
        "norm": config.NormKind,
        "activation": config.Activation,
        "positions": config.Positions,
        "tied_embeddings": config.TiedEmbeddings,
    }
    return {name: kinds[name](value) if name in kinds else value for name, value in variant.items()}


def export(name: str, bundle: Bundle, folder: Path, quantization: Quantization = Quantization.float32) -> Any:
    pytest.importorskip({"huggingface": "transformers"}.get(name, name))
    form = importlib.import_module(f"nmt.export.{name}")
    form.refuse(bundle.settings, quantization)
    form.write(bundle, folder, quantization)
    return form.load(folder)


def ours(bundle: Bundle, texts: list[str], beam_size: int, longest: int = LONGEST) -> list[str]:
    config = DecodingConfig(
        beam_size=beam_size,
        length_penalty=0,
        max_length_ratio=0,
        max_length_offset=longest,
        precision=DecodingPrecision.float32,
    )
    return Translator.of(bundle.model, bundle.tokenizer, config, source_language="en").translate(texts)


def words(texts: list[str]) -> list[list[str]]:
    return [text.split() for text in texts]


def identifier(value: object) -> str:
    return "-".join(str(each) for each in value.values()) if isinstance(value, dict) else str(value)


@pytest.mark.parametrize(("name", "variant"), CASES, ids=identifier)
def test_greedy_search_of_every_variant(
    name: str, variant: dict[str, Any], random_bundle: Any, sentences: list[str], tmp_path: Path
) -> None:
    """Random weights give long and odd translations: one wrong matrix changes them all."""
    bundle = random_bundle(**typed(variant))
    engine = export(name, bundle, tmp_path)
    texts = sentences[:30]
    expected = ours(bundle, texts, 1)
    assert len(set(expected)) > 1
    assert engine.encode(texts) == bundle.tokenizer.encode_source(texts)
    assert words(engine.translate(texts, beam_size=1, longest=LONGEST)) == words(expected)


@pytest.mark.parametrize("variant", TRAINED, ids=identifier)
@pytest.mark.parametrize("name", FORMATS)
def test_beam_search_of_trained_models(
    name: str,
    variant: dict[str, Any],
    trained_bundle: Any,
    sentences: list[str],
    right_translations: list[str],
    tmp_path: Path,
) -> None:
    bundle = trained_bundle(**typed(variant))
    engine = export(name, bundle, tmp_path)
    for beam_size in (1, 4):
        expected = ours(bundle, sentences, beam_size)
        assert sum(map(eq, expected, right_translations)) > 0.8 * len(sentences)
        assert words(engine.translate(sentences, beam_size=beam_size, longest=LONGEST)) == words(expected)


@pytest.mark.parametrize("variant", [*VARIANTS[::6], *CTRANSLATE2_ALONE], ids=identifier)
def test_log_probabilities_in_ctranslate2(
    variant: dict[str, Any], random_bundle: Any, sentences: list[str], tmp_path: Path
) -> None:
    """Those of a given translation, but for the mass of the pieces that are never produced there."""
    bundle = random_bundle(**typed(variant))
    engine = export("ctranslate2", bundle, tmp_path)
    sources = bundle.tokenizer.encode_source(sentences[:5])
    targets = bundle.tokenizer.encode_target(sentences[5:10])
    names = bundle.tokenizer.source_vocabulary(), bundle.tokenizer.target_vocabulary()
    found = engine._translator.score_batch(
        [[names[0][piece] for piece in source[:-1]] for source in sources],
        [[names[1][piece] for piece in target[:-1]] for target in targets],
    )
    for source, target, scored in zip(sources, targets, found, strict=True):
        lost = 0.0

        def step(ids_BW: torch.Tensor, cache: Any) -> torch.Tensor:
            nonlocal lost
            logits_BWV = bundle.model.step(ids_BW, cache)
            lost += float(torch.log1p(-logits_BWV.softmax(-1)[..., list(BANNED_IDS)].sum()))
            return logits_BWV

        cache = bundle.model.start_cache(torch.tensor([source]), beam_size=1)
        hypotheses = [[target[:-1]]]
        ((expected,),) = force_scores(step, cache, hypotheses, begin_id=BEGIN_ID, end_id=END_ID, device=CPU)
        assert sum(scored.log_probs) == pytest.approx(expected - lost, abs=1e-3)


@pytest.mark.parametrize("variant", VARIANTS[::3], ids=identifier)
def test_log_probabilities_in_transformers(
    variant: dict[str, Any], random_bundle: Any, sentences: list[str], tmp_path: Path
) -> None:
    bundle = random_bundle(**typed(variant))
    engine = export("huggingface", bundle, tmp_path)
    (source,), (target,) = (
        bundle.tokenizer.encode_source(sentences[:1]),
        bundle.tokenizer.encode_target(sentences[1:2]),
    )
    decoder_input = torch.tensor([[BEGIN_ID, *target[:-1]]])
    cache = bundle.model.start_cache(torch.tensor([source]), beam_size=1)
    steps = [bundle.model.step(ids[None, None], cache)[0, 0] for ids in decoder_input[0]]
    with torch.inference_mode():
        found = engine._model(input_ids=torch.tensor([source]), decoder_input_ids=decoder_input)
    expected = torch.stack(steps).log_softmax(-1)
    torch.testing.assert_close(
        found.logits[0].log_softmax(-1)[:, : expected.shape[1]], expected, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("name", FORMATS)
def test_pieces_that_are_never_produced(name: str, random_bundle: Any, tmp_path: Path) -> None:
    """Even where the model wants nothing else; nor are those that fill up the smaller vocabulary."""
    bundle = random_bundle(**typed({"tied_embeddings": "none", "joint": False}))
    sizes = bundle.settings.source_vocabulary_size, bundle.settings.target_vocabulary_size
    assert sizes[1] < sizes[0]
    # A decoder that always says the same: banned pieces most of all, then what fills up the vocabulary (whose
    # logit is zero), then the last piece.
    bundle.model.decoder_norm.weight.zero_()
    bundle.model.decoder_norm.bias.fill_(1)
    logits_V = torch.linspace(-40, -30, sizes[1])
    logits_V[list(BANNED_IDS)] = 50
    width = bundle.settings.model.width
    bundle.model.output_projection.weight.copy_(logits_V[:, None].expand(-1, width) / width)
    engine = export(name, bundle, tmp_path)
    expected = ours(bundle, ["the dog"], 1, 6)
    assert expected == [bundle.tokenizer.decode_target([[sizes[1] - 1] * 5])[0].strip()]
    assert words(engine.translate(["the dog"], beam_size=1, longest=6)) == words(expected)


def test_text_that_looks_like_markup_is_text_in_transformers(random_bundle: Any, tmp_path: Path) -> None:
    engine = export("huggingface", random_bundle(), tmp_path)
    texts = [
        "</s> <unk> <pad> the <s> dog </s>",
        "  the   dog ",
        "größer\u00a0Über\u3000the",
        "emoji 🙂 אבג \u200d \x07",
        'don \'t , " dog " — cat',
        "<0x0A> <0x41>",
        "a" * 200,
    ]
    assert engine.encode(texts) == random_bundle().tokenizer.encode_source(texts)


@pytest.mark.parametrize(
    "variant",
    [{}, {"positions": "learned"}, {"norm_placement": "post"}, {"tied_embeddings": "none", "joint": False}],
)
def test_transformers_can_write_the_model_again(
    variant: dict[str, Any], random_bundle: Any, sentences: list[str], tmp_path: Path
) -> None:
    """Nothing that its classes do not save, such as a table of positions, is part of the model."""
    bundle = random_bundle(**typed(variant))
    first = export("huggingface", bundle, tmp_path / "first")
    first._model.save_pretrained(tmp_path / "second")
    first._tokenizer.save_pretrained(tmp_path / "second")
    second = type(first)(tmp_path / "second")
    texts = sentences[:10]
    expected = first.translate(texts, beam_size=1, longest=LONGEST)
    assert second.translate(texts, beam_size=1, longest=LONGEST) == expected


@pytest.mark.parametrize("quantization", list(Quantization))
def test_every_quantization_is_written(
    quantization: Quantization, trained_bundle: Any, sentences: list[str], tmp_path: Path
) -> None:
    bundle = trained_bundle()
    engine = export("ctranslate2", bundle, tmp_path, quantization)
    found = engine.translate(sentences, beam_size=1, longest=LONGEST)
    assert sum(a == b for a, b in zip(found, ours(bundle, sentences, 1), strict=True)) > 0.8 * len(sentences)
    size = (tmp_path / "model.bin").stat().st_size
    parameters = sum(parameter.numel() for parameter in bundle.model.parameters())
    assert (size < 3 * parameters) == str(quantization).startswith(("int8", "float16", "bfloat16", "int16"))


@pytest.mark.parametrize(
    ("variant", "named"),
    [
        ({"norm": "rms_norm"}, "model.norm=rms_norm"),
        ({"activation": "swiglu"}, "model.activation=swiglu"),
        (
            {"positions": "learned", "norm_placement": "post"},
            "model.positions=learned with model.norm_placement=post",
        ),
    ],
)
def test_what_transformers_cannot_hold_is_named(
    variant: dict[str, Any], named: str, random_bundle: Any, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=f"{named}.*format=ctranslate2 does"):
        export("huggingface", random_bundle(**typed(variant)), tmp_path)
    with pytest.raises(ExportError, match="quantization=int8: format=huggingface holds float32 only"):
        export("huggingface", random_bundle(), tmp_path, Quantization.int8)
    assert not list(tmp_path.iterdir())
