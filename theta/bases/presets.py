"""Shapes of GPT-2s: OpenAI's four, and new models. `model.base: scratch:mini` trains one without any download."""

from dataclasses import dataclass

from theta.errors import BaseModelError

POSITIONS = 1024
VOCABULARY_SIZE = 50_257
"""Entries of the GPT-2 vocabulary that Theta ships, which every preset uses."""

COLUMNS_MULTIPLE = 64
"""The vocabulary is padded to a multiple of this in training: 50,262 columns misalign the largest matrix product."""


@dataclass(frozen=True, slots=True)
class Preset:
    """The shape of a GPT-2."""

    layers: int
    heads: int
    width: int


GPT2 = {
    "gpt2": Preset(layers=12, heads=12, width=768),
    "gpt2-medium": Preset(layers=24, heads=16, width=1024),
    "gpt2-large": Preset(layers=36, heads=20, width=1280),
    "gpt2-xl": Preset(layers=48, heads=25, width=1600),
}
"""OpenAI's four sizes."""

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


def columns(vocabulary_size: int) -> int:
    """Columns of the output matrix in training, for a vocabulary of so many tokens."""
    return -(-vocabulary_size // COLUMNS_MULTIPLE) * COLUMNS_MULTIPLE
