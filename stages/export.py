"""export: models/checkpoint, Datasets/tokens/tokenizer, metrics -> models/theta_final, metrics/export.json.

models/exports holds theta_final in the formats of other programs that `export.formats` names. Without any it holds a
README.md, because DVC does not restore an empty folder.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from theta import files
from theta.errors import DataError, reason
from theta.export import formats
from theta.export.formats import Format
from theta.export.settings import ExportSettings
from theta.generate.settings import GenerationSettings
from theta.settings import load

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


def export(
    checkpoint: Path = Path("models/checkpoint"),
    tokenizer: Path = Path("Datasets/tokens/tokenizer"),
    prepare_metrics: Path = Path("metrics/prepare.json"),
    tokenize_metrics: Path = Path("metrics/tokenize.json"),
    train_metrics: Path = Path("metrics/train.json"),
    evaluate_metrics: Path = Path("metrics/evaluate.json"),
    final: Path = Path("models/theta_final"),
    exports: Path = Path("models/exports"),
    metrics: Path = Path("metrics/export.json"),
    params: Path = Path("params.yaml"),
) -> None:
    """Write a folder that any Hugging Face reader opens, and other formats, and compare them with the checkpoint."""
    settings = load(params, "export", ExportSettings)
    generation = load(params, "generation", GenerationSettings)
    if not checkpoint.is_dir():
        raise DataError(f"{checkpoint} does not exist; run `dvc repro train` to create it.")
    import torch

    from theta.export import bundle, verification
    from theta.model import network
    from theta.tokens.vocabulary import Vocabulary

    # With train.learn_held_out, the model that is measured is not the one that is exported.
    everything = checkpoint / "everything"
    model = network.load(everything if everything.is_dir() else checkpoint)
    vocabulary, dtype = Vocabulary.load(tokenizer), getattr(torch, settings.dtype)
    measured = (prepare_metrics, tokenize_metrics, train_metrics, evaluate_metrics, checkpoint / "provenance.json")
    text = _card(model, settings, generation, measured)
    with files.replacing_folder(final) as folder:
        bundle.write(folder, model, vocabulary, generation, dtype=dtype, card=text)
        difference = verification.verify(folder, model, vocabulary, dtype)
        megabytes = round(sum(path.stat().st_size for path in folder.iterdir()) / 1e6, 1)
    report = {"dtype": settings.dtype, "max_logit_difference": round(difference, 6), "megabytes": megabytes}
    files.write_json(metrics, report)
    typer.echo(f"exported {final.as_posix()}: {megabytes} MB, checked against the checkpoint")
    _write_formats(settings.formats, final, exports)


def _write_formats(chosen: Sequence[Format], final: Path, exports: Path) -> None:
    """Write the chosen formats, and remove those of an earlier run."""
    names = ", ".join(chosen) or "none"
    about = f"{final.as_posix()} in other formats: {names}. The key export.formats of params.yaml chooses them.\n"
    files.write_text(exports / "README.md", about)
    for name in formats.FORMATS:
        if name in chosen:
            formats.write(name, final, exports / name)
            typer.echo(f"exported {(exports / name).as_posix()}, checked against the checkpoint")
        else:
            files.sweep(exports / name)
            files.remove(exports / name)


def _card(
    model: "GPT2LMHeadModel", settings: ExportSettings, generation: GenerationSettings, measured: Sequence[Path]
) -> str:
    """Return the model card; figures of files in `measured` that do not exist are marked as not measured."""
    from theta.export.model_card import Facts, card, git_revision

    prepared, tokenized, trained, evaluated, provenance = map(_figures, measured)
    facts = Facts(
        name=settings.model_name,
        parameters=model.num_parameters(),
        config=model.config.to_dict(),
        dtype=settings.dtype,
        generation=generation,
        license=settings.license,
        revision=git_revision(Path()),
        prepare=prepared,
        tokenize=tokenized,
        train=trained,
        evaluate=evaluated,
        provenance=provenance,
    )
    try:
        return card(facts)
    except (AttributeError, LookupError, TypeError, ValueError) as fault:  # the figures have another structure
        raise DataError(
            f"One of {', '.join(path.as_posix() for path in measured)} is not what its stage writes "
            f"({type(fault).__name__}: {reason(fault)}); run `dvc repro` to recreate it."
        ) from fault


def _figures(path: Path) -> dict[str, Any] | None:
    """Read the figures in a JSON file; None if it does not exist."""
    if not path.is_file():
        return None
    value = files.read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path} holds a {type(value).__name__}, not an object; run `dvc repro` to recreate it.")
    return value
