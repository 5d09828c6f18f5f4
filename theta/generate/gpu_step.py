"""One step of some rows on the GPU, recorded as a CUDA graph: from the current ids to the next ones."""

from collections.abc import Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from theta.generate.gpu_graph import recorded
from theta.generate.gpu_state import State, to_device
from theta.generate.network import ACTIVATIONS
from theta.generate.shape import Shape
from theta.generate.weights import Affine, Block, Matrix, Weights
from theta.kernels import decoding, sampling

HOPPER = (9, 0)
VECTOR_ACTIVATIONS = ("gelu_new", "gelu_fast", "gelu_pytorch_tanh")
"""Activations that `theta.kernels.decoding.product` computes."""
ATTENTION_BLOCKS = (128, 64)
"""Positions of the cache that a program of `attend` has at once, for one row and for several: the fastest of 16 to 128
on an H100."""
ATTENTION_PROGRAMS = 512
SMALLEST_PART = 128
CANDIDATES_WARPS, CHOOSE_WARPS = 8, 8


class Step:
    """A step of `rows` rows; `run` may serve fewer.

    Args:
        kept: the largest `top_k` that it serves, one of `theta.kernels.sampling.KEPT`.
    """

    def __init__(self, weights: Weights, shape: Shape, state: State, rows: int, kept: int, *, graph: bool) -> None:
        self._weights, self._shape, self._state, self._rows = weights, shape, state, rows
        device, columns = weights.tokens.device, state.marks.shape[1]
        self._part = attention_part(rows * shape.heads, shape.positions)
        self._parts = -(-shape.positions // self._part)
        self._chunks, self._kept = -(-columns // sampling.CHUNK), kept
        self._pdl = graph and torch.cuda.get_device_capability(device) >= HOPPER
        self._launch: dict[str, Any] = {"PDL": self._pdl} | ({"launch_pdl": True} if self._pdl else {})
        self._new = lambda *sizes, dtype=torch.float32: torch.zeros(sizes, dtype=dtype, device=device)
        self._x, self._logits = self._new(rows, shape.width), self._new(rows, columns)
        self._attention = (
            self._new(rows, self._parts, shape.heads, shape.head),
            self._new(rows, self._parts, shape.heads),
            self._new(rows, self._parts, shape.heads),
        )
        self._peaks, self._sums = self._new(rows, self._chunks), self._new(rows, self._chunks)
        self._keys = self._new(rows, self._chunks, kept, dtype=torch.int64)
        self._slots = self._new(rows, dtype=torch.int32).fill_(state.slots)
        self._qkv, self._up = self._new(1, 3 * shape.width), self._new(1, shape.inner)
        self._pads = state.slots
        self._placed: list[int] = []
        # The rows that warm up are those that only fill up a step.
        state.state[-1].zero_()
        self._run = recorded(self._compute) if graph else self._compute

    def run(self, slots: Sequence[int]) -> Tensor:
        """Advance the rows of these slots by a token; return the logits [rows, columns] before the rules."""
        if list(slots) != self._placed:
            self._placed = list(slots)
            padded = [*slots, *[self._pads] * (self._rows - len(slots))]
            self._slots.copy_(to_device(padded, self._slots.device, torch.int32))
        self._run()
        return self._logits

    def _compute(self) -> None:
        shape, state = self._shape, self._state
        if self._rows > 1:  # rows that only fill up the step stay at the first position
            state.state[-1].zero_()
        padded = triton.next_power_of_2(shape.width)
        decoding.embed[(self._rows,)](
            self._weights.tokens, self._weights.positions, state.state, self._slots, self._x,
            WIDTH=shape.width, PADDED=padded, **self._launch,
        )  # fmt: skip
        if self._rows == 1 and shape.activation in VECTOR_ACTIVATIONS:
            self._one_row()
        else:
            self._many_rows()
        self._choose()

    def _one_row(self) -> None:
        for layer, block in enumerate(self._weights.blocks):
            self._product(self._x, block.qkv, self._qkv, norm=block.norm_1)
            self._attend(layer, self._qkv)
            self._product(self._x, block.out, self._x, merge=True, add=True)
            self._product(self._x, block.up, self._up, norm=block.norm_2, gelu=True)
            self._product(self._up, block.down, self._x, add=True)
        self._product(self._x, self._weights.head, self._logits, norm=self._weights.norm)

    def _product(
        self, x: Tensor, matrix: Matrix, output: Tensor, *, norm: Affine | None = None,
        merge: bool = False, gelu: bool = False, add: bool = False,
    ) -> None:  # fmt: skip
        shape, (rows, columns) = self._shape, matrix.weight.shape
        padded = triton.next_power_of_2(columns)
        tile, warps = product_tile(rows, padded)
        gain, shift = norm or (matrix.weight, matrix.weight)
        decoding.product[(triton.cdiv(rows, tile),)](
            x, matrix.weight, matrix.bias, gain, shift, *self._attention, self._state.state, self._slots, output, rows,
            shape.epsilon, IN=columns, PADDED=padded, ROWS=tile, NORM=norm is not None, MERGE=merge, GELU=gelu,
            ADD=add, BIAS=matrix.bias is not None, HEADS=shape.heads, HEAD=shape.head, PARTS=self._parts,
            PART=self._part, num_warps=warps, **self._launch,
        )  # fmt: skip

    def _many_rows(self) -> None:
        dtype = self._weights.tokens.dtype
        activation = ACTIVATIONS[self._shape.activation]
        added: Tensor | None = None
        for layer, block in enumerate(self._weights.blocks):
            qkv = block.qkv(self._add_norm(added, block.norm_1))
            self._attend(layer, qkv)
            added = block.out(self._merge(dtype))
            added = self._perceptron(added, block, activation)
        states = self._add_norm(added, self._weights.norm)
        vocabulary = self._shape.vocabulary
        if dtype == torch.float32:
            torch.mm(states, self._weights.head.weight.T, out=self._logits[:, :vocabulary])
        else:  # in float32, because bfloat16 has only 8 bits for logits that differ little
            self._logits[:, :vocabulary] = torch.mm(states, self._weights.head.weight.T, out_dtype=torch.float32)

    def _perceptron(self, added: Tensor, block: Block, activation: Any) -> Tensor:
        return block.down(activation(block.up(self._add_norm(added, block.norm_2))))

    def _add_norm(self, added: Tensor | None, norm: Affine) -> Tensor:
        width = self._shape.width
        output = torch.empty((self._rows, width), dtype=self._weights.tokens.dtype, device=self._x.device)
        decoding.add_norm[(self._rows,)](
            self._x, self._x if added is None else added, *norm, output, self._shape.epsilon,
            WIDTH=width, PADDED=triton.next_power_of_2(width), ADD=added is not None, PDL=False,
        )  # fmt: skip
        return output

    def _attend(self, layer: int, qkv: Tensor) -> None:
        shape, cache = self._shape, self._state.cache[layer]
        # cuBLAS knows nothing of dependent launch, so only kernels between kernels of ours use it.
        launch = self._launch if self._rows == 1 else {"PDL": False}
        decoding.attend[(shape.heads, self._parts, self._rows)](
            qkv, cache, self._state.state, self._slots, *self._attention, shape.scales[layer], cache.stride(0),
            HEADS=shape.heads, HEAD=shape.head, PADDED=max(16, triton.next_power_of_2(shape.head)),
            POSITIONS=shape.positions, PARTS=self._parts, PART=self._part,
            BLOCK=min(self._part, ATTENTION_BLOCKS[self._rows > 1]), num_warps=4, **launch,
        )  # fmt: skip

    def _merge(self, dtype: torch.dtype) -> Tensor:
        shape = self._shape
        output = torch.empty((self._rows, shape.width), dtype=dtype, device=self._x.device)
        decoding.merge[(self._rows,)](
            *self._attention, self._state.state, self._slots, output, HEADS=shape.heads, HEAD=shape.head,
            PARTS=self._parts, PADDED=triton.next_power_of_2(shape.width), PART=self._part, PDL=False,
        )  # fmt: skip
        return output

    def _choose(self) -> None:
        state, rows, chunks, columns = self._state, self._rows, self._chunks, self._logits.shape[1]
        ids, chunk, kept = self._shape.vocabulary, sampling.CHUNK, self._kept
        sampling.log_sum_exp[(chunks, rows)](
            self._logits, state.never, self._peaks, self._sums, ids, columns, CHUNK=chunk, **self._launch
        )
        parameters = (state.state, state.whole, state.fractions, self._slots)
        sampling.candidates[(chunks, rows)](
            self._logits, state.never, self._peaks, self._sums, state.marks, *parameters, self._keys, ids, columns,
            chunks, CHUNK=chunk, KEPT=kept, CHUNKS=triton.next_power_of_2(chunks), num_warps=CANDIDATES_WARPS,
            **self._launch,
        )  # fmt: skip
        sampling.choose[(rows,)](
            self._keys, *parameters, state.noise, state.replies, state.written, state.marks, columns, chunks * kept,
            KEPT=kept, CANDIDATES=triton.next_power_of_2(chunks * kept), LONGEST=sampling.LONGEST,
            num_warps=CHOOSE_WARPS, **self._launch,
        )  # fmt: skip


def attention_part(heads: int, positions: int) -> int:
    """Return how many positions of the cache a program of `attend` reads, so that a step has enough programs.

    Args:
        heads: of all rows together.
    """
    parts: int = triton.next_power_of_2(max(1, ATTENTION_PROGRAMS // heads))
    part: int = triton.next_power_of_2(positions) // parts
    return max(SMALLEST_PART, part)


def product_tile(rows: int, padded: int) -> tuple[int, int]:
    """Return the rows of a program of `product`, and its warps, for a matrix of `rows` rows of `padded` columns.

    Large tiles were the fastest on an H100, as long as there are enough of them for its multiprocessors.
    """
    tile = max(1, 16384 // padded)
    while tile > 1 and rows // tile < 128:
        tile //= 2
    return tile, 4 if tile * padded <= 4096 else 8
