"""The GPU that plans are made for: the one of this machine, or one of a given size. torch is imported in functions."""

from collections.abc import Sequence
from dataclasses import dataclass

from theta.errors import SettingsError
from theta.memory.plans import AUTOMATIC, FLOAT32, GIB, Plan, usable_bytes

ASSUMED_GIB = 12.0
"""Memory of the GPU that is assumed where there is none."""


@dataclass(frozen=True, slots=True)
class GPU:
    """A GPU, as far as plans depend on it.

    Attributes:
        description: one sentence about it.
        memory: its bytes.
        free: bytes that other programs leave; None for all.
        bfloat16: whether it computes in bfloat16, as Nvidia's GPUs do from Ampere on.
    """

    description: str
    memory: float
    free: float | None = None
    bfloat16: bool = True

    @property
    def budget(self) -> float:
        """Bytes that training may allocate."""
        return usable_bytes(self.memory, self.free)

    @property
    def plans(self) -> Sequence[Plan]:
        """The plans that `machine.memory: auto` chooses from."""
        return AUTOMATIC if self.bfloat16 else (FLOAT32,)


def gpu_of(gib: float | None) -> GPU:
    """Return a GPU with this much memory; for None, the GPU of this machine, or else an assumed one.

    Raises:
        SettingsError: the memory is not above 0.
    """
    if gib is None:
        return this_gpu() or GPU(
            f"torch sees no GPU here, so one of {ASSUMED_GIB:g} GiB is assumed; set another with --vram.",
            ASSUMED_GIB * GIB,
        )
    if not gib > 0:
        raise SettingsError(f"--vram is {gib:g} but must be a number of GiB above 0.")
    return GPU(f"For a GPU of {gib:g} GiB.", gib * GIB)


def this_gpu() -> GPU | None:
    """Return the GPU that training would use; None if torch sees none."""
    import torch

    from theta.machine.devices import choose_device, choose_dtype

    device = choose_device("auto")
    if device.type == "cpu":
        return None
    free, total = torch.cuda.mem_get_info(device)
    bfloat16 = choose_dtype("auto", device) == torch.bfloat16
    only = "" if bfloat16 else "; it does not support bfloat16, so float32 is the only plan for it"
    name = torch.cuda.get_device_properties(device).name
    return GPU(
        f"For the GPU of this machine, {name}, of {total / GIB:.1f} GiB with {free / GIB:.1f} GiB free{only}.",
        total,
        free,
        bfloat16,
    )
