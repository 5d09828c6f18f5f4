"""The reading of a single prompt on the GPU, recorded as a CUDA graph, since the host would launch it more slowly."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from theta.generate import network
from theta.generate.gpu_state import State
from theta.generate.shape import Shape
from theta.generate.weights import Weights


class Prompt:
    """Reads a prompt of up to `size` ids.

    Shorter ones are filled up: what follows a prompt changes nothing before it, and its keys and values are overwritten
    by the reply before they are read.
    """

    def __init__(self, weights: Weights, shape: Shape, state: State, size: int) -> None:
        device = weights.tokens.device
        self._weights, self._shape, self._state, self._size = weights, shape, state, size
        self._ids = torch.zeros(size, dtype=torch.long, device=device)
        self._slot = torch.full((1,), state.slots, dtype=torch.long, device=device)
        self._places = torch.arange(size, device=device)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._compute()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._compute()

    def read(self, slot: int, ids: Sequence[int]) -> None:
        """Put the keys and values of ids into a slot of the cache."""
        self._slot.fill_(slot)
        self._ids[: len(ids)] = torch.tensor(ids).to(self._ids.device)
        self._graph.replay()

    def _compute(self) -> None:
        x = network.embed(self._weights, self._ids, self._places)
        network.blocks(self._weights, self._shape, x, self._mix)

    def _mix(self, layer: int, qkv: Tensor) -> Tensor:
        shape = self._shape
        q, k, v = qkv.view(self._size, 3, shape.heads, shape.head).permute(1, 2, 0, 3)
        self._state.cache[layer, :, :, :, : self._size].index_copy_(0, self._slot, torch.stack((k, v))[None])
        mixed = scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True, scale=shape.scales[layer])
        return mixed[0].transpose(0, 1).flatten(1)
