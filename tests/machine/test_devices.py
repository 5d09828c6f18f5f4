"""The choice of the device: refusals, fallbacks, and the message when memory runs out."""

import sysconfig
from collections.abc import Iterator

import pytest
import torch

from tests.support.runs import settings_with
from theta.errors import OutOfMemoryError, SettingsError
from theta.machine import devices
from theta.machine.devices import choose_device, choose_dtype, memory_remedy, notes, ran_out_of_memory, triton_lacks
from theta.train.choose import choose_processes


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
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_86"])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: [(8, 6), (3, 5)][index])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _index: "GeForce GT 710")


@pytest.mark.usefixtures("old_second_gpu")
def test_a_gpu_without_kernels_is_not_used() -> None:
    count, fault = devices.usable_gpus()
    assert count == 1
    assert fault == f"torch {torch.__version__} has no kernels for the GeForce GT 710 (compute capability 3.5)"
    assert choose_device("auto").type == "cuda"


@pytest.mark.usefixtures("old_second_gpu")
def test_an_only_gpu_without_kernels_is_the_cpu_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _index: (3, 5))
    device = choose_device("auto")
    assert device.type == "cpu"
    [note] = notes(device)
    assert note.startswith("The GPU is not used: torch ")
    assert "\n" not in note
    with pytest.raises(SettingsError, match=r"machine\.device is 'cuda', but torch .* has no kernels for the GeForce"):
        choose_device("cuda")


@pytest.mark.parametrize(
    ("architectures", "capability", "runs"),
    [
        (["sm_75", "sm_86", "sm_90a"], (8, 6), True),
        (["sm_80", "sm_90"], (8, 6), True),
        (["sm_86"], (8, 0), False),
        (["sm_80"], (9, 0), False),
        (["sm_80", "compute_80"], (12, 0), True),
        (["sm_120"], (12, 0), True),
        (["gfx90a"], (9, 0), True),
        ([], (5, 0), True),
    ],
)
def test_kernels_run_on_their_generation_and_ptx_on_later_ones(
    architectures: list[str], capability: tuple[int, int], runs: bool
) -> None:
    assert devices._has_kernels(capability, architectures) == runs


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_missing_gpu_is_one_line() -> None:
    with pytest.raises(SettingsError, match=r"^machine\.device is 'cuda', but torch sees no GPU; set it to auto"):
        choose_device("cuda")
    assert notes(choose_device("auto")) == []


def fail_until(message: str, settings: list[str]) -> object:
    """Stand in for an allocation that fails until the allocator has these settings."""

    def ones(*_: object, **__: object) -> torch.Tensor:
        if settings[-1:] != ["expandable_segments:False"]:
            raise RuntimeError(message)
        return torch.zeros(1)

    return ones


def test_growing_segments_are_turned_off_where_the_driver_does_not_know_them(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = list[str]()
    monkeypatch.setattr(torch, "ones", fail_until("CUDA driver error: operation not supported", settings))
    monkeypatch.setattr(torch.cuda.memory, "_set_allocator_settings", settings.append)
    devices.open_device(torch.device("cuda"))
    assert settings == ["expandable_segments:False"]


def test_a_gpu_that_cannot_be_used_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "ones", fail_until("CUDA error: device is busy\nCompile with ...", []))
    monkeypatch.setattr(torch.cuda.memory, "_set_allocator_settings", lambda _settings: None)
    with pytest.raises(SettingsError, match=r"^The GPU cannot be used \(CUDA error: device is busy\); set machine"):
        devices.open_device(torch.device("cuda"))


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


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four GPUs for which torch has kernels."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_90"])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _index: (9, 0))


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(("wanted", "processes"), [("auto", 4), (4, 4), (3, 3), (1, 1)])
def test_each_gpu_that_is_wanted_has_a_process(wanted: int | str, processes: int) -> None:
    _, machine = settings_with(device="auto", devices=wanted)
    assert choose_processes(machine) == processes


@pytest.mark.usefixtures("four_gpus")
def test_more_gpus_than_there_are_is_an_error() -> None:
    _, machine = settings_with(device="auto", devices=5)
    with pytest.raises(SettingsError, match=r"machine.devices is 5, but torch can use 4 GPUs; set it to auto\."):
        choose_processes(machine)
