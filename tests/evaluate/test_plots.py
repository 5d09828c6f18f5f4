import csv
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import pytest

from theta.errors import DataError
from theta.evaluate import plots, report
from theta.evaluate.likelihood import Figures

DOMAINS: dict[str, Figures] = {
    name: {"loss_nats_per_token": 2.5, "base_loss_nats_per_token": 4.0, "documents": 3}
    for name in ("linux", "a $ sign, a 文件 & <markup>", "very " * 30)
}


def draw(folder: Path) -> dict[str, bytes]:
    for split in ("train", "validation"):
        (folder / f"{split}.tsv").write_text("step\tloss\n1\t3.5\n2\t3.25\n")
    (folder / "lengths.csv").write_text("tokens,documents\n32,3\n64,0\n96,5\n")
    plots.loss_curves(folder / "images/loss.svg", folder / "train.tsv", folder / "validation.tsv")
    plots.domain_bars(folder / "images/domains.svg", DOMAINS)
    plots.length_histogram(folder / "images/lengths.svg", folder / "lengths.csv")
    return {path.name: path.read_bytes() for path in sorted((folder / "images").iterdir())}


def test_the_same_data_gives_the_same_bytes(tmp_path: Path) -> None:
    first = draw(tmp_path)
    before = mpl.rcParams["lines.linewidth"]
    mpl.rcParams["lines.linewidth"] = 9  # as in a user's matplotlibrc
    try:
        assert draw(tmp_path) == first
        assert mpl.rcParams["lines.linewidth"] == 9
    finally:
        mpl.rcParams["lines.linewidth"] = before
    assert list(first) == ["domains.svg", "lengths.svg", "loss.svg"]


def test_images_are_svg_with_their_text(tmp_path: Path) -> None:
    for name, content in draw(tmp_path).items():
        texts = {
            "".join(each.itertext())
            for each in ElementTree.fromstring(content).iter("{http://www.w3.org/2000/svg}text")
        }
        wanted = {"domains.svg": "a $ sign, a 文件 & <markup>", "loss.svg": "validation", "lengths.svg": "documents"}
        assert wanted[name] in texts


def test_long_names_of_domains_stay_recognizable(tmp_path: Path) -> None:
    """The default domain is the name of a file, which may be one long word."""
    names = [f"support_conversations_of_the_whole_year_{year}" for year in (2024, 2025)]
    plots.domain_bars(tmp_path / "domains.svg", dict.fromkeys(names, DOMAINS["linux"]))
    texts = {"".join(each.itertext()) for each in ElementTree.parse(tmp_path / "domains.svg").iter()}
    for year in ("2024", "2025"):
        [label] = [text for text in texts if text.startswith("support_conver") and text.endswith(year)]
        assert len(label) <= plots.LABEL_LETTERS


@pytest.mark.parametrize("content", ["step\tother\n1\t2\n", "step\tloss\n1\tx\n", "step\tloss\n1\n"])
def test_a_table_without_the_columns_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "loss.tsv").write_text(content)
    with pytest.raises(DataError, match=r"loss\.tsv lacks numbers in step or loss"):
        plots.loss_curves(tmp_path / "loss.svg", tmp_path / "loss.tsv", tmp_path / "loss.tsv")
    assert not (tmp_path / "loss.svg").exists()


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lengths\.csv does not exist"):
        plots.length_histogram(tmp_path / "lengths.svg", tmp_path / "lengths.csv")


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
