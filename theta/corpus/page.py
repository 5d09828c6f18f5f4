"""Datasets/prepared/report.md: what became of the data, for a person to read in a minute."""

from collections.abc import Iterator
from typing import Any

from theta.corpus.report import Facts, FileFacts, distribution, summary, warnings
from theta.markdown import plain, table
from theta.text import counted

FILES_SHOWN = 200
NAMES_SHOWN = 50


def page(facts: Facts) -> str:
    """Return the page in Markdown; the same facts give the same bytes."""
    sections = [_opening(facts), _files(facts), _reasons(facts), _content(facts), _wordings(facts), _splits(facts)]
    return "\n\n".join("\n\n".join(section) for section in map(list, sections) if section) + "\n"


def _opening(facts: Facts) -> Iterator[str]:
    yield "# The data"
    yield plain(summary(facts)).capitalize() + "."
    said = [f"- {plain(line)}" for line in warnings(facts)]
    if said:
        yield "## To look at"
        yield "\n".join(said)


def _files(facts: Facts) -> Iterator[str]:
    yield "## Files"
    # Those with something to see first; the order of the files otherwise.
    shown = sorted(facts.files, key=lambda file: not (file.fault or file.rejected or not file.kept))[:FILES_SHOWN]
    yield table(
        ("file", "holds", "items", "kept", "duplicates", "rejected", "mended", "fault"), [_file(f) for f in shown]
    )
    if len(facts.files) > FILES_SHOWN:
        yield f"All {len(facts.files):,} files are in `files.jsonl`."
    if facts.passed_over:
        yield "Passed over:"
        yield table(("file", "why"), list(facts.passed_over[:FILES_SHOWN]))


def _file(file: FileFacts) -> tuple[Any, ...]:
    shapes = ", ".join(name for name, _ in file.shapes.most_common(3))
    return (
        file.name,
        shapes or "-",
        file.items,
        file.kept,
        file.duplicates,
        file.rejected,
        file.mended,
        file.fault or "-",
    )


def _reasons(facts: Facts) -> Iterator[str]:
    if facts.reasons:
        yield "## Rejected"
        rows = [(name, count, facts.examples.get(name, "-")) for name, count in facts.reasons.most_common()]
        yield table(("reason", "items", "first"), rows)
    yield from _noted(facts, "mended", "Mended", "what")
    yield from _noted(facts, "chosen", "Replies that were chosen among several", "how")
    yield from _noted(facts, "not_learned", "Replies that are marked and not learned", "mark")
    yield from _noted(facts, "unused_key", "Keys whose text is not used", "key")
    yield from _noted(facts, "unused_mark", "Marks that are not used", "mark")


def _content(facts: Facts) -> Iterator[str]:
    yield from _noted(facts, "template", "Unfilled templates", "text")
    yield from _noted(facts, "personal", "Personal data", "kind")
    yield from _noted(facts, "redacted", "Replaced personal data", "kind")
    yield "## Sizes"
    words = distribution(facts.reply_words)
    sizes = {"messages": facts.messages, "texts": facts.texts, "chats of several replies": facts.chats}
    yield table(("what", "value"), [*sizes.items(), *((f"words of a reply, {name}", n) for name, n in words.items())])
    yield table(("domain", "conversations"), facts.domains.most_common(NAMES_SHOWN))


def _wordings(facts: Facts) -> Iterator[str]:
    wordings = facts.wordings
    if wordings.learned or wordings.made or wordings.new:
        yield "## Wordings"
        yield (
            f"Questions of train are also learned in {wordings.learned:,} other wordings that were written, and in "
            f"{wordings.made:,} that rules made. Another {wordings.new:,} written ones are new wordings: they are held "
            "back, and evaluate asks them."
        )
    if wordings.examples:
        yield table(("question", "some rewordings"), [(asked, " · ".join(made)) for asked, made in wordings.examples])


def _splits(facts: Facts) -> Iterator[str]:
    yield "## Splits"
    total = max(sum(facts.conversations.values()), 1)
    columns = ("split", "conversations", "share", "questions in train", "replies in train", "near twins in train")
    rows = []
    for name, count in facts.conversations.items():
        leaked = facts.leaks.get(name, {}).values() or ["-"] * 3
        rows.append((name, count, f"{count / total:.1%}", *leaked))
    yield table(columns, rows)
    largest = counted(facts.largest_group, "conversation")
    yield (
        f"They consist of {counted(facts.groups, 'group')}, the largest of {largest}. A group holds what shares a "
        "question, a reply or nearly a question."
    )
    if facts.repeated.conflict_examples:
        yield "## Questions with different answers"
        yield table(("question", "one answer", "another"), facts.repeated.conflict_examples)
    if facts.repeated.filler_examples:
        yield "## Replies of many conversations"
        yield table(("reply", "first", "conversations"), facts.repeated.filler_examples)


def _noted(facts: Facts, kind: str, title: str, column: str) -> Iterator[str]:
    noted = list(facts.notes.of(kind))
    if noted:
        yield f"## {title}"
        yield table((column, "conversations", "first"), noted[:NAMES_SHOWN])
