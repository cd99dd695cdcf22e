"""Linear maps: `torch.nn.Linear` with a faster way to train on a CPU.

Shapes: N positions, D input width, E output width.
"""

import platform
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# PyTorch's own product adds the bias in a pass before, and in float32 it goes through MKL, which runs on AMD
# processors at 60 to 90 % of the speed of oneDNN.
_ONEDNN_DTYPES: set[torch.dtype] = set()
if platform.machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
    _ONEDNN_DTYPES.add(torch.float32)
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        _ONEDNN_DTYPES.add(torch.bfloat16)


class _TrainedOnCpu(torch.autograd.Function):
    """The linear map with the products of both passes chosen by hand."""

    @staticmethod
    def forward(ctx: Any, input_ND: Tensor, weight_ED: Tensor, bias_E: Tensor | None) -> Tensor:
        ctx.save_for_backward(input_ND, weight_ED)
        return _onednn_product(input_ND, weight_ED, bias_E)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (gradient_NE,) = gradients
        input_ND, weight_ED = ctx.saved_tensors
        input_gradient_ND = weight_gradient_ED = bias_gradient_E = None
        if ctx.needs_input_grad[0]:
            input_gradient_ND = _onednn_product(gradient_NE, weight_ED.t(), None)
        if ctx.needs_input_grad[1]:
            weight_gradient_ED = gradient_NE.t() @ input_ND
        if ctx.needs_input_grad[2]:
            # A product is faster than a sum over the first dimension.
            bias_gradient_E = (gradient_NE.new_ones(1, len(gradient_NE)) @ gradient_NE)[0]
        return input_gradient_ND, weight_gradient_ED, bias_gradient_E


def _onednn_product(input_ND: Tensor, weight_ED: Tensor, bias_E: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(input_ND, weight_ED, bias_E, "none", [], "")
    return product


def linear(hidden: Tensor, weight_ED: Tensor, bias_E: Tensor | None) -> Tensor:
    """hidden @ weight^T + bias for `hidden` of shape [..., D]; returns [..., E]."""
    trained = torch.is_grad_enabled() and weight_ED.requires_grad
    if not (trained and hidden.device.type == "cpu" and hidden.dtype in _ONEDNN_DTYPES):
        return F.linear(hidden, weight_ED, bias_E)
    flat: Tensor = _TrainedOnCpu.apply(hidden.reshape(-1, hidden.shape[-1]), weight_ED, bias_E)  # type: ignore[no-untyped-call]
    return flat.view(*hidden.shape[:-1], -1)


class Linear(nn.Linear):
    """`torch.nn.Linear` by way of `linear`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, the name in torch.nn.Linear
        return linear(input, self.weight, self.bias)

    def part(self, hidden: Tensor, start: int, stop: int) -> Tensor:
        """Outputs from `start` to `stop` alone: rows of the weight that are a map of their own."""
        sizes = [start, stop - start, self.out_features - stop]
        _, weight, _ = torch.split(self.weight, sizes)
        bias = None if self.bias is None else torch.split(self.bias, sizes)[1]
        return linear(hidden, weight, bias)
