"""What the settings of `train` that are `auto` become: by the kind of the base and the amount of data.

`KINDS` and `EPOCHS` are the table; docs/training.md names the measurement or the source behind every number. The
result depends on the section `train`, the shape of the base and the train split alone, all of which DVC tracks.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from theta.train.settings import TrainSection, TrainSettings


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of base, and how it is fine-tuned.

    Attributes:
        parameters: of the largest base of this kind.
        rehearsal_share, base_share: of a base that knows something; see `TrainSection`.
        epochs_factor: how much more often than others it must read the data.
        least_updates: a small split is read more often, until the weights were updated this often.
        updates: steps are as large as leaves at least this many of them.
    """

    name: str
    parameters: float
    learning_rate: float
    rehearsal_share: float = 0.15
    base_share: float = 0.0
    dropout: float | Literal["base"] = "base"
    epochs_factor: int = 1
    least_updates: int = 500
    updates: int = 1000


NEW = Kind("a new model", math.inf, 3e-3, rehearsal_share=0.0, dropout=0.0, epochs_factor=5, updates=4000)
FINE_TUNED = Kind("a small model that Theta has fine-tuned", 60e6, 3e-4, 0.3, 0.15, 0.0, least_updates=150)
PRETRAINED = (
    Kind("a small base", 60e6, 1e-3, 0.1, 0.05, 0.0, least_updates=150, updates=500),
    Kind("a base of gpt2's size", 200e6, 6e-5),
    Kind("a base of gpt2-medium's size", 500e6, 3e-5),
    Kind("a base of gpt2-large's size", 1e9, 2.5e-5),
    Kind("a base of gpt2-xl's size", math.inf, 2e-5),
)
"""From the smallest to the largest."""

EPOCHS = ((100, 32), (300, 24), (2_000, 10), (10_000, 6), (math.inf, 3))
"""Epochs of a train split of at most so many documents."""

SHOWN_AGAIN_FROM, SHOWN_AGAIN_FACTOR = 0.5, 0.8
"""Where an epoch shows at least so many documents again, per document, this fraction of the epochs and of the updates
is enough; see docs/decisions.md."""

MOST_EPOCHS = 200

WARMUP_FRACTION = 0.05

LEAST_TOKENS_PER_STEP, MOST_TOKENS_PER_STEP = 512, 16_384

MOST_EPOCHS_BY_BEST = 3
"""After more epochs, answers are learned by heart while the validation loss rises; then the last weights are kept."""

LORA_FACTOR, HIGHEST_LEARNING_RATE = 10, 3e-3
"""LoRA learns at ten times the rate, but at no higher one than was ever measured."""

FAR = 10
"""A learning rate that differs from the table's by more than this factor is warned of."""


@dataclass(frozen=True, slots=True)
class Amount:
    """The amount of data.

    Attributes:
        documents, tokens: of the train split.
        longest: tokens of the longest document.
        is_validated: whether documents are held back for validation.
        shown_again: how many documents an epoch shows again, per document; see `Samples`.
    """

    documents: int
    tokens: int
    longest: int
    is_validated: bool = True
    shown_again: float = 0.0

    @property
    def factor(self) -> float:
        """Which fraction of the usual epochs and updates is enough."""
        return SHOWN_AGAIN_FACTOR if self.shown_again >= SHOWN_AGAIN_FROM else 1.0


def kind_of(base: Mapping[str, Any], parameters: int) -> Kind:
    """Return the kind of a base.

    Args:
        base: its descriptor, the content of models/base/weights.json.
        parameters: number of its weights.
    """
    if base["kind"] == "scratch":
        return NEW
    if base["fine_tuned"] and parameters <= FINE_TUNED.parameters:
        return FINE_TUNED
    return next(kind for kind in PRETRAINED if parameters <= kind.parameters)


def resolve(section: TrainSection, kind: Kind, amount: Amount) -> TrainSettings:
    """Return the section with a value for every setting that is `auto`."""
    epochs = None if section.epochs == "auto" else section.epochs
    chosen = choices(kind, amount, epochs=epochs, has_adapters=section.lora_rank > 0)
    return TrainSettings(**{**section.model_dump(), **{name: chosen[name] for name in automatic(section)}})


def choices(kind: Kind, amount: Amount, *, epochs: int | None = None, has_adapters: bool = False) -> dict[str, Any]:
    """Return the value of each setting that may be `auto`.

    Args:
        epochs: if they are set; None chooses them.
        has_adapters: whether LoRA trains adapters instead of the weights.
    """
    epochs = epochs or _epochs(kind, amount)
    return {
        "epochs": epochs,
        "tokens_per_step": _tokens_per_step(kind, amount, epochs),
        "learning_rate": _learning_rate(kind, has_adapters=has_adapters),
        "warmup_fraction": WARMUP_FRACTION,
        "dropout": kind.dropout,
        "rehearsal_share": kind.rehearsal_share,
        "base_share": kind.base_share,
        "keep": "best" if epochs <= MOST_EPOCHS_BY_BEST * kind.epochs_factor and amount.is_validated else "last",
    }


def automatic(section: TrainSection) -> list[str]:
    """Return the names of the settings that are `auto`."""
    return [name for name, value in section.model_dump().items() if value == "auto"]


def usual_epochs(documents: int) -> int:
    """Return the epochs of a train split of this many documents, before the least number of updates is considered."""
    return next(epochs for most, epochs in EPOCHS if documents <= most)


def _epochs(kind: Kind, amount: Amount) -> int:
    usual = math.ceil(amount.factor * usual_epochs(amount.documents))
    tokens_needed = kind.least_updates * max(LEAST_TOKENS_PER_STEP, amount.longest)
    return min(max(kind.epochs_factor * usual, -(-tokens_needed // amount.tokens)), MOST_EPOCHS)


def _tokens_per_step(kind: Kind, amount: Amount, epochs: int) -> int:
    """The largest power of two that leaves enough steps, within its bounds; no less than the longest document."""
    affordable = max(1, int(amount.tokens * epochs / (amount.factor * kind.updates)))
    power = 1 << (affordable.bit_length() - 1)
    return max(amount.longest, min(max(LEAST_TOKENS_PER_STEP, power), MOST_TOKENS_PER_STEP))


def _learning_rate(kind: Kind, *, has_adapters: bool) -> float:
    return min(LORA_FACTOR * kind.learning_rate, HIGHEST_LEARNING_RATE) if has_adapters else kind.learning_rate


def table(section: TrainSection, settings: TrainSettings) -> Iterator[str]:
    """Yield the lines of a table of the settings that may be `auto`, with what they became."""
    chosen = automatic(section)
    for name in TrainSettings.__annotations__:
        value = getattr(settings, name)
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        yield f"  {name:<16} {shown:<8} {'auto' if name in chosen else 'set in params.yaml'}"


def learning_rate_warning(section: TrainSection, kind: Kind) -> str | None:
    """Return a warning of a learning rate that is far from the table's; None if it is near, or `auto`."""
    rate, usual = section.learning_rate, _learning_rate(kind, has_adapters=section.lora_rank > 0)
    if rate == "auto" or usual / FAR <= rate <= usual * FAR:
        return None
    effect = "it forgets what it knows within a few steps" if rate > usual else "it hardly learns anything"
    return (
        f"train.learning_rate is {rate:g}, and auto would take {usual:g} for {kind.name}: with {rate:g} {effect}. Set "
        "it to auto, or nearer to that."
    )
