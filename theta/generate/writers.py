"""The writer for a model and a machine. torch is imported where it is needed, because it takes seconds."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import warn

from theta.bases.weight_files import EMBEDDING, OUTPUT_MATRIX, PREFIX, SAFETENSORS, times
from theta.errors import GenerationError, OutOfMemoryError, SettingsError, reason
from theta.generate.engine import Writer
from theta.generate.shape import Shape, expected
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
    if (_is_cpu(device) or _device(device).type == "cpu") and (writer := _compiled(folder, shape, never, dtype)):
        return writer
    if soon and _is_cpu(device) and dtype in ("auto", "float32") and starts_sooner(folder, shape):
        return _of_small_folder(folder, shape, never)
    return _of_torch(folder, shape, never, _device(device), dtype, soon)


def _of_torch(folder: Path, shape: Shape, never: Never, place: "torch.device", dtype: str, soon: bool) -> Writer:
    from safetensors import SafetensorError

    from theta.generate import cpu_products, weights
    from theta.machine.cpu_sharing import share_cpus
    from theta.machine.devices import memory_remedy
    from theta.machine.mkl import prepare_vector_functions

    prepare_vector_functions()
    share_cpus()
    with memory_remedy(place, MEMORY_ADVICE):
        try:
            tensors = weights.read(folder)
            _refuse_wrong(folder, tensors, shape)
            arranged = _arranged(tensors, shape, place, _dtype(dtype, place))
            few = sum(tensor.numel() for tensor in tensors.values()) < FEW_WEIGHTS
            if dtype == "int8":
                arranged = _rounded(arranged, shape, folder)
            elif place.type == "cpu" and (dtype == "bfloat16" or (few and not soon)):
                arranged = cpu_products.pack_exactly(arranged)
        except (OSError, ValueError, SafetensorError) as fault:
            raise GenerationError(f"{folder} cannot be loaded ({reason(fault)}); export the model again.") from None
        return _of_weights(arranged, shape, never(len(arranged.tokens)))


def _rounded(weights: "Weights", shape: Shape, folder: Path) -> "Weights":
    """Return weights in 8 bits, if the model of the folder predicts nearly the same with them."""
    from theta.generate import cpu_products, int8_gate, network

    if not cpu_products.is_available():
        raise GenerationError(
            "dtype 'int8' needs a C compiler, or FBGEMM, which torch has on x86 processors alone; install gcc, or "
            f"{int8_gate.REMEDY}."
        )
    small = cpu_products.round_to_8_bits(weights)
    before, after = (
        lambda ids, places, of=of: network.logits(of, shape, ids, places).numpy() for of in (weights, small)
    )
    int8_gate.check(folder, before, after, shape.positions)
    return small


FEW_WEIGHTS = 50e6
"""They are packed in less than a second, so that it is done unasked."""
SMALL_BYTES = 100e6
GPU_DRIVERS = ("/proc/driver/nvidia", "/dev/dxg", "/dev/kfd")
"""What the drivers of Nvidia on Linux, of Windows' Linux, and of AMD put into the file system."""


def _is_cpu(device: str) -> bool:
    """Whether a device is certainly the CPU, so that torch, which takes seconds to import, need not be asked."""
    has_gpu = sys.platform == "win32" or any(Path(driver).exists() for driver in GPU_DRIVERS)
    return device == "cpu" or (device == "auto" and not has_gpu)


def _compiled(folder: Path, shape: Shape, never: Never, dtype: str) -> Writer | None:
    """Return the compiled writer; None without a C compiler, or where torch is as fast and loads sooner.

    That is for many weights in float32 which 16 bits do not hold: torch multiplies by them where the file is mapped.
    """
    from theta.generate import cpu_compiled, cpu_library, int8_gate
    from theta.generate.cpu_engine import BFLOAT16, stored
    from theta.machine.process import computing_threads

    file, library = folder / SAFETENSORS, cpu_library.library()
    if library is None or not file.is_file():
        return None
    try:
        if shape.activation not in cpu_compiled.ACTIVATIONS:
            return None
        tensors = stored(file)
        _refuse_wrong(folder, tensors, shape)
        dtype = "float32" if dtype == "auto" else dtype
        many = sum(tensor.size for tensor in tensors.values()) >= FEW_WEIGHTS
        if dtype == "float32" and many and tensors[EMBEDDING].dtype != BFLOAT16:
            return None
        network = cpu_compiled.Network(library, tensors, shape, dtype, computing_threads())
        if dtype == "int8" and not int8_gate.has_passed(folder):
            exact = cpu_compiled.Network(library, tensors, shape, "float32", computing_threads())
            int8_gate.check(folder, exact.logits, network.logits, shape.positions)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as fault:
        raise GenerationError(f"{folder} cannot be loaded ({reason(fault)}); export the model again.") from None
    except MemoryError:
        raise OutOfMemoryError(f"The machine has too little memory; {MEMORY_ADVICE}.") from None
    return cpu_compiled.CompiledWriter(network, never(network.rows))


def starts_sooner(folder: Path, shape: Shape) -> bool:
    """Whether NumPy has written a reply before torch is imported, which is so for a small model."""
    from theta.generate.cpu_engine import ACTIVATIONS

    file = folder / SAFETENSORS
    return file.is_file() and file.stat().st_size < SMALL_BYTES and shape.activation in ACTIVATIONS


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
    sizes, config = expected(shape), folder / "config.json"
    if lacking := sorted(sizes.keys() - tensors.keys()):
        weights = f"{counted(len(lacking), 'weight')}, such as {_in_files(lacking[0])}"
        raise GenerationError(f"{folder} lacks {weights}; export the model again.")
    for name, size in sizes.items():
        if (found := tuple(tensors[name].shape)) != size:
            raise GenerationError(
                f"{config} requires {times(size)} numbers in {_in_files(name)}, which has {times(found)}; export the "
                "model again."
            )
    if shape.width % shape.heads:
        raise GenerationError(
            f"{config} says n_head {shape.heads}, which does not divide n_embd {shape.width}; export the model again."
        )


def _in_files(name: str) -> str:
    """Return the name of a weight as the files spell it."""
    return name if name == OUTPUT_MATRIX else PREFIX + name


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
