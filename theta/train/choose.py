"""From settings and the machine to how rows are computed. Nothing here depends on what else the machine does."""

import torch
from transformers import GPT2LMHeadModel

from theta.errors import SettingsError
from theta.machine.devices import choose_device, choose_dtype
from theta.memory.plans import (
    AUTOMATIC,
    FLOAT32,
    GIB,
    PLANS,
    Choice,
    Plan,
    Size,
    choices,
    fastest,
    peak_bytes,
    usable_bytes,
)
from theta.model.attention import has_kernel
from theta.tokens.store import Store
from theta.train.compute import Compute
from theta.train.distributed import ALONE, Ranks
from theta.train.settings import TrainSettings

CPU_TOKENS_PER_MICROBATCH = 4096

COMPILE_FROM_SECONDS = 60.0
"""Compiling takes some 20 seconds, and halves the time of the rest."""


def choose_processes(settings: TrainSettings) -> int:
    """How many processes train together: one for each GPU; on a CPU one, unless a number is asked for.

    Raises:
        SettingsError: more GPUs are asked for than there are.
    """
    device = choose_device("train.device", settings.device)
    if device.type == "cpu":
        return 1 if settings.devices == "auto" else settings.devices
    there = torch.cuda.device_count()
    if settings.devices == "auto":
        return there
    if settings.devices > there:
        raise SettingsError(f"train.devices is {settings.devices}, but torch sees {there} GPUs; set it to auto.")
    return settings.devices


def choose_compute(
    settings: TrainSettings, model: GPT2LMHeadModel, vocabulary_size: int, documents: Store, ranks: Ranks = ALONE
) -> Compute:
    """Device, arithmetic, plan, microbatch and whether to compile, for a run over `documents`.

    The plan does not depend on the number of ranks, so that a run can go on with another number.

    Raises:
        SettingsError: a setting asks for what the machine does not have, or nothing fits into its memory.
    """
    device = choose_device("train.device", settings.device)
    dtype = choose_dtype(settings.precision, device)
    size = size_of(model)
    choice = _choose_plan(settings, size, device, dtype, int(documents.lengths.max()))
    tokens = settings.epochs * _tokens_per_epoch(documents, settings.rehearsal_share)
    return Compute(
        device,
        dtype,
        vocabulary_size,
        choice.plan,
        choice.tokens_per_microbatch,
        _choose_compiled(settings.compile, device, size, tokens) and dtype != torch.float32,
        ranks=ranks,
    )


def _tokens_per_epoch(documents: Store, rehearsal_share: float) -> int:
    """Tokens of the split and of what is rehearsed beside it."""
    tokens = int(documents.lengths[: documents.split_size].sum())
    return tokens + round(rehearsal_share * tokens) if len(documents) > documents.split_size else tokens


def describe(compute: Compute) -> dict[str, str | bool]:
    """What the weights depend on beside settings and inputs, in words."""
    device = compute.device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": str(compute.dtype).removeprefix("torch."),
        "memory": compute.plan.name,
        "compiled": compute.compiled,
        "attention": "kernel" if has_kernel(device) else "by document",
    }


def size_of(model: GPT2LMHeadModel) -> Size:
    """What the arithmetic of plans needs to know of a model."""
    config = model.config
    return Size(config.n_layer, config.n_embd, config.vocab_size, config.n_positions)


def _choose_plan(settings: TrainSettings, size: Size, device: torch.device, dtype: torch.dtype, longest: int) -> Choice:
    plans = _plans(settings, device, dtype)
    if device.type == "cpu":
        tokens = (
            CPU_TOKENS_PER_MICROBATCH if settings.tokens_per_microbatch == "auto" else settings.tokens_per_microbatch
        )
        return Choice(plans[0], max(tokens, longest), 0)
    if settings.tokens_per_microbatch == "auto":
        found = list(choices(size, plans, settings.tokens_per_step, longest))
    else:
        tokens = min(settings.tokens_per_microbatch, settings.tokens_per_step)
        fit = [plan for plan in plans if tokens == settings.tokens_per_step or not plan.step_in_backward]
        if not fit:
            raise SettingsError(
                f"train.memory is '{settings.memory}', which updates within the backward pass and so takes a step "
                f"in one microbatch, but train.tokens_per_microbatch is {tokens} and train.tokens_per_step "
                f"{settings.tokens_per_step}; set train.tokens_per_microbatch to auto, or train.memory to lean."
            )
        found = [Choice(plan, tokens, peak_bytes(size, plan, tokens)) for plan in fit]
    budget = budget_bytes(device, settings.memory if isinstance(settings.memory, float) else None)
    memory = {"train.memory": settings.memory, "train.tokens_per_microbatch": settings.tokens_per_microbatch}
    averages = 4 * size.parameters if settings.ema_decay else 0
    return fastest(found, budget - averages, {name: value for name, value in memory.items() if value != "auto"})


def budget_bytes(device: torch.device, gib: float | None) -> float:
    """What a plan may allocate on a GPU: a budget of so many GiB, or the card's memory."""
    total = torch.cuda.get_device_properties(device).total_memory if gib is None else gib * GIB
    return usable_bytes(total)


def _plans(settings: TrainSettings, device: torch.device, dtype: torch.dtype) -> tuple[Plan, ...]:
    """The plans that a setting allows on a device."""
    named = [plan for plan in PLANS if plan.name == settings.memory]
    if device.type == "cuda" and dtype == torch.bfloat16:
        return tuple(named) or AUTOMATIC
    if named and named[0] is not FLOAT32:
        raise SettingsError(
            f"train.memory is '{settings.memory}', which holds weights in bfloat16, but here products are computed in "
            f"{str(dtype).removeprefix('torch.')} on the {device.type}; set it to auto, or change train.precision."
        )
    return (FLOAT32,)


def _choose_compiled(setting: str, device: torch.device, size: Size, tokens: int) -> bool:
    """Whether compiling pays back: by an estimate of the run's time that any two runs alike agree on."""
    if not has_kernel(device) or setting == "never":
        return False
    per_second = 1e12 * torch.cuda.get_device_properties(device).multi_processor_count  # without compiling, measured
    return setting == "always" or 6 * size.parameters * tokens / per_second > COMPILE_FROM_SECONDS
