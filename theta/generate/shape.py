"""The shape of a GPT-2, from the values of its config.json, and the weights that it needs. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from theta.bases.weight_files import EMBEDDING, OUTPUT_MATRIX, expected_sizes

NAMES = {
    "norm_1": "ln_1", "qkv": "attn.c_attn", "out": "attn.c_proj", "norm_2": "ln_2", "up": "mlp.c_fc",
    "down": "mlp.c_proj",
}  # fmt: skip
"""The parts of a block by their names in Hugging Face's files."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a model, and the ways in which GPT-2's relatives differ."""

    layers: int
    heads: int
    width: int
    inner: int
    """Width of the perceptrons."""
    positions: int
    vocabulary: int
    """Rows of the embedding."""
    epsilon: float
    activation: str
    scales: tuple[float, ...]
    """Factor of the attention scores of each layer."""
    tied: bool
    """Whether the output matrix is the embedding."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Shape":
        """Return the shape that a config.json describes; absent values are GPT-2's."""
        layers, heads, width = config.get("n_layer", 12), config.get("n_head", 12), config.get("n_embd", 768)
        scale = (width / heads) ** -0.5 if config.get("scale_attn_weights", True) else 1.0
        by_layer = config.get("scale_attn_by_inverse_layer_idx", False)
        return cls(
            layers=layers,
            heads=heads,
            width=width,
            inner=config.get("n_inner") or 4 * width,
            positions=config.get("n_positions", 1024),
            vocabulary=config.get("vocab_size", 50257),
            epsilon=config.get("layer_norm_epsilon", 1e-5),
            activation=config.get("activation_function", "gelu_new"),
            scales=tuple(scale / (layer + 1 if by_layer else 1) for layer in range(layers)),
            tied=config.get("tie_word_embeddings", True),
        )

    @property
    def head(self) -> int:
        """Width of a head."""
        return self.width // self.heads


def expected(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Return the weights that a model of this shape needs, by `plain_name`, with their sizes."""
    sizes = dict(expected_sizes(shape.layers, shape.width, shape.inner, shape.positions, shape.vocabulary))
    return sizes if shape.tied else {**sizes, OUTPUT_MATRIX: sizes[EMBEDDING]}
