"""The `train` section of params.yaml."""

from typing import Annotated, Literal

from pydantic import Field

from theta.params import Settings


class TrainSettings(Settings):
    """How the base is fine-tuned."""

    epochs: int = Field(ge=1, le=10_000)
    """Passes over the train split."""
    tokens_per_step: int = Field(ge=16)
    """Tokens of one optimizer update, at most; part of the result."""
    tokens_per_microbatch: Annotated[int, Field(ge=16)] | Literal["auto"]
    """Tokens of one forward pass, at most; the result stays the same but for rounding. auto takes what fits."""
    memory: Literal["auto", "fast", "compact", "lean", "leanest", "float32"] | Annotated[float, Field(gt=0)]
    """How a GPU's memory is spent: a plan, or a budget in GiB for the fastest plan that fits; auto takes the card's."""
    compile: Literal["auto", "always", "never"]
    """Compile the model on a GPU; it takes some 20 seconds once. auto does it where the run is long enough."""
    learning_rate: float = Field(gt=0, le=1)
    """Peak of the schedule, reached when warm-up ends."""
    warmup_fraction: float = Field(ge=0, le=0.5)
    """Share of all steps over which the learning rate rises linearly from zero."""
    final_learning_rate_fraction: float = Field(ge=0, le=1)
    """Where the cosine ends, as a share of the peak."""
    weight_decay: float = Field(ge=0, le=1)
    """AdamW's decoupled decay, on matrices only (not on biases, layer norms)."""
    beta1: float = Field(ge=0, lt=1)
    """AdamW's decay of the gradient average."""
    beta2: float = Field(ge=0, lt=1)
    """AdamW's decay of the squared-gradient average."""
    max_gradient_norm: float = Field(gt=0)
    """The gradient is scaled down to this norm when it is longer."""
    dropout: float = Field(ge=0, lt=1)
    """Dropout on embeddings and residual branches; attention weights are never dropped."""
    validations_per_epoch: int = Field(ge=1, le=1000)
    """How often the validation loss is measured."""
    early_stopping_patience: int = Field(ge=0)
    """Stop after this many validations without improvement; 0 never stops early."""
    keep: Literal["best", "last"]
    """Which weights become the checkpoint: those of the lowest validation loss, or those of the last step."""
    steps_per_checkpoint: int = Field(ge=1)
    """Steps between resume states; a kill costs at most this many."""
    device: Literal["auto", "cpu", "cuda"]
    """Where to train; auto takes a CUDA GPU if there is one."""
    devices: Annotated[int, Field(ge=1)] | Literal["auto"]
    """GPUs of this machine to train on, a process for each; part of the result only by rounding. auto takes all."""
    precision: Literal["auto", "float32", "bfloat16", "float16"]
    """Arithmetic of the matrix products. auto takes bfloat16 where it is fast, else float16 on a GPU (with loss
    scaling) and float32 on a CPU."""
    threads: Annotated[int, Field(ge=1)] | Literal["auto"]
    """CPU threads; runs are equal to the bit only at the same number. auto takes all cores."""
    seed: int = Field(ge=0, lt=2**31)
    """Order of the documents and dropout."""
