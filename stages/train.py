"""train: Datasets/tokens + models/base/weights.json -> models/checkpoint, metrics/train.json, metrics/curves."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from stages.progress import show
from theta import files
from theta.machine.process import keep_large_buffers, prepare_gpu, set_threads
from theta.settings import load
from theta.train.settings import TrainSettings

if TYPE_CHECKING:
    from theta.train.distributed import Ranks


def train(
    tokens: Path = Path("Datasets/tokens"),
    base: Path = Path("models/base/weights.json"),
    checkpoint: Path = Path("models/checkpoint"),
    metrics: Path = Path("metrics/train.json"),
    curves: Path = Path("metrics/curves"),
    params: Path = Path("params.yaml"),
) -> None:
    """Fine-tune the base and keep the weights that train.keep names."""
    parent = os.getppid()
    settings = load(params, "train", TrainSettings)
    keep_large_buffers()  # both before torch is imported
    prepare_gpu()
    from theta.errors import TrainingError
    from theta.machine.devices import choose_device
    from theta.train.choose import choose_processes
    from theta.train.distributed import joined, started_by_torchrun
    from theta.train.launch import launch

    processes = 1 if started_by_torchrun() else choose_processes(settings)
    if processes > 1:
        launch(processes, ["-m", "stages", *sys.argv[1:]], parent)
        return
    with joined(choose_device("train.device", settings.device)) as ranks:
        try:
            _train(settings, ranks, parent, tokens, base, checkpoint, metrics, curves)
        except TrainingError:
            if ranks.first:  # which says it for all
                raise
            raise SystemExit(1) from None


def _train(
    settings: TrainSettings,
    ranks: "Ranks",
    parent: int,
    tokens: Path,
    base: Path,
    checkpoint: Path,
    metrics: Path,
    curves: Path,
) -> None:
    from theta.model import network
    from theta.tokens.store import Store
    from theta.tokens.vocabulary import Vocabulary
    from theta.train import loop, report
    from theta.train.choose import choose_compute, describe
    from theta.train.records import log_curves
    from theta.train.resume import resume_folder
    from theta.train.run import Run

    threads = set_threads(settings.threads)
    vocabulary, descriptor = Vocabulary.load(tokens / "tokenizer"), files.read_json(base)
    learned = [tokens / "train.arrow", *([tokens / "rehearsal.arrow"] if settings.rehearsal_share else [])]
    held_back = tokens / "validation.arrow"
    documents, validation = Store(*learned), Store(held_back)
    model = network.from_base(descriptor, vocabulary.size)
    compute = choose_compute(settings, model, vocabulary.size, documents, ranks)
    computed = {**describe(compute), "threads": threads}
    resume = resume_folder(settings.model_dump(), computed, [*learned, held_back, base])
    run = Run(model, documents, validation, settings, compute, resume, parent)
    if not ranks.first:
        for _ in loop.train(run):
            pass
        return
    computed["devices"] = ranks.count  # the resume state does not depend on it
    typer.echo(", ".join(f"{name} {value}" for name, value in computed.items()))
    records = list(show(log_curves(loop.train(run), curves)))
    network.trim(model, vocabulary.size)
    if settings.base_share and (untuned := network.pretrained(descriptor)):
        network.mix_in(model, untuned, settings.base_share)
    network.save(model, checkpoint)
    files.write_json(metrics, report.report(records, settings.epochs, settings.keep))
    files.write_json(checkpoint / "provenance.json", report.provenance(settings.model_dump(), descriptor, computed))
    files.remove(resume)
