"""Nats of rows of logits and their gradient, which overwrites them, as one Triton kernel with one program per row.

It reads the logits twice, writes them once, and needs no other memory of their size. (Like the cross-entropy of Liger
Kernel, Hsu et al. 2024.)
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

COLUMNS, WARPS = 2048, 4
"""Logits that a program holds at once, and its warps; chosen by measurement on an H200."""


def nats_and_gradient_(
    logits: Tensor, targets: Tensor, vocabulary_size: int, scale: Tensor, label_smoothing: float
) -> Tensor:
    """Return the nats of each row's target; the logits are overwritten with `scale` times their gradient.

    With label smoothing e the target has a probability of 1 - e, and e is spread evenly (Szegedy et al. 2016).

    Args:
        logits: [rows, columns], contiguous; columns from `vocabulary_size` on are padding, and get a gradient of 0.
        targets: [rows]; rows with a negative target have no nats and no gradient.
        scale: float32 scalar on the device.

    Returns:
        float32 [rows].
    """
    rows, columns = logits.shape
    nats = torch.empty(rows, dtype=torch.float32, device=logits.device)
    if rows:
        sizes = {"SMOOTH": label_smoothing > 0, "BLOCK": COLUMNS, "num_warps": WARPS}
        _row[(rows,)](logits, targets, nats, scale, columns, vocabulary_size, label_smoothing, **sizes)
    return nats


@triton.jit
def _row(
    logits, targets, nats, scale, columns, vocabulary, smoothing, SMOOTH: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)  # rows times columns may exceed 2**31
    logits += row * columns
    target = tl.load(targets + row)
    if target < 0:
        tl.store(nats + row, 0.0)
        for start in range(0, columns, BLOCK):
            places = start + tl.arange(0, BLOCK)
            tl.store(logits + places, tl.zeros([BLOCK], logits.dtype.element_ty), mask=places < columns)
        return
    chosen = tl.load(logits + target).to(tl.float32)
    logsumexp, mean = _logsumexp_and_mean(logits, columns, vocabulary, SMOOTH, BLOCK)
    tl.store(nats + row, logsumexp - (1 - smoothing) * chosen - smoothing * mean)
    factor = tl.load(scale)
    for start in range(0, columns, BLOCK):
        places = start + tl.arange(0, BLOCK)
        x = tl.load(logits + places, mask=places < columns, other=0.0).to(tl.float32)
        gradient = tl.exp(x - logsumexp) - tl.where(places == target, 1 - smoothing, 0.0)
        if SMOOTH:
            gradient -= smoothing / vocabulary
        gradient = tl.where(places < vocabulary, gradient * factor, 0.0)
        tl.store(logits + places, gradient.to(logits.dtype.element_ty), mask=places < columns)


@triton.jit
def _logsumexp_and_mean(logits, columns, vocabulary, SMOOTH: tl.constexpr, BLOCK: tl.constexpr):
    """Return both for the real columns of a row, as float32 scalars; the mean is 0 without SMOOTH.

    Each lane keeps its own maximum and sum, so that warps synchronise once per row.
    """
    highest = tl.full([BLOCK], -3.0e38, tl.float32)  # finite, since minus infinity minus itself is NaN
    total = tl.zeros([BLOCK], tl.float32)
    plain = tl.zeros([BLOCK], tl.float32)
    for start in range(0, columns, BLOCK):
        places = start + tl.arange(0, BLOCK)
        # Masked at `columns`, a multiple of what a lane loads at once; the vocabulary need not be.
        x = tl.load(logits + places, mask=places < columns, other=0.0).to(tl.float32)
        if SMOOTH:
            plain += tl.where(places < vocabulary, x, 0.0)
        x = tl.where(places < vocabulary, x, float("-inf"))
        # One exponential for both cases, as the larger of the two counts 1.
        term = tl.exp(-tl.abs(x - highest))
        total = tl.where(x > highest, total * term + 1, total + term)
        highest = tl.maximum(highest, x)
    peak = tl.max(highest, 0)
    logsumexp = peak + tl.log(tl.sum(total * tl.exp(highest - peak), 0))
    return logsumexp, tl.sum(plain, 0) / vocabulary
