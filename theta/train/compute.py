"""How rows are computed: device, arithmetic, plan and shape, chosen once before the first step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from theta.kernels.blocks import blocks_of
from theta.memory.plans import Plan
from theta.model.attention import has_kernel
from theta.model.forward import Passes
from theta.model.loss import Loss
from theta.model.rows import PADDING_LENGTH, Examples, Row, Shape, row_nats
from theta.tokens.packing import pack
from theta.tokens.store import Store
from theta.train.batches import rows_of
from theta.train.distributed import ALONE, Ranks

MULTIPLE = 128
"""Rows of one shape are padded to a multiple of this many tokens, which suits the matrix products."""


@dataclass(frozen=True, slots=True)
class Compute:
    """Where and how rows are computed.

    Attributes:
        dtype: of the matrix products.
        plan: how memory is used.
        tokens_per_microbatch: the most tokens of a row.
        compiled: whether the blocks run through torch.compile.
        shape: of all rows, if work on them is compiled or recorded; None leaves each as long as its documents.
        label_smoothing: of the loss in training; validation uses none, so that its losses can be compared.
        ranks: the processes that share the rows of a step.
    """

    device: torch.device
    dtype: torch.dtype
    vocabulary_size: int
    plan: Plan
    tokens_per_microbatch: int
    compiled: bool = False
    shape: Shape | None = None
    label_smoothing: float = 0.0
    ranks: Ranks = ALONE

    def rows(self, samples: Examples, step: Sequence[int]) -> Iterator[Row]:
        """Yield this rank's rows of a step's samples, as many as every other rank's; some may have no samples."""
        rows = rows_of(step, samples.lengths, self.tokens_per_microbatch, self.ranks.count)
        for row in rows[self.ranks.rank :: self.ranks.count]:
            yield Row.of(samples, row, self.device, self.shape)

    def validation_rows(self, store: Store) -> Iterator[Row]:
        """Yield this rank's rows of a complete store."""
        rows = pack(range(len(store)), store.lengths, self.tokens_per_microbatch)
        for row in rows[self.ranks.rank :: self.ranks.count]:
            yield Row.of(store, row, self.device, self.shape)

    def nats(
        self, model: GPT2LMHeadModel, row: Row, scale: float | Tensor = 1.0, label_smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Return the nats of a row's learned tokens, times `scale`, as `theta.model.rows.row_nats` returns them."""
        loss = Loss(self.vocabulary_size, scale, self.plan.positions_per_chunk, label_smoothing)
        cast = self.plan.weights == "float32" and self.dtype != torch.float32
        with torch.autocast(self.device.type, self.dtype, enabled=cast):
            return row_nats(model, row, loss, Passes(self.compiled, self.plan.recompute))


def longest_of(*stores: Examples | None) -> int:
    """Return the tokens of the longest document; a store is None if nothing is held back in it."""
    return max(int(store.lengths.max()) for store in stores if store)


def with_shape(
    compute: Compute, samples: Examples, validation: Store | None, steps: Sequence[Sequence[int]]
) -> Compute:
    """Return the compute with the smallest shape for all rows of the run; unchanged without the attention kernel."""
    if not has_kernel(compute.device) or compute.dtype == torch.float32:
        return compute
    limit, ranks = compute.tokens_per_microbatch, compute.ranks.count
    rows: list[tuple[Examples, list[int]]] = [
        (samples, row) for step in steps for row in rows_of(step, samples.lengths, limit, ranks)
    ]
    longest = max(int(store.lengths[row].sum()) for store, row in rows)
    if validation:
        longest = max(longest, longest_of(validation))
        rows += [(validation, row) for row in pack(range(len(validation)), validation.lengths, longest)]
    tokens = -(-longest // MULTIPLE) * MULTIPLE
    blocks = max(_blocks(store.lengths[row], tokens) for store, row in rows)
    learned = max(int(store.learned_counts[row].sum()) for store, row in rows)
    return replace(compute, tokens_per_microbatch=longest, shape=Shape(tokens, blocks, learned))


def _blocks(lengths: np.ndarray, tokens: int) -> int:
    """Entries of the kernel's table for a row with documents of these lengths and padding."""
    padding = tokens - int(lengths.sum())
    return blocks_of(lengths.tolist()) + -(-padding // PADDING_LENGTH)


def smaller(
    compute: Compute, samples: Examples, validation: Store | None, steps: Sequence[Sequence[int]]
) -> Compute | None:
    """Return the compute with microbatches of half the size, or None where they cannot be smaller."""
    longest = longest_of(samples, validation)
    tokens = max(longest, round(0.51 * compute.tokens_per_microbatch))  # the documents seldom divide evenly
    if compute.plan.step_in_backward or tokens >= compute.tokens_per_microbatch:
        return None
    return with_shape(replace(compute, tokens_per_microbatch=tokens), samples, validation, steps)
