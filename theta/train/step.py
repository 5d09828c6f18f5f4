"""One step: the gradients of its rows, one update, and what it came to."""

from collections.abc import Sequence

import torch
from torch import Tensor

from theta.machine.devices import memory_remedy, to_device
from theta.optim.adamw import begin
from theta.optim.schedule import learning_rate_factor
from theta.tokens.store import Store
from theta.train.compute import Compute, smaller
from theta.train.row_work import Works
from theta.train.run import Figures, Run, State

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
        loss, norm = _update(run, state, steps)
    state.progress.step += 1
    state.averages.update(state.progress.step)
    if state.progress.loss_scale > 1 and state.progress.step % STEPS_PER_DOUBLING == 0:
        state.progress.loss_scale *= 2
    lengths = run.documents.lengths
    rehearsed = [document for document in steps[step] if document >= run.documents.split_size]
    record = {
        "kind": "step",
        "step": step + 1,
        "steps": len(steps),
        "learning_rate": settings.learning_rate * factor,
        "tokens": int(lengths[steps[step]].sum()),
        "rehearsal_tokens": int(lengths[rehearsed].sum()),
    }
    state.unread.append((record, Figures(loss, norm)))


def _update(run: Run, state: State, steps: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Update once, with a smaller loss scale if float16 overflows; the loss and the norm of the gradient."""
    while True:
        scale = state.progress.loss_scale
        loss = _gradients_in_memory(run, state, steps, scale)
        norm = state.update.finish(scale)
        if scale == 1 or norm.isfinite():  # only float16 has a scale, and waits here for the device
            return loss, norm
        state.progress.loss_scale /= 2
        state.update.forget()


def _gradients_in_memory(run: Run, state: State, steps: Sequence[Sequence[int]], scale: float) -> Tensor:
    """Make the gradients of the next step, in smaller microbatches from now on if memory runs out; return the loss."""
    run.model.train()
    ranks = state.compute.ranks
    while True:
        # Dropout: a resumed run draws the same, and each rank something else.
        torch.manual_seed((run.settings.seed << 32) + (ranks.rank << 24) + state.progress.step)
        loss = _loss_or_none(run, state, steps, scale)
        # A rank that cut its rows alone would wait for the others for ever, so all do.
        if not ranks.any(loss is None):
            assert loss is not None
            ranks.add_up([loss])
            return loss
        if not (less := smaller(state.compute, run.documents, run.validation, steps)):
            raise torch.OutOfMemoryError
        state.gradients.clear()
        torch.cuda.empty_cache()
        state.compute, state.works = less, Works.of(run.model, less, state.gradients)
        state.progress.tokens_per_microbatch = less.tokens_per_microbatch


def _loss_or_none(run: Run, state: State, steps: Sequence[Sequence[int]], scale: float) -> Tensor | None:
    """This rank's part of the step's loss, its gradients made; None if memory ran out."""
    try:
        return accumulate_gradients(run.documents, steps[state.progress.step], state.compute, state.works, scale)
    except torch.OutOfMemoryError:  # whose traceback, gone with this function, holds the tensors of the failed step
        return None


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
