"""The facts about a corpus, as figures for metrics/prepare.json and as lines for the console.

The same conversations give the same bytes. Names that come from the data (keys, files, speakers) can be any number, so
only the most frequent are written; Datasets/prepared/report.md has more of them.
"""

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from theta.conversation.messages import OTHER_DOMAINS, domains_shown
from theta.corpus.items import Notes

NAMES_IN_METRICS = 20

DUPLICATE = "duplicate"
"""The reason of a reject that repeats an earlier conversation; such rejects are counted separately."""


@dataclass(slots=True)
class FileFacts:
    """What one file came to."""

    name: str
    kind: str = ""
    """What it was read as, such as "JSON Lines"."""
    fault: str = ""
    """Why it could not be read, or not to its end; empty if it could."""
    items: int = 0
    kept: int = 0
    rejected: int = 0
    duplicates: int = 0
    mended: int = 0
    shapes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Facts:
    """Everything that is known about a corpus, apart from its conversations.

    Attributes:
        files: the files that were read, in order.
        passed_over: names of files that were not read, with the reason.
        notes: what was noted while the items were read.
        reasons: rejects by reason, duplicates apart.
        reject_examples: the source and detail of the first reject of each reason.
        duplicates: conversations that repeat an earlier one.
        conversations: kept conversations by split.
        domains: kept conversations by domain.
        messages, texts, chats: of the kept conversations; a chat has several replies.
        reply_words: number of replies by length in words.
        division: what the split found: groups, conflicts, repeated replies and leaks.
        lines: sentences of the split that the user should read.
    """

    files: Sequence[FileFacts]
    passed_over: Sequence[tuple[str, str]]
    notes: Notes
    reasons: Counter[str]
    reject_examples: Mapping[str, str]
    duplicates: int
    conversations: Mapping[str, int]
    domains: Counter[str]
    messages: int
    texts: int
    chats: int
    reply_words: np.ndarray
    division: Mapping[str, Any]
    lines: Sequence[str]

    @property
    def kept(self) -> int:
        """Number of kept conversations."""
        return sum(self.conversations.values())

    @property
    def unreadable(self) -> list[FileFacts]:
        """The files that could not be read, or not to their end."""
        return [file for file in self.files if file.fault]


def figures(facts: Facts) -> dict[str, Any]:
    """Return the figures of metrics/prepare.json."""
    return {
        "files": len(facts.files),
        "files_unreadable": {file.name: file.fault for file in facts.unreadable[:NAMES_IN_METRICS]},
        "files_passed_over": dict(facts.passed_over[:NAMES_IN_METRICS]),
        "items": sum(file.items for file in facts.files),
        "kept": facts.kept,
        "duplicates": facts.duplicates,
        "rejected": facts.reasons.total(),
        "rejected_by_reason": dict(sorted(facts.reasons.items())),
        "mended": _counts(facts.notes, "mended"),
        "unused_keys": _counts(facts.notes, "unused_key"),
        "unfilled_templates": _counts(facts.notes, "template"),
        "personal_data": _counts(facts.notes, "personal"),
        "redacted": _counts(facts.notes, "redacted"),
        "conversations": dict(facts.conversations),
        "domains": _domains(facts.domains),
        "messages": facts.messages,
        "texts": facts.texts,
        "multi_turn_conversations": facts.chats,
        "reply_words": distribution(facts.reply_words),
        **facts.division,
    }


def summary(facts: Facts) -> str:
    """Return what was kept and dropped in one line."""
    splits = " / ".join(f"{count} {name}" for name, count in facts.conversations.items())
    line = f"kept {facts.kept} of {facts.kept + facts.duplicates + facts.reasons.total()} conversations: {splits}"
    dropped = {**dict(sorted(facts.reasons.items())), DUPLICATE: facts.duplicates}
    parts = [(_counted(dropped), "rejected"), (_counted(_counts(facts.notes, "mended")), "mended")]
    return "; ".join([line, *(f"{what}: {counted}" for counted, what in parts if counted)])


def warnings(facts: Facts) -> Iterator[str]:
    """Yield what a person should know about the data before training on it, a line each."""
    for file in facts.unreadable[:NAMES_IN_METRICS]:
        yield file.fault
    if facts.passed_over:
        shown = ", ".join(f"{name} ({why})" for name, why in facts.passed_over[:5])
        more = len(facts.passed_over) - 5
        yield f"passed over {_number(len(facts.passed_over), 'file')}: {shown}" + (
            f" and {more} more" if more > 0 else ""
        )
    for key, count, source in list(facts.notes.of("unused_key"))[:5]:
        yield f"the text of '{key}' is not used ({_number(count, 'item')}, first {source}); data.fields can name it"
    templates = list(facts.notes.of("template"))
    if templates:
        name, _, source = templates[0]
        total = sum(count for _, count, _ in templates)
        yield f"{_number(total, 'conversation')} hold what looks like an unfilled template, such as {name} ({source})"
    personal = list(facts.notes.of("personal"))
    if personal:
        held = ", ".join(f"{kind} in {count}" for kind, count, _ in personal)
        yield f"conversations hold {held} (first {personal[0][2]}); data.redact replaces them"
    yield from facts.lines


def distribution(counts: np.ndarray) -> dict[str, float]:
    """Return mean, median and the value that 95 % of the values do not exceed; empty where there are no values.

    Args:
        counts: how often each value from 0 on occurs, int64 [largest value + 1].
    """
    total = int(counts.sum())
    if not total:
        return {}
    upto = np.cumsum(counts)
    middle = [int(np.searchsorted(upto, rank, side="right")) for rank in ((total - 1) // 2, total // 2)]
    return {
        "mean": round(float((counts * np.arange(len(counts))).sum() / total), 1),
        "median": statistics.fmean(middle),
        "p95": int(np.searchsorted(upto, -(-95 * total // 100))),
    }


def _counts(notes: Notes, kind: str) -> dict[str, int]:
    return {name: count for name, count, _ in list(notes.of(kind))[:NAMES_IN_METRICS]}


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} x{count}" for name, count in counts.items() if count)


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _domains(counts: Counter[str]) -> dict[str, int]:
    """Conversations by domain: the largest domains by name, all others together."""
    shown = {domain: counts[domain] for domain in sorted(domains_shown(counts))}
    others = counts.total() - sum(shown.values())
    return {**shown, OTHER_DOMAINS: others} if others else shown
