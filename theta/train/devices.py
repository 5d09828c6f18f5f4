"""Where and in which arithmetic to train. Nothing here imports torch at its head: see `keep_large_buffers`."""

import ctypes
import sys
from typing import TYPE_CHECKING

from theta.errors import TrainingError

if TYPE_CHECKING:
    import torch

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h


def keep_large_buffers() -> None:
    """Tell glibc to keep freed memory; must run before torch is imported.

    Otherwise it returns the buffers of the logits, hundreds of megabytes, to the system after each step and has
    them zeroed again in the next: 2x in training on a CPU. Elsewhere than on glibc nothing happens.
    """
    if "torch" in sys.modules or sys.platform != "linux":
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:  # musl
        return
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(_M_TOP_PAD, 256 << 20)


def choose_device(device: str) -> "torch.device":
    """The device for a setting of auto, cpu or cuda.

    Raises:
        TrainingError: cuda is asked for and there is none.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise TrainingError(
            "train.device is 'cuda', but torch sees no GPU; set it to auto or cpu, or check the driver."
        )
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def choose_dtype(precision: str, device: "torch.device") -> "torch.dtype":
    """The type of the matrix products for a setting of auto, float32 or bfloat16."""
    import torch

    if precision == "auto":
        fast = torch.cuda.is_bf16_supported(False) if device.type == "cuda" else _cpu_has_bfloat16()
        precision = "bfloat16" if fast else "float32"
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def _cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 itself (AVX512-BF16 or AMX); emulated it is slower than float32."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def set_threads(threads: int | str) -> int:
    """Set torch's CPU threads and return their number; "auto" leaves torch's own choice, all cores."""
    import torch

    if threads != "auto":
        torch.set_num_threads(int(threads))
    return torch.get_num_threads()
