"""The writer in plain torch, for every device, number format and shape: the reference of the faster ones."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from theta.generate import cpu_sampling, network
from theta.generate.engine import Row, Written
from theta.generate.sampling import choose
from theta.generate.shape import Shape
from theta.generate.weights import Weights
from theta.machine.cpu_sharing import fewer_threads_while_busy

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

    is_alive = True

    def __init__(self, weights: Weights, shape: Shape, never: Sequence[int]) -> None:
        self.most_rows, self.positions = MOST_ROWS, shape.positions
        self._device = weights.tokens.device
        self.device, self.dtype = str(self._device), weights.dtype
        self._weights, self._shape = weights, shape
        self._never = torch.tensor(sorted(never), dtype=torch.long, device=self._device)
        self._open: list[Row] = []
        self._cache = self._new_cache(FIRST_SLOTS)

    def _new_cache(self, slots: int) -> Tensor:
        shape = self._shape
        sizes = (slots, shape.layers, 2, shape.heads, shape.positions, shape.head)
        dtype = torch.float32 if self._weights.head.packed is not None else self._weights.tokens.dtype
        return torch.zeros(sizes, dtype=dtype, device=self._device)

    @torch.inference_mode()
    def open(self, rows: Sequence[Row]) -> None:
        """Take in all ids of the prompts but the last, which the first step reads."""
        needed = len(self._open) + len(rows)
        if needed > len(self._cache):
            larger = self._new_cache(max(needed, min(2 * len(self._cache), MOST_ROWS)))
            for row in self._open:
                larger[row.slot, ..., : _reached(row), :] = self._cache[row.slot, ..., : _reached(row), :]
            self._cache = larger
        for row in rows:
            row.slot = len(self._open)
            self._open.append(row)
            if len(row.prompt) > 1:
                self._read(row.slot, row.prompt[:-1])

    def _read(self, slot: int, ids: Sequence[int]) -> None:
        shape = self._shape

        def mix(layer: int, qkv: Tensor) -> Tensor:
            qkv = qkv.view(len(ids), 3, shape.heads, shape.head).permute(1, 2, 0, 3)
            self._cache[slot, layer, :, :, : len(ids)] = qkv[1:]
            q, k, v = qkv[:, None]
            mixed = scaled_dot_product_attention(q, k, v, is_causal=True, scale=shape.scales[layer])
            return mixed[0].transpose(0, 1).flatten(1)

        places = torch.arange(len(ids), device=self._device)
        x = network.embed(self._weights, torch.tensor(ids, device=self._device), places)
        network.blocks(self._weights, shape, x, mix)

    @torch.inference_mode()
    def write(self, rows: Sequence[Row]) -> Mapping[int, Written]:
        """Return the next token of each row."""
        if not rows:
            return {}
        with fewer_threads_while_busy():
            logits = self._logits(self._open).index_fill_(1, self._never, -torch.inf)
        if self._device.type == "cpu":
            scores = logits.numpy()
            return {row.number: cpu_sampling.choose(scores[row.slot], row) for row in rows}
        return {row.number: choose(logits[row.slot, None], row) for row in rows}

    def _logits(self, rows: Sequence[Row]) -> Tensor:
        """Return the logits [rows, vocabulary] in float32; the cache takes in the current ids."""
        ids = torch.tensor([row.reply[-1] if row.reply else row.prompt[-1] for row in rows], device=self._device)
        places = [len(row.prompt) + len(row.reply) - 1 for row in rows]
        x = network.embed(self._weights, ids, torch.tensor(places, device=self._device))
        mix = self._mix_one(places[0]) if len(rows) == 1 else self._mix_many(places)
        x = network.blocks(self._weights, self._shape, x, mix)
        return self._weights.head(network.norm(x, self._weights.norm, self._shape)).float()

    def _mix_one(self, place: int) -> network.Mix:
        """Return the attention of a single row, which sees all of its columns."""
        shape = self._shape
        new = self._cache[0, :, :, :, place].unbind()  # of each layer [2, heads, head]
        # of each layer [1, heads, columns, head]
        keys, values = (part.unbind() for part in self._cache[0, :, None, :, :, : place + 1].unbind(2))

        def mix(layer: int, qkv: Tensor) -> Tensor:
            qkv = qkv.view(3, shape.heads, shape.head)
            new[layer].copy_(qkv[1:])
            q, scale = qkv[None, 0, :, None], shape.scales[layer]
            return scaled_dot_product_attention(q, keys[layer], values[layer], scale=scale).view(1, -1)

        return mix

    def _mix_many(self, places: Sequence[int]) -> network.Mix:
        shape, rows, columns = self._shape, len(places), max(places) + 1
        slots, positions = torch.arange(rows, device=self._device), torch.tensor(places, device=self._device)
        later = torch.arange(columns, device=self._device) > positions[:, None]
        mask = torch.zeros_like(later, dtype=self._cache.dtype).masked_fill_(later, -torch.inf)[:, None, None]
        # of each layer [rows, heads, columns, head]
        keys, values = (part.unbind(1) for part in self._cache[:rows, :, :, :, :columns].unbind(2))

        def mix(layer: int, qkv: Tensor) -> Tensor:
            qkv = qkv.view(rows, 3, shape.heads, shape.head)
            self._cache[slots, layer, :, :, positions] = qkv[:, 1:]
            q, scale = qkv[:, 0, :, None], shape.scales[layer]
            return scaled_dot_product_attention(q, keys[layer], values[layer], attn_mask=mask, scale=scale).flatten(1)

        return mix

    @torch.inference_mode()
    def close(self, row: Row) -> None:
        """Forget a row; the last one takes its slot, and with the last row the memory goes."""
        last = self._open.pop()
        if last is not row:
            self._cache[row.slot, ..., : _reached(last), :] = self._cache[last.slot, ..., : _reached(last), :]
            self._open[row.slot] = last
            last.slot = row.slot
        if not self._open and len(self._cache) > FIRST_SLOTS:
            self._cache = self._new_cache(FIRST_SLOTS)


def _reached(row: Row) -> int:
    """Return how many positions of a row the cache holds at most."""
    return len(row.prompt) + len(row.reply)
