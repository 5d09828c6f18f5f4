"""Plots of the figures as SVG images.

`dvc plots show` draws data files with scripts from a public server, so offline it shows images only. The same data
gives the same bytes: ids come from a fixed salt, no date is written, and no matplotlibrc is read.
"""

import csv
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

from theta.errors import DataError
from theta.evaluate.likelihood import Figures
from theta.files import replacing_file
from theta.tokens.report import TOKENS_PER_BIN

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABEL_LETTERS = 40
TUNED, BASE = "tab:blue", "tab:gray"
_STYLE = {
    "svg.hashsalt": "theta",
    "svg.fonttype": "none",  # text stays text: small files and readable diffs
    "text.parse_math": False,  # a domain may be called "$"
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def loss_curves(path: Path, train: Path, validation: Path) -> None:
    """Plot the loss by optimizer step.

    Args:
        path: the image to write.
        train, validation: dvclive's table of each split, with the columns step and loss.

    Raises:
        DataError: a table is missing or lacks these columns.
    """
    with _axes(path, width=8, height=4.5) as axes:
        for label, table, color, marker in (("train", train, BASE, ""), ("validation", validation, TUNED, "o")):
            columns = _read(table, ("step", "loss"), delimiter="\t")
            if not columns["step"]:  # nothing is held back for validation
                continue
            axes.plot(columns["step"], columns["loss"], label=label, color=color, marker=marker)
        axes.set(title="Loss", xlabel="optimizer step", ylabel="nats per token")
        axes.legend()


def domain_bars(path: Path, domains: Mapping[str, Figures]) -> None:
    """Plot the loss of each domain, under the base and after fine-tuning."""
    with _axes(path, width=8, height=1.5 + 0.45 * len(domains)) as axes:
        places = range(len(domains))
        for offset, column, label, color in (
            (-0.2, "base_loss_nats_per_token", "base", BASE),
            (0.2, "loss_nats_per_token", "fine-tuned", TUNED),
        ):
            losses = [row[column] or 0.0 for row in domains.values()]
            axes.barh([place + offset for place in places], losses, height=0.4, label=label, color=color)
        axes.set_yticks(places, [_label(name) for name in domains])
        axes.invert_yaxis()
        axes.set_title("Test loss by domain" if domains else "Nothing was held back for a test", loc="left")
        axes.set_xlabel("nats per token")
        # Next to the title, where it hides no bar.
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)


def _label(name: str) -> str:
    """Shorten a name to `LABEL_LETTERS` characters by leaving out its middle: names often differ at both ends."""
    name = " ".join(name.split())
    half = (LABEL_LETTERS - 1) // 2
    return name if len(name) <= LABEL_LETTERS else f"{name[:half]}…{name[-half:]}"


def length_histogram(path: Path, lengths: Path) -> None:
    """Plot the number of documents by length.

    Args:
        path: the image to write.
        lengths: CSV with the columns tokens (upper edge of a bin of 32 tokens) and documents.

    Raises:
        DataError: the CSV is missing or lacks these columns.
    """
    with _axes(path, width=8, height=4) as axes:
        columns = _read(lengths, ("tokens", "documents"), delimiter=",")
        lower = [edge - TOKENS_PER_BIN for edge in columns["tokens"]]
        axes.bar(lower, columns["documents"], width=TOKENS_PER_BIN, align="edge", color=TUNED, edgecolor="white")
        axes.set(title="Length of documents", xlabel="tokens", ylabel="documents")


@contextmanager
def _axes(path: Path, *, width: float, height: float) -> Iterator["Axes"]:
    """Yield axes to draw on and save the figure to `path` at the end; sizes are in inches."""
    with mpl.rc_context(), warnings.catch_warnings():
        # Letters that matplotlib's own font lacks are drawn by the viewer, because an SVG holds its texts as text.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure.add_subplot()
        with replacing_file(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})


def _read(path: Path, names: tuple[str, ...], *, delimiter: str) -> dict[str, list[float]]:
    """Read columns of numbers from a file with a header line."""
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines, delimiter=delimiter))
        return {name: [float(row[name]) for row in rows] for name in names}
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; run `dvc repro` to create it.") from None
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{path} lacks numbers in {' or '.join(names)}; run `dvc repro` to recreate it.") from None
