"""Sizes of new models. `model.base: scratch:mini` trains one from random weights, without any download."""

from dataclasses import dataclass

from theta.errors import BaseModelError

POSITIONS = 1024
VOCABULARY_SIZE = 50_257
"""Entries of the GPT-2 vocabulary that Theta ships, which every preset uses."""


@dataclass(frozen=True, slots=True)
class Preset:
    """The shape of a new GPT-2."""

    layers: int
    heads: int
    width: int


PRESETS = {
    "nano": Preset(layers=2, heads=4, width=128),
    "mini": Preset(layers=4, heads=4, width=256),
    "small": Preset(layers=6, heads=6, width=384),
    "starter": Preset(layers=12, heads=4, width=256),
}


def preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        BaseModelError: there is none; the message lists those that there are.
    """
    if name not in PRESETS:
        known = ", ".join(f"scratch:{each}" for each in PRESETS)
        raise BaseModelError(f"model.base 'scratch:{name}' is no size of a new model; there are {known}.")
    return PRESETS[name]
