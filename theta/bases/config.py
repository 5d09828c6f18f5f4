"""config.json of a base: whether Theta trains such a model, and its shape."""

from collections.abc import Mapping
from typing import Any

from theta.bases.hub import CONFIG
from theta.bases.presets import POSITIONS, VOCABULARY_SIZE
from theta.bases.source import Source
from theta.errors import BaseModelError

SHAPE = {
    "positions": ("n_positions", POSITIONS),
    "layers": ("n_layer", 12),
    "heads": ("n_head", 12),
    "width": ("n_embd", 768),
    "vocabulary_size": ("vocab_size", VOCABULARY_SIZE),
}
"""Sizes in a descriptor: the key in config.json, and GPT-2's own value, for a config without the key."""
LARGEST_SIZE = 2**31
ACTIVATIONS = ("gelu_new", "gelu", "gelu_fast", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu", "swish", "tanh")
"""Activation functions that a base's config.json may name; transformers implements all of them."""
FRACTIONS = ("resid_pdrop", "embd_pdrop", "attn_pdrop", "layer_norm_epsilon")
SWITCHES = ("scale_attn_weights", "scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn", "tie_word_embeddings")


def read(source: Source) -> dict[str, Any]:
    """Return the values of config.json.

    Raises:
        BaseModelError: config.json describes a model that Theta does not train.
    """
    config = source.json(CONFIG)
    if config.get("model_type") != "gpt2":
        raise BaseModelError(
            f"model.base '{source.name}' is a model of type {config.get('model_type')!r}; Theta trains type 'gpt2'."
        )
    if config.get("add_cross_attention"):
        raise BaseModelError(
            f"model.base '{source.name}' has cross-attention to an encoder; Theta trains models without one."
        )
    if (activation := config.get("activation_function", ACTIVATIONS[0])) not in ACTIVATIONS:
        raise _wrong_value(source, "activation_function", activation, f"one of {', '.join(ACTIVATIONS)}")
    for key in FRACTIONS:
        if type(value := config.get(key, 0)) not in (int, float) or not 0 <= value <= 1:
            raise _wrong_value(source, key, value, "a number from 0 to 1")
    for key in SWITCHES:
        if type(value := config.get(key, True)) is not bool:
            raise _wrong_value(source, key, value, "true or false")
    return config


def shape(source: Source, config: Mapping[str, Any]) -> dict[str, int]:
    """Return the sizes of `SHAPE`.

    Raises:
        BaseModelError: a size is not a whole number above 0, or the width is not a multiple of the heads.
    """
    found = {fact: config.get(key, usual) for fact, (key, usual) in SHAPE.items()}
    sizes = {SHAPE[fact][0]: size for fact, size in found.items()}
    if config.get("n_inner") is not None:
        sizes["n_inner"] = config["n_inner"]
    for key, size in sizes.items():
        if type(size) is not int or not 1 <= size < LARGEST_SIZE:
            raise _wrong_value(source, key, size, f"a count below {LARGEST_SIZE:,}")
    if found["width"] % found["heads"]:
        raise BaseModelError(
            f"model.base '{source.name}': n_embd {found['width']} in {CONFIG} is not a multiple of n_head "
            f"{found['heads']}; copy the base again."
        )
    return found


def _wrong_value(source: Source, key: str, value: object, expected: str) -> BaseModelError:
    return BaseModelError(f"model.base '{source.name}': {key} in {CONFIG} is {value!r}, expected {expected}.")
