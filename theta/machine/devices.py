"""Where to compute, in which arithmetic, and what to say when memory runs out. torch is imported inside functions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from theta.errors import OutOfMemoryError, SettingsError

if TYPE_CHECKING:
    import torch


def choose_device(setting: str, device: str) -> "torch.device":
    """The device for a value of auto, cpu or cuda.

    Args:
        setting: name of the setting, for the message.
        device: its value.

    Raises:
        SettingsError: cuda is asked for and there is none.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError(f"{setting} is 'cuda', but torch sees no GPU; set it to auto or cpu, or check the driver.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def choose_dtype(precision: str, device: "torch.device") -> "torch.dtype":
    """The type of the matrix products for a value of auto, float32, bfloat16 or float16."""
    import torch

    if precision == "auto":
        if device.type == "cuda":  # cards before Ampere multiply float16 fast, and bfloat16 not at all
            precision = "bfloat16" if torch.cuda.is_bf16_supported(False) else "float16"
        else:
            precision = "bfloat16" if _cpu_has_bfloat16() else "float32"
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]


def _cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 itself (AVX512-BF16 or AMX); emulated it is slower than float32."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def to_device(tensor: "torch.Tensor", device: "torch.device") -> "torch.Tensor":
    """The tensor on a device; a GPU copies it while the host goes on."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


@contextmanager
def own_stream(device: "torch.device") -> Iterator[None]:
    """On a GPU the block works on a stream of its own, as recording asks for."""
    import torch

    if device.type == "cpu":
        yield
        return
    stream, before = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    stream.wait_stream(before)
    with torch.cuda.stream(stream):
        yield
    before.wait_stream(stream)


@contextmanager
def memory_remedy(remedy: str) -> Iterator[None]:
    """Turn torch's out-of-memory errors, of a GPU and of a CPU, into one line that ends with `remedy`.

    Raises:
        OutOfMemoryError: memory ran out inside the block.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        raise OutOfMemoryError(f"The GPU has too little memory; {remedy}.") from None
    except RuntimeError as fault:
        if "can't allocate memory" not in str(fault):
            raise
        raise OutOfMemoryError(f"The machine has too little memory; {remedy}.") from None
