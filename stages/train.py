"""train: Datasets/tokens + models/base/weights.json -> models/checkpoint, metrics/train.json, metrics/curves."""

import os
from pathlib import Path

from stages.progress import show
from theta import files
from theta.params import load
from theta.train.process import keep_large_buffers, set_threads
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
    keep_large_buffers()  # before torch is imported
    from theta.model import network
    from theta.model.devices import choose_device, choose_dtype
    from theta.tokens.store import Store
    from theta.tokens.vocabulary import Vocabulary
    from theta.train import loop, report
    from theta.train.curves import log_curves
    from theta.train.resume import resume_folder

    threads, device = set_threads(settings.threads), choose_device("train.device", settings.device)
    vocabulary, descriptor = Vocabulary.load(tokens / "tokenizer"), files.read_json(base)
    stores = [tokens / "train.arrow", tokens / "validation.arrow"]
    compute = loop.Compute(
        device, choose_dtype(settings.precision, device), vocabulary.size, settings.tokens_per_microbatch
    )
    computed = {"device": device.type, "precision": str(compute.dtype).removeprefix("torch."), "threads": threads}
    run = loop.Run(
        network.from_base(descriptor, vocabulary.size),
        Store(stores[0]),
        Store(stores[1]),
        settings,
        compute,
        resume_folder(settings.model_dump(), computed, [*stores, base]),
        parent,
    )
    records = list(show(log_curves(loop.train(run), curves)))
    network.trim(run.model, vocabulary.size)
    network.save(run.model, checkpoint)
    files.write_json(metrics, report.report(records, settings.epochs, settings.keep))
    files.write_json(checkpoint / "provenance.json", report.provenance(settings.model_dump(), descriptor, computed))
    files.remove(run.resume)
