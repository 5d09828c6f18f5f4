"""train: Datasets/tokens + models/base/weights.json -> models/checkpoint, metrics/train.json, metrics/curves."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from stages.progress import show
from theta import files
from theta.machine.process import dvc_parent, keep_large_buffers, prepare_gpu, set_threads
from theta.machine.settings import MachineSettings
from theta.settings import load
from theta.train.settings import TrainSettings

if TYPE_CHECKING:
    from theta.train.distributed import Ranks


def train(
    tokens: Path = Path("Datasets/tokens"),
    base_weights: Path = Path("models/base/weights.json"),
    checkpoint: Path = Path("models/checkpoint"),
    metrics: Path = Path("metrics/train.json"),
    curves: Path = Path("metrics/curves"),
    params: Path = Path("params.yaml"),
) -> None:
    """Fine-tune the base and keep the weights that train.keep names."""
    parent = dvc_parent()
    settings, machine = load(params, "train", TrainSettings), load(params, "machine", MachineSettings)
    keep_large_buffers()  # both before torch is imported
    prepare_gpu()
    from theta.errors import ThetaError
    from theta.machine.devices import choose_device
    from theta.train.choose import choose_processes
    from theta.train.distributed import joined, launch, started_by_torchrun

    processes = 1 if started_by_torchrun() else choose_processes(machine)
    if processes > 1:
        launch(processes, ["-m", "stages", *sys.argv[1:]], parent)
        return
    with joined(choose_device(machine.device)) as ranks:
        try:
            _train(settings, machine, ranks, parent, tokens, base_weights, checkpoint, metrics, curves)
        except ThetaError:
            if ranks.first:  # the first rank reports the error for all
                raise
            raise SystemExit(1) from None


def _train(
    settings: TrainSettings,
    machine: MachineSettings,
    ranks: "Ranks",
    parent: int | None,
    tokens: Path,
    base_weights: Path,
    checkpoint: Path,
    metrics: Path,
    curves: Path,
) -> None:
    from theta.machine.devices import notes
    from theta.machine.sharing import share_cpus
    from theta.model import network
    from theta.tokens.store import Store
    from theta.tokens.vocabulary import Vocabulary
    from theta.train import loop, resume_state
    from theta.train.choose import choose_compute, describe, number_formats
    from theta.train.finish import finish
    from theta.train.records import log_curves, provenance, report
    from theta.train.run import Run

    threads = set_threads(machine.threads)
    share_cpus()
    vocabulary, base = Vocabulary.load(tokens / "tokenizer"), files.read_json(base_weights)
    learned = [tokens / "train.arrow", *([tokens / "rehearsal.arrow"] if settings.rehearsal_share else [])]
    held_back = tokens / "validation.arrow"
    documents, validation = Store(*learned), Store(held_back)
    model = network.from_base(base, vocabulary.size)
    compute = choose_compute(settings, machine, model, vocabulary.size, documents, ranks)
    inputs = [*learned, held_back, base_weights]
    resume = ranks.of_first(resume_state.folder_of(settings.model_dump(), number_formats(compute), inputs))
    run = Run(model, documents, validation, settings, compute, resume, machine.steps_per_checkpoint, parent)
    if not ranks.first:
        for _ in loop.train(run):
            pass
        return
    computed = {**describe(compute), "threads": threads}
    for note in notes(compute.device):
        typer.echo(note)
    typer.echo(", ".join(f"{name} {value}" for name, value in computed.items()))
    with resume_state.claimed(resume, typer.echo):
        resume_state.prune(resume)
        _explain_fresh_start(resume)
        records = list(show(log_curves(loop.train(run), curves)))
        loss = finish(run, network.pretrained(base))
        network.trim(model, vocabulary.size)
        made_by = provenance(settings.model_dump(), base, machine.model_dump(), computed)
        with files.replacing_folder(checkpoint) as folder:
            network.save(model, folder)
            files.write_json(folder / "provenance.json", made_by)
        files.write_json(metrics, report(records, settings.epochs, settings.keep, loss))
        resume_state.finish(resume, checkpoint / "model.safetensors")


def _explain_fresh_start(resume: Path) -> None:
    """Explain why a run starts over although it has a saved state."""
    from theta.train.resume_state import of_other_formats

    if not list(resume.glob("state.*")) and (others := of_other_formats(resume)):
        formats = others[0].name.partition("-")[2]
        typer.echo(
            f"Training starts over: the saved state of this run has other number formats ({formats}) than this machine "
            f"now uses ({resume.name.partition('-')[2]}); set machine.memory and machine.precision to resume from it."
        )
