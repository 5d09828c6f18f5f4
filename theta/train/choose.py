"""Choose how rows are computed, from the settings, the machine and all ranks."""

from collections.abc import Sequence, Set

import torch
from transformers import GPT2LMHeadModel

from theta.errors import SettingsError
from theta.machine.devices import choose_device, choose_dtype, usable_gpus
from theta.machine.settings import MachineSettings
from theta.memory.plans import (
    AUTOMATIC,
    FLOAT32,
    GIB,
    PLANS,
    Placement,
    Plan,
    Size,
    best,
    peak_bytes,
    placements,
    usable_bytes,
)
from theta.model.attention import has_kernel
from theta.model.rows import Examples
from theta.text import counted
from theta.tokens.store import Store
from theta.train.compute import Compute, longest_of
from theta.train.distributed import ALONE, Ranks
from theta.train.settings import TrainSettings

CPU_TOKENS_PER_MICROBATCH = 4096

COMPILE_FROM_SECONDS = 60.0
"""Runs that would take longer are compiled: that takes about 20 seconds and halves the rest."""


def choose_processes(machine: MachineSettings) -> int:
    """Return how many processes train together: one for each GPU; on a CPU one, unless `devices` is a number.

    Raises:
        SettingsError: more GPUs are requested than there are.
    """
    if choose_device(machine.device).type == "cpu":
        return 1 if machine.devices == "auto" else machine.devices
    gpus, _ = usable_gpus()
    if machine.devices == "auto":
        return gpus
    if machine.devices > gpus:
        raise SettingsError(
            f"machine.devices is {machine.devices}, but torch can use {counted(gpus, 'GPU')}; set it to auto."
        )
    return machine.devices


def check_machine(machine: MachineSettings) -> None:
    """Check the section `machine` against this machine.

    Raises:
        SettingsError: it asks for a device, a number format or a plan that this machine does not support.
    """
    choose_processes(machine)
    device = choose_device(machine.device)
    _plans(machine, device, choose_dtype(machine.precision, device))


def choose_compute(
    settings: TrainSettings,
    machine: MachineSettings,
    model: GPT2LMHeadModel,
    vocabulary_size: int,
    samples: Examples,
    validation: Store | None,
    *,
    ranks: Ranks = ALONE,
    saved: Sequence[tuple[str, ...]] = (),
) -> Compute:
    """Choose device, number formats, plan, microbatch and whether to compile, for a run over `samples`.

    Rank 0 decides, for the GPU with the least memory, because all ranks must lay out a step alike.

    Args:
        saved: number formats of resume states, as `number_formats` returns them. Other programs may leave less of the
            GPU's memory than before; a run then continues in the formats that it began with, if these still fit.

    Raises:
        SettingsError: a setting requires what the machine lacks, nothing fits into its memory, or the GPUs compute in
            different number formats.
    """
    device = choose_device(machine.device)
    dtype = choose_dtype(machine.precision, device)
    _check_alike(ranks, device, dtype)
    size, longest = size_of(model), longest_of(samples, validation)
    budget = min(ranks.all_of(budget_bytes(device, machine.memory)))
    tokens = tokens_of_run(samples, settings.rehearsal_share)
    compiled = _choose_compiled(machine.compile, device, size, tokens) and dtype != torch.float32
    preferred = {(weights, int(bits)) for weights, bits, products in saved if f"torch.{products}" == str(dtype)}
    placement = choose_placement(settings, machine, size, device, dtype, longest, budget, preferred)
    placement, compiled = ranks.of_first((placement, compiled))
    return Compute(
        device,
        dtype,
        vocabulary_size,
        placement.plan,
        placement.tokens_per_microbatch,
        compiled,
        ranks=ranks,
    )


def _check_alike(ranks: Ranks, device: torch.device, dtype: torch.dtype) -> None:
    """Raise an error if the GPUs would compute rows, or lay them out, in different ways."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    kinds = ranks.all_of((str(dtype).removeprefix("torch."), has_kernel(device), name))
    if len({kind[:2] for kind in kinds}) > 1:
        listed = ", ".join(f"{name} in {dtype}" for dtype, _, name in kinds)
        raise SettingsError(
            f"The GPUs of this machine compute in different ways ({listed}); set machine.devices to 1, or choose the "
            "GPUs with CUDA_VISIBLE_DEVICES."
        )


def tokens_of_run(samples: Examples, rehearsal_share: float) -> int:
    """Tokens of all epochs and of their rehearsal."""
    tokens = int(samples.lengths[: samples.split_size].sum())
    return tokens + round(rehearsal_share * tokens) if len(samples) > samples.split_size else tokens


def number_formats(compute: Compute) -> tuple[str, str, str]:
    """The number formats on which the weights depend: of weights, moments (in bits) and products."""
    return compute.plan.weights, str(compute.plan.moment_bits), str(compute.dtype).removeprefix("torch.")


def describe(compute: Compute) -> dict[str, str | bool | int]:
    """Return what was chosen, for the user and for the provenance."""
    device = compute.device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "devices": compute.ranks.count,
        "precision": str(compute.dtype).removeprefix("torch."),
        "memory": compute.plan.name,
        "compiled": compute.compiled,
        "attention": "kernel" if has_kernel(device) else "by document",
    }


def size_of(model: GPT2LMHeadModel) -> Size:
    """The size of a model, as the arithmetic of plans takes it."""
    config = model.config
    return Size(config.n_layer, config.n_embd, config.vocab_size, config.n_positions)


def choose_placement(
    settings: TrainSettings,
    machine: MachineSettings,
    size: Size,
    device: torch.device,
    dtype: torch.dtype,
    longest: int,
    budget: float,
    preferred: Set[tuple[str, int]] = frozenset(),
) -> Placement:
    """Return the memory plan and the tokens of a microbatch.

    Args:
        longest: tokens of the longest document.
        budget: bytes that training may allocate on a GPU.
        preferred: number formats of weights and moments in bits that are chosen wherever they fit.

    Raises:
        SettingsError: the plan does not fit, or cannot be computed on the device.
    """
    plans = _plans(machine, device, dtype)
    ema = settings.ema_decay > 0
    wanted = machine.tokens_per_microbatch
    if device.type == "cpu":
        cpu_tokens = CPU_TOKENS_PER_MICROBATCH if wanted == "auto" else wanted
        return Placement(plans[0], max(cpu_tokens, longest), 0)
    if wanted == "auto":
        found = list(placements(size, plans, settings.tokens_per_step, longest, ema=ema))
    else:
        tokens = min(wanted, settings.tokens_per_step)
        fit = [plan for plan in plans if tokens == settings.tokens_per_step or not plan.step_in_backward]
        if not fit:
            raise SettingsError(
                f"machine.memory is '{machine.memory}', which updates within the backward pass and so takes a step "
                f"in one microbatch, but machine.tokens_per_microbatch is {tokens} and train.tokens_per_step "
                f"{settings.tokens_per_step}; set machine.tokens_per_microbatch to auto, or machine.memory to lean."
            )
        found = [Placement(plan, tokens, peak_bytes(size, plan, tokens, ema=ema)) for plan in fit]
    fixed = {"machine.memory": machine.memory, "machine.tokens_per_microbatch": machine.tokens_per_microbatch}
    in_formats = [
        each for each in found if each.peak <= budget and (each.plan.weights, each.plan.moment_bits) in preferred
    ]
    return best(in_formats or found, budget, {name: value for name, value in fixed.items() if value != "auto"})


def budget_bytes(device: torch.device, memory: str | float) -> float:
    """Bytes that training may allocate, from a budget in GiB or from the GPU's free memory; 0 on a CPU."""
    if isinstance(memory, float):
        return usable_bytes(memory * GIB)
    if device.type == "cpu":
        return 0.0
    free, total = torch.cuda.mem_get_info(device)
    return usable_bytes(total, free)


def _plans(machine: MachineSettings, device: torch.device, dtype: torch.dtype) -> tuple[Plan, ...]:
    """The plans that `machine.memory` allows on a device."""
    named = [plan for plan in PLANS if plan.name == machine.memory]
    if device.type == "cuda" and dtype == torch.bfloat16:
        return tuple(named) or AUTOMATIC
    if named and named[0] is not FLOAT32 and device.type == "cpu":
        raise SettingsError(
            f"machine.memory is '{machine.memory}', a plan for GPUs, but training runs on the CPU; set it to auto."
        )
    if named and named[0] is not FLOAT32:
        raise SettingsError(
            f"machine.memory is '{machine.memory}', which holds weights in bfloat16, but here products are computed in "
            f"{str(dtype).removeprefix('torch.')} on the {device.type}; set it to auto, or change machine.precision."
        )
    return (FLOAT32,)


def _choose_compiled(setting: str, device: torch.device, size: Size, tokens: int) -> bool:
    """Whether compiling pays off, by an estimate of the run's time that is the same for two equal runs."""
    if not has_kernel(device) or setting == "never":
        return False
    per_second = 1e12 * torch.cuda.get_device_properties(device).multi_processor_count  # without compiling, measured
    return setting == "always" or 6 * size.parameters * tokens / per_second > COMPILE_FROM_SECONDS
