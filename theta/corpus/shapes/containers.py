"""What holds several items -> the items: lists, objects by id, columns, and the arrangements of other programs."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from theta.corpus.shapes import messages
from theta.corpus.shapes.fields import (
    CONTEXTS,
    DOMAINS,
    HISTORIES,
    INSTRUCTIONS,
    LABELS,
    MESSAGE_LISTS,
    METADATA,
    QUESTIONS,
    REPLIES,
    SEVERAL_REPLIES,
    SYSTEMS,
    canonical,
)  # fmt: skip

_WITH_CONTEXT = (
    "qas",
    "qapairs",
    "qapair",
    "questions",
    "instances",
    "paragraphs",
    "pairs",
    "faqs",
    "faq",
    "exchanges",
    "positiveexamples",
)
"""Lists whose entries are about what stands beside the list."""
INHERITED = frozenset((*CONTEXTS, *SYSTEMS, *DOMAINS, *INSTRUCTIONS, "text"))
"""What entries of such a list get from the object that holds it."""
_COLUMNS = frozenset((*INSTRUCTIONS, *QUESTIONS, *CONTEXTS, *REPLIES, *SEVERAL_REPLIES, *MESSAGE_LISTS, *SYSTEMS,
                      *LABELS, *HISTORIES, "text", "chosen", "rejected", "user", "assistant", "human",
                      "bot"))  # fmt: skip
_ROW = frozenset(("row", "rowidx", "truncatedcells"))
_TEXT_LISTS = frozenset((
    "data", "dataset", "train", "training", "test", "testing", "validation", "valid", "val", "dev", "eval", "rows",
    "row", "texts", "documents", "docs", "items", "records", "entries", "articles", "passages", "pages", "corpus",
    "samples", "results", "stories", "poems", "books", "chapters", "list", "text",
))  # fmt: skip
NEGATIVE = frozenset(("negativeexamples", "negatives", "badexamples", "counterexamples", "wrongexamples"))
_PARTS = frozenset(("comments", "replies", "answers", "responses", "examples", "questions", "entities", "annotations"))
"""Lists whose texts say something only together with what stands beside them."""
_HALVES = (("inputs", "outputs"), ("input", "output"), ("inputs", "reference_outputs"), ("input", "expected"),
           ("input", "expected_output"), ("request", "response"), ("prompt", "completion"))  # fmt: skip
_NUMBERED = re.compile(r"\D{0,12}\d+")

_SPEAKING = frozenset(("role", "from", "speaker", "sender", "type"))


class Entry(NamedTuple):
    """An item that another holds."""

    name: str | int
    value: Any


def rows_of(value: Mapping[str, Any]) -> Iterator[Entry] | None:
    """Yield the rows of a table that is kept by column, or row by row without names; None if it is none."""
    columns, cells = value.get("columns"), value.get("data")
    if any(key for key in value if canonical(key) in ("questions", "patterns")) and any(
        canonical(key) in CONTEXTS for key in value
    ):
        return None  # questions in turn about one text
    if isinstance(columns, list) and isinstance(cells, list) and all(isinstance(row, list) for row in cells):
        names = [str(name) for name in columns]
        return (Entry(at, dict(zip(names, row, strict=False))) for at, row in enumerate(cells, start=1))
    known = [key for key in value if canonical(key) in _COLUMNS]
    if not known:
        return None
    lists = {key: column for key, column in value.items() if isinstance(column, list)}
    if _is_table_of_lists(value, known, lists):
        count = len(lists[known[0]])
        beside = {key: entry for key, entry in value.items() if key not in lists}
        return (Entry(at + 1, {**beside, **{key: column[at] for key, column in lists.items()}}) for at in range(count))
    by_row = {key: column for key, column in value.items() if isinstance(column, dict)}
    if len(by_row) == len(value) and len(known) * 2 >= len(value) and (len(value) > 1 or "text" in by_row):
        keys = list(by_row[known[0]])
        alike = bool(keys) and all(list(column) == keys for column in by_row.values())
        own = {canonical(key) for key in value}
        named = not own.isdisjoint(REPLIES) and not own.isdisjoint((*QUESTIONS, *INSTRUCTIONS))
        if alike and (named or all(key.isdigit() for key in keys)):
            return (Entry(key, {name: column[key] for name, column in by_row.items()}) for key in keys)
    return None


def _is_table_of_lists(value: Mapping[str, Any], known: Sequence[str], lists: Mapping[str, list[Any]]) -> bool:
    columns = [key for key in known if key in lists]
    names = {canonical(key) for key in columns}
    if len(columns) != len(known) or len({len(column) for column in lists.values()}) != 1 or not lists[columns[0]]:
        return False
    if names == {"text"} and len(lists) == 1 == len(value):
        return all(isinstance(entry, str) for entry in lists[columns[0]])
    if not names.isdisjoint(MESSAGE_LISTS) and names.isdisjoint((*QUESTIONS, *REPLIES)):
        chats = [lists[key] for key in columns if canonical(key) in MESSAGE_LISTS]
        return len(lists) > 1 and all(
            isinstance(chat, list) and chat and isinstance(chat[0], dict) for column in chats for chat in column
        )
    if any(
        isinstance(entry, dict) and not _SPEAKING.isdisjoint(entry) for column in lists.values() for entry in column
    ):
        return False
    plain = all(entry is None or isinstance(entry, str | int | float) for key in columns for entry in lists[key])
    asks = not names.isdisjoint((*QUESTIONS, *INSTRUCTIONS, *CONTEXTS, "user", "human", "text"))
    replies = not names.isdisjoint((*REPLIES, "chosen", "assistant", "bot", *SEVERAL_REPLIES, *LABELS))
    return asks and replies and (plain or len(columns) > 1) and "responses" not in names


def entries_of(value: Mapping[str, Any], fields: Mapping[str, Any]) -> Iterator[Entry]:
    """Yield what an object holds: the entries of its lists and objects, with what they share."""
    if isinstance(fields.get("row"), dict) and _ROW.issuperset(fields):
        yield Entry("row", fields["row"])
        return
    if isinstance(fields.get("rows"), list) and "features" in fields:
        yield Entry("rows", fields["rows"])
        return
    for key, held in value.items():
        if isinstance(held, dict | list) and held and canonical(key) not in DOMAINS:
            if _are_pairs(held):
                yield from (Entry(f"{key}.{at}", pair) for at, pair in enumerate(held, start=1))
                continue
            shared = _shared(value, key) if canonical(key) in _WITH_CONTEXT else {}
            yield Entry(key, _with_shared(held, shared) if shared else held)


def _are_pairs(held: Any) -> bool:
    """Whether a list holds questions with their replies: as in a file, each is a conversation of its own."""
    are_pairs = isinstance(held, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in held
    )
    return are_pairs and not messages.name_speakers(held)


def merged(value: dict[str, Any]) -> dict[str, Any]:
    """Return an object whose question and reply stand in objects of their own as one, as logs of models keep them."""
    for asked, replied in _HALVES:
        one, other = value.get(asked), value.get(replied)
        if isinstance(one, dict) and isinstance(other, dict) and one and other and one.keys().isdisjoint(other):
            return {**{key: held for key, held in value.items() if key not in (asked, replied)}, **one, **other}
    return value


def takes_texts(value: Mapping[str, Any], key: str) -> bool:
    """Whether plain texts under this key are texts to learn; comments, entities or answers are parts of something."""
    name = canonical(key)
    if name in _TEXT_LISTS or _NUMBERED.fullmatch(key):
        return True
    if name in SYSTEMS or name in _PARTS:
        return False
    others = [held for other, held in value.items() if other != key and held and canonical(other) not in METADATA]
    if isinstance(value[key], list):
        return not any(isinstance(held, str | list | dict) for held in others)
    return all(isinstance(held, dict) and held.keys() == value[key].keys() for held in others)


def takes_turns(key: str) -> bool:
    """Whether a list of bare texts under this key is a chat; most lists of texts are tags or names."""
    name = canonical(key)
    return name in MESSAGE_LISTS or name in _TEXT_LISTS or bool(_NUMBERED.fullmatch(key))


def _shared(value: Mapping[str, Any], but: str) -> dict[str, Any]:
    shared = {key: entry for key, entry in value.items() if key != but and canonical(key) in INHERITED}
    texts = {key: entry[0] if isinstance(entry, list) and len(entry) == 1 else entry for key, entry in shared.items()}
    return {key: entry for key, entry in texts.items() if isinstance(entry, str)}


def _with_shared(held: Any, shared: Mapping[str, Any]) -> Any:
    if isinstance(held, list):
        return [_with_shared(entry, shared) for entry in held]
    if not isinstance(held, dict):
        return held
    own = {canonical(key) for key, entry in held.items() if entry not in (None, "")}
    return {
        **{("context" if key == "text" else key): entry for key, entry in shared.items() if canonical(key) not in own},
        **held,
    }


def has_context_list(fields: Mapping[str, Any]) -> bool:
    """Whether an object is about what its list asks, as a passage with questions is."""
    return any(
        isinstance(fields.get(name), list) and any(isinstance(entry, dict) for entry in fields[name])
        for name in _WITH_CONTEXT
    )


def answers_by_question(value: Mapping[str, Any]) -> bool:
    """Whether the keys are questions and the values their answers."""
    keys = list(value)
    return (
        bool(keys)
        and all(isinstance(entry, str) for entry in value.values())
        and all(" " in key.strip() or key.strip().endswith("?") for key in keys)
        and any(key.strip().endswith("?") for key in keys)
    )
