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
    if "torch" in sys.modules or sys.platform != "linux":
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:  # musl
        return
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(_M_TOP_PAD, 256 << 20)


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
