"""The `train` section of params.yaml."""

from importlib.util import find_spec
from typing import Annotated, Literal

from pydantic import Field

from theta.errors import SettingsError
from theta.settings import Settings

Auto = Literal["auto"]
Epochs = Annotated[int, Field(ge=1, le=10_000)]
TokensPerStep = Annotated[int, Field(ge=16)]
LearningRate = Annotated[float, Field(gt=0, le=1)]
WarmupFraction = Annotated[float, Field(ge=0, le=0.5)]
Dropout = Annotated[float, Field(ge=0, lt=1)] | Literal["base"]
RehearsalShare = Annotated[float, Field(ge=0, le=100)]
BaseShare = Annotated[float, Field(ge=0, lt=1)]
Keep = Literal["best", "last"]


class TrainSection(Settings):
    """How the base is fine-tuned, as params.yaml says it: `theta.train.automatic` chooses what is `auto`."""

    epochs: Epochs | Auto
    """Passes over the train split."""
    tokens_per_step: TokensPerStep | Auto
    """The most tokens of one optimizer update; the result depends on it."""
    learning_rate: LearningRate | Auto
    """Peak of the schedule, reached when warm-up ends."""
    warmup_fraction: WarmupFraction | Auto
    """Fraction of all steps over which the learning rate rises linearly from zero."""
    final_learning_rate_fraction: float = Field(ge=0, le=1)
    """Where the cosine ends, as a fraction of the peak."""
    weight_decay: float = Field(ge=0, le=1)
    """AdamW's decoupled decay, on matrices only (not on biases, layer norms)."""
    beta1: float = Field(ge=0, lt=1)
    """AdamW's decay of the first moment, the mean of the gradient."""
    beta2: float = Field(ge=0, lt=1)
    """AdamW's decay of the second moment, the mean of the squared gradient."""
    max_gradient_norm: float = Field(gt=0)
    """The gradient is scaled down to this norm when it is longer."""
    dropout: Dropout | Auto
    """Dropout on embeddings and residual branches; base keeps the two values of the base's config. Attention weights
    are never dropped."""
    label_smoothing: float = Field(ge=0, lt=1)
    """Fraction of the target's probability that is spread evenly over the vocabulary; validation is never smoothed."""
    layer_learning_rate_decay: float = Field(gt=0, le=1)
    """Each block learns at this fraction of the rate of the block above it, the embeddings at this fraction of the
    first block's rate; the last block and the final layer norm learn at the full rate. 1 gives all the same rate."""
    frozen_layers: int = Field(ge=0)
    """This many blocks, from the first one on, are not trained; of the embeddings, only those of special tokens are."""
    lora_rank: int = Field(ge=0, le=512)
    """Train adapters of this rank for the matrices of the blocks that are not frozen, and the embeddings of the special
    tokens, instead of the weights; the adapters are merged into the weights at the end. 0 trains the weights. Needs
    peft. Memory is planned as if all weights were trained."""
    ema_decay: float = Field(ge=0, lt=1)
    """Validate and keep an exponential moving average of the weights with this decay per step, lower in the first
    steps; 0 keeps the weights themselves. Takes 4 bytes per trained weight, and a copy of the weights in validation."""
    wording_share: float = Field(ge=0, le=1)
    """How often a question that has other wordings is asked in one of them instead of as it stands in the data."""
    wordings_per_opening: int = Field(ge=0)
    """Each epoch also shows *openings* of a conversation: its question in another wording and the first words of the
    reply, which decide what is answered. It shows as many as the wordings of the question divided by this number,
    rounded up; 0 shows none. An opening costs about a third of a whole conversation."""
    follow_up_share: float = Field(ge=0, le=1)
    """Fraction of the conversations that are learned as later turns of a chat, behind unrelated ones; each epoch
    combines others. With 0, the model only knows chats as they are in the data."""
    follow_up_tokens: int = Field(ge=0)
    """The most tokens of a chat made so; at most tokenizer.max_length. `theta chat` keeps no longer history."""
    rehearsal_share: RehearsalShare | Auto
    """Tokens of the base's own conversations, if it has any, that each epoch mixes in per token of the train split, so
    that the base forgets less. Their loss is reported separately."""
    base_share: BaseShare | Auto
    """Fraction of the base's own weights in the checkpoint, mixed in after training. A new model has none to mix in."""
    validations_per_epoch: int = Field(ge=1, le=1000)
    """How often the validation loss is measured."""
    early_stopping_patience: int = Field(ge=0)
    """Stop after this many validations without improvement; 0 never stops early."""
    keep: Keep | Auto
    """Which weights become the checkpoint: those of the lowest validation loss, or those of the last step."""
    learn_held_out: bool
    """Train once more, from the base and with the same settings, on all documents including those of validation and
    test, and export that model. What is measured is the model that did not see them."""
    seed: int = Field(ge=0, lt=2**31)
    """Seed of the order of the documents and of dropout."""


class TrainSettings(TrainSection):
    """How the base is fine-tuned, with a value for every setting."""

    epochs: Epochs
    tokens_per_step: TokensPerStep
    learning_rate: LearningRate
    warmup_fraction: WarmupFraction
    dropout: Dropout
    rehearsal_share: RehearsalShare
    base_share: BaseShare
    keep: Keep


def check_options(settings: TrainSection, layers: int) -> None:
    """Check the settings that depend on the base and on the installed packages.

    Args:
        layers: of the base.

    Raises:
        SettingsError: more layers are frozen than the base has, or adapters are requested and peft is not installed.
    """
    # Adapters need a block that is not frozen.
    most = layers - 1 if settings.lora_rank else layers
    if settings.frozen_layers > most:
        besides = ", and train.lora_rank needs one of them" if settings.lora_rank else ""
        raise SettingsError(
            f"train.frozen_layers is {settings.frozen_layers} but must be from 0 to {most}: the base has {layers} "
            f"layers{besides}; lower it, or choose a larger base."
        )
    if settings.lora_rank and find_spec("peft") is None:
        raise SettingsError(
            f"train.lora_rank is {settings.lora_rank}, which needs the package peft; run `pip install -e '.[lora]'`, "
            "or set it to 0."
        )
