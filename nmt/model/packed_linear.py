"""Linear maps for decoding on a CPU: weights laid out once for the products that follow.

Shapes: N positions, D input width, E output width.
"""

import platform
import threading
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nmt.kernels.float32_product import Float32Product, can_multiply_float32
from nmt.kernels.int8_product import Int8Product, can_multiply_int8
from nmt.model.layers import FeedForward
from nmt.model.linear import Linear

# Rows for which oneDNN lays the weights out: some sentences with their beams.
_EXPECTED_ROWS = 256


class PackedLinear(nn.Module):
    """A linear map, and maps to ranges of its output, with weights packed by oneDNN or as whole numbers."""

    def __init__(self, linear: Linear, *, int8: bool, relu: bool = False) -> None:
        """`relu` makes it the map with that activation behind it, in the same pass."""
        super().__init__()
        self.out_features, self.in_features = linear.weight.shape
        self._int8, self._relu = int8, relu
        self._weight_ED: Tensor | None = linear.weight.detach()
        self._bias_E = None if linear.bias is None else linear.bias.detach()
        # By range; a part is packed when it is first asked for, once for all threads.
        self._parts: dict[tuple[int, int], _Part] = {}
        self._packing = threading.Lock()

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., E]"""
        return self.part(hidden, 0, self.out_features)

    def part(self, hidden: Tensor, start: int, stop: int) -> Tensor:
        """Outputs from `start` to `stop` alone."""
        packed = self._parts.get((start, stop)) or self._pack(start, stop)
        return packed(hidden)

    def _pack(self, start: int, stop: int) -> "_Part":
        with self._packing:
            if (start, stop) not in self._parts:
                assert self._weight_ED is not None, "a part of what is packed in other parts"
                bias_E = None if self._bias_E is None else self._bias_E[start:stop].contiguous()
                weight_ED = self._weight_ED[start:stop].contiguous()
                self._parts[start, stop] = _make_part(weight_ED, bias_E, int8=self._int8, relu=self._relu)
                # Two copies of the weights are one too many.
                if sum(last - first for first, last in self._parts) == self.out_features:
                    self._weight_ED = None
            return self._parts[start, stop]


class _FloatPart:
    """The product of oneDNN with weights in its own layout."""

    def __init__(self, weight_ED: Tensor, bias_E: Tensor | None, *, relu: bool) -> None:
        self.bias_E = bias_E
        self.activation = "relu" if relu else "none"
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight_ED, _EXPECTED_ROWS)

    def __call__(self, hidden: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            hidden, self.weight, self.bias_E, self.activation, [], ""
        )
        return product


class _Int8Part:
    """The same by PyTorch for other processors.

    The scale of the inputs is that of all positions together, so that results depend a little on the batch.
    """

    def __init__(self, weight_ED: Tensor, bias_E: Tensor | None, *, relu: bool) -> None:
        quantized_ops = torch.ops.quantized
        self.map = quantized_ops.linear_relu_dynamic if relu else quantized_ops.linear_dynamic
        weight_ED = weight_ED.float()
        scale_E = weight_ED.abs().amax(1).clamp(min=1e-8).double() / 127
        zero_E = torch.zeros(len(weight_ED), dtype=torch.long)
        with warnings.catch_warnings():
            # That PyTorch will move this elsewhere is no news for users.
            warnings.simplefilter("ignore", UserWarning)
            quantized = torch.quantize_per_channel(weight_ED, scale_E, zero_E, 0, torch.qint8)
        # The layout is that of the engine of the moment; the products follow the layout.
        engine = torch.backends.quantized.engine
        try:
            if "onednn" in torch.backends.quantized.supported_engines:
                torch.backends.quantized.engine = "onednn"
            self.packed = torch.ops.quantized.linear_prepack(quantized, bias_E)
        finally:
            torch.backends.quantized.engine = engine

    def __call__(self, hidden: Tensor) -> Tensor:
        product: Tensor = self.map(hidden, self.packed)
        return product


_Part = _FloatPart | _Int8Part | Float32Product | Int8Product


def _make_part(weight_ED: Tensor, bias_E: Tensor | None, *, int8: bool, relu: bool) -> _Part:
    """By our own kernels where they run."""
    if int8:
        return (Int8Product if can_multiply_int8() else _Int8Part)(weight_ED, bias_E, relu=relu)
    own = weight_ED.dtype is torch.float32 and can_multiply_float32()
    return (Float32Product if own else _FloatPart)(weight_ED, bias_E, relu=relu)


def can_pack(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether oneDNN has a layout of its own for products of this type here."""
    x86 = platform.machine() in ("x86_64", "AMD64")
    if device.type != "cpu" or not x86 or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype is torch.float32


def _nothing(hidden: Tensor) -> Tensor:
    return hidden


def pack_linears(module: nn.Module, *, int8: bool) -> None:
    """Replace every `Linear` in a module that will only decode."""
    for name, child in module.named_children():
        if isinstance(child, FeedForward) and child.activation is F.relu:
            child.register_module("expand", PackedLinear(child.expand, int8=int8, relu=True))
            child.register_module("contract", PackedLinear(child.contract, int8=int8))
            child.activation = _nothing
        elif isinstance(child, Linear):
            setattr(module, name, PackedLinear(child, int8=int8))
        else:
            pack_linears(child, int8=int8)
