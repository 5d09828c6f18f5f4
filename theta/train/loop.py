"""The training loop.

A step reads its documents in rows of at most `tokens_per_microbatch` tokens, adds up gradients, and updates once.
Losses are sums of nats, divided once by the learned tokens of the whole step, so cutting a step into smaller
microbatches changes nothing but memory.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2LMHeadModel

from theta.errors import SettingsError, TrainingError, TrainingInterruptedError
from theta.files import remove
from theta.model import network
from theta.model.attention import use_packed_attention
from theta.model.devices import memory_remedy
from theta.model.rows import Row, row_nats
from theta.tokens.packing import pack
from theta.tokens.store import Store
from theta.train import checkpoint
from theta.train.batches import steps_of
from theta.train.checkpoint import Progress
from theta.train.interrupt import stop_reason
from theta.train.optimizer import adamw
from theta.train.resume import claimed
from theta.train.schedule import learning_rate_factor
from theta.train.settings import TrainSettings

Record = dict[str, Any]
"""What the loop yields: {"kind": "step" | "validation", "step": ..., ...}, plain values that a resume state keeps."""


@dataclass(frozen=True, slots=True)
class Compute:
    """Where rows are computed, and in which arithmetic."""

    device: torch.device
    dtype: torch.dtype
    vocabulary_size: int
    tokens_per_microbatch: int

    def rows(self, store: Store, documents: Sequence[int]) -> Iterator[Row]:
        """The rows of some documents."""
        for row in pack(documents, store.lengths, self.tokens_per_microbatch):
            yield Row.of(store, row, self.device)

    def nats(self, model: GPT2LMHeadModel, row: Row, divisor: float = 1) -> torch.Tensor:
        """Sum of the nats of a row's learned tokens, over `divisor`."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return row_nats(model, row, self.vocabulary_size, divisor)


@dataclass(frozen=True, slots=True)
class Run:
    """What a training run works on.

    Attributes:
        model: trained in place; its output matrix is padded as `network.resize` does it.
        documents: the train split.
        validation: the validation split.
        resume: folder of the resume state.
        parent: process id of the parent that the run must not outlive.
    """

    model: GPT2LMHeadModel
    documents: Store
    validation: Store
    settings: TrainSettings
    compute: Compute
    resume: Path
    parent: int


def train(run: Run) -> Iterator[Record]:
    """Train and yield a record for each step and each validation.

    At the end the model holds the weights that `settings.keep` names. Stopped from outside, the state is written
    to `resume`, and the next call with the same run goes on from there, to the same weights.

    Raises:
        SettingsError: a document does not fit into a step or a microbatch.
        TrainingInterruptedError: a signal came; the state is written.
        TrainingError: the loss is not finite; `resume`/last_good holds the weights before that step.
        OutOfMemoryError: memory ran out; nothing is lost but the steps since the last state.
    """
    settings = run.settings
    _check_lengths(run)
    steps = steps_of(
        run.documents.lengths, tokens_per_step=settings.tokens_per_step, epochs=settings.epochs, seed=settings.seed
    )
    optimizer = _prepare(run)
    with claimed(run.resume), stop_reason(run.parent) as stop:
        progress = checkpoint.load_state(run.resume, run.model, optimizer)
        yield from ({**record, "resumed": True} for record in progress.records)
        while progress.step < len(steps) and not _out_of_patience(progress, settings):
            why = stop()
            if why or (progress.step and progress.step % settings.steps_per_checkpoint == 0):
                checkpoint.save_state(run.resume, run.model, optimizer, progress)
            if why:
                raise TrainingInterruptedError(
                    f"Training stopped at step {progress.step} of {len(steps)} ({why}); "
                    "run the same command again and it goes on from there."
                )
            records = [_train_step(run, optimizer, progress.step, steps)]
            progress.step += 1
            if _validation_due(progress.step, len(steps), settings):
                records.append(_validate(run, progress))
            progress.records += records
            yield from records
        if settings.keep == "best":
            checkpoint.load_best(run.resume, run.model)
    run.model.eval()


def accumulate_gradients(
    model: GPT2LMHeadModel, documents: Store, step_documents: Sequence[int], compute: Compute
) -> float:
    """Add the gradients of the mean nats per learned token of a step; return that mean."""
    learned = int(documents.learned_counts[list(step_documents)].sum())
    mean = torch.zeros((), device=compute.device)
    for row in compute.rows(documents, step_documents):
        part = compute.nats(model, row, divisor=learned)
        part.backward()
        mean += part.detach()
    return mean.item()


def _prepare(run: Run) -> torch.optim.Optimizer:
    use_packed_attention(run.model)
    network.set_dropout(run.model, run.settings.dropout)
    run.model.to(run.compute.device)
    return adamw(
        run.model,
        learning_rate=run.settings.learning_rate,
        weight_decay=run.settings.weight_decay,
        betas=(run.settings.beta1, run.settings.beta2),
    )


def _train_step(run: Run, optimizer: torch.optim.Optimizer, step: int, steps: Sequence[Sequence[int]]) -> Record:
    """One optimizer update."""
    begin = time.perf_counter()
    settings = run.settings
    factor = learning_rate_factor(
        step,
        steps=len(steps),
        warmup_steps=round(settings.warmup_fraction * len(steps)),
        final_fraction=settings.final_learning_rate_fraction,
    )
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate * factor
    torch.manual_seed((settings.seed << 32) + step)  # dropout; a resumed run draws the same
    run.model.train()
    with memory_remedy(
        f"lower train.tokens_per_microbatch ({settings.tokens_per_microbatch}): the result stays the same"
    ):
        loss = accumulate_gradients(run.model, run.documents, steps[step], run.compute)
    norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), settings.max_gradient_norm).item()
    if not (math.isfinite(loss) and math.isfinite(norm)):
        first = run.documents.sources[steps[step][0]]
        what = f"At step {step + 1} the loss is {loss} and the gradient norm {norm} (first document: {first})"
        _stop_not_finite(run, what, f"the weights of step {step}")
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {
        "kind": "step",
        "step": step + 1,
        "steps": len(steps),
        "loss": loss,
        "learning_rate": settings.learning_rate * factor,
        "gradient_norm": norm,
        "tokens": int(run.documents.lengths[steps[step]].sum()),
        "seconds": time.perf_counter() - begin,
    }


@torch.no_grad()
def _validate(run: Run, progress: Progress) -> Record:
    """Nats per learned token of the validation split; the best weights so far are kept."""
    run.model.eval()
    rows = run.compute.rows(run.validation, range(len(run.validation)))
    nats = sum(run.compute.nats(run.model, row).item() for row in rows)
    loss = nats / int(run.validation.learned_counts.sum())
    if not math.isfinite(loss):
        _stop_not_finite(run, f"After step {progress.step} the validation loss is {loss}", "the weights")
    if loss < progress.best_loss:
        progress.best_loss, progress.best_step, progress.stale_validations = loss, progress.step, 0
        checkpoint.save_best(run.resume, run.model)
    else:
        progress.stale_validations += 1
    return {"kind": "validation", "step": progress.step, "loss": loss, "best": progress.best_step == progress.step}


def _validation_due(step: int, steps: int, settings: TrainSettings) -> bool:
    """At equal distances, `validations_per_epoch` times an epoch, and after the last step."""
    validations = settings.epochs * settings.validations_per_epoch
    return step * validations // steps > (step - 1) * validations // steps


def _out_of_patience(progress: Progress, settings: TrainSettings) -> bool:
    return 0 < settings.early_stopping_patience <= progress.stale_validations


def _check_lengths(run: Run) -> None:
    longest = int(max(run.documents.lengths.max(), run.validation.lengths.max()))
    for name in ("tokens_per_step", "tokens_per_microbatch"):
        if getattr(run.settings, name) < longest:
            raise SettingsError(
                f"train.{name} is {getattr(run.settings, name)}, but the longest document has {longest} tokens; "
                "raise it to that, or lower tokenizer.max_length."
            )


def _stop_not_finite(run: Run, what: str, which_weights: str) -> None:
    kept = run.resume / "last_good"
    network.trim(run.model, run.compute.vocabulary_size)
    network.save(run.model, kept)
    remove(run.resume / "state.pt")  # the same settings would only come to the same step
    raise TrainingError(
        f"{what}; {which_weights} are kept in {kept}. Lower train.learning_rate, or set train.precision to float32."
    )
