"""The weights of a GPT-2 for the engines in torch: read from a folder or taken from a model in memory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import NamedTuple
from warnings import catch_warnings, simplefilter
from zipfile import is_zipfile

import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn.functional import linear

from theta.bases.weight_files import EMBEDDING, OUTPUT_MATRIX, PICKLED, SAFETENSORS, plain_name
from theta.errors import GenerationError, reason
from theta.generate.shape import NAMES, Shape


class Affine(NamedTuple):
    """The gain and the shift of a layer norm."""

    weight: Tensor
    bias: Tensor


class Matrix(NamedTuple):
    """A matrix [out, in] with its bias [out], or without one."""

    weight: Tensor
    """Empty if it is packed."""
    bias: Tensor | None
    packed: Callable[[Tensor], Tensor] | None = None
    """Computes the product from another form of both; see `theta.generate.cpu_products`."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return the product with x [tokens, in]: in the format of the weights, or in float32 if they are packed."""
        if self.packed is not None:
            return self.packed(x)
        return linear(x.to(self.weight.dtype), self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class Block:
    """The weights of one layer."""

    norm_1: Affine
    qkv: Matrix
    out: Matrix
    norm_2: Affine
    up: Matrix
    down: Matrix


MATRICES = ("qkv", "out", "up", "down")


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of a model, on one device and in one number format; layer norms are in float32."""

    tokens: Tensor
    """Embedding of the ids, [vocabulary, width]."""
    positions: Tensor
    blocks: list[Block]
    norm: Affine
    head: Matrix
    """The output matrix, [vocabulary, width]; the embedding itself if they are tied."""
    dtype: str
    """The format to which the matrices were rounded."""


def read(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a folder by their plain names, mapped from the file rather than read.

    Raises:
        GenerationError: a pickled file is damaged, or holds something that could run code.
        OSError, ValueError, SafetensorError: a file of safetensors is damaged.
    """
    if (folder / SAFETENSORS).is_file():
        with safe_open(folder / SAFETENSORS, framework="pt") as file:
            return {plain_name(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    return {plain_name(name): tensor for name, tensor in _unpickle(folder / PICKLED).items()}


def _unpickle(path: Path) -> dict[str, Tensor]:
    """Read tensors and nothing else, which runs no code."""
    try:
        with catch_warnings():
            simplefilter("ignore")  # about other pickle formats, which are refused or read below
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except UnpicklingError:
        raise GenerationError(
            f"{path} holds something other than tensors, which could run code when it is read, or is damaged; export "
            "the model again."
        ) from None
    except Exception as fault:  # damaged files raise errors of a dozen kinds
        raise GenerationError(f"{path} is damaged ({reason(fault)}); export the model again.") from None
    if not isinstance(found, dict) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise GenerationError(f"{path} is not a plain list of weights; export the model again.")
    return found


def arrange(
    tensors: Mapping[str, Tensor], shape: Shape, device: torch.device, dtype: torch.dtype, *, as_stored: bool = False
) -> Weights:
    """Return the weights on a device in a number format; those that are so already are not copied.

    Args:
        as_stored: whether the matrices of the layers stay in memory as the files hold them, [in, out], and are views.
            Otherwise they are copied, so that a row of the result is one contiguous piece.
    """

    def put(name: str, *, dtype: torch.dtype = dtype) -> Tensor:
        return tensors[name].detach().to(device, dtype).contiguous()

    def norm(name: str) -> Affine:
        return Affine(*(put(f"{name}.{kind}", dtype=torch.float32) for kind in ("weight", "bias")))

    def matrix(name: str) -> Matrix:
        weight = put(f"{name}.weight").T
        return Matrix(weight if as_stored else weight.contiguous(), put(f"{name}.bias"))

    def block(layer: int) -> Block:
        names = {part: f"h.{layer}.{name}" for part, name in NAMES.items()}
        matrices = {part: matrix(names[part]) for part in MATRICES}
        return Block(norm_1=norm(names["norm_1"]), norm_2=norm(names["norm_2"]), **matrices)

    tokens = put(EMBEDDING)
    return Weights(
        tokens=tokens,
        positions=put("wpe.weight"),
        blocks=[block(layer) for layer in range(shape.layers)],
        norm=norm("ln_f"),
        head=Matrix(tokens if shape.tied or OUTPUT_MATRIX not in tensors else put(OUTPUT_MATRIX), None),
        dtype=str(dtype).removeprefix("torch."),
    )
