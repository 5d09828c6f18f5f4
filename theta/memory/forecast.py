"""What each plan needs for a base on a GPU, before anything is loaded. torch is not imported, so it is quick."""

from collections.abc import Mapping
from dataclasses import dataclass

from theta.bases.presets import columns
from theta.errors import SettingsError
from theta.memory.gpu import GPU
from theta.memory.plans import PLANS, Placement, Size, best, placements, relative_seconds, smallest
from theta.tokens.vocabulary import SPECIAL_TOKENS_ADDED


@dataclass(frozen=True, slots=True)
class Forecast:
    """A plan with the microbatch that it would take.

    Attributes:
        placement: the fastest that fits, or the smallest if none does.
        speed: as a fraction of the speed that the base reaches without a memory limit.
        fits: whether the GPU has the memory.
        allowed: whether the GPU computes in the plan's number format.
    """

    placement: Placement
    speed: float
    fits: bool
    allowed: bool


def size_of_base(shape: Mapping[str, int]) -> Size:
    """The size of a base that `theta.bases.descriptors.shape` describes, as the arithmetic of plans takes it.

    The columns include Theta's special tokens; if the base has them already, that is 5 too many of 50,000.
    """
    wide = columns(shape["vocabulary_size"] + SPECIAL_TOKENS_ADDED)
    return Size(shape["layers"], shape["width"], wide, shape["positions"])


def forecasts(size: Size, gpu: GPU, tokens_per_step: int, longest: int, *, ema: bool = False) -> list[Forecast]:
    """Return a forecast for each plan, in the order of `PLANS`.

    Args:
        ema: whether a moving average of the weights is kept.

    Raises:
        SettingsError: the longest document does not fit into a step.
    """
    least_seconds = min(map(relative_seconds, placements(size, PLANS, tokens_per_step, longest, ema=ema)))
    made = []
    for plan in PLANS:
        found = list(placements(size, (plan,), tokens_per_step, longest, ema=ema))
        fits = smallest(found).peak <= gpu.budget
        placement = best(found, gpu.budget) if fits else smallest(found)
        speed = least_seconds / relative_seconds(placement)
        made.append(Forecast(placement, speed, fits, allowed=gpu.bfloat16 or plan in gpu.plans))
    return made


def automatic(
    size: Size, gpu: GPU, tokens_per_step: int, longest: int, *, ema: bool = False
) -> Placement | SettingsError:
    """Return what `machine.memory: auto` takes on the GPU, or the error that it raises if nothing fits."""
    try:
        return best(list(placements(size, gpu.plans, tokens_per_step, longest, ema=ema)), gpu.budget)
    except SettingsError as fault:
        return fault
