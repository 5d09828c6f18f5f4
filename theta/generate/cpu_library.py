"""The compiled library of `cpu_forward.c`, built for this machine's processor when it is first needed.

Triton does the same for GPUs: a program that is compiled where it runs uses all instructions of its processor. Building
takes about a second, and the result is kept in the user's cache. Without a C compiler there is none, and replies are
written by torch.
"""

import ctypes
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from functools import cache
from hashlib import sha256
from pathlib import Path

from theta.machine.process import user_cache

SOURCE = Path(__file__).with_name("cpu_forward.c")
# "native" is the processor's own set of instructions. Sums keep the order in which they are written.
FLAGS = ("-O3", "-march=native", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd", "-shared")
COMPILERS = ("cc", "gcc", "clang")
SECONDS_TO_BUILD = 60


@cache
def library() -> ctypes.CDLL | None:
    """Return the library; None on other systems than Linux, and without a C compiler that can build it."""
    compilers = [os.environ["CC"]] if "CC" in os.environ else COMPILERS
    compiler = next(filter(None, map(shutil.which, compilers)), None)
    if sys.platform != "linux" or compiler is None:
        return None
    try:
        return _loaded(compiler)
    except (OSError, subprocess.SubprocessError):  # no folder of this user's that can be written, or an old compiler
        return None


def _loaded(compiler: str) -> ctypes.CDLL:
    file = _built(compiler)
    try:
        return ctypes.CDLL(str(file))
    except OSError:  # it is damaged
        file.unlink()
        return ctypes.CDLL(str(_built(compiler)))


def _built(compiler: str) -> Path:
    """Return the library's file, which is built unless the cache has it."""
    folder = user_cache() / "cpu"
    made_of = "\n".join((SOURCE.read_text(encoding="utf-8"), compiler, *FLAGS, _processor()))
    file = folder / f"cpu_forward-{sha256(made_of.encode()).hexdigest()[:16]}.so"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _check_owner(folder)
    if not file.is_file():
        with tempfile.TemporaryDirectory(dir=folder) as new:
            built = Path(new) / file.name
            command = [compiler, *FLAGS, "-fPIC", "-pthread", "-o", str(built), str(SOURCE), "-lm"]
            subprocess.run(command, check=True, capture_output=True, timeout=SECONDS_TO_BUILD)
            built.chmod(0o700)
            built.replace(file)
    _check_owner(file)
    return file


def _check_owner(path: Path) -> None:
    """Refuse what another user may have written, since its code would run as this one.

    Raises:
        PermissionError: it may be.
    """
    status = path.lstat()
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or path.is_symlink():
        raise PermissionError(f"{path} can be written by others")


def _processor() -> str:
    """Describe the first processor, as machines with different ones may share a home folder."""
    first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    changing = ("cpu MHz", "bogomips", "BogoMIPS", "processor", "core id", "apicid", "initial apicid", "microcode")
    return "\n".join(line for line in first.splitlines() if not line.startswith(changing))
