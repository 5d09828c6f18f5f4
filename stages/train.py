"""train: Datasets/tokens + models/base/weights.json -> models/checkpoint, metrics/train.json, metrics/curves."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from stages.progress import show
from theta import files
from theta.bases.descriptors import parameters
from theta.machine.process import dvc_parent, keep_large_buffers, prepare_gpu, set_threads
from theta.machine.settings import MachineSettings
from theta.settings import load
from theta.text import counted
from theta.tokens.settings import TokenizerSettings
from theta.train import automatic
from theta.train.settings import TrainSection

if TYPE_CHECKING:
    from theta.tokens.store import Store
    from theta.train.distributed import Ranks
    from theta.train.run import Run


EVERYTHING = "everything"
"""Folder of the checkpoint with the weights that learned the held-out documents too (train.learn_held_out)."""


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
    section, machine = load(params, "train", TrainSection), load(params, "machine", MachineSettings)
    keep_large_buffers()  # both before torch is imported
    prepare_gpu()
    from theta.machine.devices import choose_device
    from theta.train.choose import choose_processes
    from theta.train.distributed import joined, launch, one_error, started_by_torchrun

    processes = 1 if started_by_torchrun() else choose_processes(machine)
    if processes > 1:
        launch(processes, ["-m", "stages", *sys.argv[1:]], parent)
        return
    with joined(choose_device(machine.device)) as ranks, one_error(ranks):
        place = Place(tokens, base_weights, params, ranks, parent)
        run, base, computed = _prepare(section, machine, place)
        _train(run, section, base, machine, computed, checkpoint, metrics, curves)
        if run.settings.learn_held_out:
            run, base, _ = _prepare(section, machine, place, learn_held_out=True)
            _train_on_everything(run, base, checkpoint / EVERYTHING)


class Place(NamedTuple):
    """What training reads, and where it runs."""

    tokens: Path
    base_weights: Path
    params: Path
    ranks: "Ranks"
    parent: int | None


def _prepare(
    section: TrainSection, machine: MachineSettings, place: Place, *, learn_held_out: bool = False
) -> "tuple[Run, dict[str, Any], dict[str, Any]]":
    """Return the run, the descriptor of its base, and what was chosen for this machine.

    Args:
        learn_held_out: whether the run learns the documents of validation and test too, and so measures nothing.
    """
    from theta.machine.cpu_sharing import share_cpus
    from theta.machine.devices import choose_device, open_device
    from theta.model import network
    from theta.tokens.store import Store
    from theta.tokens.vocabulary import Vocabulary
    from theta.train import resume_folder
    from theta.train.choose import choose_compute, describe, number_formats
    from theta.train.run import Run
    from theta.train.samples import samples_of

    threads = set_threads(machine.threads)
    max_length = load(place.params, "tokenizer", TokenizerSettings).max_length
    share_cpus()
    tokens, ranks = place.tokens, place.ranks
    vocabulary, base = Vocabulary.load(tokens / "tokenizer"), files.read_json(place.base_weights)
    own, held_back, test = (tokens / f"{name}.arrow" for name in ("train", "validation", "test"))
    validation = Store.if_any(held_back)
    # The test split decides nothing, unless it is learned.
    train = Store(own)
    kind, amount = _kind(base), _amount(train, validation, max_length)
    once = automatic.resolve(section.model_copy(update={"epochs": 1}), kind, amount)
    shown_again = samples_of(train, once, vocabulary, max_length).shown_again
    settings = automatic.resolve(section, kind, replace(amount, shown_again=shown_again))
    rehearsal = tokens / "rehearsal.arrow" if settings.rehearsal_share else None
    more = (held_back, test) if learn_held_out else ()
    samples = samples_of(Store(own, rehearsal, more), settings, vocabulary, max_length)
    if learn_held_out:  # nothing is left to measure by
        validation = None
        settings = settings.model_copy(update={"keep": "last", "early_stopping_patience": 0})
    inputs = [own, *more, *([rehearsal] if rehearsal else []), held_back, place.base_weights]
    values = {**settings.model_dump(), "max_length": max_length, "learn_held_out": learn_held_out}
    key = resume_folder.key_of(values, inputs)
    open_device(choose_device(machine.device))
    model = network.from_base(base, vocabulary.size)
    saved = resume_folder.saved_formats(key)
    compute = choose_compute(settings, machine, model, vocabulary.size, samples, validation, ranks=ranks, saved=saved)
    resume = ranks.of_first(resume_folder.folder_of(key, number_formats(compute)))
    run = Run(model, samples, validation, settings, compute, resume, machine.steps_per_checkpoint, place.parent)
    return run, base, {**describe(compute), "threads": threads}


def _kind(base: dict[str, Any]) -> automatic.Kind:
    return automatic.kind_of(base, parameters(base))


def _amount(train: "Store", validation: "Store | None", max_length: int) -> automatic.Amount:
    from theta.train.compute import longest_of

    longest = max(max_length, longest_of(train, validation))  # chats are as long as that
    return automatic.Amount(len(train), int(train.lengths.sum()), longest, is_validated=validation is not None)


def _train(
    run: "Run",
    section: TrainSection,
    base: dict[str, Any],
    machine: MachineSettings,
    computed: dict[str, Any],
    checkpoint: Path,
    metrics: Path,
    curves: Path,
) -> None:
    """Train, and let rank 0 write the results."""
    from theta.machine.devices import notes
    from theta.model import network
    from theta.train import loop, resume_folder
    from theta.train.finish import finish
    from theta.train.records import learned_little, log_curves, provenance, report
    from theta.train.samples import conversation_tokens

    ranks, settings = run.compute.ranks, run.settings
    say = typer.echo if ranks.first else _silent
    for line in (*notes(run.compute.device), ", ".join(f"{name} {value}" for name, value in computed.items())):
        say(line)
    for line in _header(run, section, base):
        say(line)
    with resume_folder.claimed(run.resume, ranks, say):
        if not ranks.first:
            for _ in loop.train(run):
                pass
            return
        resume_folder.prune(run.resume)
        _explain_fresh_start(run.resume)
        records = list(show(log_curves(loop.train(run), curves)))
        loss = finish(run, lambda: network.pretrained(base))
        network.trim(run.model, run.compute.vocabulary_size)
        chosen = automatic.automatic(section)
        made_by = provenance(settings.model_dump(), chosen, base, machine.model_dump(), computed)
        with files.replacing_folder(checkpoint) as folder:
            network.save(run.model, folder, conversation_tokens(run.samples))
            files.write_json(folder / "provenance.json", made_by)
        figures = report(records, settings, loss)
        files.write_json(metrics, figures)
        resume_folder.finish(run.resume, checkpoint / "model.safetensors")
        if warning := learned_little(figures, settings):
            say(f"Warning: {warning}")


def _train_on_everything(run: "Run", base: dict[str, Any], folder: Path) -> None:
    """Train on the held-out documents too, and let rank 0 write the weights; nothing is measured."""
    from theta.model import network
    from theta.train import loop, resume_folder
    from theta.train.finish import finish
    from theta.train.samples import conversation_tokens

    ranks = run.compute.ranks
    say = typer.echo if ranks.first else _silent
    say(f"Training once more on all {run.samples.documents:,} documents, including those that were held back.")
    with resume_folder.claimed(run.resume, ranks, say):
        records = loop.train(run)
        for _ in show(records) if ranks.first else records:
            pass
        if ranks.first:
            finish(run, lambda: network.pretrained(base))
            network.trim(run.model, run.compute.vocabulary_size)
            network.save(run.model, folder, conversation_tokens(run.samples))
            resume_folder.finish(run.resume, folder / "model.safetensors")


def _header(run: "Run", section: TrainSection, base: dict[str, Any]) -> Iterator[str]:
    """Yield the size of the run, and what the settings that may be `auto` are."""
    from theta.train.choose import tokens_of_run

    settings, total = run.settings, tokens_of_run(run.samples, run.settings.rehearsal_share)
    updates = counted(-(-total // settings.tokens_per_step), "update")
    yield (
        f"{counted(run.samples.documents, 'document')}, {counted(settings.epochs, 'epoch')}, {total:,} tokens with "
        f"rehearsal: about {updates} of the weights. The base is {_kind(base).name}:"
    )
    yield from automatic.table(section, settings)


def _silent(_line: str) -> None:
    """Print nothing: rank 0 speaks for all."""


def _explain_fresh_start(resume: Path) -> None:
    """Explain why a run starts over although it has a saved state."""
    from theta.train.resume_folder import of_other_formats

    if not list(resume.glob("state.*")) and (others := of_other_formats(resume)):
        formats = others[0].name.partition("-")[2]
        typer.echo(
            f"Training starts over: the saved state of this run has other number formats ({formats}) than this machine "
            f"now uses ({resume.name.partition('-')[2]}); set machine.memory and machine.precision to resume from it."
        )
