"""Values as Markdown tables for the model card."""

from collections.abc import Iterator, Mapping
from typing import Any

from theta.markdown import table

Section = Mapping[str, Any] | None
"""The content of a JSON file of the pipeline, or None if the file does not exist."""

NOT_MEASURED = "Not measured."


def facts_table(facts: Section) -> str:
    """Return a table with a row for each value; the name of a nested value is its path."""
    return table(("what", "value"), list(_flat(facts))) if facts else NOT_MEASURED


def splits_table(tokenize: Section) -> str:
    """Return a table with a column for each split, the largest split first."""
    if tokenize is None:
        return NOT_MEASURED
    splits = sorted(tokenize, key=lambda split: -tokenize[split]["documents"])
    rows = [(name, *(tokenize[split][name] for split in splits)) for name in tokenize[splits[0]]]
    return table(("what", *splits), rows)


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values as rows, with the keys of each path joined by dots."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
