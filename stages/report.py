"""report: metrics, replies, curves and the data's report -> metrics/{report.html,summary.json}."""

from pathlib import Path

import typer

from theta import files, settings
from theta.errors import DataError, reason

MACHINE = "machine"
"""The section of params.yaml that depends on the computer; what training made of it is in its provenance."""


def report(
    prepare_metrics: Path = Path("metrics/prepare.json"),
    tokenize_metrics: Path = Path("metrics/tokenize.json"),
    train_metrics: Path = Path("metrics/train.json"),
    evaluate_metrics: Path = Path("metrics/evaluate.json"),
    replies: Path = Path("metrics/replies.yaml"),
    train_curve: Path = Path("metrics/curves/plots/metrics/train/loss.tsv"),
    validation_curve: Path = Path("metrics/curves/plots/metrics/validation/loss.tsv"),
    lengths: Path = Path("metrics/plots/lengths.csv"),
    data: Path = Path("models/base/data.json"),
    data_report: Path = Path("Datasets/prepared/report.md"),
    provenance: Path = Path("models/checkpoint/provenance.json"),
    page: Path = Path("metrics/report.html"),
    summary: Path = Path("metrics/summary.json"),
    params: Path = Path("params.yaml"),
) -> None:
    """Write the report of the run, a page that any browser shows without a network."""
    from theta.evaluate.plots import curve
    from theta.report import page as report_page

    measured = (prepare_metrics, tokenize_metrics, train_metrics, evaluate_metrics, replies, data, provenance)
    facts = report_page.Facts(
        prepare=files.read_json(prepare_metrics),
        tokenize=files.read_json(tokenize_metrics),
        train=files.read_json(train_metrics),
        evaluate=files.read_json(evaluate_metrics),
        replies=report_page.read_replies(replies),
        data_report=_text(data_report),
        data=files.read_json(data),
        settings={name: values for name, values in settings.read(params).items() if name != MACHINE},
        defaults=report_page.defaults(),
        provenance=files.read_json(provenance),
        train_curve=curve(train_curve, ("step", "loss")),
        validation_curve=curve(validation_curve, ("step", "loss")),
        lengths=curve(lengths, ("tokens", "documents"), delimiter=","),
    )
    try:
        text, main_figures = report_page.page(facts), report_page.summary(facts.evaluate)
    except (AttributeError, LookupError, TypeError, ValueError) as fault:  # a file has another structure
        raise DataError(
            f"One of {', '.join(path.as_posix() for path in measured)} is not what its "
            f"stage writes ({type(fault).__name__}: {reason(fault)}); run `dvc repro` to recreate it."
        ) from fault
    files.write_text(page, text)
    files.write_json(summary, main_figures)
    typer.echo(f"wrote {page.as_posix()}: open it in a browser")


def _text(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"{path} does not exist; run `dvc repro` to create it.")
    return path.read_text(encoding="utf-8")
