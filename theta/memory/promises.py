"""The bases that Theta promises to fine-tune, the memory that each needs, and the one to choose for a GPU."""

from dataclasses import dataclass

from theta.memory.plans import GIB, PLANS, Size, peak_bytes

TOKENS_PER_STEP = 2048
"""Tokens of a step, in one microbatch, for which `theta models` shows the least memory."""

SMALLEST_PLAN = next(plan for plan in PLANS if plan.name == "leanest")

SOLD_AS = 0.95
"""GPUs report a little less memory than the gigabytes that they are sold with."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What Theta promises for a base: the gigabytes of a GPU that it trains on, and its speed."""

    base: str
    gigabytes: int
    speed: str


PROMISES = (
    Promise("gpt2", 4, "Fast"),
    Promise("gpt2-medium", 8, "Medium"),
    Promise("gpt2-large", 16, "Slow"),
    Promise("gpt2-xl", 24, "Very Slow"),
)
"""From the smallest to the largest."""

MEASURED_GIB = {"gpt2": 0.64, "gpt2-medium": 1.35, "gpt2-large": 2.73, "gpt2-xl": 5.14}
"""Peaks in plan leanest at 2,048 tokens a step, from docs/benchmarks.md; for other bases the peak is predicted."""


@dataclass(frozen=True, slots=True)
class Need:
    """The least memory that a base can be trained in, and whether it was measured or predicted."""

    gib: float
    measured: bool


def need(base: str, size: Size) -> Need:
    """Return the least memory of a base, in plan leanest at 2,048 tokens a step."""
    if base in MEASURED_GIB:
        return Need(MEASURED_GIB[base], measured=True)
    return Need(peak_bytes(size, SMALLEST_PLAN, TOKENS_PER_STEP) / GIB, measured=False)


def recommended(memory: float) -> str | None:
    """Return the largest base that is promised for a GPU with this many bytes; None if none is."""
    kept = [promise.base for promise in PROMISES if memory >= SOLD_AS * promise.gigabytes * 10**9]
    return kept[-1] if kept else None
