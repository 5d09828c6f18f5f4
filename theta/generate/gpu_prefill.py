"""The reading of a few prompts on the GPU, recorded as a CUDA graph, since the host would launch it more slowly."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from theta.generate import network
from theta.generate.gpu_graph import recorded
from theta.generate.gpu_state import State, to_device
from theta.generate.shape import Shape
from theta.generate.weights import Weights


class Prefill:
    """Reads up to `rows` prompts of up to `size` ids each.

    Shorter ones are filled up: what follows a prompt changes nothing before it, and its keys and values are overwritten
    by the reply before they are read. Prompts that are missing go to the slot that belongs to no row. Without `graph`,
    the same is computed at once, as it can be on a CPU.
    """

    def __init__(
        self, weights: Weights, shape: Shape, state: State, rows: int, size: int, *, graph: bool = True
    ) -> None:
        device = weights.tokens.device
        self._weights, self._shape, self._state, self._rows, self._size = weights, shape, state, rows, size
        self._ids = torch.zeros((rows, size), dtype=torch.long, device=device)
        self._slots = torch.full((rows,), state.slots, dtype=torch.long, device=device)
        self._places = torch.arange(size, device=device).repeat(rows)
        self._run = recorded(self._compute) if graph else self._compute

    def read(self, slots: Sequence[int], prompts: Sequence[Sequence[int]]) -> None:
        """Put the keys and values of prompts into their slots of the cache."""
        missing = self._rows - len(prompts)
        padded = [[*ids, *[0] * (self._size - len(ids))] for ids in (*prompts, *[()] * missing)]
        self._slots.copy_(to_device([*slots, *[self._state.slots] * missing], self._slots.device))
        self._ids.copy_(to_device(padded, self._ids.device))
        self._run()

    def _compute(self) -> None:
        x = network.embed(self._weights, self._ids.flatten(), self._places)
        network.blocks(self._weights, self._shape, x, self._mix)

    def _mix(self, layer: int, qkv: Tensor) -> Tensor:
        shape = self._shape
        q, k, v = qkv.view(self._rows, self._size, 3, shape.heads, shape.head).permute(2, 0, 3, 1, 4)
        self._state.cache[layer, :, :, :, : self._size].index_copy_(0, self._slots, torch.stack((k, v), dim=1))
        mixed = scaled_dot_product_attention(q, k, v, is_causal=True, scale=shape.scales[layer])
        return mixed.transpose(1, 2).flatten(2).flatten(0, 1)
