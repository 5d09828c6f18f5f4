"""What each plan comes to for a base and a card, before anything is loaded. No torch, so that asking is quick."""

from collections.abc import Mapping
from dataclasses import dataclass

from theta.bases.presets import columns
from theta.errors import SettingsError
from theta.memory.gpu import Card
from theta.memory.plans import PLANS, Choice, Size, choices, fastest, leanest, relative_seconds
from theta.tokens.vocabulary import SPECIAL_TOKENS_ADDED


@dataclass(frozen=True, slots=True)
class Forecast:
    """A plan with the microbatch that it would take.

    Attributes:
        choice: the fastest that fits, or the leanest if none does.
        speed: as a share of what the base reaches where memory has no limit.
        fits: into the card.
        allowed: the card can compute it.
    """

    choice: Choice
    speed: float
    fits: bool
    allowed: bool


def size_of_base(shape: Mapping[str, int]) -> Size:
    """What the arithmetic of plans needs to know of a base, as `theta.bases.descriptors.shape` describes it.

    The columns are those of its vocabulary with Theta's tokens added; if a base has them already, that is 5 too many,
    of 50,000.
    """
    wide = columns(shape["vocabulary_size"] + SPECIAL_TOKENS_ADDED)
    return Size(shape["layers"], shape["width"], wide, shape["positions"])


def forecasts(size: Size, card: Card, tokens_per_step: int, longest: int) -> list[Forecast]:
    """Every plan, in the order of `PLANS`.

    Raises:
        SettingsError: a step does not hold the longest document.
    """
    least_seconds = min(map(relative_seconds, choices(size, PLANS, tokens_per_step, longest)))
    made = []
    for plan in PLANS:
        found = list(choices(size, (plan,), tokens_per_step, longest))
        fits = leanest(found).peak <= card.budget
        choice = fastest(found, card.budget) if fits else leanest(found)
        speed = least_seconds / relative_seconds(choice)
        made.append(Forecast(choice, speed, fits, allowed=card.bfloat16 or plan in card.plans))
    return made


def automatic(size: Size, card: Card, tokens_per_step: int, longest: int) -> Choice | SettingsError:
    """What `train.memory: auto` takes on the card, or what it says if nothing fits."""
    try:
        return fastest(list(choices(size, card.plans, tokens_per_step, longest)), card.budget)
    except SettingsError as fault:
        return fault
