"""The engine of the batch: rows of a cache that advance together, and which replies join and leave one by one.

    slot 0   [p p p r r r . . . .]     p tokens of the prompt, r of the reply so far, '.' free
    slot 1   [p p p p p p p r . .]     R rows in the first R slots, one new token in each step
    slot 2   [p p r r r r r r r .]     a reply that leaves is replaced by the last row

A row's result depends on its own tokens alone, but for the rounding of matrix products, whose order of summation
depends on the number of rows. (Batching by iteration instead of by request is that of Orca, Yu et al. 2022.)
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from theta.generate.assistant import ThetaModel, random_generator
from theta.generate.decoding import draw, nucleus, penalised
from theta.generate.settings import GenerationSettings
from theta.serve.batching import Token

TOKENS_PER_PREFILL = 8192
"""Prompts that join in one step have at most this many tokens together, so that the others do not wait for long."""

COLUMNS = 128
"""The cache grows by multiples of this many tokens."""

COLUMNS_OF_REPLIES = 4096
"""Columns in which the replies are written, one a step, before they are moved to the front again."""


@dataclass(eq=False)
class _Row:
    """A reply that is being written."""

    number: int
    prompt: Sequence[int]
    settings: GenerationSettings
    generator: torch.Generator | None
    alternatives: int | None
    written: list[int] = field(default_factory=list)


class Rows:
    """Up to `most_rows` replies of one model; see `theta.serve.batching.Engine` for the methods.

    Args:
        model: its weights and its vocabulary are used, not its own decoding.
        most_rows: replies at once; the memory of the cache grows with those that there are.
    """

    def __init__(self, model: ThetaModel, most_rows: int) -> None:
        self.most_rows = most_rows
        self._model, self._numbers = model, count()
        self._device = model.model.device
        self._never = torch.tensor(sorted({model.vocabulary.pad_id, *model.suppressed_ids}), device=self._device)
        self._joining: deque[_Row] = deque()
        self._rows: list[_Row] = []
        self._cache = Cache(model)
        self._replies = torch.full((most_rows, COLUMNS_OF_REPLIES), model.vocabulary.pad_id, device=self._device)
        # Random numbers in [0, 1), one for each token of a reply.
        self._noise = torch.zeros(most_rows, model.model.config.n_positions, device=self._device)
        self._column = 0

    def join(self, ids: Sequence[int], settings: GenerationSettings, seed: int | None, alternatives: int | None) -> int:
        """Begin a reply to a prompt; return the number of its row."""
        row = _Row(next(self._numbers), ids, settings, random_generator(seed), alternatives)
        self._joining.append(row)
        return row.number

    @property
    def is_full(self) -> bool:
        """Whether no further reply can join now."""
        return len(self._rows) + len(self._joining) >= self.most_rows

    @property
    def rows(self) -> int:
        """Number of replies that have a row."""
        return len(self._rows)

    @property
    def is_busy(self) -> bool:
        """Whether `step` has anything to do."""
        return bool(self._rows or self._joining)

    @property
    def cached_bytes(self) -> int:
        """Memory of the cache."""
        return self._cache.bytes

    @torch.inference_mode()
    def leave(self, number: int) -> None:
        """End a reply early; one that has ended already is no fault."""
        self._joining = deque(row for row in self._joining if row.number != number)
        for slot, row in enumerate(self._rows):
            if row.number == number:
                self._drop(slot)
                return

    @torch.inference_mode()
    def step(self) -> Mapping[int, Token]:
        """Return the next token of each row but for those whose prompt does not fit into this step."""
        logits = [self._advance()] if self._rows else []
        if joining := self._next_prompts():
            logits.append(self._prefill(joining))
        chosen, reports = self._choose(logits[0] if len(logits) == 1 else torch.cat(logits))
        return self._written(chosen, reports)

    def _advance(self) -> Tensor:
        """Put the last token of each row into the cache; return the logits [R, V] of the next ones."""
        lengths = [len(row.prompt) + len(row.written) - 1 for row in self._rows]
        last = torch.tensor([[row.written[-1]] for row in self._rows], device=self._device)
        return self._cache.append(last, torch.tensor(lengths, device=self._device), max(lengths) + 1)

    def _next_prompts(self) -> list[_Row]:
        taken: list[_Row] = []
        while self._joining:
            longest = max(len(row.prompt) for row in [*taken, self._joining[0]])
            if taken and longest * (len(taken) + 1) > TOKENS_PER_PREFILL:
                break
            taken.append(self._joining.popleft())
        return taken

    def _prefill(self, joining: Sequence[_Row]) -> Tensor:
        """Put prompts into the cache, behind the rows that there are; return the logits [N, V] of the next tokens."""
        width = max(len(row.prompt) for row in joining)
        # Padding on the right is never attended to: it is written over by the reply.
        ids = torch.tensor([[*row.prompt, *[0] * (width - len(row.prompt))] for row in joining], device=self._device)
        lengths = torch.tensor([len(row.prompt) for row in joining], device=self._device)
        logits = self._cache.fill(ids, lengths, slot=len(self._rows))
        for slot, row in enumerate(joining, start=len(self._rows)):
            self._replies[slot] = self._model.vocabulary.pad_id
            # Drawn as for a batch of one row, so that a seed gives the same reply as in ThetaModel.
            noise = torch.rand(1, row.settings.max_length, generator=row.generator)[0, : self._noise.shape[1]]
            self._noise[slot, : len(noise)] = noise
        self._rows += joining
        return logits

    def _choose(self, logits: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """Return the next ids [R], and the log-probabilities [V] by the model alone for the rows that report them."""
        logits = logits.float().index_fill_(1, self._never, -torch.inf)
        reports = {
            slot: logits[slot].log_softmax(-1) for slot, row in enumerate(self._rows) if row.alternatives is not None
        }
        chosen = torch.empty(len(self._rows), dtype=torch.long, device=self._device)
        groups: dict[GenerationSettings, list[int]] = {}
        for slot, row in enumerate(self._rows):
            groups.setdefault(row.settings, []).append(slot)
        for settings, slots in groups.items():
            everything = len(groups) == 1
            index = slice(len(slots)) if everything else torch.tensor(slots, device=self._device)
            longest = max(len(self._rows[slot].written) for slot in slots)
            # Rows have a token in each column since they joined, and padding before, which no rule takes for text.
            replies = self._replies[index, self._column - longest : self._column]
            written = torch.tensor([len(self._rows[slot].written) for slot in slots], device=self._device)
            noise = self._noise[index].gather(1, written[:, None])[:, 0]
            chosen[index] = draw(*nucleus(penalised(logits[index], replies, settings), settings), noise)
        return chosen, reports

    def _written(self, chosen: Tensor, reports: Mapping[int, Tensor]) -> dict[int, Token]:
        """Add the chosen ids to the rows, and end those that are complete."""
        if self._column == COLUMNS_OF_REPLIES:
            kept = max(len(row.written) for row in self._rows)
            self._replies[:, :kept] = self._replies[:, self._column - kept :].clone()
            self._column = kept
        self._replies[: len(self._rows), self._column] = chosen
        self._column += 1
        tokens: dict[int, Token] = {}
        ended: list[int] = []
        positions = self._model.model.config.n_positions
        for slot, (row, id_) in enumerate(zip(self._rows, chosen.tolist(), strict=True)):
            row.written.append(id_)
            full = len(row.written) == row.settings.max_length or len(row.prompt) + len(row.written) == positions
            last = id_ == self._model.vocabulary.end_id or full
            tokens[row.number] = (
                _reported(id_, last, reports[slot], row.alternatives or 0) if slot in reports else Token(id_, last)
            )
            if last:
                ended.append(slot)
        for slot in reversed(ended):
            self._drop(slot)
        return tokens

    def _drop(self, slot: int) -> None:
        """Free a slot: the last row takes its place."""
        last = len(self._rows) - 1
        if slot != last:
            row = self._rows[slot] = self._rows[last]
            self._replies[slot], self._noise[slot] = self._replies[last], self._noise[last]
            self._cache.move(last, slot, len(row.prompt) + len(row.written))
        self._rows.pop()
        if not self._rows:
            self._cache.clear()


def _reported(id_: int, last: bool, log_probabilities: Tensor, alternatives: int) -> Token:
    values, ids = log_probabilities.topk(alternatives)
    pairs = tuple(zip(ids.tolist(), values.tolist(), strict=True))
    return Token(id_, last, float(log_probabilities[id_]), pairs)


Attend: TypeAlias = Callable[[int, Tensor, Tensor, Tensor, float], Tensor]
"""Takes a layer's number, its queries, keys and values [B, heads, T, head size] and the scale of the products."""


class Cache:
    """Keys and values of all layers, [slots, heads, columns, head size] each, and the forward pass that fills them.

    It goes through the modules of transformers' GPT-2 block by block.
    """

    def __init__(self, model: ThetaModel) -> None:
        self._model = model.model
        self._layers: list[tuple[Tensor, Tensor]] = []
        self.clear()

    def clear(self) -> None:
        """Give the memory back."""
        config = self._model.config
        shape = (0, config.n_head, 0, config.n_embd // config.n_head)
        weight = self._model.transformer.wte.weight
        self._layers = [(weight.new_empty(shape), weight.new_empty(shape)) for _ in range(config.n_layer)]

    @property
    def bytes(self) -> int:
        """Memory of all layers."""
        return sum(part.nbytes for pair in self._layers for part in pair)

    def fill(self, ids: Tensor, lengths: Tensor, slot: int) -> Tensor:
        """Put prompts [N, T], padded on the right, into the slots from `slot` on; return the next logits [N, V]."""
        rows, columns = ids.shape
        self._reserve(slot + rows, columns)

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
            for cache, new in zip(self._layers[layer], (key, value), strict=True):
                cache[slot : slot + rows, :, :columns] = new
            return scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)

        places = torch.arange(columns, device=ids.device).expand(rows, columns)
        hidden = self._forward(ids, places, attend)
        return self._logits(hidden[torch.arange(rows, device=ids.device), lengths - 1])

    def append(self, ids: Tensor, lengths: Tensor, longest: int) -> Tensor:
        """Put a token [R, 1] behind the first `lengths` [R] ones of each of the first R slots; return logits [R, V]."""
        rows = len(ids)
        self._reserve(rows, longest)
        slots = torch.arange(rows, device=ids.device)
        seen = (torch.arange(longest, device=ids.device) <= lengths[:, None])[:, None, None]

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
            for cache, new in zip(self._layers[layer], (key, value), strict=True):
                cache[slots, :, lengths] = new[:, :, 0]
            keys, values = (cache[:rows, :, :longest] for cache in self._layers[layer])
            return scaled_dot_product_attention(query, keys, values, attn_mask=seen, scale=scale)

        return self._logits(self._forward(ids, lengths[:, None], attend)[:, 0])

    def move(self, source: int, target: int, columns: int) -> None:
        """Copy the first columns of a slot to another one."""
        for pair in self._layers:
            for cache in pair:
                cache[target, :, :columns] = cache[source, :, :columns]

    def _forward(self, ids: Tensor, places: Tensor, attend: Attend) -> Tensor:
        """Return the hidden states [B, T, width] after the last block, for ids [B, T] at these places [B, T]."""
        transformer = self._model.transformer
        hidden: Tensor = transformer.wte(ids) + transformer.wpe(places)
        for layer, block in enumerate(transformer.h):
            attention = block.attn
            parts = attention.c_attn(block.ln_1(hidden)).unflatten(-1, (3, attention.num_heads, -1))
            query, key, value = parts.permute(2, 0, 3, 1, 4)  # [B, heads, T, head size] each
            mixed = attend(layer, query, key, value, attention.scaling)
            hidden = hidden + attention.c_proj(mixed.transpose(1, 2).flatten(2))
            hidden = hidden + block.mlp(block.ln_2(hidden))
        return hidden

    def _logits(self, hidden: Tensor) -> Tensor:
        """Return the logits [B, V] for hidden states [B, width]."""
        logits: Tensor = self._model.lm_head(self._model.transformer.ln_f(hidden))
        return logits

    def _reserve(self, slots: int, columns: int) -> None:
        """Make room for this many slots and columns; what is there stays."""
        old_slots, _, old_columns, _ = self._layers[0][0].shape
        if slots <= old_slots and columns <= old_columns:
            return
        slots = max(slots, old_slots if slots <= old_slots else 2 * old_slots)
        columns = max(-(-columns // COLUMNS) * COLUMNS, old_columns)
        self._layers = [(_grown(keys, slots, columns), _grown(values, slots, columns)) for keys, values in self._layers]


def _grown(cache: Tensor, slots: int, columns: int) -> Tensor:
    old_slots, heads, old_columns, size = cache.shape
    grown = cache.new_zeros(slots, heads, columns, size)
    grown[:old_slots, :, :old_columns] = cache
    return grown
