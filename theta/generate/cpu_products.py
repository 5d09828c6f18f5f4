"""Products with packed weights on a CPU without a C compiler, by FBGEMM, which comes with torch for x86.

What a step reads from memory is most of its time. Weights in 16 bits are half of those in float32, and the products are
the same but for rounding; weights in 8 bits are a fourth, and the products differ. Either way a row of a product does
not depend on how many rows or threads there are, to the bit.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import inf
from typing import Any
from warnings import catch_warnings, filterwarnings

import torch
from torch import Tensor
from torch.linalg import vector_norm

from theta.generate.weights import MATRICES, Block, Matrix, Weights

SMALLEST_STEP = 2.0**-24
"""Between two numbers in float16, at zero."""
MOST_OF_WEIGHTS = 127
"""Weights in 8 bits are whole numbers from -127 to 127."""
MOST, ZERO_POINT = 63, 64
"""Activations are numbers from -63 to 63 in 7 bits, and FBGEMM wants them without a sign, 64 for zero. x86 processors
without VNNI add pairs of products in 16 bits: 2 x 127 x 127 fits, and what 8 bits give would not."""
FINE_STEPS = 126
"""Of the fine number, in one step of the coarse one."""
STEPS = torch.tensor([MOST, MOST * FINE_STEPS]).view(2, 1, 1)
"""Of the coarse and of the fine number, in the largest activation of a row."""
TINY = 1e-30
"""Instead of zero, where it would divide."""


def is_available() -> bool:
    """Whether torch has FBGEMM on this machine; it has not on ARM."""
    return "fbgemm" in torch.backends.quantized.supported_engines


def pack_exactly(weights: Weights) -> Weights:
    """Return weights whose matrices are in float16, for products with values in float32.

    The weights are returned as they are where FBGEMM is missing, or where float16 does not hold them: those that were
    stored in bfloat16 or float16 fit, and trained ones in float32 do not. Packing takes 20 ns a weight and thread.
    """
    if not is_available() or not all(map(_fits, _matrices(weights))):
        return weights
    return _packed(weights, Product16.of)


def round_to_8_bits(weights: Weights) -> Weights:
    """Return weights whose matrices are in 8 bits, each row with a scale of its own; see `Product8`.

    Rounding and packing take 13 ns a weight and thread.
    """
    with catch_warnings():
        # Of torch 2.13, about the form in which FBGEMM takes the weights (docs/decisions.md).
        filterwarnings("ignore", ".*quantized tensor creation functions", UserWarning)
        return replace(_packed(weights, Product8.of), dtype="int8")


@dataclass(frozen=True, slots=True)
class Product16:
    """A product of values in float32 with weights in float16; it adds in float32."""

    packed: Any

    @classmethod
    def of(cls, matrix: Matrix) -> "Product16":
        """Pack a matrix and its bias."""
        weight, bias = _in_float32(matrix)
        return cls(torch.ops.quantized.linear_prepack_fp16(weight, bias))

    def __call__(self, x: Tensor) -> Tensor:
        """Return the product with x [tokens, in]."""
        product: Tensor = torch.ops.quantized.linear_dynamic_fp16(x, self.packed)
        return product


@dataclass(frozen=True, slots=True)
class Product8:
    """A product with weights in 8 bits, of activations that are sums of two numbers in 7 bits; it adds whole numbers.

    A row of activations is divided by its largest one. Each is rounded to 7 bits, the coarse number, and what that
    leaves is rounded to 7 bits again, the fine number. Both are rows of the same product, which takes hardly longer,
    since it is the weights that are read from memory. Some activations of language models are many times as large as
    the others of their row (Dettmers et al. 2022, arXiv 2208.07339), so that 8 bits alone would leave little of those.
    """

    packed: Any
    bias: Tensor | None

    @classmethod
    def of(cls, matrix: Matrix) -> "Product8":
        """Round and pack a matrix."""
        weight, bias = _in_float32(matrix)
        scales = vector_norm(weight, inf, 1).clamp_min_(TINY) / MOST_OF_WEIGHTS
        zeros = torch.zeros(len(scales), dtype=torch.long)
        rounded = torch.quantize_per_channel(weight, scales.double(), zeros, 0, torch.qint8)
        return cls(torch.ops.quantized.linear_prepack(rounded, None), bias)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the product with x [tokens, in]."""
        steps = STEPS / vector_norm(x, inf, 1, keepdim=True).clamp_min_(TINY)  # [2, tokens, 1]
        numbers = x * steps
        coarse, fine = numbers.unbind()
        coarse.round_()
        fine.sub_(coarse, alpha=FINE_STEPS)
        product = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            numbers.flatten(0, 1), 1.0, ZERO_POINT, self.packed
        )
        coarse, fine = product.chunk(2)
        whole = coarse.add_(fine, alpha=1 / FINE_STEPS)
        return whole.div_(steps[0]) if self.bias is None else torch.addcdiv(self.bias, whole, steps[0])


def _matrices(weights: Weights) -> Iterator[Matrix]:
    for block in weights.blocks:
        yield from (getattr(block, part) for part in MATRICES)
    yield weights.head


def _fits(matrix: Matrix) -> bool:
    """Whether float16 holds the weights, except for the last bits of those below 0.00001."""
    weight = matrix.weight.float()
    return bool((weight - weight.half().float()).abs().max() <= SMALLEST_STEP / 2)


def _in_float32(matrix: Matrix) -> tuple[Tensor, Tensor | None]:
    return matrix.weight.float().contiguous(), None if matrix.bias is None else matrix.bias.float()


def _packed(weights: Weights, product: Callable[[Matrix], Product16 | Product8]) -> Weights:
    def pack(matrix: Matrix) -> Matrix:
        return Matrix(torch.empty(0), None, product(matrix))

    def pack_block(block: Block) -> Block:
        matrices = {part: pack(getattr(block, part)) for part in MATRICES}
        return Block(norm_1=block.norm_1, norm_2=block.norm_2, **matrices)

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        head = threads.submit(pack, weights.head)
        blocks = list(threads.map(pack_block, weights.blocks))
        return replace(weights, blocks=blocks, head=head.result())
