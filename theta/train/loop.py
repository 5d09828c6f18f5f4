"""The training loop.

A step reads its documents in rows of at most `tokens_per_microbatch` tokens, adds up gradients, and updates once.
Losses are sums of nats, divided once by the learned tokens of the whole step, so cutting a step into smaller
microbatches changes nothing but memory. The host does not wait for the device within a step: its loss is read
while the next step is running.
"""

import math
import time
from collections.abc import Iterator, Sequence

import torch

from theta.errors import SettingsError, TrainingError, TrainingInterruptedError
from theta.machine.devices import memory_remedy, own_stream
from theta.machine.process import give_back_memory, stop_reason
from theta.model import network
from theta.model.trainable import to_plain_gpt2
from theta.tokens.store import Store
from theta.train import resume_state
from theta.train.batches import steps_of
from theta.train.begin import begin
from theta.train.compute import longest_of
from theta.train.distributed import Ranks
from theta.train.finish import keep, kept_tensors
from theta.train.resume_state import Progress
from theta.train.run import Record, Run, State
from theta.train.settings import TrainSettings
from theta.train.step import begin_step

STEPS_PER_TIDYING = 16
"""Steps after which freed memory is given back on a CPU. In 80 steps of 1,024 tokens `scratch:starter` grew from 1.4 to
5.8 GB without it, and to 2.3 GB with it."""


def train(run: Run) -> Iterator[Record]:
    """Train, and yield a record for each step and each validation.

    At the end the model is a plain GPT-2 in float32 on the CPU with the weights that `settings.keep` names. If training
    is stopped from outside, the state is written to `resume`; the next call with the same run continues from there and
    ends with the same weights.

    Raises:
        SettingsError: a document does not fit into a step or a microbatch.
        TrainingInterruptedError: a signal stopped training; the state was written.
        TrainingError: the loss is not finite; `resume`/last_good holds the weights before that step.
        OutOfMemoryError: memory ran out; only the steps since the last state are lost.
    """
    settings, device = run.settings, run.compute.device
    _check_lengths(run)
    steps = _steps(run)
    with memory_remedy(device, _memory_advice(run)), stop_reason(run.parent) as stop, own_stream(device):
        state = begin(run, steps)
        progress = state.progress
        yield from ({**record, "resumed": True} for record in progress.records)
        while progress.step < len(steps) and not _out_of_patience(progress, settings):
            begin_step(run, state, steps)
            if device.type == "cpu" and progress.step % STEPS_PER_TIDYING == 0:
                give_back_memory()
            why = _agreed(stop(), state.compute.ranks)
            validate = run.validation is not None and _validation_due(progress.step, len(steps), settings)
            save = why or (progress.step % run.steps_per_checkpoint == 0 and progress.step < len(steps))
            at_once = device.type == "cpu" or save or validate or progress.step == len(steps)
            records = _read(run, state, steps, leave=0 if at_once else 1)
            if validate and run.validation:
                with state.ema.in_place():
                    records.append(_validate(run, run.validation, state))
            progress.records += records
            if save:
                _save(run, state)
            state.clock = time.perf_counter()
            yield from records
            if why:
                raise TrainingInterruptedError(
                    f"Training stopped at step {progress.step} of {len(steps)} ({why}); "
                    "run the same command again to continue from there."
                )
        _save(run, state)
        _keep_weights(run, state)


def _steps(run: Run) -> list[list[int]]:
    """The samples of each step."""
    samples = run.samples
    return steps_of(
        samples.epochs,
        samples.lengths,
        tokens_per_step=run.settings.tokens_per_step,
        seed=run.settings.seed,
        rehearsal=range(samples.split_size, len(samples)),
        rehearsal_share=run.settings.rehearsal_share,
    )


def _memory_advice(run: Run) -> str:
    if run.compute.device.type == "cpu":
        return "lower machine.tokens_per_microbatch or tokenizer.max_length, or choose a smaller base"
    return (
        f"plan {run.compute.plan.name} with train.tokens_per_step {run.settings.tokens_per_step} needs more, even in "
        "the smallest microbatches; set machine.memory to a plan that needs less, which `theta plan` shows, or lower "
        "tokenizer.max_length"
    )


def _save(run: Run, state: State) -> None:
    """Write the resume state; the other ranks wait until it is written."""
    if run.compute.ranks.first:
        resume_state.save_state(run.resume, run.model, state.optimizer, state.progress, state.ema.tensors)
    run.compute.ranks.wait()


def _keep_weights(run: Run, state: State) -> None:
    """Fill the model of rank 0, which writes the checkpoint, with the weights that `settings.keep` names."""
    if not run.compute.ranks.first:
        return
    if run.settings.keep == "best":
        keep(run, resume_state.load_best(run.resume))
    else:
        keep(run, dict(kept_tensors(run.model, state.ema.tensors)))


def _agreed(reason: str | None, ranks: Ranks) -> str | None:
    """Return a reason to stop if any rank has one, so that all ranks stop after the same step."""
    return (reason or "another rank was stopped") if ranks.any(reason is not None) else None


def _read(run: Run, state: State, steps: Sequence[Sequence[int]], leave: int) -> list[Record]:
    """Read all unread records except the last `leave`; stop training if a loss is not finite."""
    records = state.read(leave)
    for record in records:
        step, loss, norm = record["step"], record["loss"], record["gradient_norm"]
        if not (math.isfinite(loss) and math.isfinite(norm)):
            first = run.samples.source(steps[step - 1][0])
            what = f"At step {step} the loss is {loss} and the gradient norm {norm} (first document: {first})"
            _stop_not_finite(run, what, f"the weights of step {step - 1}")
    return records


@torch.no_grad()
def _validate(run: Run, validation: Store, state: State) -> Record:
    """Measure the nats per learned token of the validation split, and keep the best weights so far."""
    run.model.eval()
    progress = state.progress
    nats = torch.zeros((), device=state.compute.device, dtype=torch.float64)
    one = torch.ones((), device=state.compute.device)
    for row in state.compute.validation_rows(validation):
        nats += state.work.nats(row, one).sum()
    state.compute.ranks.add_up([nats])
    loss = nats.item() / int(validation.learned_counts.sum())
    if not math.isfinite(loss):
        _stop_not_finite(run, f"After step {progress.step} the validation loss is {loss}", "the weights")
    if loss < progress.best_loss:
        progress.best_loss, progress.best_step, progress.stale_validations = loss, progress.step, 0
        if run.compute.ranks.first:
            resume_state.save_best(run.resume, dict(kept_tensors(run.model, state.ema.tensors)))
    else:
        progress.stale_validations += 1
    return {"kind": "validation", "step": progress.step, "loss": loss, "best": progress.best_step == progress.step}


def _validation_due(step: int, steps: int, settings: TrainSettings) -> bool:
    """Whether to validate now: `validations_per_epoch` times an epoch at equal distances, and after the last step."""
    validations = settings.epochs * settings.validations_per_epoch
    return step * validations // steps > (step - 1) * validations // steps


def _out_of_patience(progress: Progress, settings: TrainSettings) -> bool:
    return 0 < settings.early_stopping_patience <= progress.stale_validations


def _check_lengths(run: Run) -> None:
    longest = longest_of(run.samples, run.validation)
    limits = {
        "train.tokens_per_step": run.settings.tokens_per_step,
        "machine.tokens_per_microbatch": run.compute.tokens_per_microbatch,
    }
    for name, limit in limits.items():
        if limit < longest:
            raise SettingsError(
                f"{name} is {limit}, but the longest document has {longest} tokens; "
                "raise it to that, or lower tokenizer.max_length."
            )


def _stop_not_finite(run: Run, what: str, which_weights: str) -> None:
    kept = run.resume / "last_good"
    if run.compute.ranks.first:
        run.model.to("cpu", torch.float32)
        to_plain_gpt2(run.model)
        network.trim(run.model, run.compute.vocabulary_size)
        network.save(run.model, kept)
        resume_state.forget_state(run.resume)  # the same settings would reach the same step again
    run.compute.ranks.wait()
    raise TrainingError(
        f"{what}; {which_weights} are kept in {kept}. Lower train.learning_rate, or set machine.precision to float32."
    )
