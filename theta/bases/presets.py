"""Shapes of OpenAI's four GPT-2 models and of new ones. `model.base: scratch:mini` trains one without a download."""

from dataclasses import dataclass

from theta.errors import BaseModelError

POSITIONS = 1024
VOCABULARY_SIZE = 50_257
"""Size of the GPT-2 vocabulary that Theta ships and that every preset uses."""

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
    """Return the preset of that name.

    Raises:
        BaseModelError: there is no such preset; the message lists the presets.
    """
    if name not in PRESETS:
        known = ", ".join(f"scratch:{each}" for each in PRESETS)
        raise BaseModelError(f"model.base 'scratch:{name}' is not a preset; choose one of {known}.")
    return PRESETS[name]


def columns(vocabulary_size: int) -> int:
    """Return the columns of the output matrix in training for a vocabulary of this size."""
    return -(-vocabulary_size // COLUMNS_MULTIPLE) * COLUMNS_MULTIPLE


def parameter_count(layers: int, width: int, vocabulary_size: int, positions: int, inner: int | None = None) -> int:
    """Return the number of parameters of a GPT-2 of this shape, whose output matrix is its embedding.

    Args:
        vocabulary_size: rows of the embedding, padding included.
        inner: width of the perceptrons; None for four times `width`, as in GPT-2.
    """
    inner = 4 * width if inner is None else inner
    attention = width * 3 * width + 3 * width + width * width + width
    perceptron = width * inner + inner + inner * width + width
    layer_norm = 2 * width
    return (vocabulary_size + positions) * width + layers * (attention + perceptron + 2 * layer_norm) + layer_norm
