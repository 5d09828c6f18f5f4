"""train: Datasets/tokens + models/base/weights.json -> models/checkpoint, metrics/train.json, metrics/curves."""

import os
from pathlib import Path

import typer

from stages.progress import show
from theta import files
from theta.params import load
from theta.train.process import keep_large_buffers, prepare_gpu, set_threads
from theta.train.settings import TrainSettings


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
    from theta.model import network
    from theta.tokens.store import Store
    from theta.tokens.vocabulary import Vocabulary
    from theta.train import loop, report
    from theta.train.choose import choose_compute, describe
    from theta.train.curves import log_curves
    from theta.train.resume import resume_folder
    from theta.train.state import Run

    threads = set_threads(settings.threads)
    vocabulary, descriptor = Vocabulary.load(tokens / "tokenizer"), files.read_json(base)
    stores = [tokens / "train.arrow", tokens / "validation.arrow"]
    documents, validation = (Store(store) for store in stores)
    model = network.from_base(descriptor, vocabulary.size)
    compute = choose_compute(settings, model, vocabulary.size, documents)
    computed = {**describe(compute), "threads": threads}
    typer.echo(", ".join(f"{name} {value}" for name, value in computed.items()))
    resume = resume_folder(settings.model_dump(), computed, [*stores, base])
    run = Run(model, documents, validation, settings, compute, resume, parent)
    records = list(show(log_curves(loop.train(run), curves)))
    network.trim(model, vocabulary.size)
    network.save(model, checkpoint)
    files.write_json(metrics, report.report(records, settings.epochs, settings.keep))
    files.write_json(checkpoint / "provenance.json", report.provenance(settings.model_dump(), descriptor, computed))
    files.remove(resume)
