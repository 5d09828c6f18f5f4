"""One step: the gradients of its rows, one update, and what it came to."""

from collections.abc import Sequence

import torch
from torch import Tensor

from theta.model.devices import memory_remedy, to_device
from theta.tokens.store import Store
from theta.train.compute import Compute, smaller
from theta.train.optimizer import begin
from theta.train.schedule import learning_rate_factor
from theta.train.state import Run, State
from theta.train.works import Works

STEPS_PER_DOUBLING = 1000
"""Steps after which float16's loss scale is tried twice as large (Micikevicius et al. 2018)."""


def launch(run: Run, state: State, steps: Sequence[Sequence[int]]) -> None:
    """Begin the next step; its record is among the unread ones.

    Raises:
        OutOfMemoryError: there is too little memory, even for smaller microbatches.
    """
    settings, step = run.settings, state.progress.step
    factor = learning_rate_factor(
        step,
        steps=len(steps),
        warmup_steps=round(settings.warmup_fraction * len(steps)),
        final_fraction=settings.final_learning_rate_fraction,
    )
    begin(state.optimizer, settings.learning_rate * factor)
    with memory_remedy(
        f"in plan {run.compute.plan.name} (train.memory {settings.memory}) a step of train.tokens_per_step "
        f"{settings.tokens_per_step} needs more even in the smallest microbatches; set train.memory to a leaner plan, "
        "which `theta plan` shows, or lower tokenizer.max_length"
    ):
        loss, norm = _update_in_memory(run, state, steps)
    state.progress.step += 1
    if state.progress.loss_scale > 1 and state.progress.step % STEPS_PER_DOUBLING == 0:
        state.progress.loss_scale *= 2
    state.unread.append(
        {
            "kind": "step",
            "step": step + 1,
            "steps": len(steps),
            "loss": loss,
            "learning_rate": settings.learning_rate * factor,
            "gradient_norm": norm,
            "tokens": int(run.documents.lengths[steps[step]].sum()),
        }
    )


def _update_in_memory(run: Run, state: State, steps: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Update once, in smaller microbatches from now on if memory runs out."""
    while True:
        try:
            return _update(run, state, steps[state.progress.step])
        except torch.OutOfMemoryError:
            if not (less := smaller(state.compute, run.documents, run.validation, steps)):
                raise
        # Outside of the except clause, whose traceback holds the tensors of the failed step.
        state.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        state.compute, state.works = less, Works.of(run.model, less)
        state.progress.tokens_per_microbatch = less.tokens_per_microbatch


def _update(run: Run, state: State, documents: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Update once, with a smaller loss scale if float16 overflows; the loss and the norm of the gradient."""
    while True:
        torch.manual_seed((run.settings.seed << 32) + state.progress.step)  # dropout; a resumed run draws the same
        run.model.train()
        scale = state.progress.loss_scale
        loss = accumulate_gradients(run.documents, documents, state.compute, state.works, scale)
        norm = state.update.finish(scale)
        if scale == 1 or norm.isfinite():  # only float16 has a scale, and waits here for the device
            return loss, norm
        state.progress.loss_scale /= 2
        state.update.forget()


def accumulate_gradients(
    store: Store, documents: Sequence[int], compute: Compute, works: Works, scale: float = 1
) -> Tensor:
    """Make the gradients, times `scale`, of the mean nats per learned token of a step; return that mean.

    The mean is a scalar on the device, which may still be at work on it.
    """
    learned = int(store.learned_counts[list(documents)].sum())
    share = to_device(torch.tensor(scale / learned), compute.device)
    mean = torch.zeros((), device=compute.device)
    work = works.first_gradient
    for row in compute.rows(store, documents):
        mean += work(row, share)
        work = works.more_gradient
    return mean / scale
