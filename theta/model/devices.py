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
    """The type of the matrix products for a value of auto, float32 or bfloat16."""
    import torch

    if precision == "auto":
        fast = torch.cuda.is_bf16_supported(False) if device.type == "cuda" else _cpu_has_bfloat16()
        precision = "bfloat16" if fast else "float32"
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def _cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 itself (AVX512-BF16 or AMX); emulated it is slower than float32."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


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
