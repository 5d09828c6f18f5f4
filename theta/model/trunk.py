"""The forward pass of a row through transformers' GPT-2, block by block.

The weights and their modules are transformers' own; what stands here is only the way through them, which is equal to
its model class (a test compares them) but knows documents. It lets one block be compiled once and used for all
layers, seconds instead of minutes, and be made again in the backward pass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import GPT2LMHeadModel
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

from theta.model.attention import Packing, packed_attention


@dataclass(frozen=True, slots=True)
class Passes:
    """How the blocks are passed through; no setting changes what comes out but for rounding.

    Attributes:
        compiled: through torch.compile; the rows must then all have the same shape.
        recompute: hold only what stands between the blocks, and make the rest again in the backward pass.
    """

    compiled: bool = False
    recompute: bool = False


EAGER = Passes()


def hidden_states(model: GPT2LMHeadModel, ids: Tensor, packing: Packing, passes: Passes = EAGER) -> Tensor:
    """Final hidden states, [1, tokens, width]; no token sees another document.

    Args:
        ids: [1, tokens].
    """
    transformer = model.transformer
    hidden: Tensor = transformer.drop(transformer.wte(ids) + transformer.wpe(packing.position_ids))
    run = _compiled_block() if passes.compiled else _block
    recompute = passes.recompute and torch.is_grad_enabled()
    for block in transformer.h:
        if recompute:
            # Dropout is drawn again from the same generator state; without dropout nothing need be kept for that.
            hidden = checkpoint(run, block, hidden, packing, use_reentrant=False, preserve_rng_state=draws(model))
        else:
            hidden = run(block, hidden, packing)
    states: Tensor = transformer.ln_f(hidden)
    return states


def draws(model: GPT2LMHeadModel) -> bool:
    """Whether blocks draw dropout."""
    dropout: float = model.transformer.h[0].attn.resid_dropout.p
    return dropout > 0


def _block(block: GPT2Block, hidden: Tensor, packing: Packing) -> Tensor:
    attention = block.attn
    qkv = attention.c_attn(block.ln_1(hidden))
    mixed = packed_attention(qkv, packing, attention.num_heads, attention.scaling)
    hidden = hidden + attention.resid_dropout(attention.c_proj(mixed))
    states: Tensor = hidden + block.mlp(block.ln_2(hidden))
    return states


@lru_cache(maxsize=1)
def _compiled_block() -> Callable[[GPT2Block, Tensor, Packing], Tensor]:
    return torch.compile(_block, dynamic=False, fullgraph=True)
