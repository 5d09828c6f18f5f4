"""The facts about a corpus, as figures for metrics/prepare.json and as lines for the console.

The same conversations give the same bytes. Names that come from the data (keys, files, speakers) can be any number, so
only the most frequent are written; Datasets/prepared/report.md has more of them.
"""

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from theta.conversation.messages import OTHER_DOMAINS, domains_shown
from theta.corpus.gather import Gathered
from theta.corpus.items import Notes
from theta.corpus.readers.finding import ABOUT_DATA, LEFT_OUT
from theta.corpus.wordings import Wordings
from theta.text import counted

NAMES_IN_METRICS = 20
KEYS_SHOWN = 5
FILES_SHOWN = 5
SHOWN_CHARACTERS = 60

DUPLICATE = "duplicate"
"""The reason of a reject that repeats an earlier conversation; such rejects are counted separately."""


@dataclass(slots=True)
class FileFacts:
    """What one file came to."""

    name: str
    fault: str = ""
    """Why it could not be read, or not to its end; empty if it could."""
    items: int = 0
    kept: int = 0
    rejected: int = 0
    duplicates: int = 0
    mended: int = 0
    shapes: Counter[str] = field(default_factory=Counter)
    """How many items it holds of each shape."""

    def add(self, made: Gathered) -> None:
        """Count what a block of the file came to."""
        self.items += made.items
        self.rejected += made.reasons.total()
        self.mended += sum(count for _, count, _ in made.notes.of("mended"))
        self.shapes.update({name: count for name, count, _ in made.notes.of("shape")})

    def to_json(self) -> dict[str, Any]:
        """Return the object that a line of `Datasets/prepared/files.jsonl` holds."""
        return {**asdict(self), "shapes": dict(self.shapes.most_common())}


@dataclass(frozen=True)
class RepeatedContent:
    """Content that several conversations share, with examples.

    Attributes:
        conflicts: number of questions with several answers.
        conflict_examples: a question and where two of its answers are.
        fillers: number of replies that many conversations have.
        filler_examples: the reply, where it is first, and how many conversations have it.
    """

    conflicts: int
    conflict_examples: Sequence[tuple[str, str, str]]
    fillers: int
    filler_examples: Sequence[tuple[str, str, int]]


@dataclass(frozen=True)
class Facts:
    """Everything that is known about a corpus, apart from its conversations.

    Attributes:
        files: the files that were read, in order.
        passed_over: names of files that were not read, with the reason.
        notes: what was noted while the items were read.
        reasons: rejects by reason, duplicates apart; `examples` describes the first of each.
        duplicates: conversations that repeat another.
        over_cap: conversations that data.caps leaves out.
        conversations: conversations by split, as they are written: data.weights may repeat some.
        rehearsal: conversations of the base.
        domains: kept conversations by domain.
        messages, texts, chats: of the kept conversations; a chat has several replies.
        reply_words: number of replies by length in words.
        groups, largest_group: what the splits consist of.
        loosened: what does not tie conversations, because it ties too many; empty as a rule.
        shares: which held-out splits are larger or smaller than asked for, in words; empty as a rule.
        leaks: by held-out split, how many conversations have content that train has too.
        repeated: conflicts and fillers.
        wordings: those that are learned, made by rules, and held back.
        unknown_patterns: patterns of data.caps and data.weights that mean nothing.
        idle_patterns: patterns of data.exclude that match no file.
    """

    files: Sequence[FileFacts]
    passed_over: Sequence[tuple[str, str]]
    notes: Notes
    reasons: Counter[str]
    examples: Mapping[str, str]
    duplicates: int
    over_cap: int
    conversations: Mapping[str, int]
    rehearsal: int
    domains: Counter[str]
    messages: int
    texts: int
    chats: int
    reply_words: np.ndarray
    groups: int
    largest_group: int
    loosened: str
    shares: str
    leaks: Mapping[str, Mapping[str, int]]
    repeated: RepeatedContent
    wordings: Wordings
    unknown_patterns: Sequence[str] = ()
    idle_patterns: Sequence[str] = ()

    @property
    def kept(self) -> int:
        """Number of kept conversations."""
        return self.domains.total()

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
        "over_cap": facts.over_cap,
        "rejected": facts.reasons.total(),
        "rejected_by_reason": dict(sorted(facts.reasons.items())),
        "mended": _counts(facts.notes, "mended"),
        "unused_keys": _counts(facts.notes, "unused_key"),
        "unused_marks": _counts(facts.notes, "unused_mark"),
        "replies_chosen": _counts(facts.notes, "chosen"),
        "replies_not_learned": _counts(facts.notes, "not_learned"),
        "unfilled_templates": _counts(facts.notes, "template"),
        "personal_data": _counts(facts.notes, "personal"),
        "redacted": _counts(facts.notes, "redacted"),
        "conflicting_answers": facts.repeated.conflicts,
        "replies_to_many_questions": facts.repeated.fillers,
        "conversations": dict(facts.conversations),
        "rehearsal_conversations": facts.rehearsal,
        "groups": facts.groups,
        "largest_group": facts.largest_group,
        "held_out_content": {name: dict(counts) for name, counts in facts.leaks.items()},
        "domains": _domains(facts.domains),
        "messages": facts.messages,
        "texts": facts.texts,
        "multi_turn_conversations": facts.chats,
        "reply_words": distribution(facts.reply_words),
        "wordings": {
            "learned": facts.wordings.learned,
            "made_by_rules": facts.wordings.made,
            "new": facts.wordings.new,
        },
    }


def summary(facts: Facts) -> str:
    """Return what was kept and dropped in one line."""
    splits = " / ".join(f"{count} {name}" for name, count in facts.conversations.items())
    read = facts.kept + facts.duplicates + facts.over_cap + facts.reasons.total()
    line = f"kept {facts.kept} of {counted(read, 'conversation')}: {splits}"
    dropped = {**dict(sorted(facts.reasons.items())), DUPLICATE: facts.duplicates}
    parts = [(_times(dropped), "rejected"), (_times(_counts(facts.notes, "mended")), "mended")]
    return "; ".join([line, *(f"{what}: {times}" for times, what in parts if times)])


def warnings(facts: Facts) -> Iterator[str]:
    """Yield what a person should know about the data before training on it, a line each."""
    for file in facts.unreadable[:NAMES_IN_METRICS]:
        yield file.fault
    passed_over = [(name, why) for name, why in facts.passed_over if why not in (ABOUT_DATA, LEFT_OUT)]
    if passed_over:
        shown = ", ".join(f"{name} ({why})" for name, why in passed_over[:FILES_SHOWN])
        more = f" and {len(passed_over) - FILES_SHOWN} more" if len(passed_over) > FILES_SHOWN else ""
        yield f"passed over {counted(len(passed_over), 'file')}: {shown}{more}"
    unused = list(facts.notes.of("unused_key"))
    for key, count, source in unused[:KEYS_SHOWN]:
        yield f"the text of '{key}' is not used ({counted(count, 'item')}, first {source}); data.fields can name it"
    if len(unused) > KEYS_SHOWN:
        yield f"the text of {counted(len(unused) - KEYS_SHOWN, 'more key')} is not used; report.md names them"
    marks = list(facts.notes.of("unused_mark"))
    for name, count, source in marks[:KEYS_SHOWN]:
        held = f"{counted(count, 'item')}, first {source}"
        yield f"the mark '{name}' is not used ({held}); take out of the data what is not to be learned"
    if len(marks) > KEYS_SHOWN:
        yield f"not used: {counted(len(marks) - KEYS_SHOWN, 'more mark')}; report.md names them"
    templates = list(facts.notes.of("template"))
    if templates:
        name, _, source = templates[0]
        total = sum(count for _, count, _ in templates)
        verb = "holds" if total == 1 else "hold"
        yield f"{counted(total, 'conversation')} {verb} what looks like an unfilled template, such as {name} ({source})"
    personal = list(facts.notes.of("personal"))
    if personal:
        held = ", ".join(f"{kind} in {count:,}" for kind, count, _ in personal)
        replaced = [kind for kind, _, _ in facts.notes.of("redacted")]
        done = f"data.redact replaced {', '.join(replaced)}" if replaced else "data.redact replaces them"
        yield f"conversations hold {held} (first {personal[0][2]}); {done}"
    yield from _about_repeats(facts)
    yield from _about_splits(facts)


LEAKED = {
    "questions_in_train": "a question",
    "replies_in_train": "a reply",
    "near_twins_in_train": "nearly the question",
}


def _about_repeats(facts: Facts) -> Iterator[str]:
    for question, one, other in facts.repeated.conflict_examples[:1]:
        questions = counted(facts.repeated.conflicts, "question")
        yield f"{questions} with different answers, such as '{_short(question)}' ({one} and {other})"
    for reply, source, having in facts.repeated.filler_examples[:1]:
        yield f"{having} conversations have the reply '{_short(reply)}' (first {source})"


def _about_splits(facts: Facts) -> Iterator[str]:
    if facts.idle_patterns:
        yield f"data.exclude: no file is meant by {', '.join(facts.idle_patterns)}"
    if facts.unknown_patterns:
        yield f"data.caps and data.weights: no file and no domain is meant by {', '.join(facts.unknown_patterns)}"
    if facts.loosened:
        yield f"validation and test could only be filled by dividing conversations that share {facts.loosened}"
    if facts.shares:
        yield f"{facts.shares}, because conversations that belong together are on one side"
    for name, counts in facts.leaks.items():
        held = ", ".join(f"{LEAKED[what]} of {count:,}" for what, count in counts.items() if count)
        if held:
            yield f"train holds content of {name}: {held} of its conversations; its loss also measures memory"


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= SHOWN_CHARACTERS else words[: SHOWN_CHARACTERS - 1] + "…"


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


def _times(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} x{count}" for name, count in counts.items() if count)


def _domains(counts: Counter[str]) -> dict[str, int]:
    """Conversations by domain: the largest domains by name, all others together."""
    shown = {domain: counts[domain] for domain in sorted(domains_shown(counts))}
    others = counts.total() - sum(shown.values())
    return {**shown, OTHER_DOMAINS: others} if others else shown
