"""Renew the pictures of the documentation from the last run: docs/report.png and docs/page.png.

    python .ci/pictures.py [PROJECT]

PROJECT is a folder in which `dvc repro` has run; without it, this repository. Needs Debian's Chromium, and the extra
`docs`.
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import chromium
from tests.support.serving import serving

DOCS = Path(__file__).resolve().parents[1] / "docs"
CONVERSATIONS = (["Who are you?"], ["What is a git branch?", "What is DNS?"])


def main() -> None:
    """Take both pictures."""
    project = Path(sys.argv[1]) if sys.argv[1:] else DOCS.parent
    with chromium() as browser:
        picture_of_the_report(browser, project / "metrics/report.html")
        with (
            tempfile.TemporaryDirectory() as folder,
            serving(project / "models/theta_final", Path(folder) / "feedback.jsonl") as served,
        ):
            picture_of_the_page(browser, served.url)


def picture_of_the_report(browser: Browser, report: Path) -> None:
    """Show the head of the report: the figures, what they mean, and the first charts."""
    page = browser.new_page(viewport={"width": 1000, "height": 1143})
    page.goto(report.resolve().as_uri())
    take(page, DOCS / "report.png")


def picture_of_the_page(browser: Browser, url: str) -> None:
    """Show two conversations, of which the second has a reply that is marked as good."""
    page = browser.new_page(viewport={"width": 960, "height": 600})
    page.goto(url)
    for questions in CONVERSATIONS:
        page.get_by_role("button", name="New conversation").click()
        for number, question in enumerate(questions, start=1):
            page.get_by_label("Your message").fill(question)
            page.get_by_label("Your message").press("Enter")
            expect(page.locator(".message.assistant .note")).to_have_count(number, timeout=60_000)
    good = page.get_by_role("button", name="Good reply").first
    good.click()
    expect(good).to_have_attribute("aria-pressed", "true")
    page.locator("#log").evaluate("log => log.scrollTo(0, log.scrollHeight)")
    take(page, DOCS / "page.png")


def take(page: Page, file: Path) -> None:
    """Write a picture of 64 colours, a third of the bytes, because git keeps every version."""
    page.screenshot(path=file)
    with Image.open(file) as picture:
        few = picture.convert("RGB").quantize(64, Image.Quantize.MAXCOVERAGE)
    few.save(file, optimize=True)


if __name__ == "__main__":
    main()
