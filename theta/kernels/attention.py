"""Causal attention within each document of a packed row, as one Triton kernel forward and two backward.

The method is FlashAttention-2 (Dao 2023): scores are never held, the softmax runs along the keys, and the backward
pass computes the scores again. The differences suit short documents: a program works on one block of one document,
listed in a table, so no work is done between documents, and blocks are small. There are no atomic additions, so two
runs give the same bits. Queries, keys and values are read from the single tensor that the product before wrote, and
their gradients are written to a tensor of the same shape. Each program also sums its gradients over its tokens, which
gives the gradient of that product's bias and saves a pass over the tensor.

In the shapes, B is the tokens of a block, S those of a step along the document, and W the head's width padded to a
power of two.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from theta.kernels.blocks import BLOCK

FORWARD, BACKWARD_QUERY, BACKWARD_KEY_VALUE = ({"STEP": 32, "num_warps": 4, "num_stages": 3},) * 3
"""The fastest of steps of 32 and 64, 2 to 8 warps and 1 to 3 stages on an H200, for documents of 189 tokens."""

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _block(table):
    """Load the begin and end of the document, and the begin of this program's block."""
    entry = table + 3 * tl.program_id(1)
    return tl.load(entry), tl.load(entry + 1), tl.load(entry + 2)


@triton.jit
def _load(matrix, rows, end, stride, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Load [B, W] of a matrix whose rows are `stride` apart; 0 from `end` on and beyond the head's width."""
    columns = tl.arange(0, PADDED)
    mask = (rows < end)[:, None] & (columns < WIDTH)[None, :]
    return tl.load(matrix + rows[:, None] * stride + columns[None, :], mask=mask, other=0.0)


@triton.jit
def _store(matrix, rows, end, stride, values, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    columns = tl.arange(0, PADDED)
    mask = (rows < end)[:, None] & (columns < WIDTH)[None, :]
    tl.store(matrix + rows[:, None] * stride + columns[None, :], values.to(matrix.dtype.element_ty), mask=mask)


@triton.jit
def _forward(
    qkv, output, logsumexp, table, tokens, scale,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
    STEP: tl.constexpr,
):  # fmt: skip
    head, wide = tl.program_id(0), 3 * HEADS * WIDTH
    document, end, begin = _block(table)
    rows = begin + tl.arange(0, BLOCK)
    query, key = qkv + head * WIDTH, qkv + (HEADS + head) * WIDTH
    value = key + HEADS * WIDTH
    q = _load(query, rows, end, wide, WIDTH, PADDED)
    highest = tl.full([BLOCK], -1e30, tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    sums = tl.zeros([BLOCK, PADDED], tl.float32)
    for first in range(document, tl.minimum(begin + BLOCK, end), STEP):
        keys = first + tl.arange(0, STEP)
        k = _load(key, keys, end, wide, WIDTH, PADDED)
        v = _load(value, keys, end, wide, WIDTH, PADDED)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * (scale * LOG2_E)  # [B, S]
        scores = tl.where((rows[:, None] >= keys[None, :]) & (keys < end)[None, :], scores, -1e30)
        higher = tl.maximum(highest, tl.max(scores, 1))
        weights = tl.exp2(scores - higher[:, None])
        shrink = tl.exp2(highest - higher)
        total = total * shrink + tl.sum(weights, 1)
        sums = sums * shrink[:, None] + tl.dot(weights.to(v.dtype), v, input_precision=PRECISION)
        highest = higher
    _store(output + head * WIDTH, rows, end, HEADS * WIDTH, sums / total[:, None], WIDTH, PADDED)
    tl.store(logsumexp + head * tokens + rows, highest + tl.log2(total), mask=rows < end)


@triton.jit
def _sum(sums, values, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    columns = tl.arange(0, PADDED)
    tl.store(sums + columns, tl.sum(values, 0), mask=columns < WIDTH)


@triton.jit
def _backward_query(
    qkv, output, gradient, logsumexp, delta, gradient_qkv, sums, table, tokens, scale,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
    STEP: tl.constexpr,
):  # fmt: skip
    """Compute the queries' gradients and, for the other kernel, delta: the sum of each output times its gradient."""
    head, wide = tl.program_id(0), 3 * HEADS * WIDTH
    document, end, begin = _block(table)
    rows = begin + tl.arange(0, BLOCK)
    query, key = qkv + head * WIDTH, qkv + (HEADS + head) * WIDTH
    value = key + HEADS * WIDTH
    q = _load(query, rows, end, wide, WIDTH, PADDED)
    go = _load(gradient + head * WIDTH, rows, end, HEADS * WIDTH, WIDTH, PADDED)
    o = _load(output + head * WIDTH, rows, end, HEADS * WIDTH, WIDTH, PADDED)
    d = tl.sum(go.to(tl.float32) * o.to(tl.float32), 1)
    tl.store(delta + head * tokens + rows, d, mask=rows < end)
    lse = tl.load(logsumexp + head * tokens + rows, mask=rows < end, other=0.0)
    gradient_q = tl.zeros([BLOCK, PADDED], tl.float32)
    for first in range(document, tl.minimum(begin + BLOCK, end), STEP):
        keys = first + tl.arange(0, STEP)
        k = _load(key, keys, end, wide, WIDTH, PADDED)
        v = _load(value, keys, end, wide, WIDTH, PADDED)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * (scale * LOG2_E)
        weights = tl.exp2(scores - lse[:, None])
        weights = tl.where((rows[:, None] >= keys[None, :]) & (keys < end)[None, :], weights, 0.0)
        change = weights * (tl.dot(go, tl.trans(v), input_precision=PRECISION) - d[:, None])
        gradient_q += tl.dot(change.to(k.dtype), k, input_precision=PRECISION)
    gradient_q *= scale
    _store(gradient_qkv + head * WIDTH, rows, end, wide, gradient_q, WIDTH, PADDED)
    _sum(sums + tl.program_id(1) * wide + head * WIDTH, gradient_q, WIDTH, PADDED)


@triton.jit
def _backward_key_value(
    qkv, gradient, logsumexp, delta, gradient_qkv, sums, table, tokens, scale,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
    STEP: tl.constexpr,
):  # fmt: skip
    head, wide = tl.program_id(0), 3 * HEADS * WIDTH
    _, end, begin = _block(table)
    keys = begin + tl.arange(0, BLOCK)
    query, key = qkv + head * WIDTH, qkv + (HEADS + head) * WIDTH
    value = key + HEADS * WIDTH
    k = _load(key, keys, end, wide, WIDTH, PADDED)
    v = _load(value, keys, end, wide, WIDTH, PADDED)
    gradient_k = tl.zeros([BLOCK, PADDED], tl.float32)
    gradient_v = tl.zeros([BLOCK, PADDED], tl.float32)
    for first in range(begin, end, STEP):
        rows = first + tl.arange(0, STEP)
        q = _load(query, rows, end, wide, WIDTH, PADDED)
        go = _load(gradient + head * WIDTH, rows, end, HEADS * WIDTH, WIDTH, PADDED)
        lse = tl.load(logsumexp + head * tokens + rows, mask=rows < end, other=0.0)
        d = tl.load(delta + head * tokens + rows, mask=rows < end, other=0.0)
        scores = tl.dot(k, tl.trans(q), input_precision=PRECISION) * (scale * LOG2_E)  # [keys, queries]
        weights = tl.exp2(scores - lse[None, :])
        weights = tl.where((rows[None, :] >= keys[:, None]) & (rows < end)[None, :], weights, 0.0)
        gradient_v += tl.dot(weights.to(go.dtype), go, input_precision=PRECISION)
        change = weights * (tl.dot(v, tl.trans(go), input_precision=PRECISION) - d[None, :])
        gradient_k += tl.dot(change.to(q.dtype), q, input_precision=PRECISION)
    gradient_k *= scale
    target = gradient_qkv + (HEADS + head) * WIDTH
    _store(target, keys, end, wide, gradient_k, WIDTH, PADDED)
    _store(target + HEADS * WIDTH, keys, end, wide, gradient_v, WIDTH, PADDED)
    sums += tl.program_id(1) * wide + (HEADS + head) * WIDTH
    _sum(sums, gradient_k, WIDTH, PADDED)
    _sum(sums + HEADS * WIDTH, gradient_v, WIDTH, PADDED)


def attend(qkv: Tensor, table: Tensor, heads: int, scale: float, bias: Tensor | None = None) -> Tensor:
    """Compute causal attention within the documents of a row.

    Args:
        qkv: queries, keys and values side by side, [tokens, 3 * width].
        table: `block_table` of the row, on the device; it must cover all tokens.
        scale: of the scores, before the softmax.
        bias: [3 * width], already added to `qkv`. It is passed only for its gradient; the addition must not compute a
            second one.

    Returns:
        [tokens, width].
    """
    output: Tensor = _attend(qkv.contiguous(), bias, table, heads, scale)[0]
    return output


@torch.library.custom_op("theta::attend", mutates_args=())
def _attend(
    qkv: Tensor,
    bias: Tensor | None,  # noqa: ARG001
    table: Tensor,
    heads: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    tokens, wide = qkv.shape
    output, logsumexp = qkv.new_empty(tokens, wide // 3), qkv.new_empty(heads, tokens, dtype=torch.float32)
    shape = _shape(qkv, heads)
    _forward[(heads, len(table))](qkv, output, logsumexp, table, tokens, scale, **shape, **FORWARD)
    return output, logsumexp


@_attend.register_fake
def _(
    qkv: Tensor,
    bias: Tensor | None,  # noqa: ARG001
    table: Tensor,  # noqa: ARG001
    heads: int,
    scale: float,  # noqa: ARG001
) -> tuple[Tensor, Tensor]:
    tokens, wide = qkv.shape
    return qkv.new_empty(tokens, wide // 3), qkv.new_empty(heads, tokens, dtype=torch.float32)


@torch.library.custom_op("theta::attend_backward", mutates_args=())
def _attend_backward(
    qkv: Tensor, output: Tensor, gradient: Tensor, logsumexp: Tensor, table: Tensor, heads: int, scale: float
) -> tuple[Tensor, Tensor]:
    """Return the gradients of `qkv`, and their sums over the tokens in float32, [3 * width]."""
    tokens, wide = qkv.shape
    gradient_qkv, delta = torch.empty_like(qkv), torch.empty_like(logsumexp)
    sums = qkv.new_empty(len(table), wide, dtype=torch.float32)
    grid, shape = (heads, len(table)), _shape(qkv, heads)
    results = (delta, gradient_qkv, sums, table, tokens, scale)
    _backward_query[grid](qkv, output, gradient, logsumexp, *results, **shape, **BACKWARD_QUERY)
    _backward_key_value[grid](qkv, gradient, logsumexp, *results, **shape, **BACKWARD_KEY_VALUE)
    return gradient_qkv, sums.sum(0)


@_attend_backward.register_fake
def _(
    qkv: Tensor,
    output: Tensor,  # noqa: ARG001
    gradient: Tensor,  # noqa: ARG001
    logsumexp: Tensor,  # noqa: ARG001
    table: Tensor,  # noqa: ARG001
    heads: int,  # noqa: ARG001
    scale: float,  # noqa: ARG001
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(qkv), qkv.new_empty(qkv.shape[1], dtype=torch.float32)


def _save(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    qkv, bias, table, ctx.heads, ctx.scale = inputs
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.save_for_backward(qkv, *output, table)


def _gradients(ctx, gradient, _logsumexp):  # type: ignore[no-untyped-def]
    qkv, output, logsumexp, table = ctx.saved_tensors
    gradient = gradient.contiguous()
    gradient_qkv, sums = _attend_backward(qkv, output, gradient, logsumexp, table, ctx.heads, ctx.scale)
    return gradient_qkv, None if ctx.bias_dtype is None else sums.to(ctx.bias_dtype), None, None, None


_attend.register_autograd(_gradients, setup_context=_save)


def _shape(qkv: Tensor, heads: int) -> dict[str, int | str]:
    width = qkv.shape[1] // (3 * heads)
    precision = "ieee" if qkv.dtype == torch.float32 else "tf32"
    padded = max(16, triton.next_power_of_2(width))
    return {"HEADS": heads, "WIDTH": width, "PADDED": padded, "BLOCK": BLOCK, "PRECISION": precision}
