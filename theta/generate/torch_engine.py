"""The writer in plain torch, for every device, number format and shape: the reference of the faster ones."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention

from theta.generate import network
from theta.generate.engine import Row, Written
from theta.generate.sampling import choose
from theta.generate.shape import Shape
from theta.generate.weights import Weights

MOST_ROWS = 64
FIRST_SLOTS = 1


class TorchWriter:
    """Keeps a static cache [slots, layers, 2, heads, positions, head width] that doubles when rows join.

    Rows stay side by side, so that the cache is read without a copy: when one leaves, the last one takes its slot.
    On a CPU the memory of positions that were never reached is not touched. It starts as zeros, because a masked value
    counts as zero times itself, which must not be the NaN that memory may hold.

    Args:
        never: ids that are never written.
    """

    def __init__(self, weights: Weights, shape: Shape, never: Sequence[int]) -> None:
        self.most_rows, self.positions = MOST_ROWS, shape.positions
        self.device, self.dtype = str(weights.head.device), str(weights.head.dtype).removeprefix("torch.")
        self._weights, self._shape = weights, shape
        self._never = torch.tensor(sorted(never), dtype=torch.long, device=weights.head.device)
        self._open: list[Row] = []
        self._cache = self._new_cache(FIRST_SLOTS)

    def _new_cache(self, slots: int) -> Tensor:
        shape = self._shape
        sizes = (slots, shape.layers, 2, shape.heads, shape.positions, shape.head)
        return torch.zeros(sizes, dtype=self._weights.head.dtype, device=self._weights.head.device)

    @torch.inference_mode()
    def open(self, rows: Sequence[Row]) -> None:
        """Take in all ids of the prompts but the last, which the first step reads."""
        needed = len(self._open) + len(rows)
        if needed > len(self._cache):
            larger = self._new_cache(max(needed, 2 * len(self._cache)))
            larger[: len(self._open)] = self._cache[: len(self._open)]
            self._cache = larger
        for row in rows:
            row.slot = len(self._open)
            self._open.append(row)
            if len(row.prompt) > 1:
                self._read(row.slot, row.prompt[:-1])

    def _read(self, slot: int, ids: Sequence[int]) -> None:
        shape = self._shape

        def mix(layer: int, qkv: Tensor) -> Tensor:
            q, k, v = qkv.view(len(ids), 3, shape.heads, shape.head).permute(1, 2, 0, 3)
            self._cache[slot, layer, 0, :, : len(ids)] = k
            self._cache[slot, layer, 1, :, : len(ids)] = v
            scale = shape.scales[layer]
            mixed = scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True, scale=scale)
            return mixed[0].transpose(0, 1).flatten(1)

        places = torch.arange(len(ids), device=self._cache.device)
        x = network.embed(self._weights, torch.tensor(ids, device=self._cache.device), places)
        network.blocks(self._weights, shape, x, mix)

    @torch.inference_mode()
    def write(self, rows: Sequence[Row]) -> Mapping[int, Written]:
        """Return the next token of each row."""
        if not rows:
            return {}
        logits = self._logits(self._open)
        logits[:, self._never] = -torch.inf
        return {row.number: choose(logits[row.slot, None], row) for row in rows}

    def _logits(self, rows: Sequence[Row]) -> Tensor:
        """Return the logits [rows, vocabulary] in float32; the cache takes in the current ids."""
        shape, device = self._shape, self._cache.device
        ids = torch.tensor([row.reply[-1] if row.reply else row.prompt[-1] for row in rows], device=device)
        positions = torch.tensor([len(row.prompt) + len(row.reply) - 1 for row in rows], device=device)
        longest = max(len(row.prompt) + len(row.reply) for row in rows)
        slots = torch.arange(len(rows), device=device)
        # [rows, 1, 1, longest]; a single row sees all of its columns
        seen = None if len(rows) == 1 else (torch.arange(longest, device=device) <= positions[:, None])[:, None, None]

        def mix(layer: int, qkv: Tensor) -> Tensor:
            q, k, v = qkv.view(len(rows), 3, shape.heads, shape.head).unbind(1)
            keys, values = self._cache[: len(rows), layer].unbind(1)
            keys[slots, :, positions], values[slots, :, positions] = k, v
            keys, values = keys[:, :, :longest], values[:, :, :longest]
            scale = shape.scales[layer]
            mixed = scaled_dot_product_attention(q[:, :, None], keys, values, attn_mask=seen, scale=scale)
            return mixed.flatten(1)

        x = network.blocks(self._weights, shape, network.embed(self._weights, ids, positions), mix)
        states = network.norm(x, self._weights.norm, shape, self._weights.head.dtype)
        return linear(states, self._weights.head).float()

    @torch.inference_mode()
    def close(self, row: Row) -> None:
        """Forget a row; the last one takes its slot."""
        last = self._open.pop()
        if last is not row:
            self._cache[row.slot] = self._cache[last.slot]
            self._open[row.slot] = last
            last.slot = row.slot
