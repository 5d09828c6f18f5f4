"""prepare: the data of models/base/data.json + models/base/rehearsal.jsonl -> Datasets/prepared, metrics/prepare.json.

Datasets/prepared/{train,validation,test}.jsonl    the data
Datasets/prepared/new_wordings.jsonl               wordings of trained questions that are held back
Datasets/prepared/rehearsal.jsonl                  the base's own conversations
Datasets/prepared/rejected.jsonl                   the dropped items of the data
Datasets/prepared/mended.jsonl                     the repairs, with the item of each
Datasets/prepared/files.jsonl                      what each file came to
Datasets/prepared/report.md                        what became of the data, for a person
"""

from pathlib import Path

import typer

from stages.progress import fraction
from theta import files
from theta.corpus import sources
from theta.corpus.build import UnusableCorpusError, build
from theta.corpus.page import page
from theta.corpus.readers.finding import File
from theta.corpus.report import figures, summary, warnings
from theta.corpus.settings import DataSettings
from theta.errors import DataError
from theta.machine.process import available_cores
from theta.settings import load
from theta.text import visible


def prepare(
    data: Path = Path("models/base/data.json"),
    base_rehearsal: Path = Path("models/base/rehearsal.jsonl"),
    prepared: Path = Path("Datasets/prepared"),
    metrics: Path = Path("metrics/prepare.json"),
    params: Path = Path("params.yaml"),
) -> None:
    """Clean the raw conversations and divide them into train, validation and test."""
    settings = load(params, "data", DataSettings)
    descriptor = files.read_json(data, "kind", "path", "files")
    found = sources.locate(settings.path, descriptor, settings.include, settings.exclude)
    rehearsal = File.at(base_rehearsal) if _has_content(base_rehearsal) else None
    with files.replacing_folder(prepared) as folder:
        folder.mkdir()
        try:
            with fraction("preparing") as progress:
                facts = build(found, rehearsal, settings, folder, available_cores(), progress)
        except UnusableCorpusError as fault:
            rejected = prepared / "rejected.jsonl"
            prepared.mkdir(parents=True, exist_ok=True)
            (folder / "rejected.jsonl").replace(rejected)
            raise DataError(f"{fault} The rejected items are in {rejected.as_posix()}.") from None
        files.write_text(folder / "report.md", page(facts))
        files.write_json_lines(folder / "files.jsonl", (file.to_json() for file in facts.files))
    files.write_json(metrics, figures(facts))
    typer.echo(visible(f"{summary(facts)}; see {(prepared / 'report.md').as_posix()}"))
    for line in warnings(facts):
        typer.echo(visible(f"Warning: {line}."))


def _has_content(rehearsal: Path) -> bool:
    if not rehearsal.is_file():
        raise DataError(f"{rehearsal} does not exist; run `dvc repro fetch` to create it.")
    return bool(rehearsal.read_bytes().strip())
