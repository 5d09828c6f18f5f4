"""What must be set in the process before torch is imported. Nothing here imports torch at its head."""

import ctypes
import os
import sys
from pathlib import Path

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h


def keep_large_buffers() -> None:
    """Tell glibc to keep freed memory; must run before torch is imported.

    Otherwise it returns the buffers of the logits, hundreds of megabytes, to the system after each step and has
    them zeroed again in the next: 2x in training on a CPU. Elsewhere than on glibc nothing happens.
    """
    if "torch" not in sys.modules and (libc := _glibc()):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_M_TOP_PAD, 256 << 20)


def give_back_memory() -> None:
    """Give what is free of the memory that glibc keeps back to the system; some 0.2 seconds.

    Steps differ in size, so the kept memory falls into pieces and grows with every step.
    """
    if libc := _glibc():
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library, where it is glibc."""
    if sys.platform != "linux":
        return None
    try:
        return ctypes.CDLL("libc.so.6")
    except OSError:  # musl
        return None


def prepare_gpu() -> None:
    """Settings of torch for a GPU; must run before torch is imported. What the user has set stays.

    Compiled code is kept between runs, where a restart does not empty the folder. The allocator grows its segments
    instead of cutting the card into pieces that fit no later tensor.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "theta" / "compiled"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache))
    os.environ.setdefault("TRITON_CACHE_DIR", str(cache / "triton"))
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")


def set_threads(threads: int | str) -> int:
    """Set torch's CPU threads and return their number; "auto" leaves torch's own choice, all cores."""
    import torch

    if threads != "auto":
        torch.set_num_threads(int(threads))
    return torch.get_num_threads()
