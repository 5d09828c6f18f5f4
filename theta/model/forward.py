"""The forward pass of a row through transformers' GPT-2, block by block.

The weights and modules are transformers' own. This way through them equals that of its model class (a test compares
them) but keeps documents apart. One block is compiled once and used for all layers, in seconds instead of minutes, and
can be recomputed in the backward pass.
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
    """How the blocks are computed; no value changes the result except by rounding.

    Attributes:
        compiled: with torch.compile; all rows must then have the same shape.
        recompute: hold only the states between the blocks, and compute the rest again in the backward pass.
    """

    compiled: bool = False
    recompute: bool = False


EAGER = Passes()


def hidden_states(model: GPT2LMHeadModel, ids: Tensor, packing: Packing, passes: Passes = EAGER) -> Tensor:
    """Return the final hidden states, [1, tokens, width]; no token sees another document.

    Args:
        ids: [1, tokens].
    """
    transformer = model.transformer
    hidden: Tensor = transformer.drop(_embedded(transformer.wte, ids) + transformer.wpe(packing.position_ids))
    if passes.recompute and torch.is_grad_enabled():
        run = _compiled(_block) if passes.compiled else _block
        for block in transformer.h:
            # Dropout is drawn again from the same generator state; without dropout it need not be kept.
            hidden = checkpoint(run, block, hidden, packing, use_reentrant=False, preserve_rng_state=draws(model))
    else:
        run = _compiled(_open_block) if passes.compiled else _open_block
        # It requires a gradient as in later blocks, or the first block would be compiled separately.
        added = torch.zeros_like(hidden, requires_grad=hidden.requires_grad)
        for block in transformer.h:
            hidden, added = run(block, hidden, added, packing)
        hidden = hidden + added
    states: Tensor = transformer.ln_f(hidden)
    return states


def _embedded(embedding: nn.Embedding, ids: Tensor) -> Tensor:
    """Return the embeddings of tokens, [1, tokens, width].

    On a CPU their gradient is added at once to `grad` of the embedding, which the output matrix has filled by then.
    Autograd would fill a matrix of the vocabulary's size with zeros and add it all, for a few hundred rows.
    """
    embedded: Tensor
    if not (ids.is_cpu and torch.is_grad_enabled() and isinstance(embedding, nn.Embedding)):
        embedded = embedding(ids)
        return embedded
    weight = embedding.weight
    embedded = weight.detach()[ids].requires_grad_(weight.requires_grad)

    def add(gradient: Tensor) -> None:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        weight.grad.index_add_(0, ids[0], gradient[0])

    if weight.requires_grad:
        embedded.register_hook(add)
    return embedded


def draws(model: GPT2LMHeadModel) -> bool:
    """Whether the blocks draw random numbers, for dropout."""
    dropout: float = model.transformer.h[0].attn.resid_dropout.p
    return dropout > 0


def _block(block: GPT2Block, hidden: Tensor, packing: Packing) -> Tensor:
    """Return the hidden states after a block, [1, tokens, width]."""
    hidden, added = _branches(block, hidden, packing)
    return hidden + added


def _open_block(block: GPT2Block, hidden: Tensor, added: Tensor, packing: Packing) -> tuple[Tensor, Tensor]:
    """Compute a block but its last addition, which the next block compiles into one kernel with its layer norm.

    Args:
        added: what the previous block left to be added to its hidden states, [1, tokens, width].
    """
    return _branches(block, hidden + added, packing)


def _branches(block: GPT2Block, hidden: Tensor, packing: Packing) -> tuple[Tensor, Tensor]:
    """Return the hidden states after the attention, and what the MLP adds to them, both [1, tokens, width]."""
    attention = block.attn
    mixed = _attention(attention, block.ln_1(hidden), packing)
    hidden = hidden + attention.resid_dropout(attention.c_proj(mixed))
    return hidden, _perceptron(block.mlp, block.ln_2(hidden), packing)


def _attention(attention: GPT2Attention, states: Tensor, packing: Packing) -> Tensor:
    """Return the mixed values of all heads, [1, tokens, width], before the output matrix."""
    qkv, bias = _product(attention.c_attn, states, packing)
    return packed_attention(qkv, packing, attention.num_heads, attention.scaling, bias)


def _perceptron(mlp: GPT2MLP, states: Tensor, packing: Packing) -> Tensor:
    """Return the result of the MLP, [1, tokens, width]."""
    result: Tensor
    if not isinstance(mlp.act, nn.GELU):  # `network.fuse_activation` sets nn.GELU, which the kernel computes, too
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
    """Return a layer's result, [1, tokens, columns], and its bias if the next kernel computes the bias's gradient."""
    if not (isinstance(layer, Conv1D) and kernels_serve(packing, states)):  # a layer with adapters is not a Conv1D
        return layer(states), None
    return torch.addmm(layer.bias.detach(), states.flatten(0, 1), layer.weight)[None], layer.bias


@lru_cache(maxsize=2)
def _compiled(block: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(block, dynamic=False, fullgraph=True)
