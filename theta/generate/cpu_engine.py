"""The writer in NumPy, in float32: the plain reference of the others, and without a C compiler the fastest to start.

torch takes more than a second to import; this writer has a small model's reply in that time. It reads the weights
straight from the safetensors file, and computes row after row, so a reply is the same to the bit next to any others.
"""

import json
import mmap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theta.bases.weight_files import EMBEDDING, LENGTH_BYTES, OUTPUT_MATRIX, plain_name
from theta.generate.cpu_sampling import choose
from theta.generate.engine import Row, Written
from theta.generate.shape import Shape

Array = NDArray[np.float32]
Stored = NDArray[Any]
"""As a file holds it."""
BFLOAT16 = np.uint16
"""What `Stored` holds bfloat16 in, which NumPy does not have."""

MOST_ROWS = 64


def tanh_gelu(x: Array) -> Array:
    """GPT-2's activation, the approximate GELU of Hendrycks and Gimpel (2016)."""
    inner = np.float32(0.7978845608028654) * (x + np.float32(0.044715) * x * x * x)
    result: Array = np.float32(0.5) * x * (1 + np.tanh(inner))
    return result


ACTIVATIONS: dict[str, Callable[[Array], Array]] = dict.fromkeys(
    ("gelu_new", "gelu_fast", "gelu_pytorch_tanh"), tanh_gelu
)
"""Those that this writer computes."""


def stored(path: Path) -> dict[str, Stored]:
    """Return the tensors of a safetensors file by their plain names, mapped from the file rather than read.

    Raises:
        OSError, ValueError, LookupError, TypeError: the file is damaged.
    """
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    header = json.loads(content[LENGTH_BYTES:start])
    header.pop("__metadata__", None)
    return {plain_name(name): _array(content, start, entry) for name, entry in header.items()}


def _array(content: mmap.mmap, start: int, entry: Mapping[str, Any]) -> Stored:
    begin, end = entry["data_offsets"]
    if not 0 <= begin <= end <= len(content) - start:
        raise ValueError(f"a tensor ends at byte {start + end} of {len(content)}")
    dtypes = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": BFLOAT16}
    array = np.frombuffer(memoryview(content)[start + begin : start + end], dtypes[entry["dtype"]])
    return array.reshape(entry["shape"])


def in_float32(stored: Stored) -> Array:
    """Return an array of `stored` in float32; what is stored so is not copied."""
    if stored.dtype == BFLOAT16:  # the upper half of a float32
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32, copy=False)


def read(path: Path) -> dict[str, Array]:
    """Return the tensors of `stored` in float32."""
    return {name: in_float32(array) for name, array in stored(path).items()}


class CpuWriter:
    """Keeps a cache [layers, 2, heads, positions, head width] for each row.

    Args:
        tensors: as `read` returns them.
        never: ids that are never written.
    """

    is_alive = True

    def __init__(self, tensors: Mapping[str, Array], shape: Shape, never: Sequence[int]) -> None:
        self.most_rows, self.positions = MOST_ROWS, shape.positions
        self.device, self.dtype = "cpu", "float32"
        self._tensors, self._shape, self._never = tensors, shape, list(never)
        self._head = tensors[EMBEDDING if shape.tied else OUTPUT_MATRIX]
        self._caches: dict[int, Array] = {}

    def open(self, rows: Sequence[Row]) -> None:
        """Take in all ids of the prompts but the last, which the first step reads."""
        shape = self._shape
        for row in rows:
            self._caches[row.number] = np.zeros((shape.layers, 2, shape.heads, shape.positions, shape.head), np.float32)
            if len(row.prompt) > 1:
                self._read(self._caches[row.number], row.prompt[:-1], 0)

    def write(self, rows: Sequence[Row]) -> Mapping[int, Written]:
        """Return the next token of each row."""
        written = {}
        for row in rows:
            id_ = row.reply[-1] if row.reply else row.prompt[-1]
            x = self._read(self._caches[row.number], [id_], len(row.prompt) + len(row.reply) - 1)
            logits = self._head @ self._norm(x, "ln_f")[0]
            logits[self._never] = -np.inf
            written[row.number] = choose(logits, row)
        return written

    def close(self, row: Row) -> None:
        """Forget a row."""
        del self._caches[row.number]

    def _read(self, cache: Array, ids: Sequence[int], first: int) -> Array:
        """Return the residual stream [ids, width] after all layers; the cache takes in the ids from `first` on."""
        tensors, shape, end = self._tensors, self._shape, first + len(ids)
        activation = ACTIVATIONS[shape.activation]
        x: Array = tensors[EMBEDDING][ids] + tensors["wpe.weight"][first:end]
        for layer in range(shape.layers):
            name = f"h.{layer}"
            qkv = self._product(self._norm(x, f"{name}.ln_1"), f"{name}.attn.c_attn")
            q, k, v = qkv.reshape(len(ids), 3, shape.heads, shape.head).transpose(1, 2, 0, 3)
            keys, values = cache[layer]
            keys[:, first:end], values[:, first:end] = k, v
            mixed = attention(q * np.float32(shape.scales[layer]), keys[:, :end], values[:, :end])
            x = x + self._product(mixed.transpose(1, 0, 2).reshape(len(ids), -1), f"{name}.attn.c_proj")
            inner = activation(self._product(self._norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc"))
            x = x + self._product(inner, f"{name}.mlp.c_proj")
        return x

    def _product(self, x: Array, name: str) -> Array:
        result: Array = x @ self._tensors[f"{name}.weight"] + self._tensors[f"{name}.bias"]
        return result

    def _norm(self, x: Array, name: str) -> Array:
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + np.float32(self._shape.epsilon))
        result: Array = x * self._tensors[f"{name}.weight"] + self._tensors[f"{name}.bias"]
        return result


def attention(q: Array, k: Array, v: Array) -> Array:
    """Return causal attention [heads, queries, head width]; the queries, already scaled, are those of the last keys."""
    scores = q @ k.transpose(0, 2, 1)
    queries, keys = scores.shape[1:]
    if queries > 1:
        later = np.arange(keys) > np.arange(keys - queries, keys)[:, None]
        scores[:, later] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    result: Array = (weights / weights.sum(-1, keepdims=True)) @ v
    return result
