"""The tables of readers in docs/readers.md and README.md, which `python -m tests.readers.table --write` makes."""

import re
from pathlib import Path

from tests.support.imports import ROOT

README, PAGE = ROOT / "README.md", ROOT / "docs/readers.md"
TABLE = re.compile(r"(<!--readers-->)(.*?)(<!--end-of-readers-->)", re.DOTALL)
"""The table of either page, with the marks around it."""


def listed(page: Path) -> list[str]:
    """Return the readers with their versions that the table of a page names, as it spells them."""
    [(_, shown, _)] = TABLE.findall(page.read_text(encoding="utf-8"))
    rows = [line.strip("| ").split(" | ") for line in shown.splitlines() if line.startswith("| ")][2:]
    column = 1 if page == README else 0
    return [reader for row in rows for reader in row[column].split("; ")]


def unversioned(reader: str) -> str:
    """Return a reader's name without its version, which differs between installations."""
    return re.sub(r" ?\d+(\.\d+)+", "", reader)
