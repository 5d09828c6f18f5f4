"""The forward pass of a row through transformers' GPT-2, block by block.

The weights and their modules are transformers' own; what stands here is only the way through them, which is equal to
its model class (a test compares them) but knows documents. It lets one block be compiled once and used for all
layers, seconds instead of minutes, and be made again in the backward pass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import GPT2LMHeadModel
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP, GPT2Attention, GPT2Block
from transformers.pytorch_utils import Conv1D

from theta.model.attention import Packing, kernels_serve, packed_attention


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
    if passes.recompute and torch.is_grad_enabled():
        run = _compiled(_block) if passes.compiled else _block
        for block in transformer.h:
            # Dropout is drawn again from the same generator state; without dropout nothing need be kept for that.
            hidden = checkpoint(run, block, hidden, packing, use_reentrant=False, preserve_rng_state=draws(model))
    else:
        run = _compiled(_open_block) if passes.compiled else _open_block
        # With a gradient as later ones have, or the first block would be compiled for itself.
        added = torch.zeros_like(hidden, requires_grad=hidden.requires_grad)
        for block in transformer.h:
            hidden, added = run(block, hidden, added, packing)
        hidden = hidden + added
    states: Tensor = transformer.ln_f(hidden)
    return states


def draws(model: GPT2LMHeadModel) -> bool:
    """Whether blocks draw dropout."""
    dropout: float = model.transformer.h[0].attn.resid_dropout.p
    return dropout > 0


def _block(block: GPT2Block, hidden: Tensor, packing: Packing) -> Tensor:
    hidden, added = _branches(block, hidden, packing)
    return hidden + added


def _open_block(block: GPT2Block, hidden: Tensor, added: Tensor, packing: Packing) -> tuple[Tensor, Tensor]:
    """A block whose last addition is left to the next, where it is compiled into one kernel with the layer norm.

    Args:
        added: what the block before left to add to its hidden states.
    """
    return _branches(block, hidden + added, packing)


def _branches(block: GPT2Block, hidden: Tensor, packing: Packing) -> tuple[Tensor, Tensor]:
    """The hidden states after the attention, and what the perceptron adds to them."""
    attention = block.attn
    mixed = _attention(attention, block.ln_1(hidden), packing)
    hidden = hidden + attention.resid_dropout(attention.c_proj(mixed))
    return hidden, _perceptron(block.mlp, block.ln_2(hidden), packing)


def _attention(attention: GPT2Attention, states: Tensor, packing: Packing) -> Tensor:
    qkv, bias = _product(attention.c_attn, states, packing)
    return packed_attention(qkv, packing, attention.num_heads, attention.scaling, bias)


def _perceptron(mlp: GPT2MLP, states: Tensor, packing: Packing) -> Tensor:
    result: Tensor
    if not isinstance(mlp.act, nn.GELU):  # which `network.fuse_activation` puts there, and the kernel equals
        result = mlp(states)
        return result
    product, bias = _product(mlp.c_fc, states, packing)
    if bias is None:
        active = mlp.act(product)
    else:
        from theta.kernels.gelu import gelu

        active = gelu(product.flatten(0, 1), bias)[None]
    result = mlp.dropout(mlp.c_proj(active))
    return result


def _product(layer: nn.Module, states: Tensor, packing: Packing) -> tuple[Tensor, Tensor | None]:
    """The layer's result; and, where a kernel goes on from there, its bias, whose gradient is left to that kernel."""
    if not (isinstance(layer, Conv1D) and kernels_serve(packing, states)):  # a layer with adapters is no Conv1D
        return layer(states), None
    return torch.addmm(layer.bias.detach(), states.flatten(0, 1), layer.weight)[None], layer.bias


@lru_cache(maxsize=2)
def _compiled(block: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(block, dynamic=False, fullgraph=True)
