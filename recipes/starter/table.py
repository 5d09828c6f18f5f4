"""The sources as a Markdown table, for starter/README.md."""

from collections.abc import Mapping, Sequence
from typing import Any

from recipes.starter import figures
from recipes.starter.sources import Package

HEADER = ("package", "version", "licence", "prose, MB", "prose, tokens", "conversations", "their tokens")


def table(sources: Sequence[Package], packages: Mapping[str, Any], by_source: Mapping[str, figures.Figures]) -> str:
    """Return a table with a row for each package, the permissive ones first, then the sums.

    Args:
        sources: all packages of sources.yaml.
        packages: the content of metrics/packages.json.
        by_source: the figures of each package in metrics/corpus.json and metrics/answers.json.
    """
    ordered = sorted(sources, key=lambda source: (source.copyleft, source.registry, source.name))
    rows = [(each.name, packages[each.name]["version"], each.licence, by_source[each.name]) for each in ordered]
    total = figures.total(by_source)
    sums = [(f"**{group}**", "", "", total[group]) for group in ("permissive", "copyleft", "all")]
    lines = [HEADER, ["---"] * 3 + ["---:"] * 4]
    lines += [(*named, *_cells(sizes)) for *named, sizes in [*rows, *sums]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(sizes: figures.Figures) -> tuple[str, ...]:
    counts = ("text_tokens", "conversations", "conversation_tokens")
    return (f"{sizes['text_megabytes']:.2f}", *(f"{int(sizes[name]):,}" for name in counts))
