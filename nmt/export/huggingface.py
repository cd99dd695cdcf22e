"""Hugging Face transformers (Wolf et al., 2020): configuration, weights and tokenizer of a stock class.

The class is the one whose layers are those of the model:

* post-norm: Marian;
* pre-norm with sinusoids: Pegasus (M2M100 is pre-norm too, but the rates of its sinusoids are others);
* pre-norm with learned positions: Blenderbot.

All have layer normalisation with one epsilon, a feed-forward block without gates, and embeddings scaled by
sqrt(D). Marian holds any tying of embeddings and vocabularies of two sizes. The others know one vocabulary:
where not all embeddings are tied the file holds each by itself, and the smaller vocabulary is filled up with
pieces that are never chosen.

The tokenizer is MarianTokenizer, which calls sentencepiece itself. What it does otherwise: `>>xx<<` at the
start of a text is a language code, U+2581 is no space, and translations lose the space around them.

What differs from the search here: hypotheses are divided by length ^ a
(decoding.length_penalty_formula=power), and one of the greatest length ends at no cost. With a = 0 both
searches are the same.
"""

import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nmt.bundle import Bundle, BundleSettings
from nmt.data.tokenizer import BEGIN_ID, END_ID, PAD_ID
from nmt.decoding.config import DecodingConfig, LengthPenalty, Stopping
from nmt.decoding.guidance import BANNED_IDS
from nmt.export.config import ExportFormat, Quantization
from nmt.export.positions import longest_sentence, position_table
from nmt.export.refusal import ExportError, require_package
from nmt.model.attention import MultiHeadAttention
from nmt.model.config import Activation, NormKind, NormPlacement, Positions, TiedEmbeddings
from nmt.model.transformer import Transformer

# Added to the logit of a piece that only fills up a vocabulary.
_NEVER = -1e4
_BATCH_SENTENCES = 32


def refuse(settings: BundleSettings, quantization: Quantization) -> None:
    """
    Raises:
        ExportError: transformers is not installed, or no stock class holds this variant of the model.
    """
    model = settings.model
    reasons = []
    if model.norm is not NormKind.layer_norm:
        reasons.append(f"model.norm={model.norm} (only layer_norm)")
    if model.activation is Activation.swiglu:
        reasons.append(f"model.activation={model.activation} (only relu and gelu)")
    if model.positions is Positions.learned and model.norm_placement is NormPlacement.post:
        reasons.append("model.positions=learned with model.norm_placement=post (learned only with pre)")
    if reasons:
        raise ExportError(
            "format=huggingface: no class of transformers holds this model's"
            f" {' and '.join(reasons)}; format=ctranslate2 does"
        )
    if quantization is not Quantization.float32:
        raise ExportError(
            f"quantization={quantization}: format=huggingface holds float32 only; format=ctranslate2 does"
        )
    require_package(ExportFormat.huggingface, "transformers")


def write(bundle: Bundle, folder: Path, quantization: Quantization) -> None:
    """Write the model into an empty folder."""
    import transformers

    _quiet()
    settings = bundle.settings
    model = _model(settings)
    missing, unexpected = model.load_state_dict(_weights(bundle), strict=False)
    tied = set(model.all_tied_weights_keys)
    assert not unexpected
    assert set(missing) <= tied, missing
    model.tie_weights()
    decoding = DecodingConfig(**settings.decoding)
    model.generation_config = transformers.GenerationConfig(  # type: ignore[no-untyped-call]
        num_beams=decoding.beam_size,
        length_penalty=_length_penalty(decoding),
        early_stopping=decoding.stopping is Stopping.count,
        max_length=longest_sentence(settings),
        suppress_tokens=list(BANNED_IDS),
        decoder_start_token_id=BEGIN_ID,
        bos_token_id=BEGIN_ID,
        eos_token_id=END_ID,
        forced_eos_token_id=END_ID,
        pad_token_id=PAD_ID,
    )
    model.save_pretrained(folder)
    _write_tokenizer(bundle, folder)
    # The weights come without leave to be read by others.
    for path in folder.iterdir():
        path.chmod((folder / "vocab.json").stat().st_mode)


def usage(folder: str, settings: BundleSettings) -> str:
    """How the model is used, in Python."""
    return f"""\
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("{folder}")
model = AutoModelForSeq2SeqLM.from_pretrained("{folder}")
found = model.generate(**tokenizer("...", return_tensors="pt"))
print(tokenizer.batch_decode(found, skip_special_tokens=True)[0])"""


def load(folder: Path) -> "HuggingFaceEngine":
    """The exported model in transformers."""
    return HuggingFaceEngine(folder)


class HuggingFaceEngine:
    """An exported model, translating as its users would have it."""

    name = "huggingface"
    stopping = Stopping.bound

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        _quiet()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that sacremoses, which is not used, is not installed
            self._tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        self._model = AutoModelForSeq2SeqLM.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, trust_remote_code=False
        ).eval()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Source pieces with END."""
        found: list[list[int]] = self._tokenizer(list(texts))["input_ids"] if texts else []
        return found

    @torch.inference_mode()
    def translate(self, texts: Sequence[str], *, beam_size: int, longest: int) -> list[str]:
        """Translations of at most `longest` pieces, END included, without a length penalty."""
        translations = [""] * len(texts)
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        for start in range(0, len(order), _BATCH_SENTENCES):
            numbers = order[start : start + _BATCH_SENTENCES]
            batch = self._tokenizer([texts[number] for number in numbers], return_tensors="pt", padding=True)
            beams = {"num_beams": beam_size, **({"length_penalty": 0.0} if beam_size > 1 else {})}
            # The piece that begins a sentence is counted there.
            found = self._model.generate(**batch, **beams, max_length=longest + 1)
            decoded = self._tokenizer.batch_decode(found, skip_special_tokens=True)
            for number, translation in zip(numbers, decoded, strict=True):
                translations[number] = translation
        return translations


def _quiet() -> None:
    """No progress bars and no advice: what goes wrong is an exception."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def _length_penalty(decoding: DecodingConfig) -> float:
    """The exponent of the length; of that which grows at 15 pieces as the penalty of Wu et al. does."""
    if decoding.length_penalty_formula is LengthPenalty.power:
        return decoding.length_penalty
    return round(decoding.length_penalty * 15 / (5 + 15), 3)


def _model(settings: BundleSettings) -> Any:
    """The stock class with a configuration of the same shape and weights of its own."""
    import transformers

    model = settings.model
    shared = model.tied_embeddings is TiedEmbeddings.all
    shape: dict[str, Any] = {
        "vocab_size": settings.source_vocabulary_size,
        "d_model": model.width,
        "encoder_layers": model.encoder_layers,
        "decoder_layers": model.decoder_layers,
        "encoder_attention_heads": model.heads,
        "decoder_attention_heads": model.heads,
        "encoder_ffn_dim": model.feed_forward_width,
        "decoder_ffn_dim": model.feed_forward_width,
        "activation_function": str(model.activation),
        "dropout": model.dropout,
        "attention_dropout": model.attention_dropout,
        "activation_dropout": model.activation_dropout,
        "max_position_embeddings": longest_sentence(settings),
        "scale_embedding": True,
        "tie_word_embeddings": shared,
        "decoder_start_token_id": BEGIN_ID,
        "bos_token_id": BEGIN_ID,
        "eos_token_id": END_ID,
        "forced_eos_token_id": END_ID,
        "pad_token_id": PAD_ID,
    }
    if model.norm_placement is NormPlacement.post:
        shape |= {
            "share_encoder_decoder_embeddings": shared,
            "decoder_vocab_size": settings.target_vocabulary_size,
            "tie_word_embeddings": model.tied_embeddings is not TiedEmbeddings.none,
        }
        return transformers.MarianMTModel(transformers.MarianConfig(**shape))
    shape["vocab_size"] = max(settings.source_vocabulary_size, settings.target_vocabulary_size)
    if model.positions is Positions.learned:
        shape |= {"max_position_embeddings": model.max_positions, "encoder_no_repeat_ngram_size": 0}
        return transformers.BlenderbotForConditionalGeneration(transformers.BlenderbotConfig(**shape))
    return transformers.PegasusForConditionalGeneration(transformers.PegasusConfig(**shape))


def _weights(bundle: Bundle) -> dict[str, Tensor]:
    """Our weights under their names."""
    model, config = bundle.model, bundle.settings.model
    weights = dict(_embeddings(model, bundle.settings))
    for side, layers, norm, positions in (
        ("encoder", model.encoder, model.encoder_norm, model.source_positions),
        ("decoder", model.decoder, model.decoder_norm, model.target_positions),
    ):
        weights[f"model.{side}.embed_positions.weight"] = position_table(positions, bundle.settings)
        if config.norm_placement is NormPlacement.pre:
            weights |= _named(f"model.{side}.layer_norm", norm)
        for number, layer in enumerate(layers):
            weights |= dict(_layer(f"model.{side}.layers.{number}", layer))
    return {name: weight.detach().float().cpu().contiguous() for name, weight in weights.items()}


def _embeddings(model: Transformer, settings: BundleSettings) -> Iterator[tuple[str, Tensor]]:
    source, target = settings.source_vocabulary_size, settings.target_vocabulary_size
    if settings.model.norm_placement is NormPlacement.pre:
        source = target = max(source, target)
    bias = torch.zeros(1, target)
    bias[:, settings.target_vocabulary_size :] = _NEVER
    yield "final_logits_bias", bias
    yield "model.encoder.embed_tokens.weight", _filled(model.source_embedding.weight, source)
    yield "model.decoder.embed_tokens.weight", _filled(model.target_embedding.weight, target)
    yield "lm_head.weight", _filled(model.output_projection.weight, target)
    if (
        settings.model.norm_placement is NormPlacement.pre
        or model.config.tied_embeddings is TiedEmbeddings.all
    ):
        yield "model.shared.weight", _filled(model.source_embedding.weight, source)


def _filled(weight: Tensor, rows: int) -> Tensor:
    """With rows of zeros behind."""
    return torch.cat([weight, weight.new_zeros(rows - len(weight), weight.shape[1])])


def _layer(prefix: str, layer: Any) -> Iterator[tuple[str, Tensor]]:
    yield from _attention(f"{prefix}.self_attn", layer.attention)
    yield from _named(f"{prefix}.self_attn_layer_norm", layer.attention_residual.norm).items()
    if hasattr(layer, "cross_attention"):
        yield from _attention(f"{prefix}.encoder_attn", layer.cross_attention)
        yield from _named(f"{prefix}.encoder_attn_layer_norm", layer.cross_attention_residual.norm).items()
    yield from _named(f"{prefix}.fc1", layer.feed_forward.expand).items()
    yield from _named(f"{prefix}.fc2", layer.feed_forward.contract).items()
    yield from _named(f"{prefix}.final_layer_norm", layer.feed_forward_residual.norm).items()


def _attention(prefix: str, attention: MultiHeadAttention) -> Iterator[tuple[str, Tensor]]:
    for kind in ("weight", "bias"):
        blocks = getattr(attention.in_projection, kind).chunk(3)
        for name, block in zip(("q_proj", "k_proj", "v_proj"), blocks, strict=True):
            yield f"{prefix}.{name}.{kind}", block
    yield from _named(f"{prefix}.out_proj", attention.out_projection).items()


def _named(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": parameter for name, parameter in module.named_parameters()}


def _write_tokenizer(bundle: Bundle, folder: Path) -> None:
    from transformers import MarianTokenizer

    tokenizer, settings = bundle.tokenizer, bundle.settings
    vocabularies = {"vocab.json": tokenizer.source_vocabulary()}
    if not tokenizer.joint:
        vocabularies["target_vocab.json"] = tokenizer.target_vocabulary()
    for name, pieces in vocabularies.items():
        ids = {piece: number for number, piece in enumerate(pieces)}
        (folder / name).write_text(json.dumps(ids, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    tokenizer.save(folder)
    if tokenizer.joint:
        (folder / "target.spm").write_bytes((folder / "tokenizer.model").read_bytes())
        (folder / "tokenizer.model").rename(folder / "source.spm")
    else:
        for side in ("source", "target"):
            (folder / f"{side}.model").rename(folder / f"{side}.spm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = MarianTokenizer(
            source_spm=str(folder / "source.spm"),
            target_spm=str(folder / "target.spm"),
            vocab=str(folder / "vocab.json"),
            target_vocab_file=None if tokenizer.joint else str(folder / "target_vocab.json"),
            separate_vocabs=not tokenizer.joint,
            source_lang=settings.source_language,
            target_lang=settings.target_language,
            bos_token="<s>",
            model_max_length=longest_sentence(settings),
            # "</s>" in a text is text.
            split_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
    theirs.save_pretrained(folder)
