"""The device, its number format, and errors for a lack of memory. torch is imported inside functions."""

import os
import re
import shutil
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from theta.errors import OutOfMemoryError, SettingsError, reason

if TYPE_CHECKING:
    import torch


def choose_device(device: str) -> "torch.device":
    """Return the device for a value of `machine.device`: auto, cpu or cuda.

    Raises:
        SettingsError: cuda is requested, and torch sees no GPU or none that it can compute on.
    """
    import torch

    gpus, fault = usable_gpus()
    if device == "cuda" and not gpus:
        raise SettingsError(
            f"machine.device is 'cuda', but {fault or 'torch sees no GPU'}; set it to auto or cpu, or check the driver."
        )
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    return torch.device(device)


@lru_cache
def usable_gpus() -> tuple[int, str | None]:
    """Count the GPUs, from the first on, that torch can compute on; and return why the next, if any, cannot be used.

    torch also sees GPUs that are too old for it, but has no kernels for them. Nothing is allocated on any GPU here.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for index in range(count):
        capability = torch.cuda.get_device_capability(index)
        if not _has_kernels(capability, torch.cuda.get_arch_list()):
            name = f"{torch.cuda.get_device_name(index)} (compute capability {'.'.join(map(str, capability))})"
            return index, f"torch {torch.__version__} has no kernels for the {name}"
    return count, None


def _has_kernels(capability: tuple[int, int], architectures: list[str]) -> bool:
    """Whether kernels compiled for these architectures, such as sm_86 or compute_90, run on a GPU.

    Machine code (sm) runs on GPUs of its generation from its number on, and PTX (compute) on all later ones.
    """
    found = [re.fullmatch(r"(sm|compute)_(\d+)[a-z]?", each) for each in architectures]
    for kind, number in (each.groups() for each in found if each):
        compiled_for = divmod(int(number), 10)
        if capability >= compiled_for and (kind == "compute" or capability[0] == compiled_for[0]):
            return True
    return not any(found)


def open_device(device: "torch.device") -> None:
    """Allocate the first tensor on a device, without growing segments where its driver does not support them.

    Raises:
        SettingsError: the GPU cannot be used.
    """
    import torch

    try:
        torch.ones(1, device=device)
    except torch.OutOfMemoryError:  # whoever needs the memory explains what to do
        return
    except RuntimeError:
        # The drivers of WSL2, Jetson and virtual GPUs do not support growing segments.
        torch.cuda.memory._set_allocator_settings("expandable_segments:False")
        try:
            torch.ones(1, device=device)
        except RuntimeError as fault:
            raise SettingsError(
                f"The GPU cannot be used ({reason(fault)}); set machine.device to cpu, or check the driver."
            ) from None


def choose_dtype(precision: str, device: "torch.device") -> "torch.dtype":
    """Return the number format of the matrix products for a value of `machine.precision`.

    Raises:
        SettingsError: bfloat16 is requested on a GPU that would only emulate it.
    """
    import torch

    if precision == "auto":
        if device.type == "cuda":  # GPUs before Ampere multiply float16 fast, and bfloat16 not at all
            precision = "bfloat16" if has_bfloat16(device) else "float16"
        else:
            precision = "bfloat16" if _cpu_has_bfloat16() else "float32"
    if precision == "bfloat16" and device.type == "cuda" and not has_bfloat16(device):
        raise SettingsError(
            f"machine.precision is 'bfloat16', which the {torch.cuda.get_device_name(device)} does not support; "
            "set it to auto, float16 or float32."
        )
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]


def has_bfloat16(device: "torch.device") -> bool:
    """Whether a GPU computes in bfloat16 itself, as Nvidia's do from Ampere on; emulated it is slower than float32."""
    import torch

    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def _cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 itself (AVX512-BF16 or AMX); emulated it is slower than float32."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def notes(device: "torch.device") -> list[str]:
    """Return notes for the user on the choice of the device, one sentence each."""
    _, fault = usable_gpus()
    found = [f"The GPU is not used: {fault}."] if fault and device.type == "cpu" else []
    if device.type == "cuda" and has_bfloat16(device) and (lacking := triton_lacks()):
        found.append(f"Theta trains without its GPU kernels and without compiling, since {lacking}.")
    return found


@lru_cache
def triton_lacks() -> str | None:
    """Describe what the GPU kernels need and this machine lacks; None if it has everything.

    Triton compiles its launcher in C when a kernel first runs, against the headers of Python.
    """
    if find_spec("triton") is None:
        return "Triton is not installed"
    compilers = [os.environ["CC"]] if "CC" in os.environ else ["cc", "gcc", "clang"]
    if not any(map(shutil.which, compilers)):
        return f"no C compiler was found ({' or '.join(compilers)}); install gcc"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        return "the headers of Python were not found; install python3-dev"
    return None


def to_device(tensor: "torch.Tensor", device: "torch.device") -> "torch.Tensor":
    """Copy a tensor to a device; a GPU copies while the host continues."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


@contextmanager
def own_stream(device: "torch.device") -> Iterator[None]:
    """Run the block on a CUDA stream of its own, which CUDA graphs need; on a CPU, do nothing."""
    import torch

    if device.type == "cpu":
        yield
        return
    stream, before = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    stream.wait_stream(before)
    with torch.cuda.stream(stream):
        yield
    before.wait_stream(stream)


def ran_out_of_memory(fault: BaseException | None) -> bool:
    """Whether an error, or one that preceded it, reports that a GPU or the machine has too little memory.

    A CUDA graph whose recording runs out of memory ends in another error, which follows the first.
    """
    import torch

    while fault is not None:
        if isinstance(fault, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(fault):
            return True
        fault = fault.__cause__ or fault.__context__
    return False


@contextmanager
def memory_remedy(device: "torch.device", remedy: str) -> Iterator[None]:
    """Turn the out-of-memory errors of the block into one line that ends with `remedy`.

    Raises:
        OutOfMemoryError: memory ran out inside the block.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as fault:
        if not ran_out_of_memory(fault):
            raise
        what = "GPU" if device.type == "cuda" else "machine"
        raise OutOfMemoryError(f"The {what} has too little memory; {remedy}.") from None
