"""The writer for GPUs from Ampere on: a static cache, one CUDA graph a step, and the choice of tokens on the device.

    host    launch step 2 ─ read the ids of step 1 ─ launch step 3 ─ read the ids of step 2 ─ ...
    device  step 1 ──────── step 2 ───────────────── step 3 ─────────

The rows' states (current id, position, reply, parameters, random numbers) lie on the device, so a step needs nothing
from the host, which runs one step behind. Prompts are taken in as packed rows through the attention kernel of the
training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from theta.generate import network
from theta.generate.engine import Row, Written
from theta.generate.gpu_prefill import Prefill
from theta.generate.gpu_state import State, set_rows
from theta.generate.gpu_step import Step
from theta.generate.sampling import reported
from theta.generate.shape import Shape
from theta.generate.weights import Weights
from theta.kernels.attention import attend
from theta.kernels.blocks import block_table
from theta.kernels.sampling import KEPT

MOST_ROWS = 512
ROWS_APART = 64
MEMORY_SHARE = 0.8
"""Of the memory that is free once the weights are loaded, for the cache."""
SHORTEST_PROMPT = 32
"""A few prompts are read by graphs for powers of two of rows, and of tokens from this one on."""
GRAPH_ROWS, GRAPH_TOKENS = 16, 2048
"""Limits of such a graph, padding included. Larger batches keep the GPU busy without one."""
PROMPT_TOKENS = 16_384
"""Tokens of prompts that are taken in at once."""


@dataclass(eq=False)
class _Launched:
    """A step that was launched and not read yet."""

    rows: list[Row]
    done: torch.cuda.Event | None
    """When the ids are in the host's memory; None if they are already."""
    reports: dict[int, tuple[Tensor, int]]
    """The logits of the rows that asked for log-probabilities, and how many alternatives to report, by numbers."""


class GpuWriter:
    """Keeps a static cache with a slot for each row, and a CUDA graph for each of several numbers of rows.

    Args:
        never: ids that are never written.
        graphs: False runs the kernels of a step without a graph, as Triton's interpreter needs it.
    """

    is_alive = True

    def __init__(self, weights: Weights, shape: Shape, never: Sequence[int], *, graphs: bool = True) -> None:
        self.positions = shape.positions
        self.device, self.dtype = str(weights.tokens.device), str(weights.tokens.dtype).removeprefix("torch.")
        self._weights, self._shape, self._graphs = weights, shape, graphs
        self.most_rows = most_rows(weights, shape)
        self._never = list(never)
        self._state = State.new(weights, shape, never, slots=1)
        self._steps: dict[tuple[int, int], Step] = {}
        self._prompts: dict[tuple[int, int], Prefill] = {}
        self._free = [0]
        self._launches: dict[int, int] = {}
        self._launched: _Launched | None = None

    @torch.inference_mode()
    def open(self, rows: Sequence[Row]) -> None:
        """Take in all ids of the prompts but the last, which the first step reads."""
        while len(self._free) < len(rows):
            self._grow()
        for row in rows:
            row.slot = self._free.pop()
            self._launches[row.number] = 0
        try:
            self._begin(rows)
        except BaseException:  # nobody would close rows that have not been opened
            for row in rows:
                self.close(row)
            raise

    def _begin(self, rows: Sequence[Row]) -> None:
        if prompted := [row for row in rows if len(row.prompt) > 1]:
            self._read_prompts(prompted)
        set_rows(self._state, rows)  # while the GPU reads

    def _read_prompts(self, rows: Sequence[Row]) -> None:
        count, size = prompts_size(rows)
        if self._graphs and count <= GRAPH_ROWS and count * size <= GRAPH_TOKENS:
            reader = self._reader(count, min(size, self.positions))
            reader.read([row.slot for row in rows], [row.prompt[:-1] for row in rows])
            return
        for pack in packs(rows):
            self._read(pack)

    def _reader(self, rows: int, size: int) -> Prefill:
        if (rows, size) not in self._prompts:
            self._prompts[rows, size] = Prefill(self._weights, self._shape, self._state, rows, size)
        return self._prompts[rows, size]

    def _grow(self) -> None:
        slots = self._state.slots
        more = min(2 * slots, self.most_rows)
        if self._launched and self._launched.done:
            self._launched.done.synchronize()
        self._state = self._state.grown(self._weights, self._shape, self._never, more)
        self._steps.clear()  # their graphs write to the old cache
        self._prompts.clear()
        self._free += range(slots, more)

    def _read(self, rows: Sequence[Row]) -> None:
        shape, device = self._shape, self._weights.tokens.device
        lengths = [len(row.prompt) - 1 for row in rows]
        ids = torch.tensor([id_ for row in rows for id_ in row.prompt[:-1]], device=device)
        places = torch.cat([torch.arange(length) for length in lengths]).to(device)
        slots = torch.repeat_interleave(torch.tensor([row.slot for row in rows]), torch.tensor(lengths)).to(device)
        table = block_table(lengths).to(device)

        def mix(layer: int, qkv: Tensor) -> Tensor:
            self._state.cache[layer, slots, :, :, places] = qkv.view(len(ids), 3, shape.heads, shape.head)[:, 1:]
            return attend(qkv, table, shape.heads, shape.scales[layer])

        network.blocks(self._weights, shape, network.embed(self._weights, ids, places), mix)

    @torch.inference_mode()
    def write(self, rows: Sequence[Row]) -> Mapping[int, Written]:
        """Launch a step for the rows, and return the tokens of the step before."""
        before = self._launched or self._launch(rows)
        self._launched = self._launch(rows)
        return self._read_back(before, rows) if before else {}

    def _launch(self, rows: Sequence[Row]) -> _Launched | None:
        rows = [row for row in rows if self._launches[row.number] < row.room]
        if not rows:
            return None
        for row in rows:
            self._launches[row.number] += 1
        step = self._step(len(rows), max(row.settings.top_k for row in rows))
        logits = step.run([row.slot for row in rows])
        reports = {
            row.number: (logits[place].clone(), row.alternatives)
            for place, row in enumerate(rows)
            if row.alternatives is not None
        }
        done = torch.cuda.Event() if self._graphs else None
        if done:
            done.record()
        return _Launched(list(rows), done, reports)

    def _step(self, rows: int, top_k: int) -> Step:
        """Return the smallest step that serves this many rows with parameters up to this `top_k`."""
        size, kept = step_size(rows), KEPT[0] if top_k <= KEPT[0] else KEPT[1]
        if (size, kept) not in self._steps:
            step = Step(self._weights, self._shape, self._state, size, kept, graph=self._graphs)
            self._steps[size, kept] = step
        return self._steps[size, kept]

    def _read_back(self, launched: _Launched, rows: Sequence[Row]) -> Mapping[int, Written]:
        """Return the tokens of a step for those of its rows that are still open."""
        if launched.done:
            launched.done.synchronize()
        numbers = {row.number for row in rows}
        read = [row for row in launched.rows if row.number in numbers]
        ids = self._state.written.numpy()[[row.slot for row in read], [len(row.reply) for row in read]].tolist()
        written = {}
        for row, id_ in zip(read, ids, strict=True):
            if row.number in launched.reports:
                logits, alternatives = launched.reports[row.number]
                logits = logits[: self._shape.vocabulary].clone()
                logits[self._never] = -torch.inf
                written[row.number] = reported(id_, logits, alternatives)
            else:
                written[row.number] = Written(id_)
        return written

    def close(self, row: Row) -> None:
        """Forget a row; a step that is still running for it does no harm."""
        del self._launches[row.number]
        self._free.append(row.slot)


def most_rows(weights: Weights, shape: Shape) -> int:
    """Return how many rows the free memory of the GPU holds."""
    if weights.tokens.device.type != "cuda":
        return MOST_ROWS
    free = torch.cuda.mem_get_info(weights.tokens.device)[0]
    # The old cache is still there while a larger one is made.
    row_bytes = shape.layers * 2 * shape.positions * shape.width * weights.tokens.element_size()
    return max(1, min(MOST_ROWS, int(MEMORY_SHARE * free / (1.5 * row_bytes))))


def step_size(rows: int) -> int:
    """Return the rows of the step for so many: a power of two, or a multiple of 64, so that there are few graphs."""
    return 1 << (rows - 1).bit_length() if rows <= ROWS_APART else -(-rows // ROWS_APART) * ROWS_APART


def prompts_size(rows: Sequence[Row]) -> tuple[int, int]:
    """Return the powers of two that hold the rows, and the ids of each of their prompts but the last."""
    longest = max(len(row.prompt) for row in rows) - 1
    return 1 << (len(rows) - 1).bit_length(), max(SHORTEST_PROMPT, 1 << (longest - 1).bit_length())


def packs(rows: Sequence[Row]) -> list[list[Row]]:
    """Divide rows into groups with at most `PROMPT_TOKENS` ids of prompts, or with a single row."""
    groups: list[list[Row]] = []
    size = PROMPT_TOKENS
    for row in rows:
        if size + len(row.prompt) > PROMPT_TOKENS:
            groups.append([])
            size = 0
        groups[-1].append(row)
        size += len(row.prompt)
    return groups
