"""Attention among the tokens of one document, for documents laid end to end in one row.

ids        [a a a b b c c c c . .]      one row; padding, if any, only at its end
position   [0 1 2 0 1 0 1 2 3 0 1]      restarts with each document
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from theta.kernels.blocks import block_table
from theta.machine.devices import to_device, triton_lacks

LONGEST_PLAIN = 512
"""Longest document whose attention weights are held in memory on a CPU."""

GROUP_TOKENS = 128
"""On a CPU, short documents that follow each other attend together, masked, in groups of at most this many tokens."""

GROUP_MULTIPLE = 32
"""A group is padded to a multiple of this many tokens: a CPU's library compiles its products for each new length."""


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
    # A few documents in a call work on views of the row, without work between those of different lengths. Padded
    # batches of similar lengths were 2x slower on a CPU because of the gathers and their backward pass.
    tokens, wide = qkv.shape[1:]
    parts = qkv.view(tokens, 3, heads, wide // (3 * heads)).permute(1, 2, 0, 3)  # [3, heads, tokens, head width]
    if qkv.is_cpu and qkv.dtype != torch.float32:
        groups = _groups(packing.lengths)
        split = zip(parts.split([sum(group) for group in groups], dim=2), groups, strict=True)
        outputs = [_group_attention(part, group, scale) for part, group in split]
    else:
        outputs = [_flash_attention(part, scale) for part in parts.split(packing.lengths, dim=2)]
    return torch.cat(outputs, dim=1).transpose(0, 1).flatten(1)[None]


def _flash_attention(parts: Tensor, scale: float) -> Tensor:
    """Causal attention of one document.

    Args:
        parts: queries, keys and values, [3, heads, tokens, head width].

    Returns:
        [heads, tokens, head width].
    """
    query, key, value = parts[:, None]
    return scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)[0]


def _group_attention(parts: Tensor, lengths: tuple[int, ...], scale: float) -> Tensor:
    """Causal attention within each document of a group; arguments and result are those of `_flash_attention`.

    In bfloat16 on a CPU, plain products are 2x as fast as the flash kernel, forward and backward, up to LONGEST_PLAIN.
    """
    tokens = sum(lengths)
    if tokens > LONGEST_PLAIN:
        return _flash_attention(parts, scale)
    mask = _mask(lengths, parts.dtype)
    query, key, value = pad(parts, (0, 0, 0, len(mask) - tokens))
    scores = torch.baddbmm(mask, query, key.transpose(1, 2), alpha=scale)
    return torch.bmm(torch.softmax(scores, dim=-1), value)[:, :tokens]


@lru_cache
def _groups(lengths: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Combine documents that follow each other to groups of at most GROUP_TOKENS; a longer one is a group alone."""
    groups: list[tuple[int, ...]] = []
    for length in lengths:
        if groups and sum(groups[-1]) + length <= GROUP_TOKENS:
            groups[-1] += (length,)
        else:
            groups.append((length,))
    return tuple(groups)


@lru_cache(maxsize=128)
def _mask(lengths: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """0 where a token of a group sees another, else minus infinity; the padding is a document of its own.

    Returns:
        [tokens, tokens], where tokens is the next multiple of GROUP_MULTIPLE.
    """
    padding = -sum(lengths) % GROUP_MULTIPLE
    counts = torch.tensor([*lengths, padding])
    document = torch.arange(len(counts)).repeat_interleave(counts)
    earlier = torch.ones(len(document), len(document), dtype=torch.bool).tril()
    seen = earlier & (document[:, None] == document)
    return torch.zeros(len(document), len(document), dtype=dtype).masked_fill_(~seen, -torch.inf)
