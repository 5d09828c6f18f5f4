"""Images of the figures, as SVG.

`dvc plots show` draws data files with scripts from a public server, so it shows none of them offline; it always shows
images. The same data gives the same bytes: ids come from a fixed salt, no date is written, and no matplotlibrc is read.
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
    "svg.fonttype": "none",  # text stays text: small files, readable differences
    "text.parse_math": False,  # a domain may be called "$"
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def loss_curves(path: Path, train: Path, validation: Path) -> None:
    """Loss by optimizer step.

    Args:
        path: the image.
        train, validation: dvclive's tables of a split, with the columns step and loss.

    Raises:
        DataError: one of them is missing or of another kind.
    """
    with _axes(path, width=8, height=4.5) as axes:
        for label, table, color, marker in (("train", train, BASE, ""), ("validation", validation, TUNED, "o")):
            columns = _read(table, ("step", "loss"), delimiter="\t")
            axes.plot(columns["step"], columns["loss"], label=label, color=color, marker=marker)
        axes.set(title="Loss", xlabel="optimizer step", ylabel="nats per token")
        axes.legend()


def domain_bars(path: Path, domains: Mapping[str, Figures]) -> None:
    """Loss of each domain, under the base and after fine-tuning."""
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
        axes.set_title("Test loss by domain", loc="left")
        axes.set_xlabel("nats per token")
        # Beside the title, where it hides no bar.
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)


def _label(name: str) -> str:
    """A name of at most `LABEL_LETTERS` letters; of a longer one the beginning and the end, where names differ."""
    name = " ".join(name.split())
    half = (LABEL_LETTERS - 1) // 2
    return name if len(name) <= LABEL_LETTERS else f"{name[:half]}…{name[-half:]}"


def length_histogram(path: Path, lengths: Path) -> None:
    """Documents by their length.

    Args:
        path: the image.
        lengths: CSV of the columns tokens (upper edge of a bin of 32 tokens) and documents.

    Raises:
        DataError: it is missing or of another kind.
    """
    with _axes(path, width=8, height=4) as axes:
        columns = _read(lengths, ("tokens", "documents"), delimiter=",")
        lower = [edge - TOKENS_PER_BIN for edge in columns["tokens"]]
        axes.bar(lower, columns["documents"], width=TOKENS_PER_BIN, align="edge", color=TUNED, edgecolor="white")
        axes.set(title="Length of documents", xlabel="tokens", ylabel="documents")


@contextmanager
def _axes(path: Path, *, width: float, height: float) -> Iterator["Axes"]:
    """Axes to draw on, saved to `path` at the end; sizes in inches."""
    with mpl.rc_context(), warnings.catch_warnings():
        # The viewer has the letters that matplotlib's own font lacks: the text of an SVG names its characters.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure.add_subplot()
        with replacing_file(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})


def _read(path: Path, names: tuple[str, ...], *, delimiter: str) -> dict[str, list[float]]:
    """Columns of numbers of a file with a header line."""
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines, delimiter=delimiter))
        return {name: [float(row[name]) for row in rows] for name in names}
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; `dvc repro` makes it.") from None
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{path} lacks numbers in {' or '.join(names)}; `dvc repro` makes it again.") from None
