"""prepare: the data of models/base/data.json + models/base/rehearsal.jsonl -> Datasets/prepared, metrics/prepare.json.

Datasets/prepared/{train,validation,test}.jsonl    the data
Datasets/prepared/rehearsal.jsonl                  the base's own conversations
Datasets/prepared/rejected.jsonl                   the dropped items of the data
"""

from collections.abc import Sequence
from pathlib import Path

import typer

from theta import files
from theta.corpus import sources
from theta.corpus.build import UnusableCorpusError, build, rehearsal
from theta.corpus.report import summary
from theta.corpus.settings import DataSettings
from theta.corpus.shapes import Reject
from theta.errors import DataError
from theta.settings import load


def prepare(
    data: Path = Path("models/base/data.json"),
    base_rehearsal: Path = Path("models/base/rehearsal.jsonl"),
    prepared: Path = Path("Datasets/prepared"),
    metrics: Path = Path("metrics/prepare.json"),
    params: Path = Path("params.yaml"),
) -> None:
    """Clean the raw conversations and divide them into train, validation and test."""
    settings = load(params, "data", DataSettings)
    found = sources.locate(files.read_json(data, "kind", "files"), settings.include, settings.exclude)
    rejected = prepared / "rejected.jsonl"
    try:
        corpus = build(settings.path, found, settings.validation_fraction, settings.test_fraction)
    except UnusableCorpusError as fault:
        _write_rejects(rejected, fault.rejects)
        see = f" The rejected items are in {rejected.as_posix()}." if fault.rejects else ""
        raise DataError(f"{fault}{see}") from None
    rehearsed = rehearsal(base_rehearsal, corpus)
    for name, conversations in {**corpus.splits, "rehearsal": rehearsed}.items():
        files.write_json_lines(prepared / f"{name}.jsonl", (each.to_json() for each in conversations))
    _write_rejects(rejected, corpus.rejects)
    files.write_json(metrics, {**corpus.report, "rehearsal_conversations": len(rehearsed)})
    see = f"; see {rejected.as_posix()}" if corpus.rejects else ""
    typer.echo(summary(corpus.report) + see)
    if rehearsed:
        typer.echo(f"kept {len(rehearsed)} conversations of the base for rehearsal")


def _write_rejects(path: Path, rejects: Sequence[Reject]) -> None:
    files.write_json_lines(path, (reject.to_json() for reject in rejects))
