"""Charts as SVG, for metrics/images and for the report.

The same data gives the same bytes. A chart is 400 units wide, so that its letters can be read on a phone; its colours
are in plots.css and follow the reader's dark or light theme. Screen readers get its title and a description.
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from theta import files
from theta.errors import DataError
from theta.text import counted

WIDTH = 400
LABEL_LETTERS = 60
NO_TEST = "Nothing was held back for a test."
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 12, 46, 34
"""Margins around the plane of a chart with axes."""
_LETTER = 6.2
"""About the width of a letter."""

Point = tuple[float, float]


@dataclass(slots=True)
class Chart:
    """A chart as its parts; series are numbered from 0, in the order of the legend.

    Attributes:
        title: the title, which the chart shows.
        description: what the chart says, in words, for those who do not see it.
        height: in the units of which `WIDTH` make the width.
        legend: the names of the series; empty for a single one.
        grid: lines of the grid (x1, y1, x2, y2).
        lines: points of each line of a series (series, points).
        dots: single points of a series (series, x, y).
        bars: bars of a series (series, x, y, width, height).
        texts: texts (x, y, anchor, text).
    """

    title: str
    description: str
    height: float
    legend: Sequence[str] = ()
    grid: list[tuple[float, float, float, float]] = field(default_factory=list)
    lines: list[tuple[int, str]] = field(default_factory=list)
    dots: list[tuple[int, float, float]] = field(default_factory=list)
    bars: list[tuple[int, float, float, float, float]] = field(default_factory=list)
    texts: list[tuple[float, float, str, str]] = field(default_factory=list)

    def svg(self) -> Markup:
        """Return the chart for a page that contains plots.css."""
        return self._drawn(style="")

    def save(self, path: Path) -> None:
        """Write the chart as an image of its own, with its style and a background."""
        files.write_text(path, self._drawn(style=style()) + "\n")

    def _drawn(self, style: str) -> Markup:
        legend, x = [], 0.0
        for series, name in enumerate(self.legend):
            legend.append((series, x, name))
            x += 28 + _LETTER * len(name)
        template = templates(Path(__file__).parent).get_template("plot.svg")
        return Markup(template.render(chart=self, legend=legend, width=WIDTH, style=style))


def style() -> str:
    """Return the style sheet of charts, for a page that shows them."""
    return (Path(__file__).parent / "plots.css").read_text(encoding="utf-8")


def loss_curves(train: Sequence[Point], validation: Sequence[Point]) -> Chart:
    """Draw the loss by step, as `curve` reads it; without a validation split, its curve is empty."""
    said = f"Validation: {_course(validation)}." if validation else "Nothing was held back for validation."
    description = f"Loss in nats per token. Train: {_course(train)}. {said}"
    chart = Chart("Loss while training", description, 250, ["train", "validation"])
    at = _plane(chart, [*train, *validation], "step", "nats per token")
    chart.lines = [(series, _path(map(at, points))) for series, points in enumerate((train, validation))]
    chart.dots = [(1, *at(point)) for point in validation]
    return chart


def answer_bars(answers: Mapping[str, Any]) -> Chart:
    """Draw the share of answers that were given, of all domains together and of each.

    Args:
        answers: the section `answers` of metrics/evaluate.json.
    """
    domains = answers.get("domains") or {}
    rows = {"all": answers, **domains} if len(domains) != 1 else domains
    shares = {name: [_percent(row.get(how)) for how in ("trained", "new_wordings")] for name, row in rows.items()}
    return bars("Answers given", ["as trained", "in new wordings"], shares, "{:.1f} %", most=100)


def domain_bars(domains: Mapping[str, Mapping[str, Any]]) -> Chart:
    """Draw the loss of each domain of the test split, of the base and after fine-tuning."""
    if not domains:
        return Chart("Held-out loss by domain", NO_TEST, 40, texts=[(0, 34, "start", NO_TEST)])
    losses = {name: [row["loss_nats_per_token"], row["base_loss_nats_per_token"]] for name, row in domains.items()}
    return bars("Held-out loss by domain, nats per token", ["fine-tuned", "base"], losses, "{:.2f}")


def bars(
    title: str, legend: Sequence[str], rows: Mapping[str, Sequence[float | None]], form: str, most: float = 0
) -> Chart:
    """Draw bars side by side for each row, below its name; a missing value is written as such.

    Args:
        title: of the chart.
        legend: the name of each series.
        rows: the value of each series, by the name of the row.
        form: the format of a value, such as `{:.2f}`.
        most: the value of a bar over the whole width, if no value is larger.
    """
    longest = max([most, *(value for values in rows.values() for value in values if value is not None)]) or 1.0
    said = "; ".join(
        f"{name}: " + ", ".join(f"{what} {_value(form, value)}" for what, value in zip(legend, values, strict=True))
        for name, values in rows.items()
    )
    chart = Chart(title, said + ".", 0, legend)
    y, room = 52.0, WIDTH - 56.0
    for name, values in rows.items():
        chart.texts.append((0, y + 10, "start", _short(name)))
        y += 15
        for series, value in enumerate(values):
            width = room * (value or 0.0) / longest
            chart.bars.append((series, 0, y, width, 11))
            chart.texts.append((width + 5, y + 9.5, "start", _value(form, value)))
            y += 13
        y += 7
    chart.height = y
    return chart


def length_histogram(lengths: Sequence[Point]) -> Chart:
    """Draw the number of documents by length.

    Args:
        lengths: the upper edge of each bin, in tokens, and the number of documents in it; the bins are equally wide.
    """
    edges = [edge for edge, _ in lengths]
    wide = edges[1] - edges[0] if len(edges) > 1 else edges[0]
    most = max(lengths, key=lambda point: point[1])
    documents = counted(round(sum(count for _, count in lengths)), "document")
    description = (
        f"{documents} of up to {edges[-1]:,.0f} tokens; most frequent are "
        f"{most[0] - wide:,.0f} to {most[0]:,.0f} tokens, with {counted(round(most[1]), 'document')}."
    )
    chart = Chart("Length of documents", description, 220)
    at = _plane(chart, [(edges[0] - wide, 0.0), *lengths], "tokens", "documents")
    for edge, count in lengths:
        (left, bottom), (right, top) = at((edge - wide, 0.0)), at((edge, count))
        chart.bars.append((0, left + 0.5, top, right - left - 1, bottom - top))
    return chart


def curve(path: Path, columns: tuple[str, str], *, delimiter: str = "\t") -> list[Point]:
    """Read two columns of numbers from a file with a header line.

    Raises:
        DataError: the file is missing, or lacks these columns.
    """
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            table = csv.DictReader(lines, delimiter=delimiter)
            points = [(float(row[columns[0]]), float(row[columns[1]])) for row in table]
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; run `dvc repro` to create it.") from None
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{path} lacks numbers in {' or '.join(columns)}; run `dvc repro` to recreate it.") from None
    return points


def templates(folder: Path) -> Environment:
    """Return the templates of a folder; text is escaped, and a name that has no value is an error."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _plane(chart: Chart, points: Sequence[Point], x_label: str, y_label: str) -> Any:
    """Add axes to a chart, and return the function that turns a value into its place.

    The y axis begins at 0 unless all values are far from it.
    """
    columns, rows = [x for x, _ in points], [y for _, y in points]
    lowest = min(rows)
    low, high = (0.0 if lowest < max(rows) / 2 else lowest), max(rows)
    x_low, x_high = min(columns), max(columns)
    bottom, right = chart.height - _BOTTOM, WIDTH - _RIGHT
    x_span, y_span = (x_high - x_low) or 1.0, (high - low) or 1.0

    def at(point: Point) -> Point:
        x, y = point
        return (
            _LEFT + (x - x_low) / x_span * (right - _LEFT),
            bottom - (y - low) / y_span * (bottom - _TOP),
        )

    for tick in _ticks(low, low + y_span):
        _, y = at((x_low, tick))
        chart.grid.append((_LEFT, y, right, y))
        chart.texts.append((_LEFT - 5, y + 4, "end", _number(tick)))
    for tick in _ticks(x_low, x_low + x_span):
        x, _ = at((tick, low))
        chart.texts.append((x, bottom + 15, "middle", _number(tick)))
    chart.texts += [(right, bottom + 30, "end", x_label), (right, 34, "end", y_label)]
    return at


def _value(form: str, value: float | None) -> str:
    return "not measured" if value is None else form.format(value)


def _percent(counts: Mapping[str, Any] | None) -> float | None:
    return 100 * counts["share"] if counts else None


def _ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return at most `most` round numbers from `low` to `high`, evenly spaced: multiples of 1, 2 or 5 times 10^n."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(power * times for times in (1, 2, 5, 10, 20) if (high - low) / (power * times) < most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _number(value: float) -> str:
    return f"{value:,.6g}" if abs(value) < 1e6 else f"{value / 1e6:,.6g}M"


def _path(points: Iterable[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _course(points: Sequence[Point]) -> str:
    """Say how a curve runs."""
    (first, begin), (last, end) = points[0], points[-1]
    lowest = min(points, key=lambda point: point[1])
    return (
        f"{begin:.3g} at step {first:,.0f}, {end:.3g} at step {last:,.0f}, "
        f"lowest {lowest[1]:.3g} at step {lowest[0]:,.0f}"
    )


def _short(name: str) -> str:
    """Shorten a name to `LABEL_LETTERS` characters by leaving out its middle: names often differ at both ends."""
    name = " ".join(name.split())
    half = (LABEL_LETTERS - 1) // 2
    return name if len(name) <= LABEL_LETTERS else f"{name[:half]}…{name[-half:]}"
