"""The sources as a Markdown table, for starter/README.md."""

from collections.abc import Mapping, Sequence
from typing import Any

from starter.sources import Source

HEADER = ("package", "version", "licence", "prose, MB", "prose, tokens", "conversations", "their tokens")


def table(sources: Sequence[Source], packages: Mapping[str, Any], corpus: Mapping[str, Any]) -> str:
    """A row for each package, the permissive ones first, then the sums.

    Args:
        sources: what sources.yaml holds.
        packages: what metrics/packages.json holds.
        corpus: what metrics/corpus.json holds.
    """
    ordered = sorted(sources, key=lambda source: (source.copyleft, source.registry, source.name))
    rows = [(each.name, packages[each.name]["version"], each.licence, corpus["sources"][each.name]) for each in ordered]
    sums = [(f"**{group}**", "", "", corpus["total"][group]) for group in ("permissive", "copyleft", "all")]
    lines = [HEADER, ["---"] * 3 + ["---:"] * 4]
    lines += [(*named, *_figures(figures)) for *named, figures in [*rows, *sums]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _figures(figures: Mapping[str, Any]) -> tuple[str, ...]:
    counts = ("text_tokens", "conversations", "conversation_tokens")
    return (f"{figures['text_megabytes']:.2f}", *(f"{int(figures[name]):,}" for name in counts))
