"""export: models/checkpoint, Datasets/tokens/tokenizer, metrics -> models/theta_final, metrics/export.json."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from theta import files
from theta.errors import DataError, reason
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
    metrics: Path = Path("metrics/export.json"),
    params: Path = Path("params.yaml"),
) -> None:
    """Write a folder that any Hugging Face reader opens, and compare it with the checkpoint."""
    settings = load(params, "export", ExportSettings)
    generation = load(params, "generation", GenerationSettings)
    if not checkpoint.is_dir():
        raise DataError(f"{checkpoint} does not exist; run `dvc repro train` to create it.")
    import torch

    from theta.export import bundle, verification
    from theta.model import network
    from theta.tokens.vocabulary import Vocabulary

    model, vocabulary, dtype = network.load(checkpoint), Vocabulary.load(tokenizer), getattr(torch, settings.dtype)
    measured = (prepare_metrics, tokenize_metrics, train_metrics, evaluate_metrics, checkpoint / "provenance.json")
    text = _card(model, settings, generation, measured)
    with files.replacing_folder(final) as folder:
        bundle.write(folder, model, vocabulary, generation, dtype=dtype, card=text)
        difference = verification.verify(folder, model, vocabulary, dtype)
        megabytes = round(sum(path.stat().st_size for path in folder.iterdir()) / 1e6, 1)
    report = {"dtype": settings.dtype, "max_logit_difference": round(difference, 6), "megabytes": megabytes}
    files.write_json(metrics, report)
    typer.echo(f"exported {final.as_posix()}: {megabytes} MB, checked against the checkpoint")


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
