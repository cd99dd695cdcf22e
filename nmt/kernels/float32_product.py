"""A linear map in float32 on a CPU; see float32_product.c.

Shapes: N positions, D input width, E output width.
"""

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nmt.kernels.library import function

# As in product.h.
_BLOCK = 64


class _Product(ctypes.Structure):
    """`product` of float32_product.c."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("input", "weights", "bias", "output")),
        *((name, ctypes.c_int64) for name in ("positions", "input_width", "output_width")),
        ("relu", ctypes.c_int),
    ]


def _function() -> Any:
    return function("multiply_float32", _Product)


def can_multiply_float32() -> bool:
    """Whether `Float32Product` works here: a processor with AVX512."""
    return _function() is not None


class Float32Product:
    """The map of one weight."""

    def __init__(self, weight_ED: Tensor, bias_E: Tensor | None, *, relu: bool) -> None:
        """`relu` puts that activation behind the map."""
        self.output_width, self.input_width = weight_ED.shape
        self.relu = relu
        blocks = -(-self.output_width // _BLOCK)
        more_outputs = blocks * _BLOCK - self.output_width
        padded_ED = F.pad(weight_ED, (0, 0, 0, more_outputs))
        self.weights = padded_ED.view(blocks, _BLOCK, -1).transpose(1, 2).contiguous()
        self.bias = F.pad(torch.zeros(self.output_width) if bias_E is None else bias_E, (0, more_outputs))

    def __call__(self, hidden: Tensor) -> Tensor:
        """float32 [..., D] -> [..., E]"""
        hidden = hidden.contiguous()
        output = hidden.new_empty(*hidden.shape[:-1], self.output_width)
        job = _Product(
            hidden.data_ptr(),
            self.weights.data_ptr(),
            self.bias.data_ptr(),
            output.data_ptr(),
            hidden.numel() // self.input_width,
            self.input_width,
            self.output_width,
            self.relu,
        )
        _function()(ctypes.byref(job), torch.get_num_threads())
        return output
