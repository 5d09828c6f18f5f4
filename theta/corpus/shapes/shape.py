"""One raw item -> its conversations, or the reason why it was rejected. docs/data.md shows every shape.

An item may hold many conversations, as an exported file does; each then has a source of its own, such as
"chats.json#1.data.3".
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from theta.conversation.messages import Conversation, Message
from theta.corpus.items import Item, Notes, Number, Reject, Rules
from theta.corpus.shapes import (
    choices,
    containers,
    documents,
    exchanges,
    intents,
    marks,
    messages,
    plain,
    preferences,
    replies,
    sequences,
    threads,
    transcripts,
)
from theta.corpus.shapes.arrange import arranged
from theta.corpus.shapes.cleaning import without_end_mark
from theta.corpus.shapes.content import (
    WITHOUT_QUESTION,
    asked_otherwise,
    asked_text,
    holds_tuple,
    text_of,
    unlearnable,
    wordings_of,
)
from theta.corpus.shapes.fields import (
    DOMAINS,
    HISTORIES,
    LABELS,
    MESSAGE_LISTS,
    METADATA,
    QUESTIONS,
    REPLIES,
    SEVERAL_REPLIES,
    SYSTEMS,
    TEXTS,
    UnusableError,
    canonical,
    canonical_fields,
    first,
    unknown_shape,
)  # fmt: skip
from theta.corpus.shapes.messages import is_message
from theta.corpus.shapes.turns import Place, Turn
from theta.corpus.shapes.unused import note_unused

__all__ = ["is_message", "shape"]

Results = Iterator[Conversation | Reject]

_MAX_DEPTH = 40
_CLASSIFIED = frozenset((*LABELS, *QUESTIONS, *REPLIES))


def shape(item: Item, rules: Rules, notes: Notes) -> Results:
    """Yield the conversations of an item, or rejects: at least one result.

    Args:
        item: a value that was read.
        rules: the settings that say how items are to be understood.
        notes: gets what was mended, left out or not understood.
    """
    quick = plain.read(item, rules, notes)
    if quick is not None:
        return iter((quick,))
    return _filled(item, _of_value(item.value, Place(item.source, item.domain, rules, notes, is_file=item.is_file), 0))


def _filled(item: Item, results: Results) -> Results:
    """The results, or a reject if there are none."""
    found = False
    for result in results:
        found = True
        yield result
    if not found:
        yield Reject(item.source, "empty_item", "", item.value)


def _of_value(value: Any, place: Place, depth: int) -> Results:
    if depth > _MAX_DEPTH:
        return iter((place.reject(UnusableError("nested_too_deeply"), value),))
    if isinstance(value, dict):
        return _of_object(value, place, depth)
    if isinstance(value, list):
        return _of_list(value, place, depth)
    if isinstance(value, str) and not isinstance(value, Number):
        return _of_text(value, place, depth)
    fault = unlearnable(value) if holds_tuple(value) else UnusableError("not_an_object", type(value).__name__)
    return iter((place.reject(fault, value),))


def _of_text(value: str, place: Place, depth: int) -> Results:
    """A bare text is read only where it is a chat, or JSON itself: lists of words are in files of every kind."""
    held = replies.parsed(f"[{value}]" if value[:1] == "{" else value)
    if held is not None:
        return _of_value(held[0] if value[:1] == "{" and len(held) == 1 else held, place, depth + _MAX_DEPTH // 2)
    return _kept(
        lambda: _required(transcripts.turns_of(value, place), UnusableError("not_an_object", "str")),
        value,
        place,
        "transcript",
    )


def _required(turns: list[Turn] | None, otherwise: UnusableError) -> list[Turn]:
    if turns is None:
        raise otherwise
    return turns


def _of_list(value: list[Any], place: Place, depth: int) -> Results:
    if not value:
        return iter((place.reject(UnusableError("empty_item"), value),))
    if is_message(value[0], place.rules):
        return _of_chat(value, place, {})
    if all(isinstance(entry, str) and not isinstance(entry, Number) for entry in value):
        is_chat = len(value) > 1 and place.takes_texts
        return _kept(
            lambda: exchanges.turns_of_list(value, place) if is_chat else _required(None, unknown_of(value)),
            value, place, "texts in turn",
        )  # fmt: skip
    if all(isinstance(entry, list) and exchanges.is_pair(entry) for entry in value):
        return _kept(lambda: exchanges.turns_of_list(value, place), value, place, "pairs")
    return chain.from_iterable(_of_value(entry, place.at(at), depth + 1) for at, entry in enumerate(value, start=1))


def unknown_of(value: Any) -> UnusableError:
    """Return the error about a value that is no object."""
    return UnusableError("not_an_object", type(value).__name__)


def _of_chat(entries: Sequence[Any], place: Place, fields: Mapping[str, Any], system: Sequence[Turn] = ()) -> Results:
    """The conversations of a list of messages."""
    try:
        several = threads.threads_of(entries, place)
    except UnusableError as fault:
        return iter((place.reject(fault, list(entries)),))
    if several is None:
        return _kept(
            lambda: marks.without_masked([*system, *messages.turns_of(entries, place)], fields),
            list(entries),
            place,
            "messages",
        )
    return _of_several(several, list(entries), place, "threads")


def _of_several(several: Iterator[list[Turn]], value: Any, place: Place, shown: str) -> Results:
    """The conversations of a value that holds several, each with a source of its own."""
    number = 0
    while True:
        number += 1
        try:
            turns = next(several, None)
        except UnusableError as fault:
            yield place.reject(fault, value)
            return
        if turns is None:
            return
        if any(turn.learned for turn in turns if turn.role == "assistant") or not any(
            t.role == "assistant" for t in turns
        ):
            at = place.at(number)
            if number == 1:
                at = replace(at, wordings=place.wordings, asked=place.asked)
            yield from _kept(lambda turns=turns: turns, value, at, shown)  # type: ignore[misc]


def _kept(turns: Callable[[], list[Turn]], value: Any, place: Place, shown: str) -> Results:
    """The conversations that turns come to, or the reject."""
    try:
        found = list(arranged(turns(), place))
    except UnusableError as fault:
        yield place.reject(fault, value)
        return
    place.note("shape", shown)
    if place.wordings:
        found = _asked_otherwise(found, place)
    for number, made in enumerate(found, start=1):
        source = place.source if len(found) == 1 else place.at(number).source
        yield Conversation(made, place.domain, source)


def _with_wordings(fields: Mapping[str, Any], place: Place) -> Place:
    """The place with the wordings that the item names, and the question that they belong to."""
    if not (wordings := wordings_of(fields, place)):
        return place
    return replace(place, wordings=wordings, asked=asked_text(fields, place))


def _asked_otherwise(found: list[tuple[Message, ...]], place: Place) -> list[tuple[Message, ...]]:
    """The chats, with the wordings of the item at its question; what follows the question there follows them, too."""
    for number, chat in enumerate(found):
        for at, message in enumerate(chat):
            if message.role == "user" and message.content.startswith(place.asked):
                wordings = asked_otherwise(message, place.asked, place.wordings, place)
                asked = replace(message, wordings=wordings)
                return [*found[:number], (*chat[:at], asked, *chat[at + 1 :]), *found[number + 1 :]]
    place.note("mended", WITHOUT_QUESTION)
    return found


def _of_object(value: dict[str, Any], place: Place, depth: int) -> Results:
    try:
        if any(isinstance(entry, tuple) for entry in value.values()):
            raise UnusableError("key_twice")
        value = containers.merged(value)
        if rows := containers.rows_of(value) if _may_be_table(value) else None:
            return _of_entries(rows, place, depth)
        fields = canonical_fields(value, place.rules)
        place = _with_wordings(fields, _with_domain(fields, place))
        if not marks.may_hold(fields):
            return _of_fields(value, fields, place, depth)
        if _is_learnable(fields):
            if mark := marks.marked_bad(fields, place):
                raise UnusableError("marked_bad", mark)
            if mark := marks.not_to_learn(fields):
                raise UnusableError("marked_not_to_learn", mark)
        elif not is_message(value, place.rules):
            marks.note_ignored(fields, place)
        return _of_fields(value, fields, place, depth)
    except UnusableError as fault:
        return iter((place.reject(fault, value),))


def _may_be_table(value: Mapping[str, Any]) -> bool:
    return all(isinstance(entry, list | dict) for entry in value.values()) or any(
        isinstance(entry, list) for entry in value.values()
    )


def _is_learnable(fields: Mapping[str, Any]) -> bool:
    """Whether an object is an item itself, and does not hold others."""
    return (
        exchanges.is_exchange(fields) or exchanges.message_list(fields) is not None or "chosen" in fields
        or isinstance(fields.get("text"), str) or "mapping" in fields
    )  # fmt: skip


def _of_entries(entries: Iterator[containers.Entry], place: Place, depth: int) -> Results:
    return chain.from_iterable(_of_value(entry.value, place.at(entry.name), depth + 1) for entry in entries)


def _of_fields(value: dict[str, Any], fields: dict[str, Any], place: Place, depth: int) -> Results:  # noqa: PLR0911
    """What an object means, the surest signs first."""
    used: set[str] = set()
    if (exported := _exported(value, fields, place, depth)) is not None:
        return exported
    if (told := sequences.asked_in_turn(fields, place, used)) is not None:
        return _turns(told, value, fields, used, place, "questions in turn")
    if (several := intents.exchanges_of(fields, place, used)) is not None:
        note_unused(value, used, "", place)
        return _of_several(several, value, replace(place, wordings=()), "intent")
    if exchanges.needs_media(fields) and _is_learnable(fields):
        raise UnusableError("needs_image")
    system = exchanges.system_turns(fields, place, used)
    for read, shown in _READINGS:
        if (found := read(fields, place, used)) is not None:
            return _turns([*system, *found], value, fields, used, place, shown)
    if (name := exchanges.message_list(fields)) is not None:
        return _of_messages(value, fields, name, system, used, place)
    for read, shown in ((_spoken, "transcript"), (sequences.numbered_turns, "messages")):
        if (found := read(fields, place, used)) is not None:
            return _turns([*system, *found], value, fields, used, place, shown)
    if is_message(value, place.rules) and not containers.has_context_list(fields):
        return _of_lone_message(value, place)
    if not containers.has_context_list(fields) and (found := exchanges.turns_of(fields, place, used)) is not None:
        return _turns([*system, *found], value, fields, used, place, "question and reply")
    return _of_rest(value, fields, used, place, depth)


def _exported(value: dict[str, Any], fields: dict[str, Any], place: Place, depth: int) -> Results | None:
    """The conversations of an object as a program exports it; None for any other."""
    if (turns := threads.export_of(fields, place)) is not None:
        return _kept(lambda: turns, value, place, "ChatGPT export")
    if (several := threads.tree_of(fields, place)) is not None:
        return _of_several(several, value, place, "tree of messages")
    if (joined := intents.joined_by_name(fields, place)) is not None:
        return _of_entries((containers.Entry(each["tag"], each) for each in joined), place, depth)
    return None


_READINGS = (
    (sequences.of_persona, "messages"),
    (preferences.chosen_turns, "preference"),
    (choices.turns_of, "question with options"),
)


_NO_TRANSCRIPTS = {*TEXTS, *METADATA, *SYSTEMS} - set(MESSAGE_LISTS)


def _spoken(fields: Mapping[str, Any], place: Place, used: set[str]) -> list[Turn] | None:
    """The turns of a transcript under a name that otherwise holds messages, or is that of no text to learn."""
    if exchanges.is_exchange(fields):
        return None
    for name in fields:
        if (
            isinstance(fields[name], str)
            and name not in _NO_TRANSCRIPTS
            and (turns := transcripts.turns_of(fields[name], place)) is not None
        ):
            used.add(name)
            return turns
    return None


def _of_rest(value: dict[str, Any], fields: dict[str, Any], used: set[str], place: Place, depth: int) -> Results:
    """Texts, and objects that hold other items."""
    text = next((name for name in TEXTS if isinstance(fields.get(name), str | list | None) and name in fields), None)
    if text and not containers.has_context_list(fields) and _is_plain_text(fields, text):
        return _of_plain_text(value, fields, text, used, place)
    if containers.answers_by_question(value):
        pairs = (containers.Entry(at, {"question": q, "answer": a}) for at, (q, a) in enumerate(value.items(), start=1))
        return _of_entries(pairs, place, depth)
    entries = list(containers.entries_of(value, fields))
    if not entries:
        raise unknown_shape(value)
    return _of_container(value, entries, place, depth)


def _of_container(value: dict[str, Any], entries: Sequence[containers.Entry], place: Place, depth: int) -> Results:
    """The conversations that an object holds; what holds none is rejected as a whole and named."""
    anything = False
    without: list[tuple[containers.Entry, list[Reject]]] = []
    for entry in entries:
        results = _of_entry(value, entry, place, depth)
        rejects: list[Reject] = []
        for result in results:
            if isinstance(result, Conversation):
                anything = True
                yield from rejects
                yield result
                yield from results
                break
            rejects.append(result)
        else:
            without.append((entry, rejects))
    if anything:
        if place.wordings:
            place.note("mended", WITHOUT_QUESTION)
        shared = (
            containers.INHERITED if containers.has_context_list(canonical_fields(value, place.rules)) else frozenset()
        )
        note_unused(value, {*shared, *(canonical(str(entry.name)) for entry in entries)}, "", place)
        for entry, rejects in without:
            yield from _named(entry, rejects, place)
    elif any(
        reject.reason not in ("unknown_shape", "not_an_object") for _, rejects in without for reject in rejects
    ) or any(isinstance(entry.value, list) and any(isinstance(e, dict) for e in entry.value) for entry, _ in without):
        yield from chain.from_iterable(rejects for _, rejects in without)
    else:
        yield place.reject(unknown_shape(value), value)


def _of_entry(value: dict[str, Any], entry: containers.Entry, place: Place, depth: int) -> Results:
    key, inner = str(entry.name), place.at(entry.name)
    if key in value:
        if _is_list_of_texts(entry.value) and not containers.takes_turns(key):
            return iter((inner.reject(unknown_of(entry.value), entry.value),))
        if canonical(key) in containers.NEGATIVE:
            return iter((inner.reject(UnusableError("marked_bad", key), entry.value),))
        of_chats = isinstance(entry.value, list) and all(isinstance(held, list) for held in entry.value)
        if not containers.takes_texts(value, key) and not (of_chats and containers.takes_turns(key)):
            inner = replace(inner, takes_texts=False)
    return _of_value(entry.value, inner, depth + 1)


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(held, str) for held in value)


def _named(entry: containers.Entry, rejects: Sequence[Reject], place: Place) -> Results:
    """What an object holds beside conversations: faulty conversations one by one, anything else as a whole."""
    if any(reject.reason not in ("unknown_shape", "not_an_object", "unknown_speakers") for reject in rejects):
        yield from rejects
    elif isinstance(entry.value, list) and any(isinstance(held, dict) for held in entry.value):
        yield place.at(entry.name).reject(UnusableError("no_conversations", f"in '{entry.name}'"), entry.value)


def _of_messages(
    value: dict[str, Any], fields: dict[str, Any], name: str, system: list[Turn], used: set[str], place: Place
) -> Results:
    used.add(name)
    entries = exchanges.listed(fields[name])
    if entries and is_message(entries[0], place.rules):
        several = threads.threads_of(entries, place)
        if several is not None:
            return _of_several(several, value, place, "threads")
    turns = exchanges.turns_of_list(_with_replies(fields, name, entries, used), place)
    if turns and turns[-1].role == "user":
        turns += _reply_beside(fields, used, place)
    context = next(
        (fields[key] for key in ("context", "passage", "document", "story") if isinstance(fields.get(key), str)), ""
    )
    if context and not any(context.strip() in turn.content for turn in turns):
        used.update(("context", "passage", "document", "story"))
        turns = _with_context(text_of(context, place), turns)
    return _turns([*system, *turns], value, fields, used, place, "messages")


def _with_replies(fields: Mapping[str, Any], name: str, entries: list[Any], used: set[str]) -> list[Any]:
    """Questions and their reference answers in turn, where two lists keep them apart."""
    if name == "turns" and all(isinstance(entry, str) for entry in entries):
        reference = fields.get("reference") or fields.get("referenceanswer")
        if isinstance(reference, list) and len(reference) == len(entries):
            used.update(("reference", "referenceanswer"))
            return [text for pair in zip(entries, reference, strict=True) for text in pair]
        if "questionid" in fields:
            raise UnusableError("no_assistant_message", "turns are questions")
    return entries


def _reply_beside(fields: Mapping[str, Any], used: set[str], place: Place) -> list[Turn]:
    """The reply that stands beside a list of messages which ends with a question."""
    for key in (*REPLIES, *SEVERAL_REPLIES, "target"):
        if key in fields and fields[key] not in (None, "", []):
            used.add(key)
            return replies.reply_turns(fields[key], place, key=key)
    if isinstance(candidates := fields.get("candidates"), list) and all(isinstance(each, dict) for each in candidates):
        used.add("candidates")
        return replies.reply_turns({"candidates": candidates}, place, key="")
    return []


def _with_context(context: str, turns: list[Turn]) -> list[Turn]:
    """The turns, where the first question is followed by what it is about."""
    at = next((at for at, turn in enumerate(turns) if turn.role == "user"), None)
    if at is None:
        return turns
    return [*turns[:at], turns[at]._replace(content=f"{turns[at].content}\n\n{context}"), *turns[at + 1 :]]


def _turns(
    turns: list[Turn], value: dict[str, Any], fields: Mapping[str, Any], used: set[str], place: Place, shown: str
) -> Results:
    if any(_IMAGE.match(turn.content) for turn in turns if turn.role == "user"):
        raise UnusableError("needs_image")
    masked = marks.without_masked(turns, fields)
    note_unused(value, used, "\n".join(turn.content for turn in turns), place)
    return _kept(lambda: masked, value, place, shown)


_IMAGE = re.compile(
    r"\s*<(?:image|video|audio|img|image_placeholder|\|image\|)>|.*<(?:image|video|audio)>\s*\Z", re.DOTALL
)


def _of_lone_message(value: dict[str, Any], place: Place) -> Results:
    """A message without its chat is neither a conversation nor a text to learn."""
    turns = messages.turns_of([value], place)  # says who speaks, if nobody knows
    if not turns:
        raise UnusableError("no_message", "an event of a chat")
    if turns[0].fault:
        reason, _, detail = turns[0].fault.partition(": ")
        raise UnusableError(reason, detail)
    raise UnusableError(
        "message_without_its_chat", f"one message of {turns[0].role}; give the messages of a chat as a list"
    )


def _is_plain_text(fields: Mapping[str, Any], text: str) -> bool:
    if first(HISTORIES, fields):
        return False
    if text == "text":
        return _CLASSIFIED.isdisjoint(fields)
    others = [name for name, entry in fields.items() if isinstance(entry, list | dict)]
    return _CLASSIFIED.isdisjoint(fields.keys() - {text}) and not others and isinstance(fields[text], str)


def _of_plain_text(
    value: dict[str, Any], fields: Mapping[str, Any], name: str, used: set[str], place: Place
) -> Results:
    raw = fields[name]
    used.add(name)
    if place.is_file and isinstance(raw, str):
        if (several := documents.conversations_of(raw, place)) is not None:
            return _of_several(several, value, place, "questions and answers")
        if documents.begins_marked(raw):
            return _of_documents(name, documents.divided(raw), place)
    if isinstance(raw, str) and (turns := transcripts.turns_of(raw, place)) is not None:
        return _turns(turns, value, fields, used, place, "transcript")
    if place.is_file and isinstance(raw, str) and (parts := documents.divided(raw)):
        return _of_documents(name, parts, place)
    if not place.takes_texts:
        raise unknown_shape(value)
    content = text_of(raw, place)
    if (without := without_end_mark(content)) != content:
        place.note("mended", "end mark left out")
        content = without
    if not content:
        raise UnusableError("empty_text")
    if threads.replies_to(fields):
        raise UnusableError("message_without_its_chat", "a reply to another; give the messages of a chat as a list")
    for key in ("user", "sender", "speaker", "role"):
        if isinstance(fields.get(key), str) and fields[key]:
            place.note("speaker", fields[key])
            raise messages.unknown_speakers(Counter([fields[key]]))
    note_unused(value, used, content, place)
    if place.wordings:
        place.note("mended", WITHOUT_QUESTION)
    place.note("shape", "text")
    return iter((Conversation((Message("text", content),), place.domain, place.source),))


def _of_documents(name: str, parts: Sequence[str], place: Place) -> Results:
    return _of_entries((containers.Entry(at, {name: part}) for at, part in enumerate(parts, 1)), place, 0)


def _with_domain(fields: Mapping[str, Any], place: Place) -> Place:
    """The place with the domain that the item itself names."""
    for name in DOMAINS:
        named = fields.get(name)
        if isinstance(named, str) and (words := " ".join(text_of(named, place).split())):
            return replace(place, domain=words)
    return place
