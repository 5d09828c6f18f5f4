"""Markdown tables, and text that Markdown shows as it is."""

import re
from collections.abc import Sequence
from typing import Any


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *([plain(_words(cell)) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _words(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def plain(text: str) -> str:
    """Escape text for a heading or a table cell of Markdown; `_` within a word needs no escape."""
    return re.sub(r"([\\`*{}\[\]<>#|~$]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", " ".join(text.split()))
