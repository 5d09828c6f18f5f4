"""The writer for a model and a machine. torch is imported where it is needed, because it takes seconds."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import warn

from theta.bases.weight_files import EMBEDDING, SAFETENSORS
from theta.errors import GenerationError, SettingsError, reason
from theta.generate.engine import Writer
from theta.generate.shape import Shape, missing
from theta.text import counted

if TYPE_CHECKING:
    import torch
    from transformers import GPT2LMHeadModel

    from theta.generate.weights import Weights

MEMORY_ADVICE = "close other programs that use it, or load the model with device='cpu'"
AMPERE = (8, 0)
MOST_POSITIONS, WIDEST_HEAD = 1024, 128
"""What the kernels of the GPU engine are made for."""
DTYPES = ("auto", "bfloat16", "float32", "int8")

Never = Callable[[int], list[int]]
"""From the rows of the embedding to the ids that are never written."""


def of_folder(folder: Path, never: Never, device: str, dtype: str, *, soon: bool = False) -> Writer:
    """Return the writer for a model folder that `theta.generate.folder.check` admits.

    Args:
        soon: choose what starts soonest rather than what writes the fastest; see `starts_sooner`.

    Raises:
        GenerationError: the weights are damaged or missing, the device cannot be used, or the model loses too much in
            int8.
    """
    if dtype not in DTYPES:
        raise GenerationError(f"dtype is {dtype!r}, expected one of {', '.join(DTYPES)}.")
    if not isinstance(device, str):
        raise GenerationError(f"The device is {device!r}, expected text such as 'auto', 'cpu' or 'cuda'.")
    shape = Shape.of(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    if soon and device in ("auto", "cpu") and dtype in ("auto", "float32") and starts_sooner(folder, shape):
        return _of_small_folder(folder, shape, never)
    from safetensors import SafetensorError

    from theta.generate import cpu_products, int8_gate, weights
    from theta.machine.cpu_sharing import share_cpus
    from theta.machine.devices import memory_remedy

    share_cpus()
    place = _device(device)
    with memory_remedy(place, MEMORY_ADVICE):
        try:
            tensors = weights.read(folder)
            _refuse_wrong(folder, tensors, shape)
            arranged = _arranged(tensors, shape, place, _dtype(dtype, place))
            few = sum(tensor.numel() for tensor in tensors.values()) < FEW_WEIGHTS
            if dtype == "int8":
                arranged = int8_gate.rounded(arranged, shape, folder)
            elif place.type == "cpu" and (dtype == "bfloat16" or (few and not soon)):
                arranged = cpu_products.pack_exactly(arranged)
        except (OSError, ValueError, SafetensorError) as fault:
            raise GenerationError(f"{folder} cannot be loaded ({reason(fault)}); export the model again.") from None
        return _of_weights(arranged, shape, never(len(arranged.tokens)))


FEW_WEIGHTS = 50e6
"""They are packed in less than a second, so that it is done unasked."""
SMALL_BYTES = 100e6
GPU_DRIVERS = ("/proc/driver/nvidia", "/dev/dxg")
"""What Nvidia's driver puts on Linux, and on Windows' Linux."""


def starts_sooner(folder: Path, shape: Shape) -> bool:
    """Whether NumPy has written a reply before torch is imported: for a small model, on a machine without a GPU."""
    from theta.generate.cpu_engine import ACTIVATIONS

    file = folder / SAFETENSORS
    return (
        sys.platform != "win32"
        and not any(Path(driver).exists() for driver in GPU_DRIVERS)
        and file.is_file()
        and file.stat().st_size < SMALL_BYTES
        and shape.activation in ACTIVATIONS
    )


def _of_small_folder(folder: Path, shape: Shape, never: Never) -> Writer:
    from theta.generate.cpu_engine import CpuWriter, read

    try:
        tensors = read(folder / SAFETENSORS)
    except (OSError, ValueError, LookupError, TypeError) as fault:
        raise GenerationError(f"{folder} cannot be loaded ({reason(fault)}); export the model again.") from None
    _refuse_wrong(folder, tensors, shape)
    return CpuWriter(tensors, shape, never(len(tensors[EMBEDDING])))


def _refuse_wrong(folder: Path, tensors: Mapping[str, Any], shape: Shape) -> None:
    """Refuse weights that are missing or of other sizes than config.json says."""
    if lacking := missing(tensors, shape):
        weights = f"{counted(len(lacking), 'weight')}, such as {lacking[0]}"
        raise GenerationError(f"{folder} lacks {weights}; export the model again.")
    (_, width), (positions, _) = tensors[EMBEDDING].shape, tensors["wpe.weight"].shape
    if width != shape.width or positions < shape.positions or width % shape.heads:
        raise GenerationError(
            f"{folder / 'config.json'} says n_embd {shape.width}, n_positions {shape.positions} and n_head "
            f"{shape.heads}, and the weights have width {width} and {positions} positions; export the model again."
        )


def of_model(model: "GPT2LMHeadModel", never: Never) -> Writer:
    """Return the writer for a model in memory."""
    from theta.bases.weight_files import plain_name
    from theta.machine.devices import memory_remedy

    shape = Shape.of(model.config.to_dict())
    tensors = {plain_name(name): tensor for name, tensor in model.state_dict().items()}
    with memory_remedy(model.device, MEMORY_ADVICE):
        arranged = _arranged(tensors, shape, model.device, model.dtype)
        return _of_weights(arranged, shape, never(len(arranged.tokens)))


def _arranged(
    tensors: Mapping[str, "torch.Tensor"], shape: Shape, device: "torch.device", dtype: "torch.dtype"
) -> "Weights":
    import torch

    from theta.generate.weights import arrange

    # A CPU multiplies by float32 weights as fast without a copy in the other order.
    return arrange(tensors, shape, device, dtype, as_stored=device.type == "cpu" and dtype == torch.float32)


def _of_weights(weights: "Weights", shape: Shape, never: list[int]) -> Writer:
    if weights.tokens.device.type == "cuda":
        if (why := gpu_engine_lacks(weights, shape)) is None:
            from theta.generate.gpu_engine import GpuWriter

            return GpuWriter(weights, shape, never)
        warn(f"Replies are written without Theta's GPU kernels, which is slower, since {why}.", stacklevel=4)
    from theta.generate.torch_engine import TorchWriter

    return TorchWriter(weights, shape, never)


def gpu_engine_lacks(weights: "Weights", shape: Shape) -> str | None:
    """Describe what the GPU engine needs and this GPU or model lacks; None if it has everything."""
    import torch

    from theta.machine.devices import triton_lacks

    device = weights.tokens.device
    if torch.cuda.get_device_capability(device) < AMPERE:
        return f"the {torch.cuda.get_device_name(device)} is older than Nvidia's Ampere generation"
    if lacking := triton_lacks():
        return lacking
    if shape.positions > MOST_POSITIONS or shape.head > WIDEST_HEAD or shape.width * 4 < shape.inner:
        return f"the model's shape is unusual ({shape.positions} positions, heads of {shape.head}, {shape.inner} inner)"
    return None


def _device(name: str) -> "torch.device":
    import torch

    from theta.machine.devices import choose_device, open_device

    try:
        device = choose_device("auto") if name == "auto" else torch.device(name)
        open_device(device)
        torch.ones(1, device=device).add(1)
    except (RuntimeError, AssertionError, NotImplementedError, SettingsError) as fault:
        raise GenerationError(f"device {name!r} cannot be used ({reason(fault)}); try 'auto' or 'cpu'.") from None
    return device


def _dtype(name: str, device: "torch.device") -> "torch.dtype":
    """Return the format in which the weights are read.

    Raises:
        GenerationError: the device does not compute in it.
    """
    import torch

    from theta.machine.devices import has_bfloat16

    if name == "int8":
        if device.type != "cpu":
            raise GenerationError(f"dtype 'int8' is for CPUs, and the device is '{device}'; choose another dtype.")
        name = "float32"  # from which it is rounded
    if name == "auto":
        # On a CPU float32 also makes the replies of NumPy and of torch the same (docs/decisions.md has the speeds).
        name = "bfloat16" if device.type == "cuda" and has_bfloat16(device) else "float32"
    dtype: torch.dtype = getattr(torch, name)
    return dtype
