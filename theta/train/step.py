"""One step: the gradients of its rows, and one update of the weights."""

from collections.abc import Sequence

import torch
from torch import Tensor

from theta.machine.devices import ran_out_of_memory, to_device
from theta.model.rows import Examples
from theta.optim.adamw import begin
from theta.optim.schedule import learning_rate_factor
from theta.train.compute import Compute, smaller
from theta.train.row_work import RowWork
from theta.train.run import Figures, Record, Run, State

STEPS_PER_DOUBLING = 1000
"""Steps after which float16's loss scale is doubled (Micikevicius et al. 2018)."""


def begin_step(run: Run, state: State, steps: Sequence[Sequence[int]]) -> None:
    """Begin the next step, and add its record to the unread ones.

    Raises:
        torch.OutOfMemoryError: there is too little memory, even for the smallest microbatches.
    """
    progress, samples = state.progress, steps[state.progress.step]
    learning_rate = run.settings.learning_rate * learning_rate_factor(
        progress.step,
        steps=len(steps),
        warmup_steps=round(run.settings.warmup_fraction * len(steps)),
        final_fraction=run.settings.final_learning_rate_fraction,
    )
    begin(state.optimizer, learning_rate)
    loss, norm = _update(run, state, steps)
    progress.step += 1
    state.ema.update(progress.step)
    if progress.loss_scale > 1 and progress.step % STEPS_PER_DOUBLING == 0:
        progress.loss_scale *= 2
    record = {"kind": "step", "step": progress.step, "steps": len(steps), "learning_rate": learning_rate}
    state.unread.append(({**record, **_tokens(run.samples, samples)}, Figures(loss, norm)))


def _update(run: Run, state: State, steps: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Update the weights by the next step; return its loss in two parts, [2], and the norm of its gradient.

    If memory runs out, the step is tried again in smaller microbatches. If float16 overflows, it is tried again with a
    smaller loss scale.
    """
    run.model.train()
    while True:
        compute, step, scale = state.compute, state.progress.step, state.progress.loss_scale
        # A resumed run draws the same dropout; each rank draws its own.
        torch.manual_seed((run.settings.seed << 32) + (compute.ranks.rank << 24) + step)
        try:
            loss = accumulate_gradients(run.samples, steps[step], compute, state.work, scale)
        except RuntimeError as fault:
            if not ran_out_of_memory(fault) or compute.plan.step_in_backward:
                raise
            loss = None
        # If one rank alone cut its rows, the ranks would wait for each other forever, so all of them do.
        if compute.ranks.any(loss is None):
            _shrink(run, state, steps)
            continue
        assert loss is not None
        compute.ranks.add_up([loss])
        norm = state.update.finish(scale)
        if scale == 1 or norm.isfinite():  # only float16 has a scale, and waits here for the device
            return loss, norm
        state.progress.loss_scale /= 2
        state.update.forget()


def _shrink(run: Run, state: State, steps: Sequence[Sequence[int]]) -> None:
    """Continue with microbatches of half the size."""
    state.gradients.clear()
    torch.cuda.empty_cache()
    compute = smaller(state.compute, run.samples, run.validation, steps)
    if compute is None:
        raise torch.OutOfMemoryError
    state.compute, state.work = compute, RowWork.of(run.model, compute, state.gradients)
    state.progress.tokens_per_microbatch = compute.tokens_per_microbatch


def accumulate_gradients(
    samples: Examples, step: Sequence[int], compute: Compute, work: RowWork, scale: float = 1
) -> Tensor:
    """Compute the gradients, times `scale`, of the mean nats per learned token of a step.

    Returns:
        The unscaled mean in two parts, that of the data and that of rehearsal, [2] on the device, which may still be
        computing it.
    """
    learned = int(samples.learned_counts[list(step)].sum())
    row_scale = to_device(torch.tensor(scale / learned), compute.device)
    mean = torch.zeros(2, device=compute.device)
    function = work.first_gradient
    for row in compute.rows(samples, step):
        mean += function(row, row_scale)
        function = work.more_gradient
    return mean / scale


def _tokens(samples: Examples, step: Sequence[int]) -> Record:
    """Count the tokens of a step and its learned tokens, with rehearsal separate."""
    data = [sample for sample in step if sample < samples.split_size]
    rehearsal = [sample for sample in step if sample >= samples.split_size]
    return {
        "tokens": int(samples.lengths[list(step)].sum()),
        "rehearsal_tokens": int(samples.lengths[rehearsal].sum()),
        "learned_tokens": int(samples.learned_counts[data].sum()),
        "rehearsal_learned_tokens": int(samples.learned_counts[rehearsal].sum()),
    }
