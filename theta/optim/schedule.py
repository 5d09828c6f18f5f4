"""The learning rate as a pure function of the step."""

import math


def learning_rate_factor(step: int, *, steps: int, warmup_steps: int, final_fraction: float) -> float:
    """Fraction of the peak learning rate at `step` (from 0): linear warm-up, then a cosine to `final_fraction`.

    (Loshchilov and Hutter 2017, without restarts.)
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, steps - 1 - warmup_steps)
    return final_fraction + (1 - final_fraction) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
