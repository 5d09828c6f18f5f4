"""The weights of a GPT-2 for the engines in torch: read from a folder or taken from a model in memory.

Matrices are stored [out, in], so that a row of the result is one contiguous piece of memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

from theta.bases.weight_files import EMBEDDING, OUTPUT_MATRIX, PICKLED, SAFETENSORS, plain_name
from theta.generate.shape import NAMES, Shape


class Affine(NamedTuple):
    """A matrix [out, in] with its bias [out], or the gain and the shift of a layer norm."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True)
class Block:
    """The weights of one layer."""

    norm_1: Affine
    qkv: Affine
    out: Affine
    norm_2: Affine
    up: Affine
    down: Affine


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of a model, on one device and in one number format; layer norms are in float32."""

    tokens: Tensor
    """Embedding of the ids, [vocabulary, width]."""
    positions: Tensor
    blocks: list[Block]
    norm: Affine
    head: Tensor
    """The output matrix, [vocabulary, width]; the embedding itself if they are tied."""


def read(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a folder by their plain names, mapped from the file rather than read.

    Raises:
        OSError, RuntimeError, ValueError, SafetensorError: the file is damaged.
    """
    if (folder / SAFETENSORS).is_file():
        with safe_open(folder / SAFETENSORS, framework="pt") as file:
            return {plain_name(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    found = torch.load(folder / PICKLED, map_location="cpu", weights_only=True, mmap=True)
    return {plain_name(name): tensor for name, tensor in found.items()}


def arrange(tensors: Mapping[str, Tensor], shape: Shape, device: torch.device, dtype: torch.dtype) -> Weights:
    """Return the weights on a device in a number format; those that are so already are not copied, but transposed."""

    def put(name: str, *, transposed: bool = False, dtype: torch.dtype = dtype) -> Tensor:
        tensor = tensors[name].detach().to(device, dtype)
        return tensor.T.contiguous() if transposed else tensor.contiguous()

    def norm(name: str) -> Affine:
        return Affine(*(put(f"{name}.{kind}", dtype=torch.float32) for kind in ("weight", "bias")))

    def matrix(name: str) -> Affine:
        return Affine(put(f"{name}.weight", transposed=True), put(f"{name}.bias"))

    def block(layer: int) -> Block:
        parts = {
            part: (norm if part.startswith("norm") else matrix)(f"h.{layer}.{name}") for part, name in NAMES.items()
        }
        return Block(**parts)

    tokens = put(EMBEDDING)
    return Weights(
        tokens=tokens,
        positions=put("wpe.weight"),
        blocks=[block(layer) for layer in range(shape.layers)],
        norm=norm("ln_f"),
        head=tokens if shape.tied or OUTPUT_MATRIX not in tensors else put(OUTPUT_MATRIX),
    )
