"""The compiled writer: GPT-2 by `cpu_forward.c`, with weights in 32, 16 or 8 bits. It imports no torch.

Weights are packed from the mapped file, which takes about as long as reading it does.
"""

from collections.abc import Mapping, Sequence
from ctypes import CDLL, POINTER, Structure, byref, c_float, c_int64, c_void_p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theta.bases.weight_files import EMBEDDING, OUTPUT_MATRIX
from theta.generate import cpu_sampling
from theta.generate.cpu_engine import BFLOAT16, MOST_ROWS, Array, Stored, in_float32
from theta.generate.engine import Row, Written
from theta.generate.shape import NAMES, Shape
from theta.machine.cpu_sharing import FairThreads

PANEL = 32
ALIGNMENT = 64
PROMPT_PIECE = 128
"""How many tokens of a prompt are read at once."""
FORMATS = {"float32": 0, "bfloat16": 1, "int8": 2}
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
ACTIVATIONS = {
    "gelu_new": 0, "gelu_fast": 0, "gelu_pytorch_tanh": 0, "gelu": 1, "quick_gelu": 2, "relu": 3, "silu": 4, "swish": 4,
    "tanh": 5,
}  # fmt: skip


class _Matrix(Structure):
    _fields_ = (
        ("panels", c_void_p), ("scales", c_void_p), ("bias", c_void_p), ("inputs", c_int64), ("outputs", c_int64),
        ("format", c_int64),
    )  # fmt: skip


class _Layer(Structure):
    _fields_ = (
        ("norm_1", c_void_p * 2), ("norm_2", c_void_p * 2), ("qkv", _Matrix), ("out", _Matrix), ("up", _Matrix),
        ("down", _Matrix), ("scale", c_float),
    )  # fmt: skip


class _Model(Structure):
    _fields_ = (
        ("layers", c_int64), ("heads", c_int64), ("width", c_int64), ("inner", c_int64), ("positions", c_int64),
        ("activation", c_int64), ("epsilon", c_float), ("layer", POINTER(_Layer)), ("norm", c_void_p * 2),
        ("head", _Matrix),
    )  # fmt: skip


class Network:
    """The weights of a model in a number format, and its forward pass.

    Args:
        tensors: as `cpu_engine.stored` returns them.
        dtype: "float32", "bfloat16" or "int8". Weights in float32 that bfloat16 holds exactly are kept in it.
        threads: that compute on an idle machine. Results do not depend on their number.

    Raises:
        ValueError: a weight has another shape than the model needs.
    """

    def __init__(self, library: CDLL, tensors: Mapping[str, Stored], shape: Shape, dtype: str, threads: int) -> None:
        self.shape, self.dtype = shape, dtype
        self._library, self._packing_threads, self._threads = library, threads, FairThreads(threads)
        self._tokens, self._positions = tensors[EMBEDDING], tensors["wpe.weight"]
        self._kept: list[Any] = []  # what the structures point to
        width, inner = shape.width, shape.inner
        sizes = {"qkv": (width, 3 * width), "out": (width, width), "up": (width, inner), "down": (inner, width)}
        layers = [self._layer(tensors, layer, sizes) for layer in range(shape.layers)]
        head = tensors[EMBEDDING if shape.tied else OUTPUT_MATRIX]
        self.rows = len(self._tokens)
        self._model = _Model(
            layers=shape.layers, heads=shape.heads, width=width, inner=inner, positions=shape.positions,
            activation=ACTIVATIONS[shape.activation], epsilon=shape.epsilon, layer=(_Layer * len(layers))(*layers),
            norm=self._norm(tensors, "ln_f"), head=self._matrix(head, None, (width, self.rows), transposed=True),
        )  # fmt: skip

    def _layer(self, tensors: Mapping[str, Stored], layer: int, sizes: Mapping[str, tuple[int, int]]) -> _Layer:
        names = {part: f"h.{layer}.{name}" for part, name in NAMES.items()}
        matrices = {
            part: self._matrix(tensors[f"{names[part]}.weight"], tensors[f"{names[part]}.bias"], size)
            for part, size in sizes.items()
        }
        norms = {part: self._norm(tensors, names[part]) for part in ("norm_1", "norm_2")}
        return _Layer(**norms, **matrices, scale=self.shape.scales[layer])

    def _norm(self, tensors: Mapping[str, Stored], name: str) -> Any:
        pair = [self._vector(tensors[f"{name}.{kind}"], self.shape.width) for kind in ("weight", "bias")]
        return (c_void_p * 2)(*pair)

    def _vector(self, stored: Stored, size: int) -> int:
        vector = np.ascontiguousarray(in_float32(stored))
        if vector.shape != (size,):
            raise ValueError(f"a weight has the shape {vector.shape}, expected {(size,)}")
        self._kept.append(vector)
        return vector.ctypes.data

    def _matrix(self, stored: Stored, bias: Stored | None, size: tuple[int, int], transposed: bool = False) -> _Matrix:
        """Pack a matrix of a size (inputs, outputs), which is stored as [in, out] unless it is transposed."""
        inputs, outputs = size
        if stored.shape != (size[::-1] if transposed else size):
            raise ValueError(f"a weight has the shape {stored.shape}, expected {inputs} inputs and {outputs} outputs")
        if stored.dtype != BFLOAT16:
            stored = in_float32(stored)
        format_ = self._format(stored)
        whole = -(-outputs // PANEL) * PANEL
        filled = inputs + inputs % 2 if format_ == "int8" else inputs
        panels, scales = self._new(filled * whole * BYTES[format_]), self._new(4 * whole)
        self._library.theta_pack(
            c_void_p(stored.ctypes.data), c_int64(FORMATS["bfloat16" if stored.dtype == BFLOAT16 else "float32"]),
            c_int64(inputs), c_int64(outputs), c_int64(transposed), c_int64(FORMATS[format_]), c_void_p(panels),
            c_void_p(scales), c_int64(self._packing_threads),
        )  # fmt: skip
        return _Matrix(
            panels=panels, scales=scales if format_ == "int8" else None,
            bias=None if bias is None else self._vector(bias, outputs), inputs=inputs, outputs=outputs,
            format=FORMATS[format_],
        )  # fmt: skip

    def _format(self, stored: Stored) -> str:
        if self.dtype != "float32":
            return self.dtype
        exact = stored.dtype == BFLOAT16 or self._library.theta_fits_bfloat16(
            c_void_p(stored.ctypes.data), c_int64(stored.size)
        )
        return "bfloat16" if exact else "float32"

    def _new(self, size: int) -> int:
        """Return the address of new memory that begins where a line of the processor's cache does."""
        memory = np.empty(size + ALIGNMENT, np.uint8)
        self._kept.append(memory)
        return -(-memory.ctypes.data // ALIGNMENT) * ALIGNMENT

    def new_cache(self) -> Array:
        """Return keys and values of no positions, [layers, 2, heads, positions, head width]."""
        shape = self.shape
        return np.zeros((shape.layers, 2, shape.heads, shape.positions, shape.head), np.float32)

    def logits(self, ids: Sequence[int], places: Sequence[int]) -> Array:
        """Return the logits [places, vocabulary] after the ids at some places of a text, [ids]."""
        return self.read(ids, range(len(ids)), [self.new_cache()] * len(ids), places)

    def read(self, ids: Sequence[int], places: Sequence[int], caches: Sequence[Array], wanted: Sequence[int]) -> Array:
        """Read tokens into their caches; return the logits [wanted, vocabulary] after those that are wanted.

        Args:
            places: of each token the position. The tokens of a cache are in the order of their positions.
            caches: of each token; the same one may be given for several.
            wanted: which tokens, by their number.

        Raises:
            MemoryError: there is none for the activations.
        """
        x = in_float32(self._tokens[list(ids)]) + in_float32(self._positions[list(places)])
        logits = np.empty((len(wanted), self.rows), np.float32)
        addresses = np.array([cache.ctypes.data for cache in caches], np.uint64)
        positions, which = np.array(places, np.int64), np.array(wanted, np.int64)
        with self._threads.computing() as threads:
            complete = self._library.theta_forward(
                byref(self._model), c_int64(len(ids)), _address(x), _address(positions), _address(addresses),
                c_int64(len(wanted)), _address(which), _address(logits), c_int64(threads),
            )  # fmt: skip
        if not complete:
            raise MemoryError("there is no memory for the activations")
        return logits


def _address(array: NDArray[Any]) -> c_void_p:
    return c_void_p(array.ctypes.data)


class CompiledWriter:
    """Keeps a cache for each row.

    Args:
        never: ids that are never written.
    """

    is_alive = True

    def __init__(self, network: Network, never: Sequence[int]) -> None:
        self.most_rows, self.positions = MOST_ROWS, network.shape.positions
        self.device, self.dtype = "cpu", network.dtype
        self._network, self._never = network, list(never)
        self._caches: dict[int, Array] = {}

    def open(self, rows: Sequence[Row]) -> None:
        """Take in all ids of the prompts but the last, which the first step reads."""
        caches = {row.number: self._after(row.prompt[:-1]) for row in rows}
        self._caches |= caches  # of all or none: nobody would close rows that have not been opened

    def _after(self, ids: Sequence[int]) -> Array:
        """Return the cache after some ids."""
        cache = self._network.new_cache()
        for start in range(0, len(ids), PROMPT_PIECE):
            piece = ids[start : start + PROMPT_PIECE]
            places = range(start, start + len(piece))
            self._network.read(piece, places, [cache] * len(piece), wanted=[])
        return cache

    def write(self, rows: Sequence[Row]) -> Mapping[int, Written]:
        """Return the next token of each row."""
        if not rows:
            return {}
        ids = [row.reply[-1] if row.reply else row.prompt[-1] for row in rows]
        places = [len(row.prompt) + len(row.reply) - 1 for row in rows]
        caches = [self._caches[row.number] for row in rows]
        logits = self._network.read(ids, places, caches, range(len(rows)))
        logits[:, self._never] = -np.inf
        return {row.number: cpu_sampling.choose(scores, row) for row, scores in zip(rows, logits, strict=True)}

    def close(self, row: Row) -> None:
        """Forget a row."""
        del self._caches[row.number]
