"""How a run spends memory: the plans, what each needs, and which one fits.

A plan is a point on the trade of speed against memory. What it needs is arithmetic over the base's shape; only the
bytes that a block holds for its backward pass were measured (docs/decisions.md), and docs/benchmarks.md compares
predictions with peaks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from theta.errors import SettingsError
from theta.optim.moments import state_bytes

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Plan:
    """What is held in memory, and in which form.

    Attributes:
        name: value of `train.memory`.
        weights: float32, or bfloat16 with stochastic rounding.
        moment_bits: of each of AdamW's two averages.
        recompute: hold only what stands between the blocks; make the rest again in the backward pass.
        step_in_backward: update each matrix as soon as its gradient is known and drop the gradient; without
            accumulation only.
        rows_per_chunk: learned positions whose logits are held at a time.
    """

    name: str
    weights: str
    moment_bits: int
    recompute: bool = False
    step_in_backward: bool = False
    rows_per_chunk: int = 1024


FLOAT32 = Plan("float32", "float32", 32)
"""Plain AdamW, products in bfloat16 or float16: what every other plan is compared with, and the one for CPUs."""

PLANS = (
    Plan("fast", "bfloat16", 32, rows_per_chunk=32_768),
    Plan("compact", "bfloat16", 8),
    Plan("lean", "bfloat16", 8, recompute=True),
    Plan("leanest", "bfloat16", 4, recompute=True, step_in_backward=True, rows_per_chunk=256),
    FLOAT32,
)
"""From the fastest to the leanest, for cards that compute in bfloat16; then the reference."""

NAMES = tuple(plan.name for plan in PLANS)

AUTOMATIC = tuple(plan for plan in PLANS if plan is not FLOAT32)
"""Of which `train.memory: auto` takes the fastest that fits, on cards that compute in bfloat16."""

RESERVE_GIB = 0.5
"""What the driver, kernels and libraries take of a card, beside what torch allocates."""

USABLE = 0.95
"""Share of the rest that a plan may fill; the allocator cannot use every last piece."""


@dataclass(frozen=True, slots=True)
class Size:
    """What the arithmetic needs to know of a base; columns and positions are rows of its two embeddings."""

    layers: int
    width: int
    columns: int
    positions: int

    @property
    def parameters(self) -> int:
        """Weights of the network, the output matrix being the embedding's."""
        block = 12 * self.width**2 + 13 * self.width
        return (self.columns + self.positions) * self.width + self.layers * block + 2 * self.width


@dataclass(frozen=True, slots=True)
class Choice:
    """A plan with the tokens of a microbatch, and its peak in bytes as predicted."""

    plan: Plan
    tokens_per_microbatch: int
    peak: float


HELD_BY_BLOCK = {"bfloat16": 33, "float32": 35}
"""Bytes that a compiled block holds for its backward pass, per token and unit of width (measured)."""

WORKSPACE = 64 * 2**20
"""What the matrix library takes for itself (measured on an H100; less on smaller cards)."""


def peak_bytes(size: Size, plan: Plan, tokens: int) -> float:
    """Highest memory of a step with microbatches of so many tokens, as torch counts what is allocated.

    It is reached in the backward pass of the loss, of the last block or of the embedding, whichever is more. The
    gradients stand where they are from the first step on, unless each is dropped within the backward pass.
    """
    weight_bytes = 4 if plan.weights == "float32" else 2
    embedding = size.columns * size.width * weight_bytes
    lasting = size.parameters * weight_bytes + state_bytes(size.parameters, plan.moment_bits) + WORKSPACE
    gradients = 0 if plan.step_in_backward else size.parameters * weight_bytes
    casts = size.parameters * 2 if plan.weights == "float32" else 0
    block = HELD_BY_BLOCK[plan.weights] * size.width * tokens
    between = 4 * size.width * tokens if plan.weights == "float32" else 2 * size.width * tokens
    held = size.layers * (between if plan.recompute else block)
    ends = 4 * between  # embedding, final layer norm, the states that predict, and their gradient
    logits = min(plan.rows_per_chunk, tokens) * size.columns * 2
    in_loss = held + ends + embedding + logits
    in_last_block = held + ends + embedding + (block if plan.recompute else 0)
    in_embedding = ends + 3 * embedding  # its gradient as output matrix, as embedding, and their sum
    return lasting + gradients + casts + max(in_loss, in_last_block, in_embedding)


def usable_bytes(total: float) -> float:
    """What a plan may allocate of a card, or of a budget, of so many bytes."""
    return max(0.0, (total - RESERVE_GIB * GIB) * USABLE)


def choices(size: Size, plans: Sequence[Plan], tokens_per_step: int, longest: int) -> Iterator[Choice]:
    """Every plan with every number of microbatches to a step.

    Args:
        longest: tokens of the longest document, which a microbatch must hold.

    Raises:
        SettingsError: a step does not hold it.
    """
    if longest > tokens_per_step:
        raise SettingsError(
            f"train.tokens_per_step is {tokens_per_step}, but a document may have {longest} tokens; raise it to that, "
            "or lower tokenizer.max_length."
        )
    for plan in plans:
        for microbatches in range(1, 2 if plan.step_in_backward else 1 + tokens_per_step // longest):
            # A little room, so that documents can be laid out in this many microbatches.
            tokens = min(tokens_per_step, round(1.02 * tokens_per_step / microbatches))
            if tokens >= longest:
                yield Choice(plan, tokens, peak_bytes(size, plan, tokens))


def relative_seconds(choice: Choice) -> float:
    """Time per token, of which 1 is the least (measured; docs/decisions.md)."""
    casts = 1.05 if choice.plan.weights == "float32" else 1.0
    recompute = 1.3 if choice.plan.recompute else 1.0
    rounding = 1.02 if choice.plan.moment_bits < 32 else 1.0
    return casts * recompute * rounding * (1 + 1024 / choice.tokens_per_microbatch)


def leanest(found: Sequence[Choice]) -> Choice:
    """The choice that needs the least memory."""
    return min(found, key=lambda choice: choice.peak)


def fastest(found: Sequence[Choice], budget: float, fixed: Mapping[str, object] | None = None) -> Choice:
    """The fastest choice that fits into so many bytes.

    Args:
        fixed: settings that `found` is limited to, with their values; auto would leave more to choose from.

    Raises:
        SettingsError: none does; the message names the least that would, and the remedies.
    """
    fitting = [choice for choice in found if choice.peak <= budget]
    if not fitting:
        least = leanest(found)
        limits = ", ".join(f"{name} {value}" for name, value in (fixed or {}).items()) or "train.memory auto"
        to_auto = f"set {' and '.join(fixed)} to auto, " if fixed else ""
        raise SettingsError(
            f"{limits}: training may take {budget / GIB:.1f} GiB, and the least that this base can do with is "
            f"{least.peak / GIB:.1f} GiB, in plan {least.plan.name} with train.tokens_per_microbatch "
            f"{least.tokens_per_microbatch}; {to_auto}lower train.tokens_per_step or tokenizer.max_length, or take a "
            "smaller base (`theta plan` shows what each needs)."
        )
    return min(fitting, key=relative_seconds)
