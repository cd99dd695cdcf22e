"""CTranslate2 (Klein et al., 2020): every variant of the model, in float32 or quantised.

A folder holds model.bin, config.json, the vocabulary, and the sentencepiece model of this toolkit under its
own name. Pieces go in as text and without END, which the engine adds.

What differs there from the search here:

* Hypotheses are divided by length ^ a (decoding.length_penalty_formula=power).
* A beam of W ends when W hypotheses have ended, even if one that still grows is better
  (decoding.stopping=count); with a = 0 as soon as the best hypothesis has ended, which finds the same.
* Pieces that are never to be produced leave the softmax before it is normalised: the others share their mass.
* A hypothesis that reaches `max_decoding_length` is cut; here it is ended.
* With its own defaults, nothing is translated into nothing (`min_decoding_length=1`), and sources are cut
  at 1,024 pieces (`max_input_length`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nmt.bundle import Bundle, BundleSettings
from nmt.data.tokenizer import Tokenizer
from nmt.decoding.config import Stopping
from nmt.decoding.guidance import BANNED_IDS
from nmt.export.config import ExportFormat, Quantization
from nmt.export.positions import position_table
from nmt.export.refusal import require_package
from nmt.model.attention import MultiHeadAttention
from nmt.model.config import Activation, NormKind, NormPlacement
from nmt.model.layers import FeedForward

# Added to the logit of a piece that is never to be produced; float16 can hold it.
_NEVER = -1e4
# Sources of one batch, the most that is tried at once.
_BATCH_SENTENCES = 64


def refuse(settings: BundleSettings, quantization: Quantization) -> None:
    """
    Raises:
        ExportError: CTranslate2 is not installed; there is no variant that it cannot hold.
    """
    require_package(ExportFormat.ctranslate2, "ctranslate2")


def write(bundle: Bundle, folder: Path, quantization: Quantization) -> None:
    """Write the model into an empty folder."""
    spec = _specification(bundle)
    spec.register_source_vocabulary(bundle.tokenizer.source_vocabulary())
    spec.register_target_vocabulary(bundle.tokenizer.target_vocabulary())
    spec.config.decoder_start_token = "<s>"
    spec.config.add_source_eos = True
    norm = next(module for module in bundle.model.modules() if isinstance(module, nn.LayerNorm | nn.RMSNorm))
    spec.config.layer_norm_epsilon = norm.eps
    spec.validate()
    spec.optimize(quantization=str(quantization))
    spec.save(str(folder))
    bundle.tokenizer.save(folder)


def usage(folder: str, settings: BundleSettings) -> str:
    """How the model is used, in Python."""
    source, target = "tokenizer", "tokenizer"
    if not Path(folder, "tokenizer.model").exists():
        source, target = "source", "target"
    return f"""\
import ctranslate2, sentencepiece
source = sentencepiece.SentencePieceProcessor("{folder}/{source}.model")
target = sentencepiece.SentencePieceProcessor("{folder}/{target}.model")
translator = ctranslate2.Translator("{folder}")
found = translator.translate_batch([source.encode("...", out_type=str)], beam_size=5)
print(target.decode(found[0].hypotheses[0]))"""


def load(folder: Path) -> "CTranslate2Engine":
    """The exported model in CTranslate2."""
    return CTranslate2Engine(folder)


class CTranslate2Engine:
    """An exported model, translating as its users would have it."""

    name = "ctranslate2"
    stopping = Stopping.count

    def __init__(self, folder: Path) -> None:
        import ctranslate2

        self._tokenizer = Tokenizer.load(folder)
        self._pieces = self._tokenizer.source_vocabulary()
        self._ids = {piece: number for number, piece in enumerate(self._tokenizer.target_vocabulary())}
        self._translator = ctranslate2.Translator(str(folder), intra_threads=torch.get_num_threads())

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Source pieces with END."""
        return self._tokenizer.encode_source(texts)

    def translate(self, texts: Sequence[str], *, beam_size: int, longest: int) -> list[str]:
        """Translations of at most `longest` pieces, END included, without a length penalty."""
        found = self._translator.translate_batch(
            [[self._pieces[piece] for piece in pieces[:-1]] for pieces in self.encode(texts)],
            beam_size=beam_size,
            length_penalty=0,
            max_input_length=0,
            # END is not counted there.
            max_decoding_length=longest - 1,
            min_decoding_length=0,
            max_batch_size=_BATCH_SENTENCES,
        )
        return self._tokenizer.decode_target(
            [[self._ids[piece] for piece in each.hypotheses[0]] for each in found]
        )


def _specification(bundle: Bundle) -> Any:
    """The engine's description of the model, with its weights."""
    from ctranslate2.specs import TransformerSpec
    from ctranslate2.specs.common_spec import Activation as TheirActivation

    model, config = bundle.model, bundle.settings.model
    activations = {
        Activation.relu: TheirActivation.RELU,
        Activation.gelu: TheirActivation.GELU,
        Activation.swiglu: TheirActivation.SWISH,
    }
    spec = TransformerSpec.from_config(
        (config.encoder_layers, config.decoder_layers),
        config.heads,
        pre_norm=config.norm_placement is NormPlacement.pre,
        activation=activations[config.activation],
        ffn_glu=config.activation is Activation.swiglu,
        rms_norm=config.norm is NormKind.rms_norm,
        # 0 is the mean of all heads; the layer is the last.
        alignment_heads=0,
    )
    sides = (
        (
            spec.encoder,
            model.encoder,
            spec.encoder.embeddings[0],
            model.source_embedding,
            model.source_positions,
        ),
        (
            spec.decoder,
            model.decoder,
            spec.decoder.embeddings,
            model.target_embedding,
            model.target_positions,
        ),
    )
    for stack, layers, embedding_spec, embedding, positions in sides:
        embedding_spec.weight = _array(embedding.weight)
        stack.scale_embeddings = True
        stack.position_encodings.encodings = position_table(positions, bundle.settings).numpy()
        for layer_spec, layer in zip(stack.layer, layers, strict=True):
            _set_layer(layer_spec, layer)
    if config.norm_placement is NormPlacement.pre:
        _set_norm(spec.encoder.layer_norm, model.encoder_norm)
        _set_norm(spec.decoder.layer_norm, model.decoder_norm)
    spec.decoder.projection.weight = _array(model.output_projection.weight)
    bias = np.zeros(bundle.settings.target_vocabulary_size, dtype=np.float32)
    bias[list(BANNED_IDS)] = _NEVER
    spec.decoder.projection.bias = bias
    return spec


def _set_layer(spec: Any, layer: Any) -> None:
    """An encoder or decoder layer; the latter has cross-attention."""
    _set_attention(spec.self_attention, layer.attention, stacked=(3,))
    _set_norm(spec.self_attention.layer_norm, layer.attention_residual.norm)
    if hasattr(layer, "cross_attention"):
        _set_attention(spec.attention, layer.cross_attention, stacked=(1, 2))
        _set_norm(spec.attention.layer_norm, layer.cross_attention_residual.norm)
    _set_feed_forward(spec.ffn, layer.feed_forward)
    _set_norm(spec.ffn.layer_norm, layer.feed_forward_residual.norm)


def _set_attention(spec: Any, attention: MultiHeadAttention, *, stacked: tuple[int, ...]) -> None:
    """Query, key and value lie in one matrix, or the query in one and key and value in a second."""
    rows = [attention.width * count for count in stacked]
    weights = torch.split(attention.in_projection.weight, rows)
    biases = torch.split(attention.in_projection.bias, rows)
    for linear, weight, bias in zip(spec.linear, weights, biases, strict=False):
        linear.weight, linear.bias = _array(weight), _array(bias)
    _set_linear(spec.linear[-1], attention.out_projection)


def _set_feed_forward(spec: Any, block: FeedForward) -> None:
    if block.gated:
        # The half with the activation comes first in both.
        gate, value = block.expand.weight.chunk(2)
        gate_bias, value_bias = block.expand.bias.chunk(2)
        spec.linear_0.weight, spec.linear_0.bias = _array(gate), _array(gate_bias)
        spec.linear_0_noact.weight, spec.linear_0_noact.bias = _array(value), _array(value_bias)
    else:
        _set_linear(spec.linear_0, block.expand)
    _set_linear(spec.linear_1, block.contract)


def _set_linear(spec: Any, linear: nn.Linear) -> None:
    spec.weight, spec.bias = _array(linear.weight), _array(linear.bias)


def _set_norm(spec: Any, norm: nn.Module) -> None:
    spec.gamma = _array(norm.weight)
    if isinstance(norm, nn.LayerNorm):
        spec.beta = _array(norm.bias)


def _array(weight: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    assert isinstance(weight, Tensor)
    # A copy: quantisation works in place.
    return weight.detach().float().cpu().numpy().copy()
