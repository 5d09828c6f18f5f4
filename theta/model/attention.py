"""Attention among the tokens of one document, for documents laid end to end in one row.

    ids        [a a a b b c c c c]      one row, no padding between documents
    position   [0 1 2 0 1 0 1 2 3]      restarts with each document

transformers' GPT-2 calls the attention function by the name in its config and hands on every keyword that the
model was called with, so a `Packing` reaches `packed_attention` without any model code of our own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, GPT2LMHeadModel

PACKED = "theta_packed"

LONGEST_PLAIN = 512
"""Longest document whose attention weights are held in memory on a CPU."""


@dataclass(frozen=True, slots=True)
class Packing:
    """Where documents begin and end in a row.

    Attributes:
        lengths: tokens of each document.
        ends: cumulative lengths from 0, int32 [documents + 1], on the device of the row.
        position_ids: [1, tokens], restarting at 0 with each document.
    """

    lengths: tuple[int, ...]
    ends: Tensor
    position_ids: Tensor

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> "Packing":
        """The packing of documents of these lengths."""
        counts = torch.tensor(lengths)
        ends = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])
        positions = torch.arange(int(ends[-1])) - ends[:-1].repeat_interleave(counts)
        return cls(tuple(lengths), ends.int().to(device), positions[None].to(device))


def use_packed_attention(model: GPT2LMHeadModel) -> None:
    """Switch a model to attention within documents; it must then be called with `packing=`."""
    AttentionInterface.register(PACKED, packed_attention)
    AttentionMaskInterface.register(PACKED, _no_mask)
    model.config._attn_implementation = PACKED


def packed_attention(
    module: nn.Module,  # noqa: ARG001 - the interface of transformers
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001
    *,
    packing: Packing,
    scaling: float | None = None,
    **_unused: object,
) -> tuple[Tensor, None]:
    """Causal attention within each document. `query`, `key`, `value`: [1, heads, tokens, head width].

    Attention weights are not dropped out: no flash kernel for packed rows does it.

    Returns:
        [1, tokens, heads, head width], and None for the weights.
    """
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16):
        return _varlen(query, key, value, packing, scaling), None
    # One call a document: views of the row, no copies, and no work between documents. Padded batches of similar
    # lengths were 2x slower on a CPU, for the gathers and their backward.
    documents = zip(*(x.split(packing.lengths, dim=2) for x in (query, key, value)), strict=True)
    outputs = [_document_attention(q, k, v, scaling) for q, k, v in documents]
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def _document_attention(query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
    """Causal attention of one document, [1, heads, tokens, head width]."""
    tokens = query.shape[2]
    if query.device.type != "cpu" or query.dtype == torch.float32 or tokens > LONGEST_PLAIN:
        return scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)
    # In bfloat16 on a CPU, plain products are 2x as fast as the flash kernel, forward and backward, up to this length.
    scores = torch.matmul(query, key.transpose(-1, -2)).mul(scaling or query.shape[-1] ** -0.5)
    return torch.matmul(torch.softmax(scores + _future(query.dtype)[:tokens, :tokens], dim=-1), value)


@lru_cache(maxsize=2)
def _future(dtype: torch.dtype) -> Tensor:
    """Minus infinity where the key comes after the query, [LONGEST_PLAIN, LONGEST_PLAIN]."""
    return torch.full((LONGEST_PLAIN, LONGEST_PLAIN), -torch.inf, dtype=dtype).triu(1)


def _varlen(query: Tensor, key: Tensor, value: Tensor, packing: Packing, scaling: float | None) -> Tensor:
    """The flash kernel for packed rows (Dao 2023), through torch."""
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # [tokens, heads, head width]
    longest = max(packing.lengths)
    causal = (-1, 0)
    output = varlen_attn(q, k, v, packing.ends, packing.ends, longest, longest, scale=scaling, window_size=causal)
    assert isinstance(output, Tensor)
    return output[None]


def _no_mask(*_args: object, **_kwargs: object) -> None:
    """Documents are told apart by the packing; a mask would only cost memory."""
