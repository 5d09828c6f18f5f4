"""GPT-2's activation as Triton kernels: the approximate GELU of Hendrycks and Gimpel (2016), and its gradient.

Its tanh is written as a sigmoid, which costs one exponential; a general tanh took longer than reading the memory. The
backward kernel also sums its columns, which gives the gradient of the bias that was added before and saves a pass over
the widest tensor of a block.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, STEP, COLUMNS, WARPS = 128, 8, 256, 4
"""A program's tokens, those that it holds at once, its columns and its warps."""

TWICE_SQRT_2_PI = tl.constexpr(1.5957691216057308)
CUBIC = tl.constexpr(0.044715)


@triton.jit
def _sigmoid(x):
    """The factor by which GELU multiplies x: (1 + tanh(y)) / 2 is sigmoid(2 y)."""
    return 1 / (1 + tl.exp((x + x * x * x * CUBIC) * -TWICE_SQRT_2_PI))


@triton.jit
def _places(row, last, column, columns):
    """Indices of some rows within the columns of this program, and which of them exist, both [STEP, COLUMNS]."""
    mask = (row < last)[:, None] & (column < columns)[None, :]
    return row.to(tl.int64)[:, None] * columns + column[None, :], mask


@triton.jit
def _forward(
    product, result, rows, columns, ROWS: tl.constexpr, STEP: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    for first in range(0, ROWS, STEP):
        row = tl.program_id(1) * ROWS + first + tl.arange(0, STEP)
        place, mask = _places(row, rows, column, columns)
        x = tl.load(product + place, mask=mask, other=0.0).to(tl.float32)
        tl.store(result + place, (x * _sigmoid(x)).to(result.dtype.element_ty), mask=mask)


@triton.jit
def _backward(
    product, gradient, gradient_product, sums, rows, columns,
    ROWS: tl.constexpr, STEP: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros([STEP, COLUMNS], tl.float32)
    for first in range(0, ROWS, STEP):
        row = tl.program_id(1) * ROWS + first + tl.arange(0, STEP)
        place, mask = _places(row, rows, column, columns)
        x = tl.load(product + place, mask=mask, other=0.0).to(tl.float32)
        s = _sigmoid(x)
        slope = s + x * s * (1 - s) * (1 + x * x * (3 * CUBIC)) * TWICE_SQRT_2_PI
        change = slope * tl.load(gradient + place, mask=mask, other=0.0).to(tl.float32)
        tl.store(gradient_product + place, change.to(gradient_product.dtype.element_ty), mask=mask)
        total += change
    tl.store(sums + tl.program_id(1) * columns + column, tl.sum(total, 0), mask=column < columns)


def gelu(product: Tensor, bias: Tensor) -> Tensor:
    """Apply the activation to a product to which `bias` was already added.

    Args:
        product: [tokens, columns].
        bias: [columns]. It is passed only for its gradient; the addition must not compute a second one.

    Returns:
        [tokens, columns].
    """
    result: Tensor = _gelu(product.contiguous(), bias)
    return result


@torch.library.custom_op("theta::gelu", mutates_args=())
def _gelu(product: Tensor, bias: Tensor) -> Tensor:  # noqa: ARG001
    result = torch.empty_like(product)
    _forward[_grid(product)](product, result, *product.shape, ROWS, STEP, COLUMNS, num_warps=WARPS)
    return result


@_gelu.register_fake
def _(product: Tensor, bias: Tensor) -> Tensor:  # noqa: ARG001
    return torch.empty_like(product)


@torch.library.custom_op("theta::gelu_backward", mutates_args=())
def _gelu_backward(product: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of the product, and their sums over the tokens in float32, [columns]."""
    gradient_product, grid = torch.empty_like(product), _grid(product)
    sums = product.new_empty(grid[1], product.shape[1], dtype=torch.float32)
    _backward[grid](product, gradient, gradient_product, sums, *product.shape, ROWS, STEP, COLUMNS, num_warps=WARPS)
    return gradient_product, sums.sum(0)


@_gelu_backward.register_fake
def _(product: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    return torch.empty_like(product), product.new_empty(product.shape[1], dtype=torch.float32)


def _save(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]  # noqa: ARG001
    product, bias = inputs
    ctx.bias_dtype = bias.dtype
    ctx.save_for_backward(product)


def _gradients(ctx, gradient):  # type: ignore[no-untyped-def]
    (product,) = ctx.saved_tensors
    gradient_product, sums = _gelu_backward(product, gradient.contiguous())
    return gradient_product, sums.to(ctx.bias_dtype)


_gelu.register_autograd(_gradients, setup_context=_save)


def _grid(product: Tensor) -> tuple[int, int]:
    rows, columns = product.shape
    return triton.cdiv(columns, COLUMNS), triton.cdiv(rows, ROWS)
