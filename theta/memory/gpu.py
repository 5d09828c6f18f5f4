"""The card that plans are made for: the one at hand, or one of a given size. torch is imported to look, not before."""

from collections.abc import Sequence
from dataclasses import dataclass

from theta.errors import SettingsError
from theta.memory.plans import AUTOMATIC, FLOAT32, GIB, Plan, usable_bytes

ASSUMED_GIB = 12.0
"""Memory of the card that is assumed where there is none."""


@dataclass(frozen=True, slots=True)
class Card:
    """A graphics card, as far as plans depend on it.

    Attributes:
        words: what it is, as a sentence.
        memory: its bytes.
        bfloat16: whether it computes in bfloat16, as Nvidia's do from Ampere on.
    """

    words: str
    memory: float
    bfloat16: bool = True

    @property
    def budget(self) -> float:
        """Bytes that training may allocate."""
        return usable_bytes(self.memory)

    @property
    def plans(self) -> Sequence[Plan]:
        """The plans that `train.memory: auto` chooses from."""
        return AUTOMATIC if self.bfloat16 else (FLOAT32,)


def card_of(gib: float | None) -> Card:
    """A card of so many GiB; for None the one at hand, else one that is assumed.

    Raises:
        SettingsError: the memory is not above 0.
    """
    if gib is None:
        return card_at_hand() or Card(
            f"torch sees no GPU here, so a card of {ASSUMED_GIB:g} GiB is assumed; name another by --vram.",
            ASSUMED_GIB * GIB,
        )
    if not gib > 0:
        raise SettingsError(f"--vram is {gib:g}, allowed is a memory above 0, in GiB.")
    return Card(f"For a card of {gib:g} GiB.", gib * GIB)


def card_at_hand() -> Card | None:
    """The GPU that training would take, None if torch sees none."""
    import torch

    from theta.machine.devices import choose_device, choose_dtype

    device = choose_device("train.device", "auto")
    if device.type == "cpu":
        return None
    properties = torch.cuda.get_device_properties(device)
    bfloat16 = choose_dtype("auto", device) == torch.bfloat16
    only = "" if bfloat16 else ", which does not compute in bfloat16, so float32 is the one plan for it"
    words = f"For the card at hand, {properties.name} of {properties.total_memory / GIB:.1f} GiB{only}."
    return Card(words, properties.total_memory, bfloat16)
