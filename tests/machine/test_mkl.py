"""MKL gives the same bits in every run."""

import ctypes
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from theta.generate import cpu_library, writers
from theta.machine.mkl import fix_order_of_sums
from theta.model import network

LOAD_FROM_HERE = b"\x8b\x05"
"""The machine code of a read from an address that follows, relative to the next instruction."""
UNKNOWN = -1
MKL = pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="this torch computes without MKL")


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    """Torch's library, in which MKL is."""
    path = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    if not path.is_file():
        pytest.skip("needs torch for Linux")
    return ctypes.CDLL(str(path))


@pytest.fixture
def processor(library: ctypes.CDLL) -> Iterator[ctypes.c_int]:
    """The variable in which MKL's vector functions keep the type of the processor, which nothing has used yet.

    It has no name, but the function that detects the type begins by reading it.
    """
    detect = getattr(library, "mkl_vml_serv_cpu_detect", None)
    if detect is None:
        pytest.skip("this torch computes without MKL")
    address = ctypes.cast(detect, ctypes.c_void_p).value or 0
    code, offset = struct.unpack("<2si", ctypes.string_at(address, 6))
    if code != LOAD_FROM_HERE:
        pytest.skip("this is another version of MKL")
    variable = ctypes.c_int.from_address(address + 6 + offset)
    torch.ones(1).tanh()
    detected, variable.value = variable.value, UNKNOWN
    yield variable
    variable.value = detected


@pytest.mark.parametrize(
    "prepare",
    [
        network.load,
        lambda _: network.new(1, 1, 16, seed=0),
        lambda folder: writers.of_folder(folder, lambda _: [], "cpu", "float32"),
    ],
    ids=["load", "new", "of_folder"],
)
def test_the_type_is_known_before_a_model_computes(
    prepare: Callable[[Path], object], tiny_folder: Path, processor: ctypes.c_int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_library, "library", lambda: None)  # the compiled writer has no part of MKL
    prepare(tiny_folder)
    assert processor.value != UNKNOWN


@MKL
def test_products_are_equal_to_the_bit_in_any_number_of_threads_and_rows() -> None:
    code = (
        "from theta.machine.mkl import fix_order_of_sums\n"
        "fix_order_of_sums()\n"
        "import torch\n"
        "torch.manual_seed(0)\n"
        "states, weight = torch.randn(24, 1024), torch.randn(1024, 256)\n"
        "for threads in (1, 2, 3):\n"
        "    torch.set_num_threads(threads)\n"
        "    found = [(states[:rows] @ weight)[0] for rows in (1, 2, 8, 24)]\n"
        "    expected = found[0] if threads == 1 else expected\n"
        "    print(*(torch.equal(each, expected) for each in found))\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "MKL_CBWR"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "True True True True\n" * 3


def test_an_order_that_the_user_has_set_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    fix_order_of_sums()
    assert os.environ["MKL_CBWR"] == "COMPATIBLE"
