"""The weights of a GPT-2 for the engines in torch: read from a folder or taken from a model in memory."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple
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
    bias: Tensor | None
    packed: Any = None
    """Both as FBGEMM wants them, if it computes the product; see `pack`."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return the product with x [tokens, in]: in the format of the weights, or in float32 if they are packed."""
        if self.packed is None:
            return linear(x.to(self.weight.dtype), self.weight, self.bias)
        product: Tensor = torch.ops.quantized.linear_dynamic_fp16(x, self.packed)
        return product


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
    )


def pack(weights: Weights) -> Weights:
    """Return weights whose matrices are in 16 bits, for products with values in float32 by FBGEMM.

    That halves what a step reads from memory, which is most of its time. The products are those of the same weights in
    float32, except for rounding, and do not depend on how many rows or threads there are. Packing takes 20 ns a weight
    and thread.

    The weights are returned as they are where FBGEMM is missing, as on ARM, or where 16 bits do not hold them: those
    that were stored in bfloat16 or float16 fit, and trained ones in float32 do not.
    """
    if "fbgemm" not in torch.backends.quantized.supported_engines or not all(map(_fits, _matrices(weights))):
        return weights
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        blocks = threads.map(_packed_block, weights.blocks)
        head = threads.submit(_packed, weights.head)
        return replace(weights, blocks=list(blocks), head=head.result())


SMALLEST_STEP = 2.0**-24
"""Between two numbers in float16, at zero."""


def _matrices(weights: Weights) -> Iterator[Matrix]:
    yield weights.head
    for block in weights.blocks:
        yield from (getattr(block, part) for part in MATRICES)


def _fits(matrix: Matrix) -> bool:
    """Whether float16 holds the weights, except for the last bits of those below 0.00001."""
    weight = matrix.weight.float()
    return bool((weight - weight.half().float()).abs().max() <= SMALLEST_STEP / 2)


def _packed_block(block: Block) -> Block:
    matrices = {part: _packed(getattr(block, part)) for part in MATRICES}
    return Block(norm_1=block.norm_1, norm_2=block.norm_2, **matrices)


def _packed(matrix: Matrix) -> Matrix:
    bias = None if matrix.bias is None else matrix.bias.float()
    weight = matrix.weight.float().contiguous()
    return matrix._replace(packed=torch.ops.quantized.linear_prepack_fp16(weight, bias))
