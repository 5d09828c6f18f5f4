"""Run a memory plan for some steps of the training loop on random tokens, to compare it with its prediction."""

import gc
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from theta.errors import OutOfMemoryError, SettingsError
from theta.machine.settings import MachineSettings
from theta.memory.plans import Placement, Plan, Size
from theta.tokens.store import Document, Store, write
from theta.train.choose import choose_compute
from theta.train.loop import train
from theta.train.run import Run
from theta.train.samples import Samples
from theta.train.settings import TrainSettings

WARMUP_STEPS = 4
"""Steps in which kernels are compiled and work is recorded."""

STEPS = 12

LENGTHS = (64, 128, 192, 384)
"""Tokens of the documents, of which 80 % are learned: much like real conversations, which have 189 on average."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured: the peak of what torch allocated, and real tokens per second once all is compiled."""

    peak_bytes: int
    tokens_per_second: float


def probe(size: Size, heads: int, placement: Placement, longest: int, settings: TrainSettings) -> Measured:
    """Train a new model of this size for some steps on the GPU.

    Args:
        placement: the plan and the tokens of a microbatch.
        longest: tokens of the longest document.
        settings: training settings.

    Raises:
        SettingsError: there is no GPU, or the plan does not fit or cannot be computed on it.
        OutOfMemoryError: microbatches of that size do not fit, despite the prediction.
    """
    require_gpu()
    device = torch.device("cuda", torch.cuda.current_device())
    torch.compiler.reset()  # an earlier probe compiled for other shapes
    gc.collect()
    torch.cuda.empty_cache()
    before, failures = torch.cuda.memory_allocated(device), _failures(device)
    with TemporaryDirectory() as folder:
        run = random_run(size, heads, placement, longest, settings, Path(folder), device)
        torch.cuda.reset_peak_memory_stats(device)
        # The run is stopped before its last step, after which it would validate and write its weights.
        records = [record for record in islice(train(run), STEPS) if record["step"] > WARMUP_STEPS]
        peak = torch.cuda.max_memory_allocated(device) - before
    if _failures(device) > failures:  # training went on in smaller microbatches
        raise OutOfMemoryError(
            f"The GPU has too little memory for plan {placement.plan.name} with machine.tokens_per_microbatch "
            f"{placement.tokens_per_microbatch}; close other programs that use the GPU, or set a smaller --vram."
        )
    seconds = sum(record["seconds"] for record in records)
    return Measured(peak, sum(record["tokens"] for record in records) / seconds)


def require_gpu() -> None:
    """Require a GPU.

    Raises:
        SettingsError: torch sees no GPU.
    """
    if not torch.cuda.is_available():
        raise SettingsError("A probe measures a GPU, and torch sees none; leave --probe out, or check the driver.")


def random_run(
    size: Size,
    heads: int,
    placement: Placement,
    longest: int,
    settings: TrainSettings,
    folder: Path,
    device: torch.device,
) -> Run:
    """Return a run of more than `STEPS` steps of a new model on random tokens, which are written to `folder`.

    Settings that affect speed and memory are kept.
    """
    settings = settings.model_copy(
        update={
            "epochs": 1,
            "learning_rate": 1e-5,
            "rehearsal_share": 0.0,
            "validations_per_epoch": 1,
            "early_stopping_patience": 0,
        }
    )
    machine = MachineSettings(
        device="cuda" if device.type == "cuda" else "cpu",
        devices=1,
        threads="auto",
        memory=placement.plan.name,
        precision="auto",
        compile="always",
        tokens_per_microbatch=placement.tokens_per_microbatch,
        steps_per_checkpoint=10**6,
    )
    model = _random_model(size, heads, placement.plan, device)
    tokens = (STEPS + 3) * settings.tokens_per_step
    samples = Samples(_random_store(folder / "train.arrow", size.columns, tokens, longest), epochs=1, seed=0)
    validation = _random_store(folder / "validation.arrow", size.columns, longest, longest)
    compute = choose_compute(settings, machine, model, size.columns, samples, validation)
    return Run(model, samples, validation, settings, compute, folder / "run", machine.steps_per_checkpoint, None)


def _random_model(size: Size, heads: int, plan: Plan, device: torch.device) -> GPT2LMHeadModel:
    """Create a model on its device and in its number format, in seconds instead of minutes for gpt2-xl."""
    config = GPT2Config(
        n_layer=size.layers,
        n_head=heads,
        n_embd=size.width,
        n_positions=size.positions,
        vocab_size=size.columns,
        bos_token_id=None,
        eos_token_id=None,
    )
    with device:
        return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, plan.weights))


def _random_store(path: Path, vocabulary_size: int, tokens: int, longest: int) -> Store:
    """Write documents with this many tokens in total, the first of them the longest."""
    random = np.random.default_rng(0)
    lengths = [longest]
    while sum(lengths) < tokens:
        lengths.append(min(LENGTHS[len(lengths) % len(LENGTHS)], longest))
    write(
        path,
        (
            Document(
                random.integers(vocabulary_size, size=length).tolist(),
                [place >= length // 5 for place in range(length)],
                "random",
                f"random#{number}",
                length,
            )
            for number, length in enumerate(lengths)
        ),
    )
    return Store(path)


def _failures(device: torch.device) -> int:
    """Return how often memory has run out so far."""
    return int(torch.cuda.memory_stats(device).get("num_ooms", 0))
