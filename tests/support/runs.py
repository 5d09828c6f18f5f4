"""A tiny model that learns to repeat a number: runs of the training loop that take a second."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from theta.files import digest
from theta.machine.settings import MachineSettings
from theta.memory.plans import FLOAT32
from theta.model import network
from theta.tokens.store import Document, Store, write
from theta.train.compute import Compute
from theta.train.run import Record, Run
from theta.train.samples import Samples
from theta.train.settings import TrainSettings

VOCABULARY_SIZE = 60
END = 59
SIZES = {"train": 40, "rehearsal": 15, "validation": 10}
"""Documents, and the seeds that draw them."""

SETTINGS = TrainSettings(
    epochs=3,
    tokens_per_step=128,
    learning_rate=1e-2,
    warmup_fraction=0.1,
    final_learning_rate_fraction=0.1,
    weight_decay=0.1,
    beta1=0.9,
    beta2=0.95,
    max_gradient_norm=1.0,
    dropout=0.1,
    label_smoothing=0.0,
    layer_learning_rate_decay=1.0,
    frozen_layers=0,
    lora_rank=0,
    wording_share=0.0,
    wordings_per_opening=0,
    follow_up_share=0.0,
    follow_up_tokens=0,
    rehearsal_share=0.0,
    base_share=0.0,
    ema_decay=0.0,
    validations_per_epoch=2,
    early_stopping_patience=0,
    keep="last",
    learn_held_out=False,
    seed=0,
)

MACHINE = MachineSettings(
    device="cpu",
    devices="auto",
    threads=2,
    memory="auto",
    precision="float32",
    compile="never",
    tokens_per_microbatch=64,
    steps_per_checkpoint=3,
)


def settings_with(**changes: Any) -> tuple[TrainSettings, MachineSettings]:
    """Return the settings above with changes, each applied to the section that has it."""
    assert changes.keys() <= {*TrainSettings.model_fields, *MachineSettings.model_fields}
    of_train = {name: value for name, value in changes.items() if name in TrainSettings.model_fields}
    of_machine = {name: value for name, value in changes.items() if name in MachineSettings.model_fields}
    return SETTINGS.model_copy(update=of_train), MACHINE.model_copy(update=of_machine)


def make_store(path: Path, documents: int, seed: int, longest_opening: int = 30) -> Store:
    """Write documents that ask for a number and answer with it three times, then end; they begin with noise."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for i in range(documents):
        number = int(torch.randint(8, (), generator=generator))
        opening = int(torch.randint(longest_opening, (), generator=generator))
        ids = [
            *torch.randint(50, (opening,), generator=generator).tolist(),
            57,
            number,
            58,
            number,
            number,
            number,
            END,
        ]
        learned = [k >= len(ids) - 4 for k in range(len(ids))]
        made.append(Document(ids, learned, "numbers", f"numbers#{i}", 3))
    write(path, made)
    return Store(path)


def new_run(folder: Path, **changes: Any) -> Run:
    """Return a run of a tiny model with documents for rehearsal; `changes` are settings."""
    settings, machine = settings_with(**changes)
    precision = {"float32": torch.float32, "bfloat16": torch.bfloat16}[machine.precision]
    assert machine.tokens_per_microbatch != "auto"
    compute = Compute(torch.device("cpu"), precision, VOCABULARY_SIZE, FLOAT32, machine.tokens_per_microbatch)
    model = network.new(2, 2, 32, seed=0, vocabulary_size=VOCABULARY_SIZE)
    network.resize(model, VOCABULARY_SIZE)
    _, _, validation = (make_store(folder / f"{name}.arrow", n, n) for name, n in SIZES.items())
    store = Store(folder / "train.arrow", folder / "rehearsal.arrow")
    samples = Samples(store, epochs=settings.epochs, seed=settings.seed, wording_share=settings.wording_share)
    return Run(model, samples, validation, settings, compute, folder / "resume", machine.steps_per_checkpoint, None)


def weights(run: Run) -> dict[str, Any]:
    return {name: tensor.clone() for name, tensor in run.model.state_dict().items()}


def assert_equal_to_the_bit(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def terminate_at(records: Iterator[Record], step: int) -> None:
    """Read records, and send this process a termination signal at a step."""
    for record in records:
        if record["kind"] == "step" and record["step"] == step:
            os.kill(os.getpid(), signal.SIGTERM)


def without_time(record: Record) -> str:
    return digest({key: value for key, value in record.items() if key not in ("seconds", "resumed")})
