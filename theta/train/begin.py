"""The beginning of training: the model goes to its device, and an interrupted run goes on from its resume state."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from theta.errors import TrainingError
from theta.model import network
from theta.model.trainable import freeze
from theta.optim.adamw import Optimizer, adamw
from theta.optim.ema import EMA
from theta.optim.update import Gradients, UpdateAfterBackward, UpdateInBackward
from theta.train import resume_state
from theta.train.compute import with_shape
from theta.train.resume_state import Progress
from theta.train.row_work import RowWork
from theta.train.run import Run, State
from theta.train.settings import check_options


def begin(run: Run, steps: Sequence[Sequence[int]]) -> State:
    """Return the state that the first of these steps begins with.

    Raises:
        SettingsError: a setting does not fit the model.
        TrainingError: the ranks read different resume states.
    """
    plan, settings = run.compute.plan, run.settings
    optimizer = _prepare(run)
    ema = EMA(run.model, settings.ema_decay)
    progress = _resume(run, optimizer, ema)
    compute = replace(
        run.compute,
        tokens_per_microbatch=progress.tokens_per_microbatch,
        label_smoothing=settings.label_smoothing,
    )
    compute = with_shape(compute, run.samples, run.validation, steps)
    parameters = [parameter for parameter in run.model.parameters() if parameter.requires_grad]
    gradients = Gradients(parameters, in_place=compute.shape is not None and not plan.step_in_backward)
    max_norm, add_up = settings.max_gradient_norm, compute.ranks.add_up
    update = (
        UpdateInBackward(parameters, optimizer, max_norm, add_up)
        if plan.step_in_backward
        else UpdateAfterBackward(gradients, optimizer, max_norm, add_up)
    )
    return State(compute, optimizer, gradients, update, RowWork.of(run.model, compute, gradients), progress, ema)


def _prepare(run: Run) -> Optimizer:
    """Move the model to its device, leave only what is trained trainable, and return the optimizer of that."""
    plan, settings, compute = run.compute.plan, run.settings, run.compute
    check_options(settings, len(run.model.transformer.h))
    network.fuse_activation(run.model)
    network.set_dropout(run.model, settings.dropout)
    run.model.to(compute.device, torch.bfloat16 if plan.weights == "bfloat16" else torch.float32)
    freeze(
        run.model,
        frozen_layers=settings.frozen_layers,
        lora_rank=settings.lora_rank,
        vocabulary_size=compute.vocabulary_size,
        seed=settings.seed,
    )
    return adamw(
        run.model,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        betas=(settings.beta1, settings.beta2),
        moment_bits=plan.moment_bits if plan.weights == "bfloat16" else None,
        seed=settings.seed,
        layer_decay=settings.layer_learning_rate_decay,
    )


def _resume(run: Run, optimizer: Optimizer, ema: EMA) -> Progress:
    """Read the resume state into the model, the optimizer and the average if there is one; return the progress."""
    compute = run.compute
    progress = resume_state.load_state(run.resume, run.model, optimizer, ema.tensors)
    if len(set(compute.ranks.all_of(progress.step))) > 1:
        raise TrainingError(f"The ranks read different states from {run.resume}; run the same command again.")
    if progress.tokens_chosen != compute.tokens_per_microbatch:
        progress.tokens_chosen = progress.tokens_per_microbatch = compute.tokens_per_microbatch
    if progress.step == 0:
        progress.loss_scale = 2.0**16 if compute.dtype == torch.float16 else 1.0
    return progress
