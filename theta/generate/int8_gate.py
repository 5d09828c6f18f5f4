"""The gate before replies in int8: a model is refused whose predictions change too much when it is rounded to 8 bits.

The rounded model and the one in float32 read the same conversations, and are compared at every token of the
assistant's. The text is the package's own, so that a folder needs none: no model has learned it, and it has more than
one subject. A model that finds it hard, because it knows another language, is judged more strictly than others, as its
likeliest tokens are closer together.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, scaled_dot_product_attention

from theta.conversation.messages import Message
from theta.conversation.template import render
from theta.errors import GenerationError
from theta.generate import network
from theta.generate.cpu_products import is_available, round_to_8_bits
from theta.generate.shape import Shape
from theta.generate.weights import Weights
from theta.tokens.vocabulary import Vocabulary

MOST_NATS = 0.01
"""Mean divergence of a token's distribution (Kullback and Leibler 1951) from the one in float32."""
LEAST_EQUAL = 0.95
"""Share of the tokens whose likeliest candidate is that of float32."""

REMEDY = "choose dtype 'bfloat16', which rounds far less, or 'float32'"

CONVERSATIONS = (
    (
        "Why do leaves change colour in autumn?",
        "When the days get shorter, a tree stops making chlorophyll, the green substance that catches light. As it "
        "fades, the yellow and orange that were in the leaf all along can be seen. Reds are made anew, from sugar that "
        "stays behind when the veins of the leaf close.",
    ),
    (
        "How do I keep bread from going stale?",
        "Wrap it in a cloth or a paper bag and leave it at room temperature for two or three days. The fridge makes it "
        "dry faster. If you cannot eat it in that time, cut it into slices and freeze them; they go straight into the "
        "toaster.",
    ),
    (
        "What is the difference between a list and a tuple in Python?",
        "Both hold values in order. A list can be changed after it was made: you can add, remove and replace items. A "
        "tuple cannot, so it can be the key of a dictionary, and it tells the reader that nothing will change it. "
        "Write [1, 2] for a list and (1, 2) for a tuple.",
    ),
    (
        "Can you help me write a short note to my neighbour about the noise?",
        "Of course. Dear Mr Lane, I hope you are well. For some weeks the music in the evening has been so loud that "
        "our children cannot sleep. Could you please turn it down after nine o'clock? If it is easier to talk about "
        "it, come over for a cup of tea. Kind regards, your neighbours on the second floor.",
    ),
    (
        "Who was Ada Lovelace?",
        "Ada Lovelace was an English mathematician of the nineteenth century. She wrote notes on the Analytical "
        "Engine, a machine that Charles Babbage had designed but never built, and described how it could compute a "
        "sequence of numbers. Many call this the first computer program.",
    ),
    (
        "My computer is slow. What should I do?",
        "First find out what is busy. Open the list of running programs and sort it by memory, then by processor time. "
        "Close what you do not need. If the disk is nearly full, delete large files that you no longer use. A restart "
        "also helps when the machine has been on for weeks.",
    ),
    (
        "How far away is the Moon?",
        "On average the Moon is about 384,000 kilometres away, roughly thirty times the diameter of the Earth. Its "
        "path is not quite a circle, so the distance varies between 363,000 and 405,000 kilometres. Light takes a "
        "little more than a second to get there.",
    ),
    ("Thank you, that was very useful!", "You are welcome! If anything is unclear, just ask again."),
)
"""Questions with their answers."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far the predictions of two models are apart."""

    nats: float
    """Mean divergence of a token's distribution."""
    equal: float
    """Share of the tokens whose likeliest candidate is the same."""

    @property
    def is_small(self) -> bool:
        """Whether it is within the margins; NaN is not."""
        return self.nats <= MOST_NATS and self.equal >= LEAST_EQUAL


def rounded(weights: Weights, shape: Shape, folder: Path) -> Weights:
    """Return weights in 8 bits, if the model of the folder predicts nearly the same with them.

    Raises:
        GenerationError: it does not, or this machine cannot multiply by weights in 8 bits.
        DataError: the tokenizer is damaged.
    """
    if not is_available():
        raise GenerationError(f"dtype 'int8' needs FBGEMM, which torch has on x86 processors alone; {REMEDY}.")
    small = round_to_8_bits(weights)
    found = difference(weights, small, shape, Vocabulary.load(folder))
    if not found.is_small:
        raise GenerationError(
            f"{folder} loses too much in int8: its predictions diverge from those in float32 by {found.nats:.4f} nats "
            f"a token (at most {MOST_NATS} is allowed), and {found.equal:.1%} of the likeliest tokens are the same (at "
            f"least {LEAST_EQUAL:.0%}); {REMEDY}."
        )
    return small


@torch.inference_mode()
def difference(reference: Weights, other: Weights, shape: Shape, vocabulary: Vocabulary) -> Difference:
    """Compare the predictions of a model for the assistant's tokens of `CONVERSATIONS` with a reference's."""
    nats, equal = [], []
    for question, answer in CONVERSATIONS:
        ids, learned = vocabulary.encode(list(render([Message("user", question), Message("assistant", answer)])))
        ids, before = ids[: shape.positions], torch.tensor(learned[1 : shape.positions]).nonzero()[:, 0]
        expected, found = (_log_probabilities(each, shape, ids, before) for each in (reference, other))
        nats.append((expected.exp() * (expected - found)).sum(-1))
        equal.append(expected.argmax(-1) == found.argmax(-1))
    return Difference(float(torch.cat(nats).mean()), float(torch.cat(equal).float().mean()))


def _log_probabilities(weights: Weights, shape: Shape, ids: list[int], places: Tensor) -> Tensor:
    """Return those of the tokens that follow the ids at some places, [places, vocabulary]."""

    def mix(layer: int, qkv: Tensor) -> Tensor:
        q, k, v = qkv.view(len(ids), 3, shape.heads, shape.head).permute(1, 2, 0, 3)[:, None]
        mixed = scaled_dot_product_attention(q, k, v, is_causal=True, scale=shape.scales[layer])
        return mixed[0].transpose(0, 1).flatten(1)

    x = network.embed(weights, torch.tensor(ids), torch.arange(len(ids)))
    x = network.blocks(weights, shape, x, mix)
    return log_softmax(weights.head(network.norm(x[places], weights.norm, shape)), -1)
