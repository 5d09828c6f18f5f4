"""The weight files of a base, checked by their headers, without loading weights or importing torch.

A safetensors file begins with a header that names each tensor, its number format and its shape
(https://github.com/huggingface/safetensors#format). Only torch can read pickled files: see
`theta.model.network.check_pickled`.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theta.bases.hub import CONFIG
from theta.bases.presets import parameter_count
from theta.bases.source import Source
from theta.errors import BaseModelError, reason

SAFETENSORS, PICKLED = "model.safetensors", "pytorch_model.bin"
INDEX = ".index.json"
WEIGHTS = (SAFETENSORS, f"{SAFETENSORS}{INDEX}", PICKLED, f"{PICKLED}{INDEX}")
"""Weight files in the order in which transformers prefers them."""

PREFIX = "transformer."
"""Prefix of the names of all tensors except the output matrix; files of a model without a head omit it."""
EMBEDDING, OUTPUT_MATRIX = "wte.weight", "lm_head.weight"
FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Number formats that a base may be stored in, by their names in safetensors, with the bytes per number."""
LENGTH_BYTES = 8
"""Bytes at the start of a safetensors file that hold the length of the header."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Stored:
    """A tensor of a safetensors file and the range of its bytes."""

    file: Path
    dtype: str
    shape: Shape
    begin: int
    end: int


def weight_files(source: Source) -> list[str]:
    """Return the names of the files with the weights; the index of several shards comes first.

    Raises:
        BaseModelError: there are no weight files, or the index names a file outside the base's folder.
    """
    for name in WEIGHTS:
        if source.find(name) is None:
            continue
        return [name, *_shards(source, name)] if name.endswith(INDEX) else [name]
    raise BaseModelError(f"model.base '{source.name}' has no weights: none of {', '.join(WEIGHTS)}.")


def check(source: Source, names: Sequence[str], config: Mapping[str, Any]) -> None:
    """Check that the weight files are complete and match `config`, as far as this is possible without torch.

    Args:
        names: the result of `weight_files`.
        config: the content of config.json, with valid sizes.

    Raises:
        BaseModelError: a file is damaged, or config.json describes another model.
    """
    paths = [source.path(name) for name in names if not name.endswith(INDEX)]
    is_pickled = not names[0].startswith(SAFETENSORS)
    headers = [] if is_pickled else [_header(source, path) for path in paths]
    held = sum(path.stat().st_size for path in paths)
    # This comes before anything whose time grows with the sizes in the config.
    if min(FLOATS.values()) * _parameters(config) > held:
        sizes = ", ".join(f"{key} {config[key]}" for key in ("n_layer", "n_embd", "n_positions", "vocab_size"))
        raise BaseModelError(
            f"model.base '{source.name}': {CONFIG} describes a model ({sizes}) that is larger than the weight files, "
            f"which hold {held / 1e6:.1f} MB: one of them is damaged or belongs to another model. Copy or download the "
            "base again."
        )
    if is_pickled:
        return
    stored = {name: tensor for header in headers for name, tensor in header.items()}
    check_shapes(source.name, {name: (tensor.dtype, tensor.shape) for name, tensor in stored.items()}, config)
    if OUTPUT_MATRIX in stored and EMBEDDING in stored:
        check_tied(source.name, _same_bytes(stored[OUTPUT_MATRIX], stored[EMBEDDING]))


def plain_name(name: str) -> str:
    """Return the name of a tensor without `PREFIX`."""
    return name.removeprefix(PREFIX)


def check_shapes(base: str, stored: Mapping[str, tuple[str, Shape]], config: Mapping[str, Any]) -> None:
    """Check that a base stores every tensor that its config requires.

    Args:
        base: the name of the base in messages.
        stored: number format and shape of each tensor, by `plain_name`.

    Raises:
        BaseModelError: a tensor is missing, has another shape, or is not in one of `FLOATS`.
    """
    layers, width, vocabulary, positions = _sizes(config)
    for name, shape in expected_sizes(layers, width, _inner(config), positions, vocabulary):
        found = stored.get(name) or (stored.get(OUTPUT_MATRIX) if name == EMBEDDING else None)
        if found is None:
            raise BaseModelError(f"model.base '{base}' lacks the weights {name}; copy or download it again.")
        if found[1] != shape:
            raise BaseModelError(
                f"model.base '{base}': {name} has the shape {times(found[1])}, but {CONFIG} requires {times(shape)}; "
                "copy both from the same model."
            )
        if found[0] not in FLOATS:
            raise BaseModelError(
                f"model.base '{base}': {name} is stored as {found[0]}; Theta reads {', '.join(FLOATS)}. Use the base "
                "before it was quantized."
            )
    if not config.get("tie_word_embeddings", True) and OUTPUT_MATRIX not in stored:
        raise BaseModelError(
            f"model.base '{base}': {CONFIG} has tie_word_embeddings: false, but there is no {OUTPUT_MATRIX}; "
            "copy or download the base again."
        )


def check_tied(base: str, tied: bool) -> None:
    """Refuse an output matrix that differs from the embedding, because training would replace it with the embedding.

    Raises:
        BaseModelError: `tied` is false.
    """
    if not tied:
        raise BaseModelError(
            f"model.base '{base}' is untied: its output matrix ({OUTPUT_MATRIX}) differs from its embedding. Theta "
            "trains models that use one matrix for both, as GPT-2 does; choose another base."
        )


def _shards(source: Source, index: str) -> list[str]:
    shards = source.json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise BaseModelError(f"model.base '{source.name}': {index} lists no weight files; copy the base again.")
    ending = Path(index.removesuffix(INDEX)).suffix
    for shard in shards.values():
        if not isinstance(shard, str) or set(shard) & set("/\\") or not shard.endswith(ending):
            raise BaseModelError(
                f"model.base '{source.name}': {index} names the weight file {shard!r}; the name of a {ending} file in "
                "the same folder is expected. Copy the base again."
            )
    return sorted(set(shards.values()))


def _parameters(config: Mapping[str, Any]) -> int:
    return parameter_count(*_sizes(config), _inner(config))


def _sizes(config: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """Return layers, width, vocabulary and positions."""
    return config["n_layer"], config["n_embd"], config["vocab_size"], config["n_positions"]


def _inner(config: Mapping[str, Any]) -> int:
    """Width of the perceptrons."""
    return int(config.get("n_inner") or 4 * config["n_embd"])


def _header(source: Source, path: Path) -> dict[str, _Stored]:
    """The tensors of a safetensors file, by `plain_name`; read without the library, which would import numpy."""
    try:
        return {plain_name(name): stored for name, stored in _read_header(path).items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as fault:
        raise BaseModelError(
            f"model.base '{source.name}': {path.name} is damaged ({reason(fault)}); copy or download it again."
        ) from None


def _read_header(path: Path) -> dict[str, _Stored]:
    data_bytes = path.stat().st_size - LENGTH_BYTES
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if not 0 < length <= data_bytes:
            raise ValueError(f"its header claims {length} bytes")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    start, stored = LENGTH_BYTES + length, {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        stored[name] = _Stored(path, entry["dtype"], tuple(entry["shape"]), start + begin, start + end)
    place = start
    for name, tensor in sorted(stored.items(), key=lambda item: (item[1].begin, item[1].end)):
        size = math.prod(tensor.shape) * FLOATS.get(tensor.dtype, 0) or tensor.end - tensor.begin
        if (tensor.begin, tensor.end) != (place, place + size):
            raise ValueError(f"{name} is not where it should be")
        place = tensor.end
    if place != path.stat().st_size:
        raise ValueError(f"it has {path.stat().st_size} bytes, its header requires {place}")
    return stored


def expected_sizes(layers: int, width: int, inner: int, positions: int, vocabulary: int) -> Iterator[tuple[str, Shape]]:
    """Yield the tensors of a GPT-2 by `plain_name`, with their sizes; matrices are [in, out].

    Args:
        inner: width of the perceptrons.
        vocabulary: rows of the embedding.
    """
    yield EMBEDDING, (vocabulary, width)
    yield "wpe.weight", (positions, width)
    products = (
        ("attn.c_attn", width, 3 * width), ("attn.c_proj", width, width),
        ("mlp.c_fc", width, inner), ("mlp.c_proj", inner, width),
    )  # fmt: skip
    for layer in range(layers):
        for name, rows, columns in products:
            yield f"h.{layer}.{name}.weight", (rows, columns)
            yield f"h.{layer}.{name}.bias", (columns,)
        for name in ("ln_1", "ln_2"):
            yield f"h.{layer}.{name}.weight", (width,)
            yield f"h.{layer}.{name}.bias", (width,)
    yield "ln_f.weight", (width,)
    yield "ln_f.bias", (width,)


def _same_bytes(one: _Stored, other: _Stored, size: int = 1 << 24) -> bool:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    with one.file.open("rb") as left, other.file.open("rb") as right:
        left.seek(one.begin)
        right.seek(other.begin)
        pieces = range(one.begin, one.end, size)
        return all(
            left.read(length) == right.read(length) for length in (min(size, one.end - begin) for begin in pieces)
        )


def times(shape: Shape) -> str:
    """Return a shape as messages show it, such as "32 x 96"."""
    return " x ".join(map(str, shape)) or "()"
