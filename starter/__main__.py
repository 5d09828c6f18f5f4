"""`python -m starter NAME`: the stages that come before Theta's own. Run from the folder starter/."""

from pathlib import Path

import typer

from starter import corpus, packages
from starter.sources import read
from starter.table import table
from theta import files
from theta.command import run

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command("packages")
def download_packages(
    folder: Path = Path("Datasets/packages"),
    metrics: Path = Path("metrics/packages.json"),
    sources: Path = Path("sources.yaml"),
) -> None:
    """Download the packages and write down the version and sha256 of each."""
    records = {}
    for source in read(sources):
        records[source.name] = packages.record(packages.download(source, folder))
        typer.echo(f"{source.name} {records[source.name]['version']}")
    files.write_json(metrics, records)


@app.command("corpus")
def make_corpus(
    folder: Path = Path("Datasets/packages"),
    shipped: Path = Path("../Datasets/conversations"),
    out: Path = Path("Datasets/corpus"),
    metrics: Path = Path("metrics/corpus.json"),
    sources: Path = Path("sources.yaml"),
    processes: int = 2,
) -> None:
    """Make texts and conversations of the packages, without duplicates and without the questions that Theta ships."""
    met, known, vocabulary = corpus.Met(), corpus.shipped_questions(shipped), corpus.vocabulary()
    extracted, texts = {}, {}
    for source, found in corpus.extract_all(read(sources), folder, processes):
        extracted[source.name], texts[source.name] = (source, found), corpus.texts(found, met)
        typer.echo(f"{source.name}: {len(texts[source.name]):,} texts")
    uses = corpus.word_counts(item for items in texts.values() for item in items)
    by_source = {}
    for name, (source, found) in extracted.items():
        items = texts[name] + corpus.conversations(found, met, known, uses)
        files.write_json_lines(out / f"{name}.jsonl", items)
        by_source[name] = corpus.figures(source, items, vocabulary)
        typer.echo(f"{name}: {by_source[name]['conversations']:,} conversations")
    files.write_json(metrics, {"sources": by_source, "total": corpus.total(by_source)})


@app.command("table")
def print_table(
    packages_metrics: Path = Path("metrics/packages.json"),
    corpus_metrics: Path = Path("metrics/corpus.json"),
    sources: Path = Path("sources.yaml"),
) -> None:
    """Print the table of sources that README.md shows."""
    typer.echo(table(read(sources), files.read_json(packages_metrics), files.read_json(corpus_metrics)))


if __name__ == "__main__":
    run(app)
