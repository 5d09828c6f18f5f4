"""The choice of the device: refusals, fallbacks, and the message when memory runs out."""

import sysconfig
from collections.abc import Iterator

import pytest
import torch

from theta.errors import OutOfMemoryError, SettingsError
from theta.machine import devices
from theta.machine.devices import choose_device, choose_dtype, memory_remedy, notes, ran_out_of_memory, triton_lacks

NO_KERNEL = "CUDA error: no kernel image is available for execution on the device\nCompile with ..."


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Forget the hardware that was found before and after each test."""
    devices.usable_gpus.cache_clear()
    triton_lacks.cache_clear()
    yield
    devices.usable_gpus.cache_clear()
    triton_lacks.cache_clear()


@pytest.fixture
def old_second_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs, of which torch has no kernels for the second."""

    def compute_on(index: int) -> None:
        if index == 1:
            raise RuntimeError(NO_KERNEL)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _index: "GeForce GT 710")
    monkeypatch.setattr(devices, "_compute_on", compute_on)


@pytest.mark.usefixtures("old_second_gpu")
def test_a_gpu_without_kernels_is_not_used() -> None:
    count, fault = devices.usable_gpus()
    assert count == 1
    assert fault == (
        f"torch {torch.__version__} cannot compute on the GeForce GT 710 "
        "(CUDA error: no kernel image is available for execution on the device)"
    )
    assert choose_device("auto").type == "cuda"


@pytest.mark.usefixtures("old_second_gpu")
def test_a_single_gpu_without_kernels_is_replaced_with_the_cpu_and_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_computes(_index: int) -> None:
        raise RuntimeError(NO_KERNEL)

    monkeypatch.setattr(devices, "_compute_on", nothing_computes)
    device = choose_device("auto")
    assert device.type == "cpu"
    [note] = notes(device)
    assert note.startswith("The GPU is not used: torch ")
    assert "\n" not in note
    with pytest.raises(SettingsError, match=r"machine\.device is 'cuda', but torch .* cannot compute on the GeForce"):
        choose_device("cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_missing_gpu_is_one_line() -> None:
    with pytest.raises(SettingsError, match=r"^machine\.device is 'cuda', but torch sees no GPU; set it to auto"):
        choose_device("cuda")
    assert notes(choose_device("auto")) == []


def test_growing_segments_are_turned_off_where_the_driver_lacks_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings, tried = list[str](), list[bool]()

    def ones(*_: object, **__: object) -> torch.Tensor:
        tried.append(bool(settings))
        if not settings:
            raise RuntimeError("CUDA driver error: operation not supported")
        return torch.zeros(1)

    monkeypatch.setattr(torch, "ones", ones)
    monkeypatch.setattr(torch.cuda.memory, "_set_allocator_settings", settings.append)
    devices._compute_on(0)
    assert tried == [False, True]
    assert settings == ["expandable_segments:False"]


def test_emulated_bfloat16_is_refused_and_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    monkeypatch.setattr(devices, "has_bfloat16", lambda _device: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "GeForce RTX 2060")
    assert choose_dtype("auto", gpu) == torch.float16
    with pytest.raises(SettingsError, match=r"machine\.precision is 'bfloat16', which the GeForce RTX 2060 does not"):
        choose_dtype("bfloat16", gpu)


def test_without_a_compiler_there_is_no_triton(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(devices, "find_spec", lambda _name: object())
    monkeypatch.setenv("CC", "no-such-compiler")
    assert triton_lacks() == "no C compiler was found (no-such-compiler); install gcc"
    triton_lacks.cache_clear()
    monkeypatch.setenv("CC", "true")
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    assert triton_lacks() == "the headers of Python were not found; install python3-dev"
    triton_lacks.cache_clear()
    monkeypatch.setattr(devices, "find_spec", lambda _name: None)
    assert triton_lacks() == "Triton is not installed"


def test_the_lack_of_a_compiler_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "usable_gpus", lambda: (1, None))
    monkeypatch.setattr(devices, "has_bfloat16", lambda _device: True)
    monkeypatch.setattr(devices, "triton_lacks", lambda: "no C compiler was found (cc); install gcc")
    assert notes(torch.device("cuda")) == [
        "Theta trains without its GPU kernels and without compiling, since no C compiler was found (cc); install gcc."
    ]


def recording_fails() -> None:
    """Fail like torch when memory runs out while a CUDA graph is recorded."""
    try:
        raise torch.OutOfMemoryError("CUDA out of memory")
    finally:
        raise RuntimeError("CUDA error: operation failed due to a previous error during capture")


def cpu_fails() -> None:
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes")


def gpu_fails() -> None:
    raise torch.OutOfMemoryError


@pytest.mark.parametrize(
    ("fail", "device", "what"),
    [(recording_fails, "cuda", "GPU"), (gpu_fails, "cuda", "GPU"), (cpu_fails, "cpu", "machine")],
)
def test_memory_that_runs_out_is_one_line(fail: object, device: str, what: str) -> None:
    assert callable(fail)
    expected = pytest.raises(OutOfMemoryError, match=rf"^The {what} has too little memory; do this\.$")
    with expected, memory_remedy(torch.device(device), "do this"):
        fail()


def test_other_errors_are_not_changed() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_remedy(torch.device("cpu"), "do this"):
        raise RuntimeError("shapes do not match")
    assert not ran_out_of_memory(RuntimeError("shapes do not match"))
