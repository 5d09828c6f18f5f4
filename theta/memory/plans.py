"""How training uses a GPU's memory: the plans, what each needs, and which one fits.

A plan is a point on the trade-off between speed and memory. What it needs is arithmetic over the shape of the base.
Only the bytes that a block holds for its backward pass were measured (docs/decisions.md); docs/benchmarks.md compares
the predictions with measured peaks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from theta.bases.presets import parameter_count
from theta.errors import SettingsError
from theta.optim.moments import state_bytes

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Plan:
    """What is held in memory, and in which form.

    Attributes:
        name: value of `machine.memory`.
        weights: float32, or bfloat16 with stochastic rounding.
        moment_bits: of each of AdamW's two moments.
        recompute: hold only the states between the blocks, and compute the rest again in the backward pass.
        step_in_backward: update each matrix as soon as its gradient is known and drop the gradient; only where a step
            is one microbatch.
        positions_per_chunk: learned positions whose logits are held at once.
        learns_worse: after the same steps the loss is higher than with the other plans (docs/decisions.md).
    """

    name: str
    weights: str
    moment_bits: int
    recompute: bool = False
    step_in_backward: bool = False
    positions_per_chunk: int = 1024
    learns_worse: bool = False


FLOAT32 = Plan("float32", "float32", 32)
"""Plain AdamW with products in bfloat16 or float16: the reference for the other plans, and the plan for CPUs."""

PLANS = (
    Plan("fast", "bfloat16", 32, positions_per_chunk=32_768),
    Plan("compact", "bfloat16", 8),
    Plan("lean", "bfloat16", 8, recompute=True),
    Plan("leanest", "bfloat16", 4, recompute=True, step_in_backward=True, positions_per_chunk=256, learns_worse=True),
    FLOAT32,
)
"""From the fastest to the smallest, for GPUs that compute in bfloat16; then the reference."""

AUTOMATIC = tuple(plan for plan in PLANS if plan is not FLOAT32)
"""The plans among which `machine.memory: auto` chooses, on GPUs that compute in bfloat16."""

RESERVE_GIB = 0.5
"""Memory of a GPU that the driver, kernels and libraries take in addition to what torch allocates."""

USABLE = 0.95
"""Fraction of the rest that a plan may fill; the allocator cannot use every last piece."""


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a base, as the arithmetic takes it; columns and positions are rows of its two embeddings."""

    layers: int
    width: int
    columns: int
    positions: int

    @property
    def parameters(self) -> int:
        """Number of weights; the output matrix is the embedding."""
        return parameter_count(self.layers, self.width, self.columns, self.positions)


@dataclass(frozen=True, slots=True)
class Placement:
    """A plan with the tokens of a microbatch, and the predicted peak in bytes."""

    plan: Plan
    tokens_per_microbatch: int
    peak: float


HELD_BY_BLOCK = {"bfloat16": 33, "float32": 35}
"""Bytes that a compiled block holds for its backward pass, per token and unit of width (measured)."""

WORKSPACE = 64 * 2**20
"""Bytes that the matrix library takes for itself (measured on an H100; less on smaller GPUs)."""


def peak_bytes(size: Size, plan: Plan, tokens: int, *, ema: bool = False) -> float:
    """Return the peak memory of training with microbatches of this many tokens, in bytes that torch allocates.

    A step reaches its peak in the backward pass of the loss, of the last block or of the embedding. Gradients stay
    allocated from the first step on, unless each is dropped within the backward pass. Validation needs less than a
    step, unless the weights are set aside while their average (EMA) is validated.

    Args:
        ema: whether a moving average of the weights is kept.
    """
    weight_bytes = 4 if plan.weights == "float32" else 2
    weights = size.parameters * weight_bytes
    average = 4 * size.parameters if ema else 0
    lasting = weights + state_bytes(size.parameters, plan.moment_bits) + average + WORKSPACE
    lasting += 0 if plan.step_in_backward else weights  # the gradients
    lasting += size.parameters * 2 if plan.weights == "float32" else 0  # autocast's copies of the weights

    embedding = size.columns * size.width * weight_bytes
    between_blocks = 4 * size.width * tokens if plan.weights == "float32" else 2 * size.width * tokens
    in_block = HELD_BY_BLOCK[plan.weights] * size.width * tokens
    held = size.layers * (between_blocks if plan.recompute else in_block)
    ends = 4 * between_blocks  # embedding, final layer norm, the states that predict, and their gradient
    logits = min(plan.positions_per_chunk, tokens) * size.columns * 2
    return lasting + max(
        held + ends + embedding + logits,  # the loss
        held + ends + embedding + (in_block if plan.recompute else 0),  # the last block
        ends + 3 * embedding,  # its gradient as output matrix, as embedding, and their sum
        (weights if ema else 0) + ends + logits,  # validation
    )


def usable_bytes(total: float, free: float | None = None) -> float:
    """Bytes that a plan may allocate on a GPU, or of a budget.

    Args:
        total: bytes of the GPU or of the budget.
        free: bytes that other programs, such as the desktop, leave; None for all of them.
    """
    ours = total - RESERVE_GIB * GIB
    return max(0.0, (ours if free is None else min(ours, free)) * USABLE)


def placements(
    size: Size, plans: Sequence[Plan], tokens_per_step: int, longest: int, *, ema: bool = False
) -> Iterator[Placement]:
    """Yield every plan with every number of microbatches per step.

    Args:
        longest: tokens of the longest document, which a microbatch must hold.

    Raises:
        SettingsError: the longest document does not fit into a step.
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
                yield Placement(plan, tokens, peak_bytes(size, plan, tokens, ema=ema))


def relative_seconds(placement: Placement) -> float:
    """Time per token, relative to the fastest plan (measured; docs/decisions.md)."""
    casts = 1.05 if placement.plan.weights == "float32" else 1.0
    recompute = 1.3 if placement.plan.recompute else 1.0
    rounding = 1.02 if placement.plan.moment_bits < 32 else 1.0
    return casts * recompute * rounding * (1 + 1024 / placement.tokens_per_microbatch)


def smallest(found: Sequence[Placement]) -> Placement:
    """Return the placement that needs the least memory."""
    return min(found, key=lambda placement: placement.peak)


def best(found: Sequence[Placement], budget: float, fixed: Mapping[str, object] | None = None) -> Placement:
    """Return the fastest placement that fits into the budget. A plan that learns worse is taken only if no other fits.

    Args:
        budget: bytes that may be allocated.
        fixed: settings that restrict `found`, with their values; with auto there would be more to choose from.

    Raises:
        SettingsError: none fits; the message names the smallest and the remedies.
    """
    fitting = [placement for placement in found if placement.peak <= budget]
    if not fitting:
        least = smallest(found)
        limits = f" with {' and '.join(f'{name} {value}' for name, value in fixed.items())}" if fixed else ""
        to_auto = f"set {' and '.join(fixed)} to auto, " if fixed else ""
        remedies = f"{to_auto}lower train.tokens_per_step or tokenizer.max_length, or choose a smaller base"
        raise SettingsError(
            f"No memory plan fits{limits}: {budget / GIB:.1f} GiB are available, the smallest plan ({least.plan.name}, "
            f"{least.tokens_per_microbatch:,} tokens) needs {least.peak / GIB:.1f} GiB. "
            f"{remedies[0].upper()}{remedies[1:]} (`theta plan` shows what each needs)."
        )
    return min(fitting, key=lambda placement: (placement.plan.learns_worse, relative_seconds(placement)))
