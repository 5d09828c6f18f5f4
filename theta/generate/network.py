"""GPT-2's forward pass in plain torch over `Weights`, with the attention left to the caller."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, relu, scaled_dot_product_attention, silu

from theta.generate.shape import Shape
from theta.generate.weights import Affine, Weights

Mix = Callable[[int, Tensor], Tensor]
"""Attention of a layer: from queries, keys and values side by side, [tokens, 3 * width], to [tokens, width]."""


def _tanh_gelu(x: Tensor) -> Tensor:
    return gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_new": _tanh_gelu,
    "gelu_fast": _tanh_gelu,
    "gelu_pytorch_tanh": _tanh_gelu,
    "gelu": gelu,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": relu,
    "silu": silu,
    "swish": silu,
    "tanh": torch.tanh,
}
"""Those that `theta.bases` admits, by their names in transformers."""


def embed(weights: Weights, ids: Tensor, positions: Tensor) -> Tensor:
    """Return the embeddings of ids at their positions, both [tokens], in float32 [tokens, width]."""
    return weights.tokens[ids].float() + weights.positions[positions].float()


def blocks(weights: Weights, shape: Shape, x: Tensor, mix: Mix) -> Tensor:
    """Return the residual stream after all layers, float32 [tokens, width]. It is computed in place."""
    activation = ACTIVATIONS[shape.activation]
    for layer, block in enumerate(weights.blocks):
        x += block.out(mix(layer, block.qkv(norm(x, block.norm_1, shape))))
        x += block.down(activation(block.up(norm(x, block.norm_2, shape))))
    return x


def norm(x: Tensor, affine: Affine, shape: Shape) -> Tensor:
    """Return the layer norm of the residual stream, in float32."""
    return layer_norm(x, (shape.width,), *affine, shape.epsilon)


@torch.inference_mode()
def logits(weights: Weights, shape: Shape, ids: Sequence[int], places: Sequence[int]) -> Tensor:
    """Return the logits [places, vocabulary] after the ids at some places of a text, [ids]."""

    def mix(layer: int, qkv: Tensor) -> Tensor:
        q, k, v = qkv.view(len(ids), 3, shape.heads, shape.head).permute(1, 2, 0, 3)[:, None]
        mixed = scaled_dot_product_attention(q, k, v, is_causal=True, scale=shape.scales[layer])
        return mixed[0].transpose(0, 1).flatten(1)

    x = blocks(weights, shape, embed(weights, torch.tensor(ids), torch.arange(len(ids))), mix)
    return weights.head(norm(x[list(places)], weights.norm, shape)).float()
