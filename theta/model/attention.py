"""Attention among the tokens of one document, for documents laid end to end in one row.

ids        [a a a b b c c c c . .]      one row; padding, if any, only at its end
position   [0 1 2 0 1 0 1 2 3 0 1]      restarts with each document
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from theta.kernels.blocks import block_table
from theta.machine.devices import to_device, triton_lacks

LONGEST_PLAIN = 512
"""Longest document whose attention weights are held in memory on a CPU."""


@dataclass(frozen=True)
class Packing:
    """Where documents begin and end in a row.

    Attributes:
        lengths: tokens of each document.
        position_ids: [1, tokens], restarting at 0 with each document.
        table: the same for the kernel, in a shape that does not depend on the lengths; None where it cannot run.
    """

    lengths: tuple[int, ...]
    position_ids: Tensor
    table: Tensor | None

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device, blocks: int | None = None) -> "Packing":
        """Return the packing of documents of these lengths.

        Args:
            blocks: entries of the table; None for as many as the documents need.
        """
        counts = torch.tensor(lengths)
        starts = counts.cumsum(0) - counts
        positions = torch.arange(int(counts.sum())) - starts.repeat_interleave(counts)
        position_ids = to_device(positions[None], device)
        table = to_device(block_table(lengths, blocks), device) if has_kernel(device) else None
        return cls(tuple(lengths), position_ids, table)


@lru_cache
def has_kernel(device: torch.device) -> bool:
    """Whether the GPU kernels run on the device: on Nvidia GPUs from Ampere on, where Triton can compile them."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0) and triton_lacks() is None


def kernels_serve(packing: Packing, states: Tensor) -> bool:
    """Whether the blocks' kernels accept the product of these states; in float32 their tiles do not fit."""
    return packing.table is not None and (states.dtype != torch.float32 or torch.is_autocast_enabled())


def packed_attention(qkv: Tensor, packing: Packing, heads: int, scale: float, bias: Tensor | None = None) -> Tensor:
    """Causal attention within each document.

    Attention weights are not dropped out: no flash kernel for packed rows supports it.

    Args:
        qkv: queries, keys and values side by side, [1, tokens, 3 * width].
        scale: of the scores, before the softmax.
        bias: [3 * width], already added to `qkv`; given where the kernel is to compute its gradient as well.

    Returns:
        [1, tokens, width].
    """
    if packing.table is not None and qkv.dtype != torch.float32:
        from theta.kernels.attention import attend

        # A view: indexing the one row would copy its gradient into a tensor of zeros.
        return attend(qkv.flatten(0, 1), packing.table, heads, scale, bias)[None]
    assert bias is None
    # One call per document works on views of the row, without copies and without work between documents. Padded
    # batches of similar lengths were 2x slower on a CPU because of the gathers and their backward pass.
    tokens, wide = qkv.shape[1:]
    parts = qkv.view(tokens, 3, heads, wide // (3 * heads)).permute(1, 2, 0, 3)  # [3, heads, tokens, head width]
    outputs = [_document_attention(document[:, None], scale) for document in parts.split(packing.lengths, dim=2)]
    return torch.cat(outputs, dim=2).transpose(1, 2).flatten(2)


def _document_attention(parts: Tensor, scale: float) -> Tensor:
    """Causal attention of one document.

    Args:
        parts: queries, keys and values, [3, 1, heads, tokens, head width].

    Returns:
        [1, heads, tokens, head width].
    """
    query, key, value = parts
    tokens = query.shape[2]
    if query.device.type != "cpu" or query.dtype == torch.float32 or tokens > LONGEST_PLAIN:
        return scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)
    # In bfloat16 on a CPU, plain products are 2x as fast as the flash kernel, forward and backward, up to this length.
    scores = torch.matmul(query, key.transpose(-1, -2)).mul(scale)
    return torch.matmul(torch.softmax(scores + _future(query.dtype)[:tokens, :tokens], dim=-1), value)


@lru_cache(maxsize=2)
def _future(dtype: torch.dtype) -> Tensor:
    """Minus infinity where the key comes after the query, [LONGEST_PLAIN, LONGEST_PLAIN]."""
    return torch.full((LONGEST_PLAIN, LONGEST_PLAIN), -torch.inf, dtype=dtype).triu(1)
