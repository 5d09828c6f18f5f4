"""The page in Debian's Chromium, driven by Playwright."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import IN_A_BROWSER, chromium
from tests.support.imports import ROOT

pytestmark = IN_A_BROWSER


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def path(render: Callable[..., str], answers: dict[str, Any]) -> Path:
    render({"evaluate.json": {"answers": answers}})
    return Path("metrics/report.html").absolute()


def opened(browser: Browser, path: Path, **options: Any) -> tuple[Page, list[str]]:
    page, noted = browser.new_context(**options).new_page(), list[str]()
    page.on("pageerror", lambda fault: noted.append(str(fault)))
    page.on("console", lambda entry: noted.append(entry.text))
    page.on("request", lambda request: noted.append(request.url) if request.url != path.as_uri() else None)
    page.goto(path.as_uri())
    return page, noted


def test_search_shows_the_replies_that_hold_all_words(browser: Browser, path: Path) -> None:
    page, noted = opened(browser, path)
    visible = page.locator(".reply:visible h3")
    expect(visible).to_have_text(["What is number 3?", "What is number 4?"])  # the new wordings
    page.get_by_label("Search").fill("BIRD number 0")
    expect(visible).to_have_text(["What is number 0?"])
    expect(page.locator("output")).to_have_text("1 of 6")
    page.get_by_label("Search").fill("")
    page.get_by_label("chrF 60 or less").check()
    expect(page.locator("output")).to_have_text("4 of 6")
    expect(visible).to_have_text([f"What is number {number}?" for number in (4, 0, 1, 2)])
    page.get_by_label("Search").fill("zyzzyva")
    expect(page.locator("output")).to_have_text("0 of 6")
    assert noted == []


def test_a_phone_shows_it_without_scrolling_sideways(browser: Browser, path: Path) -> None:
    page, noted = opened(browser, path, viewport={"width": 390, "height": 844})
    for each in page.locator("summary").all():
        each.click()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    size = page.locator(".chart text").first.evaluate("each => each.getBoundingClientRect().height")
    assert size >= 11, "letters in charts can be read"
    assert noted == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: Browser, path: Path, scheme: str) -> None:
    """WCAG 2 asks for a contrast of 4.5."""
    page, _ = opened(browser, path, color_scheme=scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (luminance(ground) > 0.5) == (scheme == "light")
    for where, colour in (
        ("p", "color"), ("figcaption", "color"), ("summary", "color"), (".note", "color"), (".chart text", "fill"),
    ):  # fmt: skip
        text = page.locator(where).first.evaluate(f"each => getComputedStyle(each).{colour}")
        assert contrast(text, ground) >= 4.5, where
    for series in (".chart rect.s0", ".chart rect.s1"):
        bar = page.locator(series).first.evaluate("each => getComputedStyle(each).fill")
        assert contrast(bar, ground) >= 3.0, series


def test_charts_have_names_and_tables_for_those_who_do_not_see_them(browser: Browser, path: Path) -> None:
    page, _ = opened(browser, path)
    for name in ("Loss while training", "Length of documents", "Answers given"):
        expect(page.get_by_role("img", name=name)).to_have_count(1)
    assert page.locator("figure").count() == page.locator("figure details table").count() == 4
    page.locator("figure summary").first.click()
    expect(page.get_by_role("table", name="Loss while training")).to_be_visible()


@pytest.mark.parametrize("arguments", [("plots", "show"), ("plots", "diff", "HEAD")])
def test_dvcs_page_of_plots_needs_no_network(browser: Browser, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """`.dvc/plots.html` draws what DVC's own page draws with scripts from a public server."""
    command = [sys.executable, "-m", "dvc", *arguments, "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    page, noted = opened(browser, tmp_path / "index.html")
    assert [note for note in noted if not note.startswith((tmp_path / "static").as_uri())] == []
    drawn = {each.get_attribute("aria-label") for each in page.get_by_role("img").all()}
    assert {"Documents by length", "Test loss by domain", "train/loss.tsv", "Replies by length"} <= drawn
    assert page.locator("polyline").count() >= 6, "a line for each curve"
    for image in page.locator("img").all():
        assert image.evaluate("each => each.naturalWidth") > 0
    filled = page.locator("main > div:has(svg), main > div:has(img)")
    assert page.locator("main > div:visible").count() == filled.count()


def luminance(colour: str) -> float:
    """The relative luminance of `rgb(r, g, b)`, as WCAG 2 defines it."""
    parts = [int(each) / 255 for each in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
