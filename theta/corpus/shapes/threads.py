"""Messages that name what they reply to -> conversations: trees of replies, exported chats, chats in one list.

A tree gives one conversation for each of its last replies. A reply that several of them share is learned once, and is
context in the others.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from theta.corpus.items import Number
from theta.corpus.shapes import messages
from theta.corpus.shapes.fields import UnusableError, canonical_fields, first
from theta.corpus.shapes.turns import Place, Turn

_IDS = ("messageid", "id", "uuid", "nodeid", "postid", "clientmsgid", "tweetid", "commentid")
_PARENTS = ("parentid", "parentmessageid", "parent", "parentuuid", "replyto", "inreplyto", "replytoid",
            "replytomessageid", "parentmessage", "threadparent", "inresponsetotweetid", "inreplytostatusid",
            "parentcommentid")  # fmt: skip
_CHATS = ("conversationid", "threadid", "dialogueid", "dialogid", "sessionid", "chatid", "convid", "conversation",
          "treeid", "messagetreeid", "ticketid", "roomid")  # fmt: skip
_RANKS = ("rank",)
_NUMBERS = (
    "turn", "turnid", "turnindex", "turnidx", "turnnumber", "utteranceidx", "utteranceindex", "utteranceid",
    "messageindex", "messagenumber", "position", "index", "idx", "order", "seq", "sequence", "step",
)  # fmt: skip
_MAX_MESSAGES = 1_000_000
"""Trees that would give more than this are cut: each conversation repeats what leads to it."""


@dataclass(slots=True)
class _Node:
    message: Any
    children: list["_Node"] = field(default_factory=list)


def threads_of(entries: Sequence[Any], place: Place) -> Iterator[list[Turn]] | None:
    """Yield the conversations of a list of messages that name their parents or their chat; None if they do not."""
    if not all(isinstance(entry, dict) for entry in entries):
        return None
    fields = [canonical_fields(entry, place.rules) for entry in entries]
    own, parent = _name_of_all(_IDS, fields), next((name for name in _PARENTS if any(name in f for f in fields)), None)
    if own and parent and any(_id(each.get(parent)) for each in fields):
        ids = {_id(each[own]) for each in fields}
        if any(_id(each.get(parent)) in ids for each in fields):
            return _paths(_grown(entries, fields, own, parent), place)
    chat = _name_of_all(_CHATS, fields)
    if chat and len({_id(each[chat]) for each in fields}) > 1:
        chats: dict[str, list[Any]] = {}
        for entry, each in zip(entries, fields, strict=True):
            chats.setdefault(_id(each[chat]), []).append(entry)
        return (messages.turns_of(_in_order(chat_entries, place), place) for chat_entries in chats.values())
    return None


def _in_order(entries: list[Any], place: Place) -> list[Any]:
    """The messages of one chat by their numbers, where each has another."""
    fields = [canonical_fields(entry, place.rules) for entry in entries]
    for name in _NUMBERS:
        numbers = [str(each.get(name)) for each in fields]
        if not all(number.isdecimal() and len(number) < 10 for number in numbers) or len(set(numbers)) < len(numbers):
            continue
        order = sorted(range(len(entries)), key=lambda at: int(numbers[at]))
        if order != list(range(len(entries))):
            place.note("mended", "messages put in order")
        return [entries[at] for at in order]
    return entries


def tree_of(fields: Mapping[str, Any], place: Place) -> Iterator[list[Turn]] | None:
    """Yield the conversations of a tree whose messages hold their replies; None if it is none."""
    root = fields.get("prompt") if isinstance(fields.get("prompt"), dict) else fields
    if (
        not isinstance(root, dict)
        or not isinstance(root.get("replies"), list)
        or not messages.is_message(root, place.rules)
    ):
        return None
    return _paths([_nested(root)], place)


def export_of(fields: Mapping[str, Any], place: Place) -> list[Turn] | None:
    """Return the turns of ChatGPT's export, on the branch that the person ended on; None if it is none.

    Raises:
        UnusableError: its nodes do not hang together.
    """
    mapping = fields.get("mapping")
    if not isinstance(mapping, dict) or not any(isinstance(n, dict) and "message" in n for n in mapping.values()):
        return None
    at = fields.get("currentnode")
    if not isinstance(at, str) or at not in mapping:
        leaves = [key for key, node in mapping.items() if isinstance(node, dict) and not node.get("children")]
        at = leaves[-1] if leaves else None
    said: list[Any] = []
    seen: set[str] = set()
    while isinstance(at, str) and at in mapping and at not in seen:
        seen.add(at)
        node = mapping[at] if isinstance(mapping[at], dict) else {}
        if isinstance(node.get("message"), dict):
            said.append(node["message"])
        at = node.get("parent")
    said = [message for message in reversed(said) if not _is_internal(message)]
    if not said:
        raise UnusableError("no_assistant_message")
    return messages.turns_of(said, place)


def _is_internal(message: Mapping[str, Any]) -> bool:
    """Whether the program wrote it for itself: hidden instructions and the thoughts before a reply."""
    content, metadata = message.get("content"), message.get("metadata")
    hidden = isinstance(metadata, dict) and metadata.get("is_visually_hidden_from_conversation")
    author = message.get("author")
    is_system = isinstance(author, dict) and author.get("role") == "system"
    if not isinstance(content, dict):
        return bool(hidden)
    kind = content.get("content_type")
    empty = is_system and not any(content.get("parts") or [])
    return (
        bool(hidden)
        or empty
        or kind in ("thoughts", "reasoning_recap", "model_editable_context", "user_editable_context")
    )


def replies_to(fields: Mapping[str, Any]) -> bool:
    """Whether an object names what it replies to."""
    return any(_id(fields.get(name)) for name in _PARENTS if name != "parent")


def _id(value: Any) -> str:
    if isinstance(value, dict):
        value = first(("id", "messageid"), value) and value.get("id")
    return str(value) if isinstance(value, str | int | Number) and not isinstance(value, bool) else ""


def _name_of_all(names: Sequence[str], fields: Sequence[Mapping[str, Any]]) -> str | None:
    return next((name for name in names if all(_id(each.get(name)) for each in fields)), None)


def _grown(entries: Sequence[Any], fields: Sequence[Mapping[str, Any]], own: str, parent: str) -> list[_Node]:
    """The trees of a flat list."""
    nodes = [_Node(entry) for entry in entries]
    by_id: dict[str, _Node] = {}
    for node, each in zip(nodes, fields, strict=True):
        by_id.setdefault(_id(each[own]), node)
    roots = []
    for node, each in zip(nodes, fields, strict=True):
        above = by_id.get(_id(each.get(parent)))
        if above is None or above is node:
            roots.append(node)
        else:
            above.children.append(node)
    reached: set[int] = set()
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        reached.add(id(node))
        waiting += node.children
    if len(reached) < len(nodes):  # messages that reply to each other in a circle
        for node in nodes:
            if id(node) not in reached:
                node.children = []
                roots.append(node)
    return roots


def _nested(root: Mapping[str, Any]) -> _Node:
    tree = _Node(root)
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        replies = node.message.get("replies")
        if isinstance(replies, list):
            node.children = [_Node(reply) for reply in replies if isinstance(reply, dict)]
            waiting += node.children
    return tree


def _paths(roots: Sequence[_Node], place: Place) -> Iterator[list[Turn]]:
    """The conversation that leads to each last message, the best first."""
    learned: set[int] = set()
    left = _MAX_MESSAGES
    waiting: list[tuple[_Node, tuple[_Node, ...]]] = [(root, (root,)) for root in reversed(roots)]
    while waiting:
        node, path = waiting.pop()
        if node.children:
            waiting += [(child, (*path, child)) for child in reversed(_ranked(node.children))]
            continue
        left -= len(path)
        if left < 0:
            place.note("mended", "branches left out of a large tree")
            return
        turns = messages.turns_of([each.message for each in path], place)
        if len(turns) != len(path):
            yield turns
            continue
        yield [
            turn._replace(learned=turn.learned and not (turn.role == "assistant" and id(each) in learned))
            for turn, each in zip(turns, path, strict=True)
        ]
        learned.update(map(id, path))


def _ranked(children: Sequence[_Node]) -> list[_Node]:
    def rank(node: _Node) -> float:
        for name in _RANKS:
            value = node.message.get(name)
            if isinstance(value, int | float | Number) and not isinstance(value, bool):
                return float(str(value))  # a whole number may be too large for a float, its text is not
        return float("inf")

    return sorted(children, key=rank)
