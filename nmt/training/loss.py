"""Label-smoothed cross-entropy over packed batches.

Shapes: N target slots of a batch, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor

# Slots handled at once: the float32 copy of their logits stays in the processor's cache.
CHUNK_SLOTS = 16


class _SmoothedCrossEntropy(torch.autograd.Function):
    """Sums of smoothed and plain cross-entropy; writes the gradient over the logits.

    The logits are the largest tensor of a step. Keeping them in the model's type, computing in
    float32 chunk by chunk and turning them into their own gradient saves two copies of them.
    """

    @staticmethod
    def forward(
        ctx: Any, logits_NV: Tensor, target_N: Tensor, smoothing: float, pad_id: int
    ) -> tuple[Tensor, Tensor]:
        vocabulary = logits_NV.shape[1]
        weight_N1 = (target_N != pad_id).float()[:, None]
        smoothed = logits_NV.new_zeros((), dtype=torch.float32)
        plain = torch.zeros_like(smoothed)
        chunk_slots = CHUNK_SLOTS if logits_NV.device.type == "cpu" else max(1, len(logits_NV))
        for start in range(0, len(logits_NV), chunk_slots):
            chunk = slice(start, start + chunk_slots)
            weight_n1, target_n1 = weight_N1[chunk], target_N[chunk, None]
            # In float32 these are the logits themselves, unless those must stay.
            values_nV = logits_NV[chunk].to(torch.float32, copy=not ctx.needs_input_grad[0])
            largest_n1 = values_nV.amax(1, keepdim=True)
            mean_n1 = values_nV.mean(1, keepdim=True)
            right_n1 = values_nV.gather(1, target_n1)
            exponential_nV = values_nV.sub_(largest_n1).exp_()
            sum_n1 = exponential_nV.sum(1, keepdim=True)
            lse_n1 = largest_n1 + sum_n1.log()
            nll_n1 = lse_n1 - right_n1
            plain += (weight_n1 * nll_n1).sum()
            smoothed += (weight_n1 * ((1 - smoothing) * nll_n1 + smoothing * (lse_n1 - mean_n1))).sum()
            if ctx.needs_input_grad[0]:
                # d loss / d logits = softmax - (1 - smoothing) [target] - smoothing / V
                gradient_nV = exponential_nV.mul_(weight_n1 / sum_n1)
                gradient_nV.sub_(weight_n1 * (smoothing / vocabulary))
                gradient_nV.scatter_add_(1, target_n1, weight_n1 * (smoothing - 1))
                logits_NV[chunk] = gradient_nV
        # From here on the tensor holds the gradient; nothing else may read it as logits.
        ctx.gradient_NV = logits_NV
        ctx.mark_non_differentiable(plain)
        return smoothed, plain

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        gradient_NV = ctx.gradient_NV
        ctx.gradient_NV = None
        scale = gradients[0].to(gradient_NV.dtype)
        # Asking the value of a CPU tensor costs nothing, a pass over the gradient does.
        if scale.device.type != "cpu" or float(scale) != 1:
            gradient_NV.mul_(scale)
        return gradient_NV, None, None, None


def smoothed_cross_entropy(
    logits: Tensor, target: Tensor, *, smoothing: float, pad_id: int
) -> tuple[Tensor, Tensor]:
    """Sums over all real target pieces of smoothed loss and negative log-likelihood, in nats.

    The smoothed target has 1 - smoothing on the right piece and smoothing / V on every piece
    (Szegedy et al., 2016, section 7). Only the first sum carries a gradient. **The logits are overwritten.**

    Args:
        logits: [..., V] in any floating type.
        target: [...] piece numbers; slots with `pad_id` do not count.
    """
    smoothed, plain = _SmoothedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        logits.reshape(-1, logits.shape[-1]), target.reshape(-1).long(), smoothing, pad_id
    )
    return smoothed, plain
