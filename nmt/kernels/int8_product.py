"""A linear map of whole numbers of 8 bits, with a scale for each position; see int8_product.c.

Shapes: N positions, D input width, E output width.
"""

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nmt.kernels.library import function

# As in product.h and int8_product.c.
_BLOCK, _TOGETHER = 64, 4


class _Product(ctypes.Structure):
    """`product` of int8_product.c."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("input", "weights", "shifts", "scales", "bias", "output")),
        *((name, ctypes.c_int64) for name in ("positions", "input_width", "output_width")),
        ("relu", ctypes.c_int),
    ]


def _function() -> Any:
    return function("multiply_int8", _Product, ctypes.c_int)


def can_multiply_int8() -> bool:
    """Whether `Int8Product` works here: a processor with AVX512-VNNI.

    Where there are units for tiles of a matrix (AMX) oneDNN, which uses them, is faster.
    """
    return not torch.cpu._is_amx_tile_supported() and _function() is not None


class Int8Product:
    """The map of one weight; its inputs are rounded to 8 bits, position by position, as they come."""

    def __init__(self, weight_ED: Tensor, bias_E: Tensor | None, *, relu: bool) -> None:
        """`relu` puts that activation behind the map."""
        self.output_width, self.input_width = weight_ED.shape
        self.relu = relu
        blocks, steps = -(-self.output_width // _BLOCK), -(-self.input_width // _TOGETHER)
        more_outputs = blocks * _BLOCK - self.output_width
        weight_ED = weight_ED.float()
        scale_E = weight_ED.abs().amax(1).clamp(min=1e-8) / 127
        whole_ED = (weight_ED / scale_E[:, None]).round().to(torch.int8)
        whole_ED = F.pad(whole_ED, (0, steps * _TOGETHER - self.input_width, 0, more_outputs))
        self.weights = whole_ED.view(blocks, _BLOCK, steps, _TOGETHER).transpose(1, 2).contiguous()
        # Inputs are bytes around 128.
        self.shifts = 128 * whole_ED.sum(1, dtype=torch.int32)
        self.scales = F.pad(scale_E, (0, more_outputs))
        bias_E = torch.zeros(self.output_width) if bias_E is None else bias_E.float()
        self.bias = F.pad(bias_E, (0, more_outputs))

    def __call__(self, hidden: Tensor) -> Tensor:
        """float32 [..., D] -> [..., E]

        Raises:
            MemoryError: there is none to work in.
        """
        hidden = hidden.contiguous()
        output = hidden.new_empty(*hidden.shape[:-1], self.output_width)
        job = _Product(
            hidden.data_ptr(),
            self.weights.data_ptr(),
            self.shifts.data_ptr(),
            self.scales.data_ptr(),
            self.bias.data_ptr(),
            output.data_ptr(),
            hidden.numel() // self.input_width,
            self.input_width,
            self.output_width,
            self.relu,
        )
        if _function()(ctypes.byref(job), torch.get_num_threads()):
            raise MemoryError(f"a product of {hidden.numel():,} numbers")
        return output
