import csv
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from theta.errors import DataError
from theta.evaluate import plots, report
from theta.evaluate.likelihood import Figures

SVG = "{http://www.w3.org/2000/svg}"
DOMAINS: dict[str, Figures] = {
    name: {"loss_nats_per_token": 2.5, "base_loss_nats_per_token": 4.0, "documents": 3}
    for name in ("linux", "a $ sign, a 文件 & <markup>", "very " * 30)
}
ANSWERS: dict[str, Any] = {
    "trained": {"questions": 20, "right": 15, "share": 0.75, "verbatim": 12},
    "new_wordings": {"questions": 8, "right": 4, "share": 0.5, "verbatim": 1},
    "domains": {
        "linux": {"trained": {"questions": 12, "right": 12, "share": 1.0, "verbatim": 12}, "new_wordings": None},
        "smalltalk": {"trained": {"questions": 8, "right": 3, "share": 0.375, "verbatim": 0}, "new_wordings": None},
    },
}
CHARTS = {
    "answers": plots.answer_bars(ANSWERS),
    "domains": plots.domain_bars(DOMAINS),
    "lengths": plots.length_histogram([(32.0, 3.0), (64.0, 0.0), (96.0, 5.0)]),
    "loss": plots.loss_curves([(1.0, 3.5), (2.0, 3.25), (3.0, 1.0)], [(2.0, 3.5), (3.0, 3.75)]),
}


def parts(chart: plots.Chart, name: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(chart.svg()).iter(SVG + name))


def texts(chart: plots.Chart) -> list[str]:
    return ["".join(each.itertext()) for each in parts(chart, "text")]


@pytest.mark.parametrize("name", CHARTS)
def test_an_image_is_whole_svg_that_needs_no_other_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "images" / f"{name}.svg"
    CHARTS[name].save(path)
    first = path.read_bytes()
    CHARTS[name].save(path)
    assert path.read_bytes() == first
    image = ElementTree.fromstring(first)
    assert image.get("role") == "img"
    assert "prefers-color-scheme: dark" in "".join(image.itertext())
    for tag in ("title", "desc"):
        [element] = image.findall(SVG + tag)
        assert element.text
    assert first.decode().count("http") == 1, "only the name of the format"


@pytest.mark.parametrize("name", CHARTS)
def test_everything_is_drawn_within_the_chart(name: str) -> None:
    chart = CHARTS[name]
    for bar in parts(chart, "rect"):
        x, y, width, height = (float(bar.attrib[key]) for key in ("x", "y", "width", "height"))
        assert 0 <= x <= x + width <= plots.WIDTH
        assert 0 <= y <= y + height <= chart.height
    for line in parts(chart, "polyline"):
        for point in line.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= plots.WIDTH
            assert 0 <= y <= chart.height


def test_bars_are_as_long_as_their_figures() -> None:
    [_, _, linux, other, *_] = [float(bar.attrib["width"]) for bar in parts(CHARTS["domains"], "rect")]
    assert linux / other == pytest.approx(2.5 / 4.0, abs=0.01)
    assert {"2.50", "4.00", "fine-tuned", "base"} <= set(texts(CHARTS["domains"]))


def test_answers_of_all_domains_come_first_and_what_was_not_asked_is_said() -> None:
    shown = texts(CHARTS["answers"])
    assert [text for text in shown if text in ("all", "linux", "smalltalk")] == ["all", "linux", "smalltalk"]
    assert shown.count("not measured") == 2
    assert "75.0 %" in shown
    assert "all: as trained 75.0 %, in new wordings 50.0 %" in CHARTS["answers"].description


def test_curves_pass_through_their_points() -> None:
    train, validation = (line.attrib["points"].split() for line in parts(CHARTS["loss"], "polyline"))
    heights = [float(point.split(",")[1]) for point in (*train, *validation)]
    # On the screen a higher loss has a smaller y; the losses of step 1 of train and step 2 of validation are equal.
    assert heights[0] == heights[3]
    assert heights[4] < heights[0] < heights[1] < heights[2]
    assert len(parts(CHARTS["loss"], "circle")) == 2
    assert "lowest 1 at step 3" in CHARTS["loss"].description


def test_nothing_held_back_is_said() -> None:
    assert "Nothing was held back for validation" in plots.loss_curves([(1.0, 2.0)], []).description
    assert texts(plots.domain_bars({}))[-1] == plots.NO_TEST


@pytest.mark.parametrize("loss", [0.0, 3.0, 1e-12, 1e9])
def test_a_single_point_is_drawn(loss: float) -> None:
    chart = plots.loss_curves([(7.0, loss)], [(7.0, loss)])
    assert len(parts(chart, "circle")) == 1


def test_a_bin_is_drawn_below_its_upper_edge() -> None:
    first, _, last = (float(bar.attrib["x"]) for bar in parts(CHARTS["lengths"], "rect"))
    assert first < last
    assert {"0", "20", "40", "60", "80", "tokens", "documents"} <= set(texts(CHARTS["lengths"]))


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (3, 833, [200, 400, 600, 800]), (0, 7, [0, 2, 4, 6]), (4.2, 4.3, 6)],
)
def test_ticks_are_round_numbers(low: float, high: float, wanted: list[float] | int) -> None:
    ticks = plots._ticks(low, high)
    assert len(ticks) <= 6
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
    if isinstance(wanted, list):
        assert ticks == pytest.approx(wanted)


def test_long_names_of_domains_stay_recognizable() -> None:
    """The default domain is the name of a file, which may be one long word."""
    names = [f"support_conversations_of_the_whole_year_{year}" for year in (2024, 2025)]
    shown = texts(plots.domain_bars(dict.fromkeys(names, DOMAINS["linux"])))
    for year in ("2024", "2025"):
        [label] = [text for text in shown if text.startswith("support_conver") and text.endswith(year)]
        assert len(label) <= plots.LABEL_LETTERS


@pytest.mark.parametrize("content", ["step\tother\n1\t2\n", "step\tloss\n1\tx\n", "step\tloss\n1\n"])
def test_a_table_without_the_columns_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "loss.tsv").write_text(content)
    with pytest.raises(DataError, match=r"loss\.tsv lacks numbers in step or loss"):
        plots.curve(tmp_path / "loss.tsv", ("step", "loss"))


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lengths\.csv does not exist"):
        plots.curve(tmp_path / "lengths.csv", ("tokens", "documents"), delimiter=",")


def test_domains_as_csv(tmp_path: Path) -> None:
    report.write_domains(tmp_path / "domains.csv", DOMAINS)
    with (tmp_path / "domains.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert rows[1] == {
        "domain": "a $ sign, a 文件 & <markup>",
        "loss": "2.5",
        "base_loss": "4.0",
        "documents": "3",
    }
