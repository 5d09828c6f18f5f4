"""The training loop.

A step reads its documents in rows of at most `tokens_per_microbatch` tokens, adds up gradients, and updates once.
Losses are sums of nats, divided once by the learned tokens of the whole step, so cutting a step into smaller
microbatches changes nothing but memory. The host does not wait for the device within a step: what a step
came to is read when the next one is under way.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch

from theta.errors import SettingsError, TrainingError, TrainingInterruptedError
from theta.files import remove
from theta.machine.devices import own_stream
from theta.machine.interrupt import stop_reason
from theta.machine.process import give_back_memory
from theta.model import network
from theta.model.trainable import narrow, widen
from theta.optim.adamw import adamw
from theta.optim.ema import Averages
from theta.optim.gradients import Gradients
from theta.optim.update import UpdateAfterBackward, UpdateInBackward
from theta.train import resume_state
from theta.train.batches import steps_of
from theta.train.compute import with_shape
from theta.train.distributed import Ranks
from theta.train.resume import claimed
from theta.train.resume_state import Progress
from theta.train.row_work import Works
from theta.train.run import Record, Run, State
from theta.train.settings import TrainSettings
from theta.train.step import launch

STEPS_PER_TIDYING = 16
"""On a CPU: `scratch:starter` grew from 1.4 to 5.8 GB in 80 steps of 1,024 tokens, and stays at 2.3 GB with it."""


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
    settings, on_cpu = run.settings, run.compute.device.type == "cpu"
    _check_lengths(run)
    steps = _steps(run)
    with _claimed_once(run), stop_reason(run.parent) as stop, own_stream(run.compute.device):
        state = _begin(run, steps)
        progress = state.progress
        yield from ({**record, "resumed": True} for record in progress.records)
        while progress.step < len(steps) and not _out_of_patience(progress, settings):
            launch(run, state, steps)
            if on_cpu and progress.step % STEPS_PER_TIDYING == 0:
                give_back_memory()
            why, validate = _agreed(stop(), state.compute.ranks), _validation_due(progress.step, len(steps), settings)
            save = why or (progress.step % settings.steps_per_checkpoint == 0 and progress.step < len(steps))
            at_once = on_cpu or save or validate or progress.step == len(steps)
            records = _read(run, state, steps, leave=0 if at_once else 1)
            if validate:
                with state.averages.in_place():
                    records.append(_validate(run, state))
            progress.records += records
            if save:
                _save(run, state)
            state.clock = time.perf_counter()
            yield from records
            if why:
                raise TrainingInterruptedError(
                    f"Training stopped at step {progress.step} of {len(steps)} ({why}); "
                    "run the same command again and it goes on from there."
                )
        _put_kept_weights(run, state)


def _steps(run: Run) -> list[list[int]]:
    """The documents of each step."""
    settings, lengths, split_size = run.settings, run.documents.lengths, run.documents.split_size
    return steps_of(
        lengths[:split_size],
        tokens_per_step=settings.tokens_per_step,
        epochs=settings.epochs,
        seed=settings.seed,
        rehearsal_lengths=lengths[split_size:],
        rehearsal_share=settings.rehearsal_share,
    )


def _save(run: Run, state: State) -> None:
    """Write the resume state; the other ranks wait for the file."""
    if run.compute.ranks.first:
        resume_state.save_state(run.resume, run.model, state.optimizer, state.progress, state.averages.tensors)
    run.compute.ranks.any(False)


def _put_kept_weights(run: Run, state: State) -> None:
    """Fill the model with the weights that `settings.keep` names, and make it a plain GPT-2 again."""
    if run.settings.keep == "last":
        state.averages.put()
    elif run.compute.ranks.first:
        resume_state.load_best(run.resume, run.model)
    widen(run.model)
    run.model.eval()


def _begin(run: Run, steps: Sequence[Sequence[int]]) -> State:
    """Put the model where it is trained, and go on from the resume state if there is one."""
    plan, settings, compute = run.compute.plan, run.settings, run.compute
    network.fuse_activation(run.model)
    network.set_dropout(run.model, settings.dropout)
    run.model.to(compute.device, torch.bfloat16 if plan.weights == "bfloat16" else torch.float32)
    narrow(run.model, settings, compute.vocabulary_size)
    optimizer = adamw(
        run.model,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        betas=(settings.beta1, settings.beta2),
        plan=plan,
        seed=settings.seed,
        layer_decay=settings.layer_learning_rate_decay,
    )
    averages = Averages(run.model, settings.ema_decay)
    progress = resume_state.load_state(run.resume, run.model, optimizer, averages.tensors)
    if not progress.tokens_per_microbatch:
        progress.tokens_per_microbatch = compute.tokens_per_microbatch
        progress.loss_scale = 2.0**16 if compute.dtype == torch.float16 else 1.0
    compute = replace(
        compute,
        tokens_per_microbatch=progress.tokens_per_microbatch,
        label_smoothing=settings.label_smoothing,
    )
    compute = with_shape(compute, run.documents, run.validation, steps)
    parameters = [parameter for parameter in run.model.parameters() if parameter.requires_grad]
    gradients = Gradients(parameters, in_place=compute.shape is not None and not plan.step_in_backward)
    longest = settings.max_gradient_norm
    update = (
        UpdateInBackward(parameters, optimizer, longest, compute)
        if plan.step_in_backward
        else UpdateAfterBackward(gradients, optimizer, longest, compute)
    )
    return State(compute, optimizer, gradients, update, Works.of(run.model, compute, gradients), progress, averages)


def _claimed_once(run: Run) -> AbstractContextManager[object]:
    """The resume folder is claimed by rank 0 for all."""
    return claimed(run.resume) if run.compute.ranks.first else nullcontext()


def _agreed(reason: str | None, ranks: Ranks) -> str | None:
    """A reason to stop, if any rank has one, so that all stop after the same step."""
    return (reason or "another rank was stopped") if ranks.any(reason is not None) else None


def _read(run: Run, state: State, steps: Sequence[Sequence[int]], leave: int) -> list[Record]:
    """The records of the steps under way but the last `leave`."""
    records = state.read(leave)
    for record in records:
        step, loss, norm = record["step"], record["loss"], record["gradient_norm"]
        if not (math.isfinite(loss) and math.isfinite(norm)):
            first = run.documents.sources[steps[step - 1][0]]
            what = f"At step {step} the loss is {loss} and the gradient norm {norm} (first document: {first})"
            _stop_not_finite(run, what, f"the weights of step {step - 1}")
    return records


@torch.no_grad()
def _validate(run: Run, state: State) -> Record:
    """Nats per learned token of the validation split; the best weights so far are kept."""
    run.model.eval()
    progress = state.progress
    nats = torch.zeros((), device=state.compute.device, dtype=torch.float64)
    one = torch.ones((), device=state.compute.device)
    for row in state.compute.validation_rows(run.validation):
        nats += state.works.nats(row, one)
    state.compute.ranks.add_up([nats])
    loss = nats.item() / int(run.validation.learned_counts.sum())
    if not math.isfinite(loss):
        _stop_not_finite(run, f"After step {progress.step} the validation loss is {loss}", "the weights")
    if loss < progress.best_loss:
        progress.best_loss, progress.best_step, progress.stale_validations = loss, progress.step, 0
        if run.compute.ranks.first:
            resume_state.save_best(run.resume, run.model)
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
        value = getattr(run.settings, name)
        if value != "auto" and value < longest:
            raise SettingsError(
                f"train.{name} is {value}, but the longest document has {longest} tokens; "
                "raise it to that, or lower tokenizer.max_length."
            )


def _stop_not_finite(run: Run, what: str, which_weights: str) -> None:
    kept = run.resume / "last_good"
    if run.compute.ranks.first:
        widen(run.model)
        network.trim(run.model, run.compute.vocabulary_size)
        network.save(run.model, kept)
        remove(run.resume / "state.pt")  # the same settings would only come to the same step
    run.compute.ranks.any(False)  # the others wait for the files
    raise TrainingError(
        f"{what}; {which_weights} are kept in {kept}. Lower train.learning_rate, or set train.precision to float32."
    )
